"""The facts that clients bring: requests, reports, and their going away."""

from __future__ import annotations

from attrs import evolve

from sccache_twisted.errors import (
    BY_CODE,
    FAILURES,
    JobCancelled,
    TooManyRequests,
    UnknownAttempt,
)
from sccache_twisted.interfaces import AttemptReport, Outcome
from sccache_twisted.model import AllocationRequest, ClientId, ServerId, Try
from sccache_twisted.scheduler.alarms import JobDue
from sccache_twisted.scheduler.effects import Answer, AskId, CancelAt, Effect, Fail, JobKey, LinkId
from sccache_twisted.scheduler.jobs import NOBODY, Ask, Asking, Ending, Job, Leased, Queued, Running, TakenBack
from sccache_twisted.scheduler.placing import Desk
from sccache_twisted.scheduler.registry import Worker


class ClientFacts:
    """What clients do. Every method takes the time of the fact and gives what is to be done about it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def allocation_asked(self, now: float, ask: AskId, link: LinkId, request: AllocationRequest) -> list[Effect]:
        """A client wants a slot for an attempt; it may have asked for the same one before, perhaps ahead."""
        out: list[Effect] = []
        job = self._desk.table.get(request.key)
        if job is None:
            left_over = self._desk.table.of_attempt(request.attempt)
            if left_over is not None and left_over.request.client_id == NOBODY and left_over.at is not None:
                # A worker brought it back after a restart, but its client never got to know of that lease.
                out.append(CancelAt(left_over.at, request.attempt))
                self._desk.free(now, left_over, out)
            if self._desk.table.queued >= self._desk.limits.max_queue:
                return [
                    *out,
                    Fail(ask, TooManyRequests(f"{self._desk.limits.max_queue} requests are waiting already.")),
                ]
            job = self._desk.new_job(now, request)
            job.asks.append(self._ask(now, ask, link, job))
            self._desk.place(now, job, out)
        elif isinstance(job.state, Leased | Running) and job.state.allocation is not None:
            self._desk.table.move(job, evolve(job.state, links=job.state.links | {link}))
            out.append(Answer(ask, job.state.allocation))
            self._heed(now, job, request, out)
        elif isinstance(job.state, Queued | Asking):
            job.asks.append(self._ask(now, ask, link, job))
            self._heed(now, job, request, out)
        else:
            out.append(Fail(ask, UnknownAttempt("This attempt has ended.")))
        return out

    def _heed(self, now: float, job: Job, request: AllocationRequest, out: list[Effect]) -> None:
        if not request.ahead:
            self._desk.turn_ready(now, job, out)

    def _ask(self, now: float, ask: AskId, link: LinkId, job: Job) -> Ask:
        due = now + min(self._desk.limits.allocate_seconds, job.request.patience)
        self._desk.alarms.set(due, JobDue(job.key))
        return Ask(ask, link, due)

    def attempt_cancelled(self, now: float, client_id: ClientId, attempt: Try) -> list[Effect]:
        """A client gives an attempt up, wherever it is."""
        job = self._job_of(client_id, attempt)
        if job is None:
            return []
        asks, job.asks = job.asks, []
        out: list[Effect] = [Fail(ask.ask, JobCancelled()) for ask in asks]
        if isinstance(job.state, Queued):
            self._desk.withdraw(now, job, out)
        elif isinstance(job.state, Leased | Running | TakenBack):
            out.append(CancelAt(job.state.server_id, attempt))
            self._wind_up(now, job, job.state.server_id)
        return out

    def attempt_reported(self, now: float, client_id: ClientId, report: AttemptReport) -> list[Effect]:
        """A client tells how an attempt ended."""
        out: list[Effect] = []
        worker = self._desk.registry.get(report.server_id)
        if worker is not None:
            self._judge(now, worker, report, out)
        job = self._job_of(client_id, report.attempt)
        claimable = isinstance(job.state, Leased | Running | TakenBack) if job is not None else False
        if job is not None and claimable and job.at == report.server_id:
            if report.outcome is not Outcome.DONE:
                out.append(CancelAt(report.server_id, report.attempt))
            self._wind_up(now, job, report.server_id)
        return out

    def _judge(self, now: float, worker: Worker, report: AttemptReport, out: list[Effect]) -> None:
        failure = BY_CODE.get(report.reason)
        means = FAILURES[failure.kind] if failure is not None else None
        standing = worker.standing
        if report.outcome is Outcome.DONE:
            standing = standing.reached()
        elif report.outcome is Outcome.FAILED and means is not None:
            standing = standing.unreachable(now) if means.suspect else standing
            standing = standing.failed(now) if means.blame else standing
        self._desk.regard(now, worker, standing, out)

    def link_lost(self, now: float, link: LinkId) -> list[Effect]:
        """A client's link is gone: nobody waits for its unanswered requests any more.

        What it has not claimed by now it hardly will, but it may be on its way to the worker with a claim, and back
        here in a moment: a lease that nobody else was told of ends soon, unless its worker says that it was claimed.
        """
        out: list[Effect] = []
        soon = now + self._desk.limits.farewell_seconds
        for job in self._desk.table:
            if isinstance(job.state, Leased) and link in job.state.links:
                links = job.state.links - {link}
                until = job.state.until if links else min(job.state.until, soon)
                self._desk.table.move(job, evolve(job.state, links=links, until=until))
                self._desk.alarms.set(until, JobDue(job.key))
            elif isinstance(job.state, Running | TakenBack) and link in job.state.links:
                self._desk.table.move(job, evolve(job.state, links=job.state.links - {link}))
        for job in [job for job in self._desk.table if any(ask.link == link for ask in job.asks)]:
            job.asks = [ask for ask in job.asks if ask.link != link]
            if not job.asks and isinstance(job.state, Queued):
                self._desk.withdraw(now, job, out)
        return out

    def answer_undeliverable(self, now: float, key: JobKey) -> list[Effect]:
        """Nobody could be told of a lease: it ends."""
        job = self._desk.table.get(key)
        return [] if job is None else self.attempt_cancelled(now, job.request.client_id, job.attempt)

    def _job_of(self, client_id: ClientId, attempt: Try) -> Job | None:
        job = self._desk.table.get((client_id, attempt.job_id, attempt.attempt))
        if job is None:
            left_over = self._desk.table.of_attempt(attempt)
            job = left_over if left_over is not None and left_over.request.client_id == NOBODY else None
        return job

    def _wind_up(self, now: float, job: Job, server_id: ServerId) -> None:
        until = now + self._desk.limits.claim_seconds
        self._desk.table.move(job, Ending(server_id, until))
        self._desk.alarms.set(until, JobDue(job.key))
