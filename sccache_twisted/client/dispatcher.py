"""A client's jobs on workers: how many at once, what the scheduler is told behind their backs, how they all end.

A job's own life is :mod:`~sccache_twisted.client.job`'s.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.client.ahead import Reservation, Reservations
from sccache_twisted.client.expected import Expectations
from sccache_twisted.client.job import Job
from sccache_twisted.client.stats import Statistics
from sccache_twisted.config import ClientSettings, SchedulerSettings
from sccache_twisted.interfaces import (
    IBlobSource,
    IDispatcher,
    IReservation,
    ISchedulerForClients,
    ISchedulerLink,
    IWorkerConnection,
    RemoteRun,
)
from sccache_twisted.logs.events import EventLog
from sccache_twisted.model import (
    Action,
    AllocationRequest,
    Digest,
    ServerId,
    Try,
    mint_job_id,
)
from sccache_twisted.policy.backoff import Backoff
from sccache_twisted.policy.retry import (
    RetryLimits,
)

_FAREWELL_SECONDS = 2.0


@implementer(IDispatcher)
class Dispatcher:
    """Runs actions on whichever worker. ``draw`` gives numbers from [0, 1), ``entropy`` random bytes."""

    def __init__(
        self,
        clock: IReactorTime,
        link: ISchedulerLink,
        workers: IWorkerConnection,
        settings: ClientSettings,
        statistics: Statistics,
        *,
        draw: Callable[[], float] = random.random,
        entropy: Callable[[int], bytes] = os.urandom,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.clock = clock
        self.link = link
        self.workers = workers
        self.statistics = statistics
        self.expectations = Expectations(settings.first_guess_bytes)
        self.draw = draw
        self.log = EventLog.of("sccache_twisted.client", role="client")
        self.never_local = settings.fallback == "never"
        self.ask_again_seconds = settings.ask_again_seconds
        self.patience = SchedulerSettings().allocate_seconds
        self.allocate_seconds = self.patience + settings.allocate_margin_seconds
        slow_down = Backoff(settings.avoid_first_seconds, 2.0, settings.avoid_longest_seconds)
        self.limits = RetryLimits(
            counted=settings.retry_limit,
            worker_lost=settings.worker_lost_limit,
            avoided=slow_down,
            refused=slow_down,
        )
        self.asking = 0
        """How many jobs that are ready wait for the scheduler's answer."""
        self._ahead = Reservations(self, settings.ahead)
        self._entropy = entropy
        self._now_ms = now_ms
        self._turns = DeferredSemaphore(settings.max_jobs)
        self._jobs: set[Deferred[Any]] = set()
        self._farewells: set[Deferred[None]] = set()
        self._local: Counter[str] = Counter()

    def dispatch(
        self,
        action: Action,
        arch: str,
        archive: Callable[[], str],
        blobs: IBlobSource,
        label: str,
        again: Callable[[], Deferred[object]] | None = None,
        reservation: IReservation | None = None,
    ) -> Deferred[RemoteRun]:
        """Run an action; fails with FellBack, Found, NoLocalFallback, InputChanged, or CancelledError."""
        held = cast("Reservation | None", reservation)  # there are none but those of reserve()
        if held is not None and not held.fits(action.toolchain, arch):
            held.release("the compiler has changed")
            held = None
        attempt = self._mint() if held is None else held.request.attempt
        job = Job(self, attempt, action, arch, archive, blobs, label, again, held)
        running = self._turns.run(job.run)

        def cancel(_: Deferred[RemoteRun]) -> None:
            job.cancelled = True
            running.cancel()

        answer: Deferred[RemoteRun] = Deferred(cancel)
        self._jobs.add(running)

        def ended(outcome: RemoteRun | Failure) -> None:
            self._jobs.discard(running)
            if held is not None:
                held.release("its job has ended before it had its turn")
            if answer.called:
                return
            if isinstance(outcome, Failure):
                answer.errback(outcome)
            else:
                answer.callback(outcome)

        running.addBoth(ended)
        return answer

    def reserve(self, toolchain: Digest, arch: str, label: str) -> Reservation | None:
        """See IDispatcher. Who has jobs that are ready and wait gains nothing by asking behind them."""
        if self.asking or self._turns.tokens <= len(self._ahead):
            return None
        need = self.expectations.of(label)
        return self._ahead.ask(self.request(self._mint(), toolchain, arch, label, need.memory_bytes))

    def request(
        self,
        attempt: Try,
        toolchain: Digest,
        arch: str,
        label: str,
        expected_bytes: int,
        *,
        avoid: frozenset[ServerId] = frozenset(),
        age: float = 0.0,
    ) -> AllocationRequest:
        """An ask for a slot, as this client puts it."""
        return AllocationRequest(
            client_id=self.link.client_id,
            attempt=attempt,
            toolchain=toolchain,
            arch=arch,
            avoid=avoid,
            label=label[-1024:],
            expected_seconds=self.expectations.of(label).seconds,
            expected_bytes=expected_bytes,
            age=age,
            patience=self.patience,
        )

    def _mint(self) -> Try:
        return Try(mint_job_id(self._now_ms(), self._entropy(10)), 1)

    def lease_taken_back(self, attempt: Try) -> None:
        """See IClientPeer."""
        self._ahead.lease_taken_back(attempt)

    def worker_lost(self, server_id: ServerId) -> None:
        """See IClientPeer. Connections and what runs over them are others' business."""
        self._ahead.worker_lost(server_id)

    def tell(self, what: str, message: Callable[[ISchedulerForClients], Deferred[None]]) -> Deferred[None]:
        """Tell the scheduler something that nobody waits for; a scheduler that can't be told will find out.

        Fires when it was told, or could not be.
        """
        telling: Deferred[None] = self.link.scheduler().addCallback(message)
        telling.addTimeout(_FAREWELL_SECONDS, self.clock)
        self._farewells.add(telling)

        def told(outcome: Any) -> None:
            self._farewells.discard(telling)
            if isinstance(outcome, Failure):
                self.log.log.debug("{what} could not be told: {reason}", what=what, reason=outcome.getErrorMessage())

        return telling.addBoth(told)

    def stayed_local(self, reason: str) -> None:
        """See IDispatcher. What can't be told in an outage is told with the next one."""
        self._local[reason] += 1
        counts, self._local = self._local, Counter()

        def report(scheduler: ISchedulerForClients) -> Deferred[None]:
            told = [scheduler.stayed_local(word, count) for word, count in counts.items()]
            counts.clear()
            return gatherResults(told).addCallback(lambda _: None)

        self.tell("what stayed local", report).addBoth(lambda _: self._local.update(counts))

    async def stop(self) -> None:
        """Cancel every job; wait, not for long, until the scheduler has been told."""
        for job in list(self._jobs):
            job.cancel()
        self._ahead.release_all()
        waiting: list[Deferred[None]] = []
        for farewell in self._farewells:
            told: Deferred[None] = Deferred()
            farewell.addBoth(told.callback)
            waiting.append(told)
        await gatherResults(waiting)
