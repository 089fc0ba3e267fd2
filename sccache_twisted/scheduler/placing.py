"""The desk at which slots are given out: a job is offered to the best worker, or it waits until one is free.

Knows the books (registry, table, alarms) and keeps them in step. Refuses to know who brings the facts.
"""

from __future__ import annotations

from itertools import count

from attrs import frozen

from sccache_twisted.errors import NoWorkers, SccacheTwistedError, StillQueued
from sccache_twisted.logs import events
from sccache_twisted.model import AllocationRequest
from sccache_twisted.policy.placement import Seat, Wish
from sccache_twisted.policy.standing import Grade, Standing
from sccache_twisted.scheduler.alarms import Alarms, Forgiven, Impatient, JobDue
from sccache_twisted.scheduler.effects import AskWorker, CancelAt, Effect, Fail, JobKey, Note, TellTakenBack
from sccache_twisted.scheduler.jobs import Asking, Job, Leased, Queued, TakenBack
from sccache_twisted.scheduler.registry import Registry, Worker
from sccache_twisted.scheduler.table import Table

_GRAIN = 16 << 20
OLDEST_SECONDS = 86_400.0
"""The age that is believed of a request at most."""


@frozen
class CoreLimits:
    """The core's timers in seconds, and its bounds. Their meaning stands in the table of keys."""

    allocate_seconds: float = 30.0
    claim_seconds: float = 15.0
    claim_slack_seconds: float = 2.0
    farewell_seconds: float = 2.0
    settle_seconds: float = 10.0
    scale_from_zero_seconds: float = 0.0
    worker_lost_seconds: float = 15.0
    relink_seconds: float = 7.0
    patience_seconds: float = 10.0
    blame_half_life_seconds: float = 60.0
    max_queue: int = 100_000


class Desk:
    """Gives out slots. Every method takes ``now`` and appends what is to be done to ``out``."""

    def __init__(self, limits: CoreLimits, started: float) -> None:
        self.limits = limits
        self.registry = Registry()
        self.table = Table()
        self.alarms = Alarms()
        self._settled = started + limits.settle_seconds
        self._nonces = count(1)
        self._serials = count(1)
        self._reserved: dict[str, JobKey] = {}

    def new_job(self, now: float, request: AllocationRequest) -> Job:
        """Open a job; it has no state yet."""
        expected = -(-request.expected_bytes // _GRAIN) * _GRAIN
        wish = Wish(request.toolchain, expected, request.avoid)
        since = now - min(request.age, OLDEST_SECONDS)
        job = Job(request.key, request, wish, since, next(self._serials), ahead=request.ahead)
        self.table.add(job)
        return job

    def place(self, now: float, job: Job, out: list[Effect]) -> None:
        """Offer a job to the best worker, else let it wait. Whoever refused rests until there is word from it."""
        pool = self.registry.pool(job.request.arch)
        best = pool.choose(job.wish)
        worker = self.registry.get(best) if best is not None else None
        if worker is not None:
            self._offer(now, job, worker, out)
            return
        self.table.enqueue(job)
        fields = {"label": job.request.label, "ahead": self.table.queued - 1}
        out.append(Note(events.JOB_QUEUED, job.attempt, fields=fields))
        if not job.ahead:
            self.alarms.set(max(now, job.since + self.limits.patience_seconds), Impatient(job.key))
        self.judge_waiting(now, job, out)
        self.reclaim(now, job.request.arch, out)

    def turn_ready(self, now: float, job: Job, out: list[Effect]) -> None:
        """A job that asked ahead is ready. Its place in the queue is that of its age, now among all who are ready."""
        if not job.ahead:
            return
        self.table.turn_ready(job)
        if isinstance(job.state, Queued):
            self.alarms.set(max(now, job.since + self.limits.patience_seconds), Impatient(job.key))
        self.reclaim(now, job.request.arch, out)

    def reclaim(self, now: float, arch: str, out: list[Effect]) -> None:
        """Take slots back that are held ahead, one for each who is ready and waits, if that one could have it."""
        if not self.table.unserved(arch):
            return
        for holder in self.table.held(arch):
            if self._serves(holder):
                self.take_back(now, holder, "somebody who is ready waits for it", out)
                if not self.table.unserved(arch):
                    return

    def is_wanted(self, job: Job) -> bool:
        """Whether a slot that was just leased to a job that asked ahead is to serve somebody who is ready instead."""
        return job.ahead and self.table.wanting(job.request.arch) and self._serves(job)

    def _serves(self, holder: Job) -> bool:
        """Whether somebody who is ready and waits could have the slot that ``holder`` has."""
        arch, server_id = holder.request.arch, holder.at
        worker = self.registry.get(server_id) if server_id is not None else None
        if worker is None:
            return False
        pool = self.registry.pool(arch)
        _, freed = worker.booked[holder.attempt]
        name = worker.server_id
        return self.table.next_ready(arch, lambda job: pool.would_admit(name, job.wish, freed)) is not None

    def take_back(self, now: float, job: Job, reason: str, out: list[Effect]) -> None:
        """Have a worker free a slot that is held ahead, unless it was claimed; and tell the client."""
        state = job.state
        assert isinstance(state, Leased), "only who holds a lease can lose it"  # noqa: S101 - our own order
        until = now + self.limits.farewell_seconds
        self.table.move(job, TakenBack(state.server_id, state.allocation, until, state.links))
        self.alarms.set(until, JobDue(job.key))
        out.append(Note(events.LEASE_TAKEN_BACK, job.attempt, state.server_id, {"reason": reason}))
        out.append(CancelAt(state.server_id, job.attempt, unclaimed=True))
        out.append(TellTakenBack(state.links, job.attempt))

    def put_back(self, now: float, job: Job, worker: Worker, out: list[Effect]) -> None:
        """A slot was leased ahead, and by now somebody waits who is ready: its client, not told yet, waits on."""
        fields = {"reason": "somebody who is ready waits for it"}
        out.append(Note(events.LEASE_TAKEN_BACK, job.attempt, worker.server_id, fields))
        out.append(CancelAt(worker.server_id, job.attempt))
        self.table.enqueue(job)
        self.registry.unbook(worker, job.attempt, now)
        self.serve(now, worker, out)
        self.judge_waiting(now, job, out)

    def judge_waiting(self, now: float, job: Job, out: list[Effect]) -> None:
        """Answer those who have waited for their whole time, or wait for workers that do not exist."""
        if not isinstance(job.state, Queued):
            return
        arch = job.request.arch
        if not self.registry.pool(arch).seats:
            hope_ends = self._hope_ends(job)
            if hope_ends <= now:
                self.end(now, job, NoWorkers(f"No worker for {arch} is registered with the scheduler."), out)
                return
            self.alarms.set(hope_ends, JobDue(job.key))
        for ask in [ask for ask in job.asks if ask.due <= now]:
            job.asks.remove(ask)
            out.append(Fail(ask.ask, StillQueued()))
        if not job.asks:
            self.withdraw(now, job, out)

    def _hope_ends(self, job: Job) -> float:
        alone_since = max(job.since, self.registry.empty_since(job.request.arch))
        return max(self._settled, alone_since + self.limits.scale_from_zero_seconds)

    def end(self, now: float, job: Job, error: SccacheTwistedError, out: list[Effect]) -> None:
        """End a queued job with an error for everybody who asked."""
        asks, job.asks = job.asks, []
        out.extend(Fail(ask.ask, error) for ask in asks)
        self.withdraw(now, job, out)

    def withdraw(self, now: float, job: Job, out: list[Effect]) -> None:
        """Forget a job, and what was kept free for it."""
        self.table.drop(job)
        self._unreserve(now, job, out)

    def serve(self, now: float, worker: Worker, out: list[Effect]) -> None:
        """Give a worker's free slots to those who wait, and take back for them what is held ahead."""
        self._serve(now, worker, out)
        self.reclaim(now, worker.card.arch, out)

    def _serve(self, now: float, worker: Worker, out: list[Effect]) -> None:
        arch = worker.card.arch
        pool = self.registry.pool(arch)
        while True:
            seat = pool.seats.get(worker.server_id)
            least = self.table.least_need(arch)
            if seat is None or least is None:
                return
            if worker.reserved_for is not None:
                job = self.table.get(worker.reserved_for)
                need = pool.need(job.wish) if job is not None else 0
                if job is None or need > seat.memory_bytes:  # a larger worker came: only there will it fit
                    self.release_reservation(now, worker)
                    self.registry.refresh(worker, now)
                    continue
                if not self._has_room(worker, seat, need):
                    return
                worker.reserved_for = job.reserved = None
                self._reserved.pop(arch, None)
            else:
                # A job's need is capped at no less than what this worker has, so nobody fits if the least does not.
                if not seat.open or not seat.fits(min(least, seat.memory_bytes)):
                    return
                job = self.table.next(arch, lambda job: pool.admits(worker.server_id, job.wish))
                if job is None:
                    return
            self._offer(now, job, worker, out)

    def workers_changed(self, now: float, arch: str, out: list[Effect]) -> None:
        """Somebody joined, left or fell silent: those who wait may have to take what they avoided, or lose hope."""
        pool = self.registry.pool(arch)
        if not pool.seats:
            for job in self.table.waiting(arch):
                self.judge_waiting(now, job, out)
            return
        if self.table.least_need(arch) is not None:
            for server_id in pool.open_workers():
                worker = self.registry.get(server_id)
                if worker is not None:
                    self.serve(now, worker, out)
        self.reclaim(now, arch, out)

    def free(self, now: float, job: Job, out: list[Effect]) -> None:
        """A job has ended at its worker: its slot goes to the next."""
        worker = self.registry.get(job.at) if job.at is not None else None
        self.table.drop(job)
        if worker is not None:
            self.registry.unbook(worker, job.attempt, now)
            self.serve(now, worker, out)

    def heard(self, now: float, worker: Worker, out: list[Effect]) -> None:
        """A worker spoke, whatever it said."""
        worker.heard_at = now
        if worker.standing.silent:
            self.regard(now, worker, worker.standing.heard(), out)

    def regard(self, now: float, worker: Worker, standing: Standing, out: list[Effect]) -> None:
        """Change how a worker is trusted, and let those who wait profit or give up from it."""
        before = worker.grade(now)
        if standing is not worker.standing:
            worker.standing = standing
            forgiven = standing.changes_at(now)
            if now < forgiven < float("inf"):
                self.alarms.set(forgiven, Forgiven(worker.server_id))
        self.registry.refresh(worker, now)
        if Grade.SILENT in {before, worker.grade(now)} and before is not worker.grade(now):
            self.workers_changed(now, worker.card.arch, out)
        self.serve(now, worker, out)

    def keep_free(self, now: float, job: Job, out: list[Effect]) -> None:
        """Reserve a worker for a job that needs more memory than ever comes free at once."""
        if not isinstance(job.state, Queued) or job.reserved is not None:
            return
        arch = job.request.arch
        pool = self.registry.pool(arch)
        # While every slot is taken, slots are what it waits for, and it has its place for them. One reservation at a
        # time is enough: it ends as soon as that one worker has finished what it runs.
        roomiest = pool.roomiest(job.wish) if pool.has_open() and arch not in self._reserved else None
        worker = self.registry.get(roomiest) if roomiest is not None else None
        if worker is None:
            self.alarms.set(now + self.limits.patience_seconds, Impatient(job.key))
            return
        self._reserved[arch] = job.key
        worker.reserved_for, job.reserved = job.key, worker.server_id
        self.registry.refresh(worker, now)
        self.serve(now, worker, out)
        for key, _ in tuple(worker.booked.values()) if self._reserved.get(arch) == job.key else ():
            holder = self.table.get(key)
            if holder is not None and holder.ahead and isinstance(holder.state, Leased):
                self.take_back(now, holder, "a job that needs much memory waits for its worker", out)

    def release_reservation(self, now: float, worker: Worker) -> None:
        """A worker leaves: the job that it was kept free for must look elsewhere."""
        if worker.reserved_for is None:
            return
        job = self.table.get(worker.reserved_for)
        worker.reserved_for = None
        self._reserved.pop(worker.card.arch, None)
        if job is not None:
            job.reserved = None
            self.alarms.set(now, Impatient(job.key))

    def _unreserve(self, now: float, job: Job, out: list[Effect]) -> None:
        worker = self.registry.get(job.reserved) if job.reserved is not None else None
        job.reserved = None
        if worker is not None:
            worker.reserved_for = None
            self._reserved.pop(worker.card.arch, None)
            self.registry.refresh(worker, now)
            self.serve(now, worker, out)

    def _offer(self, now: float, job: Job, worker: Worker, out: list[Effect]) -> None:
        need = self.registry.pool(job.request.arch).need(job.wish)
        nonce = next(self._nonces)
        self.table.move(job, Asking(worker.server_id, nonce, now))
        self.registry.book(worker, job.attempt, job.key, need, now)
        out.append(Note(events.WORKER_ASKED, job.attempt, worker.server_id))
        out.append(AskWorker(job.key, nonce, worker.server_id, job.attempt, job.wish.toolchain, need))
        self._unreserve(now, job, out)

    @staticmethod
    def _has_room(worker: Worker, seat: Seat, need: int) -> bool:
        return (
            worker.link is not None
            and not worker.standing.silent
            and not worker.resting
            and seat.booked < seat.slots
            and seat.fits(need)
        )
