"""Every attempt that has not ended: who waits in which architecture's queue, and how many slots each client has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice

from sccache_twisted.model import ClientId, Try
from sccache_twisted.policy.fairness import FairQueue, Waiting
from sccache_twisted.scheduler.effects import JobKey
from sccache_twisted.scheduler.jobs import Job, JobState, Placed, Queued


class Table:
    """Every attempt that has not ended, its queue by architecture, the slots of each client."""

    def __init__(self) -> None:
        self._jobs: dict[JobKey, Job] = {}
        self._by_attempt: dict[Try, Job] = {}
        self._queues: dict[str, FairQueue[JobKey]] = {}
        self._shares: Counter[ClientId] = Counter()
        self.queued = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def get(self, key: JobKey) -> Job | None:
        """A job, unless it has ended."""
        return self._jobs.get(key)

    def of_attempt(self, attempt: Try) -> Job | None:
        """The job of an attempt, whoever its client is."""
        return self._by_attempt.get(attempt)

    def add(self, job: Job) -> None:
        """Take a job in; it has no state yet."""
        self._jobs[job.key] = job
        self._by_attempt[job.attempt] = job

    def drop(self, job: Job) -> None:
        """Forget a job: it has ended."""
        self.move(job, None)
        self._jobs.pop(job.key, None)
        if self._by_attempt.get(job.attempt) is job:
            del self._by_attempt[job.attempt]

    def enqueue(self, job: Job) -> None:
        """Let a job wait, at the place that its age gives it."""
        place = Waiting(job.key, job.request.client_id, job.since, job.serial, job.wish.expected_bytes)
        self.move(job, Queued(place))

    def move(self, job: Job, state: JobState | None) -> None:
        """Change a job's state, and with it the queue and its client's share."""
        client_id, arch = job.request.client_id, job.request.arch
        before, job.state = job.state, state
        change = isinstance(state, Placed) - isinstance(before, Placed)
        if change:
            self._shares[client_id] += change
            share = self._shares[client_id]
            if not share:
                del self._shares[client_id]
            for queue in self._queues.values():
                queue.share_changed(client_id, share)
        if isinstance(before, Queued):
            queue = self._queues[arch]
            queue.remove(job.key)
            self.queued -= 1
            if not queue:
                del self._queues[arch]
        if isinstance(state, Queued):
            self._queues.setdefault(arch, FairQueue()).add(state.place, self._shares.get(client_id, 0))
            self.queued += 1

    def waiting(self, arch: str) -> list[Job]:
        """Who waits for this architecture, the oldest first."""
        return [self._jobs[place.key] for place in self._queues.get(arch, ())]

    def least_need(self, arch: str) -> int | None:
        """The least memory that somebody waits for; None when nobody waits."""
        queue = self._queues.get(arch)
        return queue.least_need if queue else None

    def next(self, arch: str, eligible: Callable[[Job], bool]) -> Job | None:
        """Whose turn it is, among those that are ``eligible``; stays in the queue."""
        queue = self._queues.get(arch)
        place = queue.first(lambda place: eligible(self._jobs[place.key])) if queue else None
        return self._jobs[place.key] if place is not None else None

    def page(self, offset: int, limit: int) -> list[Job]:
        """A part of all who wait, the oldest first."""
        everybody = merge(*self._queues.values(), key=lambda place: (place.since, place.serial))
        return [self._jobs[place.key] for place in islice(everybody, offset, offset + limit)]
