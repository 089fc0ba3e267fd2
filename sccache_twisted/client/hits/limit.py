"""Whether the daemon is what its callers wait for, judged by two looks at it some time apart.

Knows no clock: looks come in. Refuses to know what is done about it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from attrs import frozen

WINDOW_SECONDS = 0.5
_BUSY = 0.85
_FEWEST_HITS = 25
"""A second; with fewer it is not hits that take the time."""


@frozen
class Look:
    """The daemon at a moment: seconds of processor that it had or waited for, calls and hits, all since its start."""

    at: float
    wanted_seconds: float
    requests: int
    hits: int


def is_the_limit(before: Look, now: Look, waiting: int) -> bool:
    """Whether one process is not enough for its hits: it was busy all the time, mostly with hits, and callers wait."""
    seconds = now.at - before.at
    hits = now.hits - before.hits
    return (
        waiting > 1
        and seconds > 0
        and now.wanted_seconds - before.wanted_seconds >= _BUSY * seconds
        and hits >= _FEWEST_HITS * seconds
        and hits * 2 >= now.requests - before.requests
    )


def wanted_seconds() -> float:
    """The seconds for which this process has run or waited for a processor: a busy machine gives less than it can use.

    Where the kernel doesn't tell of waiting, those for which it has run.
    """
    waited_ns = 0
    with suppress(OSError, ValueError, IndexError):
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/schedstat", "rb") as told:
                waited_ns += int(told.read().split()[1])
    return time.process_time() + waited_ns / 1e9
