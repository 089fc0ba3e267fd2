"""What a log says of jobs: which attempts began, ended, or were under way."""

from collections.abc import Iterable, Mapping
from typing import Any

Attempt = tuple[str, int]
"""A job id and the number of the attempt."""

_ENDS = ("job_done", "job_failed", "job_cancelled")


def attempts(events: Iterable[Mapping[str, Any]], *names: str) -> dict[Attempt, Mapping[str, Any]]:
    """Each attempt that one of these events speaks of, with the last of them."""
    return {(event["job_id"], event["attempt"]): event for event in events if event["event"] in names}


def running(events: Iterable[Mapping[str, Any]], server_id: str | None = None) -> dict[Attempt, Mapping[str, Any]]:
    """Of a client's log, the attempts whose compiler runs on a worker (on this one), and have not ended."""
    listed = list(events)
    ended = attempts(listed, *_ENDS)
    return {
        attempt: event
        for attempt, event in attempts(listed, "job_running").items()
        if attempt not in ended and server_id in {None, event["server_id"]}
    }
