"""The scheduler's door on the network: TLS, a bounded number of links, and a Hello in good time.

Before its Hello is accepted a link gets exactly one answer and is closed behind it; a host that tries wrong tokens is
slowed down. Whatever one peer sends, the others don't notice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import ConnectionFailed, SccacheTwistedError, Silence, TooManyRequests, Unauthorized
from sccache_twisted.interfaces import (
    Hello,
    IClientPeer,
    ISchedulerDoor,
    ISchedulerForClients,
    ISchedulerForWorkers,
    IWorkerPeer,
    Welcome,
)
from sccache_twisted.logs import EventLog, events
from sccache_twisted.net.amp_link import AmpLink
from sccache_twisted.net.ports import ListeningService
from sccache_twisted.security.tokens import BadTokenBrake
from sccache_twisted.wire.locators import SchedulerLocator

_log = EventLog.of("sccache_twisted.net", role="scheduler")


@implementer(ISchedulerDoor)
class BrakedDoor:
    """A door in front of ``door`` that makes hosts wait which try wrong tokens."""

    def __init__(self, door: ISchedulerDoor, brake: BadTokenBrake, clock: IReactorTime) -> None:
        self._door = door
        self._brake = brake
        self._clock = clock

    def welcome(self, hello: Hello, host: str) -> Welcome:
        """See ISchedulerDoor; raises TooManyRequests too."""
        now = self._clock.seconds()
        wait = self._brake.wait(host, now)
        if wait > 0:
            raise TooManyRequests(f"Too many wrong tokens came from {host}: it must wait {wait:.0f} s.")
        try:
            return self._door.welcome(hello, host)
        except Unauthorized:
            self._brake.failed(host, now)
            raise

    def client(self, hello: Hello, peer: IClientPeer) -> ISchedulerForClients:
        """See ISchedulerDoor."""
        return self._door.client(hello, peer)

    def worker(self, hello: Hello, welcome: Welcome, peer: IWorkerPeer, host: str) -> ISchedulerForWorkers:
        """See ISchedulerDoor."""
        return self._door.worker(hello, welcome, peer, host)


@implementer(ISchedulerDoor)
class _Remembering:
    """Remembers which Hello a link was welcomed for."""

    def __init__(self, door: ISchedulerDoor) -> None:
        self._door = door
        self.hello: Hello | None = None
        self.welcomed: Welcome | None = None
        self.refusal: SccacheTwistedError | None = None

    def welcome(self, hello: Hello, host: str) -> Welcome:
        """See ISchedulerDoor."""
        try:
            welcome = self._door.welcome(hello, host)
        except SccacheTwistedError as error:
            self.refusal = error
            raise
        self.hello, self.welcomed = hello, welcome
        return welcome

    def client(self, hello: Hello, peer: IClientPeer) -> ISchedulerForClients:
        """See ISchedulerDoor."""
        return self._door.client(hello, peer)

    def worker(self, hello: Hello, welcome: Welcome, peer: IWorkerPeer, host: str) -> ISchedulerForWorkers:
        """See ISchedulerDoor."""
        return self._door.worker(hello, welcome, peer, host)


class _Incoming(AmpLink):
    """A link that was dialled to us."""

    def __init__(
        self,
        door: ISchedulerDoor,
        clock: IReactorTime,
        timers: LinkTimers,
        host: str,
        ended: Callable[[AmpLink, Failure], None],
    ) -> None:
        self._remembering = _Remembering(door)
        self._hearing = SchedulerLocator(self._remembering, host)
        AmpLink.__init__(self, self._hearing, clock, timers, f"The peer at {host}", ended)
        self._hearing.attach(self.callRemote)
        self._deadline: IDelayedCall | None = None
        self._closing = False

    @property
    def hello(self) -> Hello | None:
        """Whom the link belongs to, once that is known."""
        return self._remembering.hello if self._hearing.said_hello else None

    def makeConnection(self, transport: Any) -> None:
        """Called by Twisted when TCP is connected, so that a slow TLS handshake counts too."""
        self._deadline = self._clock.callLater(self._timers.connect_seconds, self._too_late)
        AmpLink.makeConnection(self, transport)

    def _too_late(self) -> None:
        self.drop(Silence(f"{self.peer} said no Hello within {self._timers.connect_seconds:g} s."))

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted."""
        if not self._closing:
            AmpLink.dataReceived(self, data)

    def dispatchCommand(self, box: amp.AmpBox) -> Deferred[amp.AmpBox]:
        """Run a responder; what is no accepted Hello ends a link that is not up."""
        if self._closing:
            return succeed(amp.AmpBox())
        was_up = self._hearing.said_hello
        answer = AmpLink.dispatchCommand(self, box)
        if not was_up:
            answer.addBoth(self._judged)
        return answer

    def _judged(self, answer: amp.AmpBox | Failure) -> amp.AmpBox | Failure:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        welcome, hello = self._remembering.welcomed, self.hello
        if hello is not None and welcome is not None:
            self.peer = f"The {hello.role.value} {hello.name}"
            self.keep_alive(welcome.ping_seconds)
            _log.emit(events.LINK_UP, peer=hello.name, role=hello.role.value)
            return answer
        refusal = self._remembering.refusal
        if refusal is not None:
            _log.emit(events.HELLO_REFUSED, peer=self.peer, code=refusal.code, sentence=refusal.sentence)
        self._closing = True
        # The answer is written behind this callback; closing lets it out first.
        self._clock.callLater(0, self.close)
        return answer

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        hello = self.hello
        # Who comes and goes without a word is a load balancer's health check, and nobody's business.
        wordless = self.why is None and reason.check(ConnectionDone, ConnectionLost) is not None
        AmpLink.connectionLost(self, reason)
        self._hearing.link_lost()
        if hello is not None:
            _log.emit(events.LINK_DOWN, peer=hello.name, reason=str(self.why))
        elif not self._closing and not wordless:
            _log.emit(events.LINK_DROPPED, peer=self.peer, reason=str(self.why))


class _Refused(Protocol):
    """Stands for a link that is one too many."""

    def connectionMade(self) -> None:
        """Called by Twisted."""
        transport: Any = self.transport
        transport.abortConnection()


class _Door(Factory):
    noisy = False

    def __init__(self, door: ISchedulerDoor, clock: IReactorTime, timers: LinkTimers, max_links: int) -> None:
        self._door = door
        self._clock = clock
        self._timers = timers
        self._max_links = max_links
        self._full_said = float("-inf")
        self.links: set[_Incoming] = set()
        self._emptied: list[Deferred[None]] = []

    def buildProtocol(self, addr: Any) -> Protocol:
        """Called by Twisted for each connection."""
        host = str(getattr(addr, "host", addr))
        if len(self.links) >= self._max_links:
            now = self._clock.seconds()
            if now - self._full_said >= 1.0:
                self._full_said = now
                _log.emit(events.TOO_MANY_LINKS, peer=host, limit=self._max_links)
            return _Refused()
        link = _Incoming(self._door, self._clock, self._timers, host, self._ended)
        self.links.add(link)
        return link

    def _ended(self, link: AmpLink, _: Failure) -> None:
        self.links.discard(link)
        if not self.links:
            emptied, self._emptied = self._emptied, []
            for each in emptied:
                each.callback(None)

    def close_all(self) -> Deferred[None]:
        """End every link; fires when they are gone."""
        if not self.links:
            return succeed(None)
        emptied: Deferred[None] = Deferred()
        self._emptied.append(emptied)
        for link in tuple(self.links):
            link.drop(ConnectionFailed("The scheduler stops."))
        return emptied


class SchedulerListener(service.Service):
    """Listens for clients and workers on ``endpoint`` and leads them to ``door``.

    ``tls`` is None in the insecure mode only. ``startService`` raises ConfigError for a taken port.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: str,
        door: ISchedulerDoor,
        tls: IOpenSSLServerConnectionCreator | None,
        timers: LinkTimers,
        max_links: int,
        brake: BadTokenBrake | None = None,
    ) -> None:
        braked = BrakedDoor(door, BadTokenBrake() if brake is None else brake, reactor)
        self._door = _Door(braked, reactor, timers, max_links)
        self._listening = ListeningService(reactor, endpoint, self._door, tls, "scheduler")

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return self._listening.port

    @property
    def links(self) -> int:
        """How many connections are open, whether they have said Hello or not."""
        return len(self._door.links)

    def startService(self) -> None:
        """Listen, or raise ConfigError."""
        self._listening.startService()
        service.Service.startService(self)

    def stopService(self) -> Deferred[None]:
        """Stop listening and end every link; fires when they are gone."""
        service.Service.stopService(self)
        ended = DeferredList([self._listening.stopService(), self._door.close_all()], consumeErrors=True)
        return ended.addCallback(lambda _: None)

    def dismiss(self, wanted: Callable[[Hello], bool], why: SccacheTwistedError) -> int:
        """End the links whose Hello is not ``wanted`` any more, after a token was revoked for instance; how many."""
        unwanted = [link for link in self._door.links if link.hello is not None and not wanted(link.hello)]
        for link in unwanted:
            link.drop(why)
        return len(unwanted)
