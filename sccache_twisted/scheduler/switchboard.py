"""Between the core and the links: every fact passes here on its way in, every effect on its way out.

Owns what waits: the Deferreds of AllocateJob, the offers to workers, the one timer of the core's next deadline.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from itertools import count

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from sccache_twisted.errors import JobCancelled, SccacheTwistedError, SchedulerUnavailable
from sccache_twisted.interfaces import IClientPeer, IWorkerPeer
from sccache_twisted.logs import EventLog
from sccache_twisted.model import Allocation, AllocationRequest, ServerId
from sccache_twisted.scheduler.allocation import Offers
from sccache_twisted.scheduler.core import SchedulerCore
from sccache_twisted.scheduler.effects import (
    Answer,
    AskId,
    AskWorker,
    CancelAt,
    DrainWorker,
    Effect,
    Fail,
    LinkId,
    Note,
    TellTakenBack,
    TellWorkerLost,
)
from sccache_twisted.scheduler.metrics import SchedulerMetrics
from sccache_twisted.scheduler.placing import OLDEST_SECONDS

_log = Logger()
_TOKEN_BYTES = 32


@frozen(eq=False)
class _Waiting:
    """An AllocateJob that is not answered yet; ``since`` counts from the job's first asking."""

    link: LinkId
    answer: Deferred[Allocation]
    since: float


class Switchboard:
    """Performs what the core wants. ``entropy`` gives that many random bytes."""

    def __init__(
        self, core: SchedulerCore, clock: IReactorTime, assign_seconds: float, entropy: Callable[[int], bytes]
    ) -> None:
        self.core = core
        self.metrics = SchedulerMetrics()
        self._clock = clock
        self._entropy = entropy
        self._events = EventLog.of("sccache_twisted.scheduler")
        self._clients: dict[LinkId, IClientPeer] = {}
        self._workers: dict[ServerId, IWorkerPeer] = {}
        self._waiting: dict[AskId, _Waiting] = {}
        self._links = count(1)
        self._asks = count(1)
        self._timer: IDelayedCall | None = None
        self._offers = Offers(clock, core.workers, self._workers, self.perform, self._mint, assign_seconds)

    def now(self) -> float:
        """The time that facts happen at."""
        return self._clock.seconds()

    def _mint(self) -> str:
        return base64.urlsafe_b64encode(self._entropy(_TOKEN_BYTES)).rstrip(b"=").decode("ascii")

    # --- links ----------------------------------------------------------------------------------------

    def new_link(self) -> LinkId:
        """Number a link."""
        return LinkId(next(self._links))

    def client_joined(self, link: LinkId, peer: IClientPeer) -> None:
        """A client is to be told when a worker is lost."""
        self._clients[link] = peer

    def client_left(self, link: LinkId) -> None:
        """A client's link is gone, and with it whoever waited for an answer there."""
        self._clients.pop(link, None)
        self.perform(self.core.clients.link_lost(self.now(), link))
        for ask in [ask for ask, waiting in self._waiting.items() if waiting.link == link]:
            self._fail(ask, JobCancelled("The client is gone."))

    def worker_joined(self, server_id: ServerId, peer: IWorkerPeer) -> None:
        """A worker is reached through this peer from now on."""
        self._workers[server_id] = peer

    def worker_left(self, server_id: ServerId, peer: IWorkerPeer) -> None:
        """A worker is not reached through this peer any more."""
        if self._workers.get(server_id) is peer:
            del self._workers[server_id]

    def allocate(self, link: LinkId, request: AllocationRequest) -> Deferred[Allocation]:
        """Ask the core for a slot."""
        ask = AskId(next(self._asks))
        answer: Deferred[Allocation] = Deferred()
        now = self.now()
        self._waiting[ask] = _Waiting(link, answer, now - min(request.age, OLDEST_SECONDS))
        self.perform(self.core.clients.allocation_asked(now, ask, link, request))
        return answer

    def drain(self, server_id: ServerId) -> None:
        """Let a worker finish what it runs and leave."""
        self.perform(self.core.workers.drain_ordered(self.now(), server_id))

    def stop(self) -> Deferred[None]:
        """Give up what is under way; fires when nothing of it is left."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        for ask in list(self._waiting):
            self._fail(ask, SchedulerUnavailable("The scheduler stops."))
        return self._offers.stop()

    # --- effects --------------------------------------------------------------------------------------

    def perform(self, effects: list[Effect]) -> None:
        """Do what the core wants, in order."""
        for effect in effects:
            self._do(effect)
        self._set_timer()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Note():
                self.metrics.noted(effect)
                self._events.emit(effect.event, attempt=effect.attempt, server_id=effect.server_id, **effect.fields)
            case AskWorker():
                self._offers.begin(effect)
            case Answer():
                waiting = self._waiting.pop(effect.ask, None)
                if waiting is not None:
                    self.metrics.allocated(self.now() - waiting.since)
                    waiting.answer.callback(effect.allocation)
            case Fail():
                self._fail(effect.ask, effect.error)
            case CancelAt():
                worker = self._workers.get(effect.server_id)
                if worker is not None:
                    worker.cancel(effect.attempt, unclaimed=effect.unclaimed).addErrback(self._not_told, effect)
            case TellTakenBack():
                for link in effect.links & self._clients.keys():
                    self._clients[link].lease_taken_back(effect.attempt).addErrback(self._not_told, effect)
            case DrainWorker():
                worker = self._workers.get(effect.server_id)
                if worker is not None:
                    worker.drain().addErrback(self._not_told, effect)
            case TellWorkerLost():
                for client in tuple(self._clients.values()):
                    client.worker_lost(effect.server_id).addErrback(self._not_told, effect)

    def _fail(self, ask: AskId, error: SccacheTwistedError) -> None:
        waiting = self._waiting.pop(ask, None)
        if waiting is not None:
            self.metrics.not_allocated(error)
            waiting.answer.errback(error)

    @staticmethod
    def _not_told(failure: Failure, effect: Effect) -> None:
        # Whoever could not be told has lost its link or is about to, and starts afresh with the next one.
        _log.debug("{effect} could not be delivered: {error}", effect=effect, error=failure.getErrorMessage())

    # --- time -----------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        due = self.core.next_deadline()
        if due is None:
            return
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() <= due:
                return  # it rings early, finds nothing due and is set anew: cheaper than moving it at every fact
            self._timer.cancel()
        self._timer = self._clock.callLater(max(0.0, due - self.now()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.perform(self.core.time_passed(self.now()))
