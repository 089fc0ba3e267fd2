"""A client's schedulers: a link to each, used in order of preference.

All of a list are dialled, so that when the preferred one dies the next is at hand at once. An *outage* is a time in
which no link is up; whoever asks waits for its end, but no outage is waited for longer than the grace, and that is
counted from the outage's beginning, not for each asker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen
from twisted.application import service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import SccacheTwistedError, SchedulerUnavailable
from sccache_twisted.interfaces import (
    PROTOCOL_VERSION,
    Hello,
    IClientPeer,
    ISchedulerForClients,
    ISchedulerLink,
    Role,
    Welcome,
)
from sccache_twisted.model import ClientId
from sccache_twisted.net.addresses import SchedulerAddress
from sccache_twisted.net.dialing import Connect
from sccache_twisted.net.links import SchedulerLink
from sccache_twisted.wire.facades import SchedulerForClients
from sccache_twisted.wire.locators import ClientLocator


@frozen
class LinkStatus:
    """How it stands with one scheduler; ``trouble`` is why its link is down."""

    address: SchedulerAddress
    up: bool
    trouble: SccacheTwistedError | None


@implementer(ISchedulerLink)
class SchedulerLinks(service.MultiService):
    """Links to ``addresses``, in order of preference. ``grace_seconds`` bounds the waiting in one outage."""

    def __init__(
        self,
        clock: IReactorTime,
        connect: Connect,
        addresses: Sequence[SchedulerAddress],
        ca_file: str,
        token: str,
        client_id: ClientId,
        peer: IClientPeer,
        timers: LinkTimers,
        grace_seconds: float,
        draw: Callable[[], float],
    ) -> None:
        service.MultiService.__init__(self)
        self.client_id = client_id
        self._clock = clock
        self._grace = grace_seconds
        self._up: dict[int, ISchedulerForClients] = {}
        self._waiting: list[Deferred[ISchedulerForClients]] = []
        self._outage_ends: IDelayedCall | None = None
        hello = Hello(PROTOCOL_VERSION, Role.CLIENT, token, client_id)
        self._links = tuple(
            SchedulerLink(
                clock,
                connect,
                address,
                ca_file,
                lambda: hello,
                lambda: ClientLocator(peer),
                SchedulerForClients,
                self._rises(rank),
                self._falls(rank),
                timers,
                draw,
            )
            for rank, address in enumerate(addresses)
        )
        for link in self._links:
            service.Service.setServiceParent(link, self)

    def startService(self) -> None:
        """Begin to dial; the first outage begins here."""
        self._outage_begins()
        service.MultiService.startService(self)

    def stopService(self) -> Deferred[None]:
        """End all links; whoever waits fails with SchedulerUnavailable."""
        if self._outage_ends is not None and self._outage_ends.active():
            self._outage_ends.cancel()
        self._fail_waiting()
        stopping: Deferred[object] = service.MultiService.stopService(self)
        return stopping.addCallback(lambda _: None)

    def scheduler(self) -> Deferred[ISchedulerForClients]:
        """See ISchedulerLink."""
        if self._up:
            return succeed(self._up[min(self._up)])
        if self._outage_ends is None or not self._outage_ends.active():
            return fail(self._unavailable())
        waiting: Deferred[ISchedulerForClients] = Deferred(self._waiting_cancelled)
        self._waiting.append(waiting)
        return waiting

    def refused(self) -> SccacheTwistedError | None:
        """See ISchedulerLink."""
        if self._up:
            return None
        return next((link.refused for link in self._links if link.refused is not None), None)

    def status(self) -> tuple[LinkStatus, ...]:
        """How it stands with each scheduler, in order of preference."""
        return tuple(LinkStatus(link.address, rank in self._up, link.trouble) for rank, link in enumerate(self._links))

    def _rises(self, rank: int) -> Callable[[SchedulerForClients, Welcome], Deferred[None]]:
        def up(scheduler: SchedulerForClients, _: Welcome) -> Deferred[None]:
            self._up[rank] = scheduler
            if self._outage_ends is not None and self._outage_ends.active():
                self._outage_ends.cancel()
            self._outage_ends = None
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(scheduler)
            return succeed(None)

        return up

    def _falls(self, rank: int) -> Callable[[], None]:
        def down() -> None:
            del self._up[rank]
            if not self._up and self.running:
                self._outage_begins()

        return down

    def _outage_begins(self) -> None:
        self._outage_ends = self._clock.callLater(self._grace, self._fail_waiting)

    def _waiting_cancelled(self, waiting: Deferred[ISchedulerForClients]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _fail_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(self._unavailable())

    def _unavailable(self) -> SchedulerUnavailable:
        if not self._links:
            return SchedulerUnavailable("No scheduler is configured.")
        trouble = self.refused() or next((link.trouble for link in self._links if link.trouble is not None), None)
        if trouble is None:
            who = self._links[0].address.address
            return SchedulerUnavailable(f"The scheduler at {who} did not answer within {self._grace:g} s.")
        return SchedulerUnavailable(trouble.explained())
