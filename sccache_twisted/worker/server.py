# mypy: allow-untyped-calls
# The methods of twisted.web's Request have no types.
"""The HTTPS side of a worker: who may send what is decided before a byte of it is read.

Conversation 4 of :mod:`sccache_twisted.wire`. When a request's headers are there its token, length and path choose a
sink: bounded memory for a job, a store's intake for a toolchain, nothing at all for everybody else. Knows HTTP. Refuses
to know what becomes of a job: that is :class:`~sccache_twisted.worker.jobs.Jobs`.
"""

from __future__ import annotations

import json
from collections import Counter
from io import BytesIO
from typing import Any, Final, Protocol

from attrs import frozen
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http

from sccache_twisted.errors import (
    AttemptRunning,
    Malformed,
    SccacheTwistedError,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    WorkerFault,
)
from sccache_twisted.model import Digest, Try
from sccache_twisted.net.sockets import tune
from sccache_twisted.security.tokens import BadTokenBrake
from sccache_twisted.wire.http import (
    ALIVE_HEADER,
    JOB_HEADER,
    STREAM_TYPE,
    error_body,
    parse_alive,
    parse_attempt,
    parse_digest,
    status_of,
)
from sccache_twisted.worker.channel import IDLE_SECONDS, WorkerChannel
from sccache_twisted.worker.connections import Connections
from sccache_twisted.worker.jobs import Jobs
from sccache_twisted.worker.threads import Threads
from sccache_twisted.worker.upload import Upload

_MOST_DISCARDED: Final = 64 << 20
_SIGNS: Final = 3
_TOOLCHAINS: Final = b"/v1/toolchains/"
_JOBS: Final = b"/v1/jobs/"

_log = Logger(namespace="sccache_twisted.worker")


@frozen
class ServerBounds:
    """What one request, and one client host, may take."""

    max_job_bytes: int
    max_toolchain_bytes: int
    max_requests: int
    tcp_user_timeout_seconds: float
    client_lost_seconds: float = 15.0
    """A client that was to send or say something and does not for this long is gone."""


class Sink(Protocol):
    """Where a request's body goes, and what is answered when it has ended."""

    def write(self, data: bytes) -> None:
        """A piece of the body has come."""

    def complete(self) -> None:
        """The body is complete: answer."""

    def lost(self) -> None:
        """The client is gone before it was answered."""


class Discard:
    """Reads a body that nobody wants and answers with an error.

    A client that has announced too much for that is answered at once; one that goes on and on is cut off.
    """

    def __init__(self, request: WorkerRequest, error: SccacheTwistedError, length: int | None = None) -> None:
        self._request = request
        self._error = error
        self._seen = 0
        if length is not None and length > _MOST_DISCARDED:
            request.answer_early(error)

    def write(self, data: bytes) -> None:
        """See Sink."""
        self._seen += len(data)
        if self._seen > _MOST_DISCARDED:
            self._request.abort()

    def complete(self) -> None:
        """See Sink."""
        self._request.answer_error(self._error)

    def lost(self) -> None:
        """See Sink."""


class AskTurn:
    """``POST /v1/toolchains/{digest}``: whose turn it is; its body says nothing."""

    def __init__(self, request: WorkerRequest, digest: Digest, attempt: Try) -> None:
        self._request = request
        self._digest = digest
        self._attempt = attempt

    def write(self, data: bytes) -> None:
        """See Sink."""

    def complete(self) -> None:
        """See Sink."""
        turn = self._request.site.jobs.turn(self._digest, self._attempt)
        self._request.answer(200, b"application/json", json.dumps({"turn": turn}).encode())

    def lost(self) -> None:
        """See Sink."""


class PostJob:
    """``POST /v1/jobs/{job_id}/{attempt}``: a job in, frames out. The ITalk of its attempt."""

    def __init__(self, request: WorkerRequest, attempt: Try, token: str) -> None:
        self._request = request
        self._attempt = attempt
        self._token = token
        self._body = BytesIO()
        self._connection: int | None = None
        self._answering = False
        self._alive_seconds = parse_alive(request.getHeader(ALIVE_HEADER))

    def write(self, data: bytes) -> None:
        """See Sink."""
        self._body.write(data)
        bound = self._request.site.bounds.max_job_bytes
        if self._body.tell() > bound:
            self._body = BytesIO()
            self._request.refuse(TooLarge(f"A job request of more than {bound} bytes is over the worker's limit."))

    def complete(self) -> None:
        """See Sink."""
        if self._alive_seconds:
            self._request.watch(self._alive_seconds)
        try:
            self._connection = self._request.site.jobs.claim(self._attempt, self._token, self._body.getvalue(), self)
        except SccacheTwistedError as error:
            self._request.answer_error(error)
        self._body = BytesIO()

    def lost(self) -> None:
        """See Sink."""
        if self._connection is not None:
            self._request.site.jobs.hung_up(self._connection)

    def send(self, frame: bytes) -> None:
        """See ITalk."""
        if not self._answering:
            self._answering = True
            self._request.setResponseCode(200)
            self._request.setHeader(b"Content-Type", STREAM_TYPE)
        self._request.write(frame)

    def end(self, frame: bytes) -> None:
        """See ITalk."""
        self.send(frame)
        self._request.finish()

    def abort(self) -> None:
        """See ITalk."""
        self._request.abort()


class WorkerRequest(http.Request):
    """A request of the data plane."""

    channel: Any
    site: WorkerSite
    _sink: Sink | None = None
    _host = ""

    def gotLength(self, length: int | None) -> None:
        """Called by Twisted when the headers are there: judge, and choose where the body goes."""
        self.site = self.channel.site
        self._host = self.site.arrives(self)
        try:
            self._sink = self._choose(length)
        except SccacheTwistedError as error:
            self._sink = Discard(self, error, length)
        except Exception:  # noqa: BLE001 - a defect must cost this request only
            _log.failure("judging a request failed by a defect")
            self._sink = Discard(self, WorkerFault())

    def _choose(self, length: int | None) -> Sink:
        # Twisted tells method and path only with the end of the body, so they are taken from its channel.
        method, path = self.channel._command, self.channel._path  # noqa: SLF001
        site = self.site
        if site.open[self._host] > site.bounds.max_requests:
            raise TooManyRequests(f"More than {site.bounds.max_requests} requests of {self._host} are open.")
        token = self._token()
        if path.startswith(_JOBS):
            attempt = parse_attempt(path[len(_JOBS) :].decode("ascii", "replace"))
            site.admit(self._host, attempt, token)
            if method != b"POST":
                raise Malformed("A job is sent by POST.")
            bound = site.bounds.max_job_bytes
            if length is not None and length > bound:
                raise TooLarge(f"A job request of {length} bytes is over the worker's limit of {bound}.")
            return PostJob(self, attempt, token)
        if not path.startswith(_TOOLCHAINS):
            raise Malformed(f"There is nothing at {path[:80].decode('ascii', 'replace')}.")
        digest = parse_digest(path[len(_TOOLCHAINS) :].decode("ascii", "replace"))
        attempt = parse_attempt((self.getHeader(JOB_HEADER) or b"").decode("ascii", "replace"))
        lease = site.admit(self._host, attempt, token)
        if lease.order.toolchain != digest:
            raise Malformed("The toolchain is another than the lease's.")
        if method == b"POST":
            return AskTurn(self, digest, attempt)
        if method != b"PUT":
            raise Malformed("A toolchain is sent by PUT.")
        self.watch()
        bound = site.bounds.max_toolchain_bytes
        if length is not None and length > bound:
            raise TooLarge(f"A toolchain of {length} bytes is over the worker's limit of {bound}.")
        return Upload(self, site.jobs, site.threads, digest, attempt)

    def _token(self) -> str:
        scheme, _, token = (self.getHeader(b"Authorization") or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise Unauthorized("The request carries no token.")
        return token.strip().decode("utf-8", "surrogateescape")

    def refuse(self, error: SccacheTwistedError) -> None:
        """From now on nothing of the body is wanted."""
        self._sink = Discard(self, error)

    def handleContentChunk(self, data: bytes) -> None:
        """Called by Twisted with a piece of the body."""
        if self._sink is not None:
            self._sink.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Called by Twisted when the body is complete."""
        self.method, self.uri, self.path, self.clientproto = command, path, path, version
        try:
            if self._sink is not None:
                self._sink.complete()
        except Exception:  # noqa: BLE001 - a defect must cost this request only
            _log.failure("answering a request failed by a defect")
            self.abort()

    def connectionLost(self, reason: Failure) -> None:
        """Called by Twisted when the client is gone before it had its whole answer."""
        self.site.leaves(self._host)
        http.Request.connectionLost(self, reason)
        if self._sink is not None:
            self._sink.lost()

    def finish(self) -> None:
        """End the answer."""
        self.site.leaves(self._host)
        http.Request.finish(self)

    def answer(self, status: int, content_type: bytes, body: bytes) -> None:
        """Answer at once."""
        self.setResponseCode(status)
        self.setHeader(b"Content-Type", content_type)
        self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()

    def answer_error(self, error: SccacheTwistedError) -> None:
        """Answer with an error's status and JSON body."""
        status = 409 if isinstance(error, AttemptRunning) else status_of(error)
        self.answer(status, b"application/json", error_body(error))

    def answer_early(self, error: SccacheTwistedError) -> None:
        """Answer with an error before the body has come, and close behind it.

        Twisted answers in turn, behind the body, so this goes past its request to the wire.
        """
        body = error_body(error)
        head = b"HTTP/1.1 %d Refused\r\nContent-Type: application/json\r\nConnection: close\r\n" % status_of(error)
        transport = self.channel.transport
        transport.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        transport.loseConnection()

    def pause(self, *, paused: bool) -> None:
        """Have the client wait with the rest of its body, or go on."""
        if self.channel is None:
            return
        transport = self.channel.transport
        if paused:
            self.channel.setTimeout(None)
            transport.pauseProducing()
        else:
            transport.resumeProducing()
            self.watch()

    def watch(self, every: float = 0.0) -> None:
        """From now on, until it is answered, the client is to send something, at least ``every`` so many seconds."""
        self.channel.watch(max(self.site.bounds.client_lost_seconds, _SIGNS * every))

    def abort(self) -> None:
        """Cut the connection."""
        if self.channel is not None:
            self.channel.forceAbortClient()


class WorkerSite(http.HTTPFactory):
    """The data plane of one worker."""

    noisy = False
    protocol = WorkerChannel  # type: ignore[assignment]  # Twisted's would also speak HTTP/2

    def __init__(self, reactor: Any, jobs: Jobs, threads: Threads, bounds: ServerBounds) -> None:
        http.HTTPFactory.__init__(self, timeout=IDLE_SECONDS, reactor=reactor)
        self.jobs = jobs
        self.threads = threads
        self.bounds = bounds
        self.open: Counter[str] = Counter()
        self._brake = BadTokenBrake()
        self.connections = Connections(reactor)

    def buildProtocol(self, addr: Any) -> Any:
        """Called by Twisted for each connection."""
        if self.connections.leaving:
            return None
        channel: Any = http.HTTPFactory.buildProtocol(self, addr)
        channel.requestFactory = WorkerRequest
        channel.site = self
        self.connections.opened(channel)
        return channel

    def log(self, request: Any) -> None:
        """Called by Twisted for each answer: our own events say it better."""

    def arrives(self, request: WorkerRequest) -> str:
        """A request has begun; its client's host."""
        tune(request.channel.transport, self.bounds.tcp_user_timeout_seconds)
        host = str(getattr(request.getClientAddress(), "host", ""))
        self.open[host] += 1
        return host

    def leaves(self, host: str) -> None:
        """A request is over."""
        self.open[host] -= 1
        if self.open[host] <= 0:
            del self.open[host]

    def admit(self, host: str, attempt: Try, token: str) -> Any:
        """The lease that the token opens; raises UnknownAttempt, or TooManyRequests after too many wrong tokens."""
        now = self.reactor.seconds()
        wait = self._brake.wait(host, now)
        if wait > 0:
            raise TooManyRequests(f"Too many wrong tokens came from {host}: it must wait {wait:.0f} s.")
        try:
            return self.jobs.admit(attempt, token)
        except SccacheTwistedError:
            # An attempt that has ended is everyday life; a wrong token for a living one is not.
            if self.jobs.slots.lease(attempt) is not None:
                self._brake.failed(host, now)
            raise
