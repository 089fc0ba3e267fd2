"""The workers that have registered, and for each architecture the index from which placement chooses.

Knows what a worker said and how it is trusted. Refuses to know why: jobs are mere bookings here.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from sccache_twisted.model import Beat, Digest, ServerId, Try, WorkerCard
from sccache_twisted.policy.placement import UNLIMITED, Pool, Seat
from sccache_twisted.policy.standing import Grade, Standing
from sccache_twisted.scheduler.effects import JobKey, LinkId

_PRESSED = 0.25


@define(eq=False)
class Worker:
    """A registered worker.

    ``link`` is None while it has none; ``booked`` holds the job and its bytes by attempt; ``watch``: when it is looked
    at next; ``resting``: it refused, so
    wait for its next sign; ``reserved_for``: a job that needs much memory waits for this worker alone.
    """

    card: WorkerCard
    standing: Standing
    link: LinkId | None
    heard_at: float
    beat: Beat
    draining: bool = False
    resting: bool = False
    reserved_for: JobKey | None = None
    watch: float = 0.0
    booked: dict[Try, tuple[JobKey, int]] = field(factory=dict)
    booked_bytes: int = 0
    toolchains: set[Digest] = field(factory=set)

    @property
    def server_id(self) -> ServerId:
        """Its name for this life."""
        return self.card.server_id

    def grade(self, now: float) -> Grade:
        """How it is ranked; whoever has no link is silent."""
        return Grade.SILENT if self.link is None else self.standing.grade(now)

    def seat(self, now: float) -> Seat:
        """What placement is to know of it."""
        ours = max(len(self.booked), self.beat.running)
        grade = self.grade(now)
        return Seat(
            server_id=self.server_id,
            slots=self.card.slots,
            memory_bytes=self.card.memory_bytes or UNLIMITED,
            booked=len(self.booked),
            booked_bytes=self.booked_bytes,
            grade=grade,
            blame=self.standing.faults.order(self.standing.half_life),
            other_load=max(0.0, self.beat.load - ours),
            short=self.beat.pressure >= _PRESSED,
            ready=not self.resting and self.reserved_for is None,
        )


class Registry:
    """Workers by server_id, pools by architecture."""

    def __init__(self) -> None:
        self._workers: dict[ServerId, Worker] = {}
        self._pools: dict[str, Pool] = {}
        self._empty_since: dict[str, float] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, server_id: ServerId) -> Worker | None:
        """A worker, if it is registered."""
        return self._workers.get(server_id)

    def pool(self, arch: str) -> Pool:
        """The living workers of an architecture: linked or not yet given up, and not draining."""
        return self._pools.get(arch) or Pool()

    def empty_since(self, arch: str) -> float:
        """When the last living worker of an architecture went; minus infinity if there never was one."""
        return self._empty_since.get(arch, float("-inf"))

    def add(self, worker: Worker, now: float) -> None:
        """Register a worker."""
        self._workers[worker.server_id] = worker
        self.refresh(worker, now)

    def remove(self, worker: Worker, now: float) -> None:
        """Forget a worker."""
        del self._workers[worker.server_id]
        self._leave(worker, now)

    def relink(self, worker: Worker, card: WorkerCard, link: LinkId, now: float) -> None:
        """A worker has come back with a new link."""
        if card.arch != worker.card.arch:
            self._leave(worker, now)
        worker.card, worker.link = card, link
        self.refresh(worker, now)

    def refresh(self, worker: Worker, now: float) -> None:
        """Place a worker anew after something about it changed."""
        if worker.draining:
            self._leave(worker, now)
        else:
            pool = self._pools.get(worker.card.arch)
            if pool is None:
                pool = self._pools[worker.card.arch] = Pool()
            pool.put(worker.seat(now), worker.toolchains)

    def book(self, worker: Worker, attempt: Try, key: JobKey, need: int, now: float) -> None:
        """Write a job into a worker's books."""
        worker.booked[attempt] = (key, need)
        worker.booked_bytes += need
        self.refresh(worker, now)

    def unbook(self, worker: Worker, attempt: Try, now: float) -> None:
        """Strike a job from a worker's books, if it is there."""
        booking = worker.booked.pop(attempt, None)
        if booking is not None:
            worker.booked_bytes -= booking[1]
            self.refresh(worker, now)

    def _leave(self, worker: Worker, now: float) -> None:
        arch = worker.card.arch
        pool = self._pools.get(arch)
        if pool is None:
            return
        pool.drop(worker.server_id)
        if not pool.seats:
            # An architecture costs nothing once its workers are gone: names of architectures come from peers.
            del self._pools[arch]
            self._empty_since[arch] = now
