"""Stories as a trace that Chrome (chrome://tracing) and Perfetto show: a process for each worker, a row for each slot.

The format is the Trace Event Format's JSON object; times are microseconds since the first job began.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sccache_twisted.cli.timeline import Attempt, Story

TraceEvent = dict[str, Any]
_ELSEWHERE = "without a worker"


def chrome_trace(found: Iterable[Story]) -> dict[str, Any]:
    """The document. Rows are not slots by number, but as many as there were jobs at once."""
    taken = sorted(
        ((story, attempt) for story in found for attempt in story.attempts), key=lambda each: _begin(each[1])
    )
    zero = min((story.start for story, _ in taken), default=0.0)
    processes: dict[str, int] = {}
    rows: dict[int, list[float]] = {}
    drawn: list[TraceEvent] = []
    for story, attempt in taken:
        worker = attempt.server_id or _ELSEWHERE
        if worker not in processes:
            processes[worker] = len(processes) + 1
            drawn.append(_name("process_name", processes[worker], 0, worker))
        pid = processes[worker]
        ends = rows.setdefault(pid, [])
        row = next((place for place, end in enumerate(ends) if end <= _begin(attempt)), len(ends))
        if row == len(ends):
            ends.append(0.0)
            drawn.append(_name("thread_name", pid, row + 1, f"slot {row + 1}"))
        ends[row] = attempt.end
        drawn += _drawn(story, attempt, pid, row + 1, zero)
    return {"traceEvents": drawn, "displayTimeUnit": "ms"}


def _begin(attempt: Attempt) -> float:
    return attempt.steps[0].start if attempt.leased is None else attempt.leased


def _drawn(story: Story, attempt: Attempt, pid: int, tid: int, zero: float) -> list[TraceEvent]:
    """The attempt as a bar, and in it those of its steps that lasted."""
    begin = _begin(attempt)
    ids = {"job_id": story.job_id, "attempt": attempt.number, "server_id": attempt.server_id}
    told = {"outcome": story.outcome, "steps": [step.text for step in attempt.steps]}
    bar = {"ph": "X", "cat": "job", "pid": pid, "tid": tid}
    drawn = [
        {
            **bar,
            "name": story.label or story.job_id,
            "ts": _us(begin - zero),
            "dur": _us(attempt.end - begin),
            "args": ids | told,
        }
    ]
    for step in attempt.steps:
        if step.seconds is not None and step.start >= begin:
            times = {"ts": _us(step.start - zero), "dur": _us(step.seconds)}
            drawn.append({**bar, "cat": "step", "name": step.text, **times, "args": ids})
    return drawn


def _name(kind: str, pid: int, tid: int, name: str) -> TraceEvent:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
