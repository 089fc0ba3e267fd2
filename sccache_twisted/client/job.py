"""One job's life: allocate, upload the toolchain, run, report; and again on another worker.

Each attempt is one callback for the allocation and one errback that judges the failure by the failure table
(:mod:`sccache_twisted.policy.retry`) and attempts again. Every wait is bounded: the link by the scheduler's grace, an
allocation by the scheduler's own bound and a margin, a run by silence on its connection and by ``answer_seconds``, a
back-off by its bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.client.ahead import Reservation, first_of
from sccache_twisted.client.doubt import Doubt
from sccache_twisted.client.fallback import FellBack, Found
from sccache_twisted.compilers.reasons import sentence
from sccache_twisted.errors import (
    FailureKind,
    InternalError,
    JobCancelled,
    NoLocalFallback,
    SccacheTwistedError,
    Silence,
    StillQueued,
    UnknownAttempt,
)
from sccache_twisted.interfaces import (
    AttemptReport,
    IBlobSource,
    IProgress,
    ISchedulerForClients,
    JobPhase,
    Outcome,
    RemoteRun,
)
from sccache_twisted.logs import events
from sccache_twisted.model import (
    Action,
    ActionResult,
    Allocation,
    AllocationRequest,
    JobFigures,
    RunsLocally,
    ServerId,
    Transfers,
    Try,
)
from sccache_twisted.policy.backoff import full_jitter
from sccache_twisted.policy.retry import (
    Again,
    CompileLocally,
    GiveUp,
    JobHistory,
    LocalReason,
    UploadToolchain,
)

_LEAST_ASKING_SECONDS = 0.1


if TYPE_CHECKING:
    from sccache_twisted.client.dispatcher import Dispatcher


@implementer(IProgress)
class Job:
    """One job from its first allocation to its result. ``attempt`` is the first one, also of its ``reservation``."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        attempt: Try,
        action: Action,
        arch: str,
        archive: Callable[[], str],
        blobs: IBlobSource,
        label: str,
        again: Callable[[], Deferred[object]] | None = None,
        reservation: Reservation | None = None,
    ) -> None:
        self._again_found = again
        self._reservation = reservation
        self._ahead: Try | None = None
        self._taken_back = 0
        """Attempts that ended before their job came to a worker, since others had a use for the slot."""
        self._asked_before = 0.0
        self._early: Deferred[Allocation] | None = None
        self._dispatcher = dispatcher
        self._attempt = attempt
        self._action = action
        self._arch = arch
        self._archive = archive
        self._blobs = blobs
        self._label = label
        self._history = JobHistory(dispatcher.limits)
        self._memory_bytes = dispatcher.expectations.of(label).memory_bytes
        self._began = dispatcher.clock.seconds()
        self._asked = 0.0
        self._queued_since = self._began
        self._queue_seconds = 0.0
        self._upload_seconds = 0.0
        self._moved = Transfers()
        self._server_id: ServerId | None = None
        self._allocating = False
        self._was_running = False
        self._doubt = Doubt()
        self.cancelled = False

    def run(self) -> Deferred[RemoteRun]:
        """One attempt, and after a failure that allows it the next."""
        running: Deferred[RemoteRun] = self._allocate().addCallback(self._run_on_worker)
        return running.addErrback(self._judge)

    def phase_changed(self, phase: str) -> None:
        """The worker says how far it is: whether its end would be the job's doing depends on it."""
        if phase == JobPhase.RUNNING.value and not self._was_running:
            self._was_running = True
            self._emit(events.JOB_RUNNING)

    def sent(self, size: int) -> None:
        """See IProgress."""
        self._moved = evolve(self._moved, sent_bytes=self._moved.sent_bytes + size)

    def received(self, size: int, seconds: float) -> None:
        """See IProgress."""
        self._moved = evolve(self._moved, received_bytes=self._moved.received_bytes + size, download_seconds=seconds)

    # --- allocation ---

    def _allocate(self) -> Deferred[Allocation]:
        dispatcher = self._dispatcher
        self._server_id = None
        self._moved = Transfers()
        self._was_running = False
        self._allocating = False
        self._asked = dispatcher.clock.seconds()
        held = self._use_reservation()
        if held is not None:
            return succeed(held)
        asking: Deferred[Any] = dispatcher.link.scheduler()
        asking.addCallback(self._ask)
        asking.addCallback(self._allocated)
        return asking.addCallback(self._looked_up)

    def _use_reservation(self) -> Allocation | None:
        """The slot that was asked for ahead, if it is there; else this ask goes on where that one stands."""
        reservation, self._reservation = self._reservation, None
        if reservation is None:
            return None
        used = reservation.use()
        self._taken_back += used.attempt.attempt - self._attempt.attempt
        self._attempt, self._asked_before, self._early = used.attempt, used.age, used.answer
        self._ahead = used.attempt if used.known else None
        self._allocating = used.known
        if used.allocation is None:
            return None
        self._server_id = used.allocation.server_id
        if not used.allocation.toolchain_present:
            # Its turn to send it may take a while to come, and the worker says nothing of us until then.
            self._dispatcher.tell("that a job is ready", self._confirm)
        return used.allocation

    def _confirm(self, scheduler: ISchedulerForClients) -> Deferred[None]:
        confirmed: Deferred[Any] = scheduler.allocate(self._request())
        return confirmed.addCallback(lambda _: None)

    def _looked_up(self, allocation: Allocation) -> Deferred[Allocation]:
        """After a wait in the queue: whether somebody has stored the result meanwhile. The lease is given back then."""
        return self._unless_found().addCallback(lambda _: allocation)

    def _unless_found(self) -> Deferred[None]:
        dispatcher = self._dispatcher
        waited = dispatcher.clock.seconds() - self._queued_since
        if self._again_found is None or waited < dispatcher.ask_again_seconds:
            return succeed(None)

        def asked(found: object) -> None:
            if found is not None:
                raise Found(found)

        return self._again_found().addCallback(asked)

    def _ask(self, scheduler: ISchedulerForClients) -> Deferred[Allocation]:
        dispatcher = self._dispatcher
        self._allocating = True
        asked: Deferred[Allocation] = scheduler.allocate(self._request())
        asked.addTimeout(dispatcher.allocate_seconds, dispatcher.clock, _silent_scheduler)
        early, self._early = self._early, None
        answer = asked if early is None else first_of(early, asked)
        dispatcher.asking += 1
        return answer.addBoth(self._answered)

    def _answered(self, outcome: Any) -> Any:
        self._dispatcher.asking -= 1
        return outcome

    def _request(self) -> AllocationRequest:
        now = self._dispatcher.clock.seconds()
        return self._dispatcher.request(
            self._attempt,
            self._action.toolchain,
            self._arch,
            self._label,
            self._memory_bytes * self._history.memory_factor,
            avoid=self._history.avoid,
            age=now - self._queued_since + self._asked_before,
        )

    def _allocated(self, allocation: Allocation) -> Allocation:
        now = self._dispatcher.clock.seconds()
        self._queue_seconds += now - self._queued_since
        self._server_id = allocation.server_id
        self._emit(events.WORKER_ACCEPTED, seconds=now - self._queued_since)
        return allocation

    # --- on the worker ---

    def _run_on_worker(self, allocation: Allocation) -> Deferred[RemoteRun]:
        return Deferred.fromCoroutine(self._run(allocation))

    async def _run(self, allocation: Allocation) -> RemoteRun:
        dispatcher = self._dispatcher
        if not allocation.toolchain_present:
            await self._upload(allocation)
        memory_bytes = self._memory_bytes * self._history.memory_factor
        action = evolve(self._action, memory_bytes=memory_bytes)
        began = dispatcher.clock.seconds()
        while True:
            try:
                result = await dispatcher.workers.run(allocation, action, self._blobs, self)
                break
            except SccacheTwistedError as failure:
                if failure.kind is not FailureKind.TOOLCHAIN_ABSENT:
                    raise
                history, step = self._history.after(failure, allocation.server_id, was_running=False)
                if not isinstance(step, UploadToolchain):
                    raise
                self._history = history
                await self._upload(allocation)
        self._doubt.hear(action, result, allocation.server_id)
        return self._done(allocation, result, dispatcher.clock.seconds() - began)

    async def _upload(self, allocation: Allocation) -> None:
        # Whether it really travels for this job is known, and logged, below: another may be sending it already.
        clock = self._dispatcher.clock
        began = clock.seconds()
        size = await self._dispatcher.workers.upload_toolchain(allocation, self._action.toolchain, self._archive())
        seconds = clock.seconds() - began
        self._upload_seconds += seconds
        if size:
            self._moved = evolve(self._moved, toolchain_bytes=size, upload_seconds=seconds)

    def _done(self, allocation: Allocation, result: ActionResult, seconds: float) -> RemoteRun:
        dispatcher = self._dispatcher
        peak = result.figures.peak_memory_bytes
        dispatcher.expectations.seen(self._label, peak, result.figures.wall_seconds)
        self._report(Outcome.DONE, "", seconds, peak)
        self._emit(
            events.JOB_DONE,
            label=self._label,
            attempts=self._attempt.attempt - self._taken_back,
            seconds=dispatcher.clock.seconds() - self._began,
        )
        figures = JobFigures(
            job_id=self._attempt.job_id,
            attempts=self._attempt.attempt - self._taken_back,
            server_id=allocation.server_id,
            queue_seconds=self._queue_seconds,
            upload_seconds=self._upload_seconds,
            run_seconds=seconds,
            sent_bytes=self._moved.sent_bytes,
            received_bytes=self._moved.received_bytes,
        )
        return RemoteRun(result, figures)

    # --- failures ---

    def _judge(self, failure: Failure) -> Deferred[RemoteRun]:
        """What a failure means: another attempt, or the end."""
        problem = failure.value
        if self.cancelled or isinstance(problem, CancelledError):
            self._cancel_everywhere()
            return _failed(Failure(CancelledError()))
        if isinstance(problem, Found):
            # Each ask that this one followed on hears of it, too.
            if self._allocating:
                self._allocating = False
                self._emit(events.JOB_CANCELLED, reason="its result was stored by somebody else while it waited")
                self._cancel_attempt()
            return _failed(failure)
        if isinstance(problem, JobCancelled):
            # Nobody here cancelled it: the other side took back a lease whose job is still wanted.
            problem = UnknownAttempt(f"The lease was taken back: {problem.sentence}")
        if not isinstance(problem, SccacheTwistedError):
            self._dispatcher.log.log.failure("a defect in attempt {attempt}", failure, attempt=self._attempt)
            problem = InternalError(f"{type(problem).__name__}: {problem}")
        if isinstance(problem, UnknownAttempt) and self._attempt == self._ahead and not self._was_running:
            return self._ask_as_any_other()
        self._history, step = self._history.after(problem, self._server_id, was_running=self._was_running)
        if not isinstance(problem, StillQueued):
            self._note_failure(problem)
        match step:
            case Again():
                return self._again(step, problem)
            case UploadToolchain():
                return self._again(Again(self._history.avoid), problem)
            case CompileLocally(reason):
                return self._stay(reason, problem)
            case GiveUp(given):
                return _failed(Failure(given))

    def _ask_as_any_other(self) -> Deferred[RemoteRun]:
        """The slot that was held ahead went to somebody else, or ended, before this job came. Nothing has failed."""
        self._emit(events.LEASE_TAKEN_BACK, reason="this job came for it too late")
        self._cancel_attempt()
        self._attempt, self._ahead = Try(self._attempt.job_id, self._attempt.attempt + 1), None
        self._taken_back += 1
        return self.run()

    def _note_failure(self, problem: SccacheTwistedError) -> None:
        self._emit(events.JOB_FAILED, code=problem.code, sentence=problem.sentence)
        if self._server_id is not None:
            self._dispatcher.statistics.dist_errors += 1
            self._report(Outcome.FAILED, problem.code)

    def _again(self, step: Again, problem: SccacheTwistedError) -> Deferred[RemoteRun]:
        dispatcher = self._dispatcher
        now = dispatcher.clock.seconds()
        wait = full_jitter(step.wait_bound, dispatcher.draw())
        gave_up_on, self._server_id = self._server_id, None
        if step.keeps_place:
            # A scheduler that answers StillQueued at once shall not be asked a thousand times a second.
            wait = max(wait, _LEAST_ASKING_SECONDS - (now - self._asked))
        else:
            if self._allocating and gave_up_on is None and problem.kind is FailureKind.TRANSPORT:
                self._cancel_attempt()
            self._attempt = Try(self._attempt.job_id, self._attempt.attempt + 1)
            self._queued_since, self._asked_before = now, 0.0
            dispatcher.statistics.dist_retries += 1
            self._emit(events.JOB_RETRIED, code=problem.code, wait=wait)
        if step.keeps_place:
            looking = self._unless_found()
            return looking.addCallback(lambda _: self._run_after(wait)).addErrback(self._found)
        self._allocating = False
        return self._run_after(wait)

    def _found(self, failure: Failure) -> Deferred[RemoteRun]:
        failure.trap(Found)
        return self._judge(failure)

    def _run_after(self, wait: float) -> Deferred[RemoteRun]:
        if wait <= 0:
            return self.run()
        waiting: Deferred[Any] = deferLater(self._dispatcher.clock, wait)
        return waiting.addCallback(lambda _: self.run())

    def _stay(self, reason: LocalReason, problem: SccacheTwistedError) -> Deferred[RemoteRun]:
        why = f"{sentence(reason.value)} {problem.sentence}"
        if self._dispatcher.never_local:
            return _failed(Failure(NoLocalFallback(f"The job could not be run on a worker: {why}")))
        return _failed(Failure(FellBack(RunsLocally(reason.value, why), self._attempt)))

    def _cancel_everywhere(self) -> None:
        self._emit(events.JOB_CANCELLED, reason="its caller is gone")
        if self._allocating:
            self._cancel_attempt()

    def _cancel_attempt(self) -> None:
        attempt = self._attempt
        self._dispatcher.tell("a cancelled attempt", lambda scheduler: scheduler.cancel(attempt))

    def _report(self, outcome: Outcome, reason: str, seconds: float = 0.0, peak: int = 0) -> None:
        assert self._server_id is not None, "only an attempt that was allocated is reported"  # noqa: S101 - our own order
        report = AttemptReport(self._attempt, outcome, self._server_id, reason, seconds, peak, self._moved)
        self._dispatcher.tell("how an attempt ended", lambda scheduler: scheduler.report(report))

    def _emit(self, event: events.Event, **fields: Any) -> None:
        self._dispatcher.log.emit(event, attempt=self._attempt, server_id=self._server_id, **fields)


def _failed(failure: Failure) -> Deferred[RemoteRun]:
    answer: Deferred[RemoteRun] = Deferred()
    answer.errback(failure)
    return answer


def _silent_scheduler(outcome: Any, seconds: float) -> Any:
    if isinstance(outcome, Failure):
        raise Silence(f"The scheduler did not answer AllocateJob within {seconds:g} s.")
    return outcome
