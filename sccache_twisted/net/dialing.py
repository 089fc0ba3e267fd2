"""Dialling: connected means that the TLS handshake is over and the peer has been judged.

Twisted's own TLS endpoints fire when TCP is connected; a request written then learns of a wrong key only from a
lost connection. Here a mismatch fails the dialling itself, with its own error, and one bound covers all of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from service_identity.exceptions import VerificationError
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.error import TimeoutError as DialTimeout
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import ConnectionFailed, PinMismatch, SccacheTwistedError
from sccache_twisted.model import Address
from sccache_twisted.net.sockets import tune

Connect = Callable[[Address], IStreamClientEndpoint]
"""How TCP is dialled; tests put memory in its place."""


def tcp(reactor: Any, timers: LinkTimers) -> Connect:
    """Dial over the network, by name or by address."""

    def endpoint(address: Address) -> IStreamClientEndpoint:
        # A literal address needs no resolver, which would be a thread.
        if isIPAddress(address.host):
            return TCP4ClientEndpoint(reactor, address.host, address.port, timers.connect_seconds)
        if isIPv6Address(address.host):
            return TCP6ClientEndpoint(reactor, address.host, address.port, timers.connect_seconds)
        return HostnameEndpoint(reactor, address.host, address.port, timeout=timers.connect_seconds)

    return endpoint


def dial(
    clock: IReactorTime,
    endpoint: IStreamClientEndpoint,
    peer: IOpenSSLClientConnectionCreator | None,
    factory: IProtocolFactory,
    timers: LinkTimers,
    who: str,
) -> Deferred[IProtocol]:
    """Connect ``factory``'s protocol to a judged peer, within ``timers.connect_seconds``.

    ``peer`` is None for plain TCP. Fails with PinMismatch or ConnectionFailed, whose sentence begins with ``who``.
    Cancelling aborts the connection.
    """
    gate = _Gate(factory, peer is not None, timers)
    outer: Any = gate if peer is None else TLSMemoryBIOFactory(peer, True, gate, clock=clock)
    late = False

    def give_up() -> None:
        nonlocal late
        late = True
        opened.cancel()

    timer = clock.callLater(timers.connect_seconds, give_up)

    def ended(result: IProtocol | Failure) -> IProtocol | Failure:
        if timer.active():
            timer.cancel()
        if not isinstance(result, Failure):
            return result
        if late and result.check(CancelledError, ConnectingCancelledError, ConnectionClosed, SSL.Error):
            return Failure(ConnectionFailed(f"{who} did not answer within {timers.connect_seconds:g} s."))
        if result.check(ConnectingCancelledError):
            return Failure(CancelledError())
        return as_peer_failure(result, who)

    opened = gate.through(endpoint.connect(outer))
    return opened.addBoth(ended)


def as_peer_failure(failure: Failure, who: str) -> Failure:
    """A failed connection as PinMismatch or ConnectionFailed; what is ours already, and cancelling, stay."""
    if failure.check(SccacheTwistedError, CancelledError):
        return failure
    if failure.check(VerificationError):
        return Failure(PinMismatch(f"{who} shows a certificate for another name."))
    if failure.check(DNSLookupError):
        return Failure(ConnectionFailed(f"{who} cannot be found: no such host name."))
    if failure.check(DialTimeout):
        return Failure(ConnectionFailed(f"{who} did not answer in time."))
    if failure.check(SSL.Error):
        reason = _tls_reason(failure.value)
        if "certificate verify failed" in reason:
            return Failure(PinMismatch(f"{who} shows a certificate that no trusted CA signed for it."))
        return Failure(ConnectionFailed(f"The TLS handshake with {who[:1].lower() + who[1:]} failed: {reason}."))
    if failure.check(ConnectError):
        number = getattr(failure.value, "osError", None)
        why = os.strerror(number) if isinstance(number, int) else failure.getErrorMessage().rstrip(".")
        return Failure(ConnectionFailed(f"{who} cannot be reached: {why}."))
    return Failure(ConnectionFailed(f"{who} closed the connection: {failure.getErrorMessage().rstrip('.')}."))


def _tls_reason(error: BaseException | None) -> str:
    queue = error.args[0] if error is not None and error.args and isinstance(error.args[0], list) else []
    return "; ".join(str(entry[-1]) for entry in queue) or "the connection was lost"


class _Gate(Factory):
    """Makes the one protocol that waits for the handshake in the real one's place."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, tls: bool, timers: LinkTimers) -> None:
        self._factory = factory
        self._tls = tls
        self._timers = timers
        self._waiting: _Waiting | None = None

    def buildProtocol(self, addr: Any) -> Protocol:
        """Called by Twisted when TCP is connected."""
        self._waiting = _Waiting(self._factory, addr, self._timers)
        return self._waiting

    def through(self, connecting: Deferred[IProtocol]) -> Deferred[IProtocol]:
        """The real protocol, once ``connecting`` has fired and the handshake is over."""

        def connected(_: object) -> Deferred[IProtocol]:
            if self._waiting is None:
                raise ConnectionFailed("The connection came without its protocol.")
            if not self._tls:
                self._waiting.handshakeCompleted()
            return self._waiting.opened

        return connecting.addCallback(connected)


@implementer(IHandshakeListener)
class _Waiting(Protocol):
    """Stands below TLS until the handshake is over, then makes way."""

    transport: Any

    def __init__(self, factory: IProtocolFactory, addr: Any, timers: LinkTimers) -> None:
        self._factory = factory
        self._addr = addr
        self._timers = timers
        self._real: IProtocol | None = None
        self.opened: Deferred[IProtocol] = Deferred(self._abort)

    def connectionMade(self) -> None:
        """Called by Twisted: TCP is connected."""
        tune(self.transport, self._timers.tcp_user_timeout_seconds)

    def handshakeCompleted(self) -> None:
        """Called by TLS: the peer was judged and is the right one."""
        real = self._factory.buildProtocol(self._addr)
        if self.opened.called or real is None:
            self._abort()
            return
        self._real = real
        real.makeConnection(self.transport)
        # From here on TLS talks to the real protocol itself; without TLS we stay in between.
        if hasattr(self.transport, "wrappedProtocol"):
            self.transport.wrappedProtocol = real
        self.opened.callback(real)

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted, without TLS only."""
        if self._real is not None:
            self._real.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted; ``reason`` is the judge's own when it said no."""
        if self._real is not None:
            self._real.connectionLost(reason)
        elif not self.opened.called:
            self.opened.errback(reason)

    def _abort(self, _: object = None) -> None:
        self.transport.abortConnection()
