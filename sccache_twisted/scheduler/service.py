"""The scheduler as a service: the listener, the switchboard behind it, and tokens that end when they are revoked."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from sccache_twisted import __version__
from sccache_twisted.config import SchedulerSettings
from sccache_twisted.errors import SccacheTwistedError, Unauthorized
from sccache_twisted.interfaces import Hello
from sccache_twisted.logs import EventLog, events
from sccache_twisted.model import ClusterFigures
from sccache_twisted.net.listener import SchedulerListener
from sccache_twisted.scheduler.core import SchedulerCore
from sccache_twisted.scheduler.door import SchedulerDoor
from sccache_twisted.scheduler.metrics import SchedulerMetrics
from sccache_twisted.scheduler.placing import CoreLimits
from sccache_twisted.scheduler.switchboard import Switchboard
from sccache_twisted.scheduler.views import QueuedView, WorkerView
from sccache_twisted.security.tokens import TokenStore

_REVOCATION_SECONDS = 2.0


def limits_of(settings: SchedulerSettings) -> CoreLimits:
    """The core's limits out of the table of keys."""
    links = settings.links
    return CoreLimits(
        allocate_seconds=settings.allocate_seconds,
        claim_seconds=settings.claim_seconds,
        claim_slack_seconds=settings.assign_seconds,
        settle_seconds=settings.settle_seconds,
        scale_from_zero_seconds=settings.scale_from_zero_seconds,
        worker_lost_seconds=settings.worker_lost_seconds,
        # A living worker whose link broke dials again and has its handshake within this time.
        relink_seconds=min(settings.worker_lost_seconds, links.reconnect_longest_seconds + links.connect_seconds),
        blame_half_life_seconds=settings.blame_half_life_seconds,
        max_queue=settings.max_queue,
    )


class SchedulerService(service.Service):
    """A scheduler that listens on ``settings.listen``.

    ``tokens`` and ``tls`` are None in the insecure mode only. ``entropy`` gives that many random bytes.
    ``startService`` raises ConfigError for a taken port; ``stopService`` fires when every link and offer has ended.
    """

    def __init__(
        self,
        reactor: Any,
        settings: SchedulerSettings,
        tokens: TokenStore | None,
        tls: IOpenSSLServerConnectionCreator | None,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._reactor = reactor
        self._tokens = tokens
        self._started = reactor.seconds()
        self._generation = -1
        self._log = EventLog.of("sccache_twisted.scheduler", role="scheduler")
        self._core = SchedulerCore(limits_of(settings), self._started)
        self._switchboard = Switchboard(self._core, reactor, settings.assign_seconds, entropy)
        scheduler_id = f"scheduler-{entropy(8).hex()}"
        self.door = SchedulerDoor(self._switchboard, tokens, settings.links, scheduler_id, entropy)
        """Where links come in; usable without any network too."""
        self._listener = SchedulerListener(reactor, settings.listen, self.door, tls, settings.links, settings.max_links)
        self._revocation = LoopingCall(self._dismiss_revoked)
        self._revocation.clock = reactor

    @property
    def port(self) -> int:
        """The TCP port of the AMP listener."""
        return self._listener.port

    @property
    def uptime(self) -> float:
        """Seconds since this service was made."""
        return float(self._reactor.seconds() - self._started)

    @property
    def metrics(self) -> SchedulerMetrics:
        """What has been counted since this service was made."""
        return self._switchboard.metrics

    def figures(self) -> ClusterFigures:
        """The cluster in numbers."""
        return self._core.figures()

    def worker_views(self) -> list[WorkerView]:
        """Every worker that has registered and is not lost, by name."""
        return sorted(self._core.worker_views(self._reactor.seconds()), key=lambda view: view.server_id)

    def queued_views(self, offset: int, limit: int) -> list[QueuedView]:
        """A page of the requests that wait, the oldest first."""
        return self._core.queued_views(self._reactor.seconds(), offset, limit)

    def order_drain(self, worker: str) -> list[WorkerView]:
        """Tell the worker of this server_id, or all of this name, to leave; those that were told, none if unknown."""
        told = {view.server_id for view in self.worker_views() if worker in {view.server_id, view.name}}
        for server_id in told:
            self._switchboard.drain(server_id)
        return [view for view in self.worker_views() if view.server_id in told]

    def startService(self) -> None:
        """Listen, or raise ConfigError."""
        self._listener.startService()
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service has no types
        self._log.emit(events.STARTED, version=f"{__version__} (Python {platform.python_version()})")
        if self._tokens is not None:
            self._revocation.start(_REVOCATION_SECONDS, now=False).addErrback(self._watch_failed)

    def stopService(self) -> Deferred[None]:
        """End every link and whatever is under way."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's Service has no types
        if self._revocation.running:
            self._revocation.stop()
        # Links first: their ends are facts, and nothing new comes in after them.
        stopped: Deferred[None] = maybeDeferred(self._listener.stopService)
        return stopped.addCallback(lambda _: self._switchboard.stop())

    def _dismiss_revoked(self) -> None:
        tokens = self._tokens
        if tokens is None:
            return
        try:
            tokens.names()
        except SccacheTwistedError:
            return  # said at the next Hello; a file that is being mended ends no link
        if tokens.generation != self._generation:
            self._generation = tokens.generation
            self._listener.dismiss(self._still_good, Unauthorized("The token was revoked."))

    def _still_good(self, hello: Hello) -> bool:
        try:
            if self._tokens is not None:
                self._tokens.check(hello.role, hello.token)
        except Unauthorized:
            return False
        return True

    def _watch_failed(self, failure: Failure) -> None:
        self._log.log.failure("tokens are not watched any more", failure)
