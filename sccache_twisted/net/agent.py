"""HTTPS to workers: ``https://<server_id>.worker.sccache-twisted/…``, dialled wherever that is, judged by its key.

Connections are kept for as long as the identity that they were made for: the pool's key holds the generation of the
server's key, so a connection to a former holder of an address, or of a server_id, can't serve the next.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast
from weakref import WeakSet

import treq.client
from attrs import frozen
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import PinMismatch
from sccache_twisted.model import Address, ServerId, server_host
from sccache_twisted.net.dialing import Connect, dial
from sccache_twisted.net.sockets import unsent_bytes
from sccache_twisted.security.book import CertificateBook
from sccache_twisted.security.contexts import worker_peer

IDLE_SECONDS = 30
"""How long an idle connection is kept. A worker must keep it for longer, or a request could meet its closing."""


class WorkerAgent:
    """Makes requests to workers. ``slots`` connections are kept for each, idle ones included.

    With ``insecure`` a worker without a certificate is spoken to in plain HTTP.
    """

    def __init__(
        self,
        reactor: Any,
        connect: Connect,
        book: CertificateBook,
        timers: LinkTimers,
        *,
        slots: int = 64,
        insecure: bool = False,
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._book = book
        self._timers = timers
        self._insecure = insecure
        self._pool = _Pool(reactor, self._is_current)
        self._pool.maxPersistentPerHost = max(64, slots)
        self._pool.cachedConnectionTimeout = IDLE_SECONDS
        self._pool.retryAutomatically = False
        self._forget = book.observe(self._pool.drop)
        # Workers set no cookies; one that does has none kept.
        self._cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))

    def exchange(self, server_id: ServerId, address: Address) -> Exchange:
        """A request to a worker at ``address``, about to be made; raises PinMismatch when its key is unknown."""
        who = f"Worker {server_id} at {address}"
        entry = self._book.get(server_id)
        if entry is not None:
            peer: IOpenSSLClientConnectionCreator | None = worker_peer(entry, address)
            generation = entry.generation
        elif self._insecure:
            peer, generation = None, 0
        else:
            raise PinMismatch(f"No certificate of worker {server_id} is known.")

        def connect(factory: IProtocolFactory) -> Deferred[IProtocol]:
            return dial(self._reactor, self._connect(address), peer, factory, self._timers, who)

        endpoint = _Endpoint(_Key(server_id, generation, address), connect)
        return Exchange(self._reactor, self._pool, endpoint, self._cookies, secure=peer is not None)

    def close(self) -> Deferred[None]:
        """Close every kept connection."""
        self._forget()
        closing: Deferred[object] = HTTPConnectionPool.closeCachedConnections(self._pool)
        return closing.addCallback(lambda _: None)

    def _is_current(self, key: _Key) -> bool:
        entry = self._book.get(key.server_id)
        if entry is None:
            return self._insecure and key.generation == 0
        return key.generation == entry.generation


@implementer(IAgentEndpointFactory)
class Exchange:
    """One request and its answer, on a connection that can be looked at and cut."""

    def __init__(self, reactor: Any, pool: _Pool, endpoint: _Endpoint, cookies: CookieJar, *, secure: bool) -> None:
        self._reactor = reactor
        self._pool = pool
        self._endpoint = endpoint
        self._base = f"{'https' if secure else 'http'}://{server_host(endpoint.key.server_id)}"
        agent = Agent.usingEndpointFactory(reactor, self, pool)
        self._cookies = cookies
        self._client = treq.client.HTTPClient(agent, cookiejar=cast("Any", cookies))

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: ARG002 Twisted's
        """Called by the Agent: the URL's host is a server_id, whatever the address."""
        return self._endpoint

    def request(self, method: str, path: str, headers: Headers, body: IBodyProducer | None) -> Deferred[IResponse]:
        """Send it. The response's body has to be taken by ``deliverBody``."""
        answer: Any = self._client.request(
            method,
            self._base + path,
            headers=headers,
            data=body,
            cookies=self._cookies,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        return cast("Deferred[IResponse]", answer)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, judged and in use."""
        return self._endpoint.taken is not None

    def finished(self) -> None:
        """The answer is complete: the connection is the pool's again and must not be cut any more."""
        self._endpoint.taken = None

    def unsent_bytes(self) -> int:
        """Bytes of the request that the worker has not acknowledged, as far as they have left this process."""
        connection = self._endpoint.taken
        return 0 if connection is None else unsent_bytes(connection.transport)

    def say(self, data: bytes) -> None:
        """Send something that belongs to no request; nothing without a connection."""
        connection = self._endpoint.taken
        if connection is not None and connection.transport is not None:
            connection.transport.write(data)

    def hang_up(self) -> None:
        """Cut the connection at once: the worker kills what runs for it."""
        connection = self._endpoint.taken
        if connection is not None:
            self._pool.cut(self._endpoint.key, connection)


@frozen
class _Key:
    """Connections with equal keys may serve in each other's place."""

    server_id: ServerId
    generation: int
    address: Address


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """Where one exchange's connection comes from, if the pool has none for its key."""

    def __init__(self, key: _Key, connect: Callable[[IProtocolFactory], Deferred[IProtocol]]) -> None:
        self.key = key
        self.taken: Any = None
        self._connect = connect

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Called by the pool."""
        return self._connect(protocolFactory)

    def __repr__(self) -> str:
        return f"<worker {self.key.server_id}>"


class _Pool(HTTPConnectionPool):
    """Keeps connections by identity instead of by URL."""

    def __init__(self, reactor: Any, is_current: Callable[[_Key], bool]) -> None:
        HTTPConnectionPool.__init__(self, reactor, persistent=True)
        self._is_current = is_current
        self._cut: WeakSet[Any] = WeakSet()

    def getConnection(self, key: Hashable, endpoint: Any) -> Deferred[Any]:
        """Called by the Agent, whose key is the URL's; the endpoint knows better."""
        if not isinstance(endpoint, _Endpoint):
            return fail(TypeError(f"{key!r} is no worker"))

        def taken(connection: Any) -> Any:
            endpoint.taken = connection
            return connection

        return HTTPConnectionPool.getConnection(self, endpoint.key, endpoint).addCallback(taken)

    def _putConnection(self, key: Any, connection: Any) -> None:
        # Called by Twisted when a connection falls idle; its server's key may have been replaced meanwhile.
        if connection in self._cut:
            return
        if self._is_current(key):
            super()._putConnection(key, connection)  # type: ignore[no-untyped-call]  # Twisted's
        else:
            connection.transport.loseConnection()

    def cut(self, key: _Key, connection: Any) -> None:
        """Abort a connection at once, and make sure that nobody is given it before it knows that it is lost."""
        self._cut.add(connection)
        idle = self._connections.get(key, [])
        if connection in idle:
            idle.remove(connection)
            self._timeouts.pop(connection).cancel()
        if connection.transport is not None:
            connection.transport.abortConnection()

    def drop(self, server_id: ServerId) -> None:
        """Close the idle connections to a server whose key was replaced or dropped."""
        for key in [key for key in self._connections if key.server_id == server_id]:
            for connection in tuple(self._connections[key]):
                self._timeouts[connection].cancel()
                super()._removeConnection(key, connection)  # type: ignore[no-untyped-call]  # Twisted's
            del self._connections[key]
