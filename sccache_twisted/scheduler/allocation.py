"""Asking workers: the best one first, and on each refusal whoever the core names next.

One offer is one Deferred: a callback takes the worker's answer, an errback judges the failure and asks again, until a
worker has accepted or the job waits in the queue. Knows peers and time-outs; refuses to know who is the next best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from sccache_twisted.errors import ConnectionFailed, InternalError, SccacheTwistedError, Silence
from sccache_twisted.interfaces import AssignOrder, IWorkerPeer
from sccache_twisted.model import ServerId
from sccache_twisted.scheduler.effects import AskWorker, Effect
from sccache_twisted.scheduler.workers import WorkerFacts

_log = Logger()


class Offers:
    """Offers that are under way.

    ``peers`` are the workers that have a link; ``perform`` does what the core wants; ``mint`` gives the token of an
    attempt. Every offer is owned here until it has ended.
    """

    def __init__(
        self,
        clock: IReactorTime,
        facts: WorkerFacts,
        peers: Mapping[ServerId, IWorkerPeer],
        perform: Callable[[list[Effect]], None],
        mint: Callable[[], str],
        assign_seconds: float,
    ) -> None:
        self._clock = clock
        self._facts = facts
        self._peers = peers
        self._perform = perform
        self._mint = mint
        self._assign_seconds = assign_seconds
        self._under_way: set[Deferred[None]] = set()

    def begin(self, step: AskWorker) -> None:
        """Offer a job to a worker, and to others after it."""
        offer = self._offer(step)
        if not offer.called:
            self._under_way.add(offer)
            offer.addBoth(self._ended, offer)

    def stop(self) -> Deferred[None]:
        """Give every offer up; fires when none is left."""
        offers = list(self._under_way)
        for offer in offers:
            offer.cancel()
        return DeferredList(offers).addCallback(lambda _: None)

    def _offer(self, step: AskWorker) -> Deferred[None]:
        token = self._mint()
        answered: Deferred[bool] = maybeDeferred(self._assign, step, token)
        answered.addTimeout(self._assign_seconds, self._clock, onTimeoutCancel=_silent)
        settled: Deferred[None] = answered.addCallbacks(
            self._accepted, self._refused, callbackArgs=(step, token), errbackArgs=(step,)
        )
        return settled

    def _assign(self, step: AskWorker, token: str) -> Deferred[bool]:
        peer = self._peers.get(step.server_id)
        if peer is None:
            raise ConnectionFailed(f"Worker {step.server_id} has no link.")
        return peer.assign(AssignOrder(step.attempt, token, step.toolchain, step.expected_bytes))

    def _accepted(self, present: bool, step: AskWorker, token: str) -> None:
        now = self._clock.seconds()
        self._perform(self._facts.accepted(now, step.key, step.nonce, step.server_id, token, present))

    def _refused(self, failure: Failure, step: AskWorker) -> Deferred[None]:
        if failure.check(CancelledError):
            return failure  # type: ignore[return-value]  # the scheduler stops
        error = failure.value
        if not isinstance(error, SccacheTwistedError):
            _log.failure("asking {server_id} failed by a defect", failure, server_id=step.server_id)
            error = InternalError(f"Asking {step.server_id} failed: {type(error).__name__}.")
        # On the next turn of the reactor, so that a thousand refusals that come at once do not nest.
        return deferLater(self._clock, 0).addCallback(self._judge, step, error)

    def _judge(self, _: object, step: AskWorker, error: SccacheTwistedError) -> Deferred[None] | None:
        effects = self._facts.refused(self._clock.seconds(), step.key, step.nonce, step.server_id, error)
        following = next(
            (effect for effect in effects if isinstance(effect, AskWorker) and effect.key == step.key), None
        )
        self._perform([effect for effect in effects if effect is not following])
        return self._offer(following) if following is not None else None

    def _ended(self, result: object, offer: Deferred[None]) -> None:
        self._under_way.discard(offer)
        if isinstance(result, Failure) and not result.check(CancelledError):
            _log.failure("an offer ended by a defect", result)


def _silent(_: object, seconds: float) -> None:
    raise Silence(f"It did not answer within {seconds:g} s.")
