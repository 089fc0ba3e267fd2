"""HTTP requests to one store, by treq on connections of our own keeping.

Knows connections, bounds, and what to say when there is no answer. Refuses to know what a status means.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

import treq.client
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol, ParseError, RequestTransmissionFailed
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from sccache_twisted.errors import StorageError
from sccache_twisted.storage.connections import Connections
from sccache_twisted.storage.dialing import Dialled, Dialler, Server, closed_early
from sccache_twisted.storage.entries import MAX_ENTRY_BYTES

_LARGEST_REFUSAL = 64 << 10


@frozen
class Answer:
    """A whole response."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str:
        """A header's last value, or nothing."""
        return (self.headers.getRawHeaders(name) or [""])[-1]

    @property
    def good(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300


class StoreClient:
    """Requests to ``server``, on at most sixteen connections."""

    def __init__(self, reactor: Any, server: Server, connect_seconds: float) -> None:
        self._reactor = reactor
        self._server = server
        dialler = Dialler(reactor, server, lambda: _Line(self._give), connect_seconds)
        self._connections: Connections[_Line] = Connections(reactor, server.who, dialler.dial)
        # A store that sets cookies has none kept.
        self._cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Send it and wait for the whole answer; StorageError when there is none. ``url`` is encoded already."""
        exchange = _Exchange(self._reactor, self._connections)
        agent = Agent.usingEndpointFactory(self._reactor, exchange, exchange)
        client = treq.client.HTTPClient(agent, cookiejar=cast("Any", self._cookies))
        try:
            response = await cast(
                "Deferred[IResponse]",
                client.request(
                    method,
                    url,
                    headers=Headers({name: [value] for name, value in headers.items()}),
                    data=cast("Any", _Whole(body)) if body is not None else None,
                    cookies=self._cookies,
                    allow_redirects=False,
                    unbuffered=True,
                    reactor=self._reactor,
                ),
            )
            collected = _Collector(exchange.hang_up, MAX_ENTRY_BYTES if response.code == 200 else _LARGEST_REFUSAL)
            response.deliverBody(collected)
            content = await collected.whole
        except (StorageError, CancelledError):
            raise
        except Exception as problem:
            raise self._failure(problem) from problem
        return Answer(response.code, response.headers, content)

    def close(self) -> Deferred[None]:
        """Abort every connection."""
        return self._connections.close()

    def refusal(self, answer: Answer) -> StorageError:
        """What to say when an answer isn't one that was hoped for; the status explains itself."""
        who = self._server.who
        if answer.status == 401:
            return StorageError(f"{who} wants credentials, or others than ours (401).")
        if answer.status == 403:
            return StorageError(f"{who} does not allow that (403).")
        if answer.status in {301, 302, 303, 307, 308}:
            return StorageError(f"{who} sends us elsewhere; write its endpoint as {answer.header('Location')[:200]!r}.")
        return StorageError(f"{who} answered with status {answer.status}.")

    def _give(self, line: _Line) -> None:
        # Twisted tells it before it has ended the request that was, so the next one can't begin at once.
        self._reactor.callLater(0, self._connections.give, line)

    def _failure(self, problem: Exception) -> StorageError:
        if not isinstance(problem, (ResponseFailed, RequestTransmissionFailed)):
            return StorageError(f"{self._server.who} can't be asked: {problem!r}.")
        for reason in problem.reasons:
            if reason.check(StorageError):
                return cast("StorageError", reason.value)
            if reason.check(ParseError, ValueError):
                return StorageError(f"{self._server.who} answers with something that is not HTTP.")
        return closed_early(self._server.who)


class _Line(Dialled, HTTP11ClientProtocol):
    """A connection that is given back when its request has been answered whole."""


@implementer(IAgentEndpointFactory)
class _Exchange(HTTPConnectionPool):
    """One request's way to a connection, remembered so that it can be cut."""

    def __init__(self, reactor: Any, connections: Connections[_Line]) -> None:
        super().__init__(reactor, persistent=True)  # type: ignore[no-untyped-call]  # Twisted's
        self._lent = connections
        self._line: _Line | None = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: ARG002 Twisted's
        """Called by the Agent: every connection leads to the one server."""
        return cast("IStreamClientEndpoint", self)

    def getConnection(self, key: object, endpoint: object) -> Deferred[Any]:  # noqa: ARG002 Twisted's
        """Called by the Agent."""

        def taken(line: _Line) -> _Line:
            self._line = line
            return line

        return self._lent.take().addCallback(taken)

    def hang_up(self) -> None:
        """End the connection: an answer is not wanted any more."""
        if self._line is not None:
            self._line.abort()


@implementer(IBodyProducer)
class _Whole:
    """A body that is in memory already."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Called by Twisted."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Called by Twisted; there is nothing to pause."""

    def resumeProducing(self) -> None:
        """Called by Twisted; there is nothing to resume."""

    def stopProducing(self) -> None:
        """Called by Twisted; there is nothing to stop."""


class _Collector(Protocol):
    """An answer's body, up to a bound. Cancelling ``whole`` hangs up."""

    def __init__(self, hang_up: Any, bound: int) -> None:
        self._hang_up = hang_up
        self._bound = bound
        self._parts: list[bytes] = []
        self._size = 0
        self.whole: Deferred[bytes] = Deferred(lambda _: hang_up())

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted."""
        self._size += len(data)
        if self._size > self._bound:
            self._parts.clear()
            self._end(Failure(StorageError(f"The answer is larger than {self._bound} bytes.")))
            self._hang_up()
        else:
            self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted when the body is over. One without a length that just ends may be half of one."""
        self._end(b"".join(self._parts) if reason.check(ResponseDone) else Failure(ResponseFailed([reason])))

    def _end(self, result: bytes | Failure) -> None:
        if not self.whole.called:
            (self.whole.errback if isinstance(result, Failure) else self.whole.callback)(result)  # type: ignore[arg-type]
