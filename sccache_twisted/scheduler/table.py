"""Every attempt that has not ended: who waits in which architecture's queue, and how many slots each client has.

Each architecture has two queues: of those who are ready, and of those who ask ahead, which are served when none of the
others can be. Slots that are held ahead are known by architecture too, so that one can be taken back without a search.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import chain, islice

from sccache_twisted.model import ClientId, Try
from sccache_twisted.policy.fairness import FairQueue, Waiting
from sccache_twisted.scheduler.effects import JobKey
from sccache_twisted.scheduler.jobs import Job, JobState, Leased, Placed, Queued, TakenBack


class Table:
    """Every attempt that has not ended, its queue by architecture, the slots of each client."""

    def __init__(self) -> None:
        self._jobs: dict[JobKey, Job] = {}
        self._by_attempt: dict[Try, Job] = {}
        self._ready: dict[str, FairQueue[JobKey]] = {}
        self._early: dict[str, FairQueue[JobKey]] = {}
        self._held: dict[str, dict[JobKey, Job]] = {}
        self._returning: Counter[str] = Counter()
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
            for queue in chain(self._ready.values(), self._early.values()):
                queue.share_changed(client_id, share)
        if isinstance(before, Queued):
            self._leave(job)
        if isinstance(state, Queued):
            self._line_up(job, state.place)
        if job.ahead:
            self._hold(job, held=isinstance(state, Leased))
            self._return(arch, isinstance(state, TakenBack) - isinstance(before, TakenBack))

    def _line_up(self, job: Job, place: Waiting[JobKey]) -> None:
        queues = self._early if job.ahead else self._ready
        share = self._shares.get(job.request.client_id, 0)
        queues.setdefault(job.request.arch, FairQueue()).add(place, share)
        self.queued += 1

    def _leave(self, job: Job) -> None:
        arch = job.request.arch
        queues = self._early if job.ahead else self._ready
        queue = queues[arch]
        queue.remove(job.key)
        self.queued -= 1
        if not queue:
            del queues[arch]

    def _hold(self, job: Job, *, held: bool) -> None:
        arch = job.request.arch
        if held:
            self._held.setdefault(arch, {})[job.key] = job
        elif arch in self._held:
            self._held[arch].pop(job.key, None)
            if not self._held[arch]:
                del self._held[arch]

    def _return(self, arch: str, change: int) -> None:
        if change:
            self._returning[arch] += change
            if not self._returning[arch]:
                del self._returning[arch]

    def turn_ready(self, job: Job) -> None:
        """A job that asked ahead is ready, or its slot was claimed: from now on it is like any other."""
        if not job.ahead:
            return
        state = job.state
        if isinstance(state, Queued):
            self._leave(job)
        self._hold(job, held=False)
        self._return(job.request.arch, -isinstance(state, TakenBack))
        job.ahead = False
        if isinstance(state, Queued):
            self._line_up(job, state.place)

    def waiting(self, arch: str) -> list[Job]:
        """Who waits for this architecture, those who are ready first, and the oldest first among each."""
        places = chain(self._ready.get(arch, ()), self._early.get(arch, ()))
        return [self._jobs[place.key] for place in places]

    def least_need(self, arch: str) -> int | None:
        """The least memory that somebody waits for; None when nobody waits."""
        ready, early = self._ready.get(arch), self._early.get(arch)
        if ready and early:
            return min(ready.least_need, early.least_need)
        queue = ready or early
        return queue.least_need if queue else None

    def next(self, arch: str, eligible: Callable[[Job], bool]) -> Job | None:
        """Whose turn it is, among those that are ``eligible``: who is ready before who asks ahead; stays queued."""
        return self._first(self._ready.get(arch), eligible) or self._first(self._early.get(arch), eligible)

    def next_ready(self, arch: str, eligible: Callable[[Job], bool]) -> Job | None:
        """As :meth:`next`, among those that are ready."""
        return self._first(self._ready.get(arch), eligible)

    def _first(self, queue: FairQueue[JobKey] | None, eligible: Callable[[Job], bool]) -> Job | None:
        place = queue.first(lambda place: eligible(self._jobs[place.key])) if queue else None
        return self._jobs[place.key] if place is not None else None

    def held(self, arch: str) -> list[Job]:
        """Whose slots are held ahead and may be taken back, the latest first."""
        return list(reversed(self._held.get(arch, {}).values()))

    def wanting(self, arch: str) -> bool:
        """Whether more are ready and wait than slots are being taken back."""
        return len(self._ready.get(arch, ())) > self._returning.get(arch, 0)

    def unserved(self, arch: str) -> bool:
        """Whether somebody is ready and waits while somebody else's slot is held ahead."""
        return arch in self._held and self.wanting(arch)

    @property
    def ahead(self) -> int:
        """How many slots are held ahead."""
        return sum(map(len, self._held.values()))

    def page(self, offset: int, limit: int) -> list[Job]:
        """A part of all who wait, the oldest first."""
        everybody = merge(*self._ready.values(), *self._early.values(), key=lambda place: (place.since, place.serial))
        return [self._jobs[place.key] for place in islice(everybody, offset, offset + limit)]
