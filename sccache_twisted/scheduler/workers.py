"""The facts that workers bring: their lives, their answers, and how far their jobs are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sccache_twisted.errors import FailureKind, SccacheTwistedError, WorkerDraining
from sccache_twisted.interfaces import JobPhase
from sccache_twisted.logs import events
from sccache_twisted.model import Allocation, AllocationRequest, Beat, Digest, ServerId, Try, WorkerCard
from sccache_twisted.policy.standing import Standing
from sccache_twisted.scheduler.alarms import JobDue, WorkerDue
from sccache_twisted.scheduler.effects import (
    Answer,
    CancelAt,
    DrainWorker,
    Effect,
    JobKey,
    LinkId,
    Note,
    TellWorkerLost,
)
from sccache_twisted.scheduler.jobs import NOBODY, Asking, Job, Leased, Running, TakenBack
from sccache_twisted.scheduler.placing import Desk
from sccache_twisted.scheduler.registry import Worker

_NEVER_SAID = Beat(running=0, load=0.0, free_memory_bytes=0)
_MOST_ORDERS = 10_000


class WorkerFacts:
    """What workers do. Every method takes the time of the fact and gives what is to be done about it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ordered: dict[ServerId, None] = {}
        """Workers told to drain that have not said yet that they do, the oldest order first."""

    def card(self, server_id: ServerId) -> WorkerCard | None:
        """What a worker that is not lost said of itself."""
        worker = self._desk.registry.get(server_id)
        return worker.card if worker is not None else None

    def link(self, server_id: ServerId) -> LinkId | None:
        """The link of a worker, if it has one and is not lost."""
        worker = self._desk.registry.get(server_id)
        return worker.link if worker is not None else None

    def registered(
        self,
        now: float,
        link: LinkId,
        card: WorkerCard,
        jobs: Sequence[tuple[Try, JobPhase]],
        *,
        complete: bool = True,
        toolchains: Collection[Digest] = (),
    ) -> list[Effect]:
        """A worker joins, or comes back over a new link. ``jobs`` are those it holds; ``complete``: all of them.

        ``toolchains`` are those known already; the rest comes with its heartbeats.
        """
        fields = {"address": str(card.address), "slots": card.slots}
        out: list[Effect] = [Note(events.WORKER_REGISTERED, None, card.server_id, fields)]
        worker = self._desk.registry.get(card.server_id)
        if worker is None:
            worker = Worker(card, Standing(self._desk.limits.blame_half_life_seconds), link, now, _NEVER_SAID)
            worker.toolchains.update(toolchains)
            self._desk.registry.add(worker, now)
        else:
            worker.resting = False
            worker.toolchains.clear()
            worker.toolchains.update(toolchains)
            worker.standing = worker.standing.heard()
            worker.heard_at = now
            self._desk.registry.relink(worker, card, link, now)
        self._watch(now, worker)
        if card.server_id in self._ordered:
            # The order may have been lost with the older link.
            self._drain(now, worker, out)
            out.append(DrainWorker(card.server_id))
        held = {attempt for attempt, _ in jobs}
        for attempt, (key, _) in list(worker.booked.items()) if complete else ():
            job = self._desk.table.get(key)
            if attempt not in held and job is not None and not isinstance(job.state, Asking):
                out.append(_lost_note(attempt, card.server_id))
                self._desk.free(now, job, out)
        for attempt, phase in jobs:
            self._job_moved(now, worker, attempt, phase, out)
        self._desk.serve(now, worker, out)
        self._desk.workers_changed(now, card.arch, out)
        return out

    def beat(
        self, now: float, server_id: ServerId, beat: Beat, added: Sequence[Digest], dropped: Sequence[Digest]
    ) -> list[Effect]:
        """A worker's heartbeat."""
        out: list[Effect] = []
        worker = self._desk.registry.get(server_id)
        if worker is None:
            return out
        worker.heard_at = now
        worker.beat = beat
        worker.toolchains.difference_update(dropped)
        worker.toolchains.update(added)
        worker.resting = worker.resting and beat.running >= worker.card.slots
        self._desk.regard(now, worker, worker.standing.heard(), out)
        return out

    def job_moved(self, now: float, server_id: ServerId, attempt: Try, phase: JobPhase) -> list[Effect]:
        """A worker tells how far an attempt is."""
        out: list[Effect] = []
        worker = self._desk.registry.get(server_id)
        if worker is not None:
            self._desk.heard(now, worker, out)
            self._job_moved(now, worker, attempt, phase, out)
        return out

    def _job_moved(self, now: float, worker: Worker, attempt: Try, phase: JobPhase, out: list[Effect]) -> None:
        booking = worker.booked.get(attempt)
        job = self._desk.table.get(booking[0]) if booking is not None else None
        if job is None:
            if phase is not JobPhase.ENDED:
                self._adopt(now, worker, attempt, out)
        elif isinstance(job.state, Asking):
            return  # its answer is on the way and says more
        elif phase is JobPhase.ENDED:
            worker.resting = False
            self._desk.free(now, job, out)
        elif phase is JobPhase.LEASED:
            if isinstance(job.state, Running) and job.state.allocation is not None:
                self._unclaimed(now, job, job.state.allocation, job.state.links)
            elif isinstance(job.state, TakenBack):
                # It came back over a new link; what it was told over the old one may be lost.
                out.append(CancelAt(worker.server_id, attempt, unclaimed=True))
        elif isinstance(job.state, Leased | TakenBack):
            # Whoever has come is ready, and keeps the slot even if it was to be taken back.
            self._desk.table.turn_ready(job)
            self._desk.table.move(job, Running(job.state.server_id, job.state.allocation, job.state.links))
            self._desk.reclaim(now, worker.card.arch, out)

    def _unclaimed(self, now: float, job: Job, allocation: Allocation, links: frozenset[LinkId]) -> None:
        """A lease waits for its client again: for long, unless that client is known to be gone."""
        limits = self._desk.limits
        if not links:
            until = now + limits.farewell_seconds
        elif job.ahead:
            # Taken back before the worker gives it up: nobody has failed to come, its job only is not ready yet.
            until = now + max(limits.claim_seconds - limits.claim_slack_seconds, limits.claim_seconds / 2)
        else:
            until = now + limits.claim_seconds + limits.claim_slack_seconds
        self._desk.table.move(job, Leased(allocation.server_id, allocation, until, links))
        self._desk.alarms.set(until, JobDue(job.key))

    def _adopt(self, now: float, worker: Worker, attempt: Try, out: list[Effect]) -> None:
        if self._desk.table.of_attempt(attempt) is not None:
            out.append(CancelAt(worker.server_id, attempt))  # it is somebody else's by now
            return
        arch = worker.card.arch
        job = self._desk.new_job(now, AllocationRequest(NOBODY, attempt, Digest(""), arch))
        self._desk.table.move(job, Running(worker.server_id, None))
        self._desk.registry.book(worker, attempt, job.key, 0, now)

    def drain_ordered(self, now: float, server_id: ServerId) -> list[Effect]:
        """The operator wants a worker to leave: it is not chosen any more, and told so until it says that it drains."""
        out: list[Effect] = []
        worker = self._desk.registry.get(server_id)
        if worker is not None:
            self._ordered[server_id] = None
            if len(self._ordered) > _MOST_ORDERS:
                del self._ordered[next(iter(self._ordered))]
            out.append(Note(events.DRAIN_ORDERED, None, server_id))
            self._drain(now, worker, out)
            out.append(DrainWorker(server_id))
        return out

    def drained(self, now: float, server_id: ServerId) -> list[Effect]:
        """A worker announced that it takes no new jobs."""
        self._ordered.pop(server_id, None)
        out: list[Effect] = []
        worker = self._desk.registry.get(server_id)
        if worker is not None:
            # Not served for being heard from: it has just said that it takes no more.
            worker.heard_at, worker.standing = now, worker.standing.heard()
            self._drain(now, worker, out)
        return out

    def _drain(self, now: float, worker: Worker, out: list[Effect]) -> None:
        if worker.draining:
            return
        worker.draining = True
        out.append(Note(events.WORKER_DRAINING, None, worker.server_id, {"running": len(worker.booked)}))
        self._depart(now, worker, out)

    def unlinked(self, now: float, server_id: ServerId, link: LinkId) -> list[Effect]:
        """A worker's link is gone. It has a moment to come back, unless it had said that it leaves."""
        out: list[Effect] = []
        worker = self._desk.registry.get(server_id)
        if worker is None or worker.link != link:
            return out
        worker.link = None
        if worker.draining and not worker.booked:
            # Clients are not told: a result that is on its way to one would be given up with its worker.
            out.append(Note(events.WORKER_LEFT, None, server_id))
            self._remove(now, worker, out)
            return out
        out.append(Note(events.WORKER_SUSPECT, None, server_id, {"reason": "its link is gone"}))
        worker.heard_at = min(now, now + self._desk.limits.relink_seconds - self._desk.limits.worker_lost_seconds)
        self._watch(now, worker)
        self._depart(now, worker, out)
        return out

    def _depart(self, now: float, worker: Worker, out: list[Effect]) -> None:
        self._desk.release_reservation(now, worker)
        self._desk.registry.refresh(worker, now)
        self._desk.workers_changed(now, worker.card.arch, out)

    def due(self, now: float, worker: Worker, out: list[Effect]) -> None:
        """A worker may have been silent for too long."""
        if now >= worker.heard_at + self._desk.limits.worker_lost_seconds:
            reason = "it did not come back" if worker.link is None else "it is silent"
            out.append(Note(events.WORKER_LOST, None, worker.server_id, {"reason": reason}))
            out.append(TellWorkerLost(worker.server_id))
            self._remove(now, worker, out)
        else:
            self._watch(now, worker)

    def _watch(self, now: float, worker: Worker) -> None:
        worker.watch = max(now, worker.heard_at + self._desk.limits.worker_lost_seconds)
        self._desk.alarms.set(worker.watch, WorkerDue(worker.server_id, worker.watch))

    def _remove(self, now: float, worker: Worker, out: list[Effect]) -> None:
        server_id = worker.server_id
        self._desk.release_reservation(now, worker)
        self._desk.registry.remove(worker, now)
        interrupted = []
        for key, _ in worker.booked.values():
            job = self._desk.table.get(key)
            if job is None or job.at != server_id:
                continue
            if isinstance(job.state, Asking) and job.asks:
                interrupted.append(job)
                self._desk.table.move(job, None)
            else:
                out.append(_lost_note(job.attempt, server_id))
                self._desk.table.drop(job)
        for job in interrupted:
            self._desk.place(now, job, out)
        self._desk.workers_changed(now, worker.card.arch, out)

    def accepted(
        self, now: float, key: JobKey, nonce: int, server_id: ServerId, token: str, present: bool
    ) -> list[Effect]:
        """A worker leased a slot to the attempt that it was asked for."""
        out: list[Effect] = []
        attempt = Try(key[1], key[2])
        job = self._asked(key, nonce)
        worker = self._desk.registry.get(server_id)
        if worker is not None:
            self._desk.heard(now, worker, out)
        if job is None or worker is None:
            found = self._desk.table.get(key)
            return out if found is not None and found.at == server_id else [*out, CancelAt(server_id, attempt)]
        seconds = now - job.state.since if isinstance(job.state, Asking) else 0.0
        out.append(Note(events.WORKER_ACCEPTED, attempt, server_id, {"seconds": seconds}))
        if not job.asks:
            out.append(CancelAt(server_id, attempt))
            self._desk.free(now, job, out)
            return out
        if self._desk.is_wanted(job):
            self._desk.put_back(now, job, worker, out)
            return out
        card = worker.card
        allocation = Allocation(attempt, server_id, card.address, card.certificate, token, present)
        asks, job.asks = job.asks, []
        # The worker's own timer ends the lease first, so that a claim in its last moment is not cancelled.
        self._unclaimed(now, job, allocation, frozenset(ask.link for ask in asks))
        out.extend(Answer(ask.ask, allocation) for ask in asks)
        return out

    def refused(
        self, now: float, key: JobKey, nonce: int, server_id: ServerId, error: SccacheTwistedError
    ) -> list[Effect]:
        """A worker refused, failed, or did not answer in time: the next best is asked."""
        attempt = Try(key[1], key[2])
        out: list[Effect] = [Note(events.WORKER_REFUSED, attempt, server_id, {"code": error.code})]
        job = self._asked(key, nonce)
        worker = self._desk.registry.get(server_id)
        found = self._desk.table.get(key)
        if error.kind is FailureKind.TRANSPORT and (job is not None or found is None or found.at != server_id):
            # It may have accepted all the same; links keep their order, so this cancels that lease.
            out.append(CancelAt(server_id, attempt))
        if job is not None and worker is not None:
            self._desk.registry.unbook(worker, job.attempt, now)
        state = job.state if job is not None else None
        if job is not None and isinstance(state, Asking):
            # Out of the books before anything else is served: the job must not be found where it was refused.
            if job.asks:
                self._desk.table.move(job, None)
            else:
                self._desk.table.drop(job)
        if worker is not None:
            self._mind_refusal(now, worker, error, out)
        if job is not None and job.asks and isinstance(state, Asking):
            self._desk.place(now, job, out)
        return out

    def _mind_refusal(self, now: float, worker: Worker, error: SccacheTwistedError, out: list[Effect]) -> None:
        if isinstance(error, WorkerDraining):
            self._drain(now, worker, out)
        elif error.kind is FailureKind.TRANSPORT:
            out.append(Note(events.WORKER_SUSPECT, None, worker.server_id, {"reason": error.sentence}))
            self._desk.regard(now, worker, worker.standing.unanswered(), out)
        else:
            worker.resting = True
            refused = error.kind is FailureKind.REFUSAL
            self._desk.regard(now, worker, worker.standing if refused else worker.standing.failed(now), out)

    def _asked(self, key: JobKey, nonce: int) -> Job | None:
        job = self._desk.table.get(key)
        return job if job is not None and isinstance(job.state, Asking) and job.state.nonce == nonce else None


def _lost_note(attempt: Try, server_id: ServerId) -> Note:
    fields = {"code": "connection_failed", "sentence": "its worker does not hold it any more."}
    return Note(events.JOB_FAILED, attempt, server_id, fields)
