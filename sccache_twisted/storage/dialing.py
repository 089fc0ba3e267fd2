"""Connections to a store's server: resolved, connected, and judged under TLS, within a bound.

Knows how a connection comes to be and what to say when it doesn't. Refuses to know what is said on it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import frozen
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.errors import StorageError
from sccache_twisted.storage.aside import HostName


@frozen
class Server:
    """Who is dialled. ``who`` begins sentences, for instance "Redis at cache.example:6379"."""

    who: str
    host: str
    port: int
    tls: IOpenSSLClientConnectionCreator | None = None


@implementer(IHandshakeListener)
class Dialled:
    """Mixed into a protocol: ``up`` fires when it may be used, ``on_lost`` is called when it is gone."""

    transport: Any
    closed = False
    tls = False

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.up: Deferred[None] = Deferred(lambda _: self.abort())
        self.on_lost: Callable[[], None] = lambda: None

    def connectionMade(self) -> None:
        """Called by Twisted: TCP is connected."""
        super().connectionMade()  # type: ignore[misc]  # the protocol's
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        if not self.tls:
            self.up.callback(None)

    def handshakeCompleted(self) -> None:
        """Called by TLS: the server was judged."""
        self.up.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted."""
        self.closed = True
        super().connectionLost(reason)  # type: ignore[misc]  # the protocol's
        if not self.up.called:
            self.up.errback(reason)
        self.on_lost()

    def abort(self) -> None:
        """Be gone at once, whatever is under way."""
        self.closed = True
        self.transport.abortConnection()


Line = TypeVar("Line", bound=Dialled)
Result = TypeVar("Result")


class Dialler(Generic[Line]):
    """Makes connections to one server; ``make`` makes the protocol of each."""

    def __init__(self, reactor: Any, server: Server, make: Callable[[], Line], seconds: float) -> None:
        self._reactor = reactor
        self._server = server
        self._make = make
        self._seconds = seconds
        self._name = HostName(reactor, server.host)

    async def dial(self) -> Line:
        """A new connection, judged if there is TLS; StorageError when there is none within ``seconds``."""
        ends = self._reactor.seconds() + self._seconds
        try:
            addresses = await self._within(self._name.addresses(), ends)
            for address in addresses[:-1]:
                try:
                    return await self._connected(address, ends)
                except (ConnectError, DeferredTimeout):
                    continue
            return await self._connected(addresses[-1], ends)
        except (CancelledError, ConnectingCancelledError):
            raise CancelledError from None
        except Exception as problem:
            self._name.forget()
            raise StorageError(_sentence(self._server.who, problem, self._seconds)) from problem

    async def _connected(self, address: str, ends: float) -> Line:
        tls = self._server.tls
        factory = _Factory(self._make, tls=tls is not None)
        outer: Any = factory if tls is None else TLSMemoryBIOFactory(tls, True, factory, clock=self._reactor)
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        endpoint = kind(self._reactor, address, self._server.port, timeout=self._seconds)
        connected: Any = await self._within(endpoint.connect(outer), ends)
        line: Line = connected if tls is None else connected.wrappedProtocol
        await self._within(line.up, ends)
        return line

    def _within(self, doing: Deferred[Result], ends: float) -> Deferred[Result]:
        return doing.addTimeout(max(0.0, ends - self._reactor.seconds()), self._reactor)


def closed_early(who: str) -> StorageError:
    """What to say when a connection ends before the answer."""
    return StorageError(f"{who} closed the connection before it answered.")


def _sentence(who: str, problem: Exception, seconds: float) -> str:
    if isinstance(problem, socket.gaierror):
        return f"{who} cannot be found: {problem.strerror}."
    if isinstance(problem, UnicodeError):
        return f"{who} cannot be found: that is no host name."
    if isinstance(problem, (DeferredTimeout, ConnectTimeout)):
        return f"{who} did not take a connection within {seconds:g} s."
    if isinstance(problem, VerificationError):
        return f"{who} shows a certificate for another name."
    if isinstance(problem, SSL.Error):
        reason = _tls_reason(problem)
        if "certificate verify failed" in reason:
            return f"{who} shows a certificate that no trusted CA signed for it; see cache.ca_file."
        return f"The TLS handshake with {who} failed: {reason}."
    number = getattr(problem, "osError", None) if isinstance(problem, ConnectError) else None
    why = os.strerror(number) if isinstance(number, int) else str(problem).strip().rstrip(".")
    return f"{who} cannot be reached: {why or type(problem).__name__}."


def _tls_reason(problem: SSL.Error) -> str:
    queue = problem.args[0] if problem.args and isinstance(problem.args[0], list) else []
    return "; ".join(str(entry[-1]) for entry in queue) or "the connection was lost"


class _Factory(Factory):
    """Makes one protocol after the other."""

    noisy = False

    def __init__(self, make: Callable[[], Dialled], *, tls: bool) -> None:
        self._make = make
        self._tls = tls

    def buildProtocol(self, addr: Any) -> Any:  # noqa: ARG002 Twisted's
        """Called by Twisted when TCP is connected."""
        made = self._make()
        made.tls = self._tls
        return made
