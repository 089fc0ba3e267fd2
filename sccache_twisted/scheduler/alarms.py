"""What the core must look at again, and when. An alarm is a hint: whoever is woken looks at the facts anew."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

from attrs import frozen

from sccache_twisted.model import ServerId
from sccache_twisted.scheduler.effects import JobKey


@frozen
class JobDue:
    """Something about an attempt is due: its answer, its lease, its end, the end of its hope for a worker."""

    key: JobKey


@frozen
class Impatient:
    """A job has waited long enough to have a worker kept free for it."""

    key: JobKey


@frozen
class WorkerDue:
    """A worker may have been silent for too long. ``at`` tells its latest alarm from those that it replaced."""

    server_id: ServerId
    at: float


@frozen
class Forgiven:
    """A worker may have regained its standing."""

    server_id: ServerId


Alarm = JobDue | Impatient | WorkerDue | Forgiven


class Alarms:
    """A heap of alarms."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._serial = count()

    def set(self, at: float, alarm: Alarm) -> None:
        """Wake for ``alarm`` at ``at``."""
        heappush(self._heap, (at, next(self._serial), alarm))

    def next(self) -> float | None:
        """When the next alarm is due."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[Alarm]:
        """Take out all that are due."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            found.append(heappop(self._heap)[2])
        return found
