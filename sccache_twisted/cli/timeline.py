"""What became of jobs, told from the events about them in all processes' journals.

Records come in, stories go out: nothing here reads a file, a clock or a setting. Times are Unix seconds, by the clock
of the machine that wrote the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen

from sccache_twisted.logs.events import VOCABULARY

Record = dict[str, Any]

PAUSE_SECONDS = 300.0
"""A silence this long parts one build from the next."""

_OUTCOMES = {
    "job_done": "done",
    "job_local": "compiled here",
    "job_cancelled": "cancelled",
    "job_failed": "failed",
    "lease_given_back": "not needed",
}
_ENDS = frozenset({"job_finished", "job_killed", "job_failed", "job_cancelled", "job_done"})
_UPLOAD_ENDS = _ENDS | {"job_running", "blobs_missing"}
_ASKING = frozenset({"worker_asked", "worker_accepted"})
# What the events around these say already.
_UNTOLD = frozenset({"worker_asked", "lease_ahead", "lease_granted", "lease_claimed"})


@frozen
class Step:
    """One line of a timeline; ``seconds`` is None for what has no length, or no known end."""

    start: float
    seconds: float | None
    text: str


@frozen
class Attempt:
    """One attempt. ``server_id`` is empty if no worker took it; ``leased`` is when one did."""

    number: int
    server_id: str
    leased: float | None
    steps: tuple[Step, ...]
    end: float


@frozen
class Story:
    """A job.

    ``outcome`` is done, compiled here, cancelled, failed, not needed (a slot was asked for ahead), or not finished.
    """

    job_id: str
    label: str
    outcome: str
    attempts: tuple[Attempt, ...]
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """From its first event to its last."""
        return self.end - self.start


def stories(records: Iterable[Record]) -> list[Story]:
    """Every job in the records, in the order of their beginnings."""
    by_job: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: float(record["epoch"])):
        by_job.setdefault(record["job_id"], []).append(record)
    return sorted((_story(job_id, found) for job_id, found in by_job.items()), key=lambda story: story.start)


def last_build(found: Sequence[Story]) -> list[Story]:
    """The jobs since the last long silence; ``found`` is in the order of beginnings."""
    first = 0
    end = 0.0
    for place, story in enumerate(found):
        if story.start - end > PAUSE_SECONDS:
            first = place
        end = max(end, story.end)
    return list(found[first:])


def told(story: Story) -> str:
    """The timeline as lines: since the job's start, duration, what happened."""
    lines = [f"job {story.job_id}  {story.label}".rstrip(), summary(story)]
    for attempt in story.attempts:
        lines += ["", f"attempt {attempt.number}" + (f" on {attempt.server_id}" if attempt.server_id else "")]
        for step in attempt.steps:
            length = "" if step.seconds is None else f"{step.seconds:.3f} s"
            lines.append(f"  +{step.start - story.start:8.3f} s {length:>11}  {step.text}")
    return "\n".join(lines)


def summary(story: Story) -> str:
    """How it ended, on which worker, after how many attempts and how long."""
    last = story.attempts[-1]
    where = f" on {last.server_id}" if story.outcome == "done" and last.server_id else ""
    count = last.number
    return f"{story.outcome}{where}, {count} attempt{'s' if count > 1 else ''}, {story.seconds:.3f} s"


def failures(story: Story) -> list[str]:
    """What its attempts failed of."""
    return [
        f"attempt {attempt.number}{f' on {attempt.server_id}' if attempt.server_id else ''} {step.text}"
        for attempt in story.attempts
        for step in attempt.steps
        if step.text.startswith("failed")
    ]


def _story(job_id: str, records: list[Record]) -> Story:
    numbers = sorted({int(record["attempt"]) for record in records})
    attempts = tuple(_attempt(number, [each for each in records if each["attempt"] == number]) for number in numbers)
    labels = [str(each.get("label") or each.get("source") or "") for each in records]
    # Only the client knows what became of the job; without its word, the worker's or the scheduler's will do.
    client = [each["event"] for each in records if each.get("role") == "client"]
    ends = [_OUTCOMES[event] for event in client or [each["event"] for each in records] if event in _OUTCOMES]
    retries = client and client[-1] == "job_retried"
    return Story(
        job_id=job_id,
        label=next(filter(None, labels), ""),
        outcome=ends[-1] if ends and not retries else "not finished",
        attempts=attempts,
        start=min(step.start for attempt in attempts for step in attempt.steps),
        end=max(attempt.end for attempt in attempts),
    )


def _attempt(number: int, records: list[Record]) -> Attempt:
    steps: list[Step] = []
    accepted = [each for each in records if each["event"] == "worker_accepted"]
    for place, record in enumerate(records):
        if not _told_better(record, records):
            steps += _steps(record, records, place)
    if not steps:
        # Nothing but what is left out as a rule.
        steps = [Step(float(each["epoch"]), None, _sentence(each)) for each in records]
    return Attempt(
        number=number,
        server_id=str(accepted[-1].get("server_id", "")) if accepted else _any_server(records),
        leased=float(accepted[-1]["epoch"]) if accepted else None,
        steps=tuple(sorted(steps, key=lambda step: step.start)),
        end=float(records[-1]["epoch"]),
    )


def _steps(record: Record, records: list[Record], place: int) -> list[Step]:
    now = float(record["epoch"])
    server_id = record.get("server_id", "")
    match record["event"]:
        case "job_queued":
            return [Step(now, _until(records, place, _ASKING), f"queued behind {record.get('ahead', 0)} others")]
        case "worker_asked" if _answer(record, records) is None:
            return [Step(now, None, f"asked {server_id} (no answer)")]
        case "worker_refused":
            return [_asked(record, records, f"asked {server_id} (refused: {record.get('code', '')})")]
        case "worker_accepted" if record.get("role") == "client":
            waited = float(record.get("seconds", 0.0))
            return [Step(now - waited, waited, "queued"), Step(now, None, f"{server_id} accepted")]
        case "worker_accepted":
            return [_asked(record, records, f"asked {server_id} (accepted)")]
        case "toolchain_sent":
            took = float(record.get("seconds", 0.0))
            return [Step(now - took, took, f"toolchain sent ({record.get('bytes', 0)} bytes)")]
        case "toolchain_stored":
            return [Step(now, None, f"toolchain stored ({record.get('bytes', 0)} bytes unpacked)")]
        case "blobs_sent":
            text = f"blobs sent ({record.get('count', 0)}, {record.get('bytes', 0)} bytes)"
            return [Step(now, _until(records, place, _UPLOAD_ENDS), text)]
        case "job_running":
            return [Step(now, _until(records, place, _ENDS), "running")]
        case "job_finished":
            return [Step(now, None, f"finished with status {record.get('exit_code')}")]
        case "job_done":
            finished = [float(each["epoch"]) for each in records[:place] if each["event"] == "job_finished"]
            return (
                [Step(finished[-1], now - finished[-1], "result received")] if finished else [Step(now, None, "done")]
            )
        case "job_failed":
            return [Step(now, None, f"failed ({record.get('code', '')}): {record.get('sentence', '')}")]
        case event if event in _UNTOLD:
            return []
        case _:
            return [Step(now, None, _sentence(record))]


def _told_better(record: Record, records: list[Record]) -> bool:
    """True where another process says the same from nearer by."""
    event, role = record["event"], record.get("role")
    others = [each for each in records if each["event"] == event and each.get("role") != role]
    if event == "worker_accepted":
        return role == "client" and bool(others)
    if event == "job_running":
        return role == "client" and bool(others)
    if event == "job_failed":
        return role != "client" and any(each.get("code") == record.get("code") for each in others)
    if event == "job_cancelled":
        return role != "client" and any(each.get("role") == "client" for each in others)
    return False


def _until(records: list[Record], place: int, ends: frozenset[str]) -> float | None:
    start = float(records[place]["epoch"])
    return next((float(each["epoch"]) - start for each in records[place + 1 :] if each["event"] in ends), None)


def _answer(asked: Record, records: list[Record]) -> Record | None:
    return next(
        (
            each
            for each in records
            if each["event"] in {"worker_refused", "worker_accepted"}
            and each.get("server_id") == asked.get("server_id")
            and each["epoch"] >= asked["epoch"]
        ),
        None,
    )


def _asked(answer: Record, records: list[Record], text: str) -> Step:
    """From the question to its answer."""
    asked = [
        float(each["epoch"])
        for each in records
        if each["event"] == "worker_asked"
        and each.get("server_id") == answer.get("server_id")
        and each["epoch"] <= answer["epoch"]
    ]
    now = float(answer["epoch"])
    return Step(asked[-1], now - asked[-1], text) if asked else Step(now, None, text)


def _any_server(records: list[Record]) -> str:
    """Where no lease is on record, the worker whose own record this is."""
    return next(
        (str(each["server_id"]) for each in records if each.get("role") == "worker" and "server_id" in each), ""
    )


def _sentence(record: Record) -> str:
    event = VOCABULARY.get(record["event"])
    try:
        return event.sentence.format_map(record) if event else str(record["event"])
    except (KeyError, ValueError):
        return str(record["event"])
