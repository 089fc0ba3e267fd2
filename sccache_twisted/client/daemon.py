"""The daemon's unix socket: one connection a call, a closed connection cancels it, garbage ends it.

Knows launchers: who may call, what they are told, when there are none any more. Refuses to know how a call is
decided. Whoever is of another user, in another root directory or another mount namespace sees other files than we do,
and is told to run its command itself.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application import service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from sccache_twisted.client.callers import World, call_of
from sccache_twisted.client.calls import Answered, Call, Decision, ExecHere, RunHere
from sccache_twisted.client.hits.servers import HitServers
from sccache_twisted.client.pipeline import Pipeline
from sccache_twisted.client.places import home_directory, private_directory
from sccache_twisted.client.rest import Rest
from sccache_twisted.client.slots import LocalSlots
from sccache_twisted.errors import ConfigError, Malformed, SccacheTwistedError
from sccache_twisted.interfaces import Finished
from sccache_twisted.logs import events
from sccache_twisted.logs.events import EventLog
from sccache_twisted.wire import launcher as messages
from sccache_twisted.wire.frames import FrameDecoder
from sccache_twisted.wire.hits import Served

_BACKLOG = 4096
_MOST_CONNECTIONS = 4096

Answering = Callable[[tuple[str, ...]], Any]
"""Answers a query: its arguments in, what becomes JSON out."""


class LauncherProtocol(Protocol):
    """One call or query of one launcher."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._decoder = FrameDecoder(daemon.max_request_bytes)
        self._work: Deferred[Any] | None = None
        self._completed: Deferred[messages.Completed] | None = None
        self._open = False

    def connectionMade(self) -> None:
        """A launcher has come."""
        self._open = True
        self._daemon.connected(self)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of a launcher; what can't be understood ends the connection."""
        try:
            for kind, payload in self._decoder.feed(data):
                self._received(messages.decode(kind, payload))
        except SccacheTwistedError as problem:
            self._daemon.log.emit(events.LINK_DROPPED, peer="a launcher", reason=problem.sentence)
            self._send(messages.Refused(problem.sentence))
            self._hang_up()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's signature
        """The launcher is gone: so is its call."""
        self._open = False
        self._daemon.disconnected(self)
        if self._work is not None:
            self._work.cancel()

    def drop(self) -> None:
        """End the connection."""
        if self._open and self.transport is not None:
            # A launcher that is stopped reads nothing: waiting for it to take what is left could last for ever.
            self.transport.abortConnection()  # type: ignore[attr-defined]  # a unix server's transport

    def _received(self, message: messages.Message) -> None:
        match message:
            case messages.LaunchRequest() if self._work is None:
                self._start(self._call(message))
            case messages.Query(name, args) if self._work is None:
                self._start(self._query(name, args))
            case messages.Completed() if self._completed is not None:
                waiting, self._completed = self._completed, None
                waiting.callback(message)
            case _:
                raise Malformed(f"A launcher sent {type(message).__name__} out of turn.")

    def _start(self, work: Coroutine[Deferred[Any], Any, messages.Message]) -> None:
        self._work = Deferred.fromCoroutine(work)
        self._work.addCallbacks(self._finish, self._fail)

    def _finish(self, message: messages.Message) -> None:
        self._send(message)
        self._hang_up()

    def _fail(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._daemon.log.log.failure("a call failed", failure)
        # Hung up on without an answer, a launcher compiles by itself.
        self._hang_up()

    async def _call(self, request: messages.LaunchRequest) -> messages.Message:
        daemon = self._daemon
        call = call_of(request)
        connection: socket.socket = self.transport.socket  # type: ignore[union-attr]  # a unix server's transport
        stranger = daemon.world.stranger(connection) if daemon.world is not None else "other_root_or_mounts"
        if stranger:
            found = daemon.pipeline.resolve(call)
            if found is None:
                raise Malformed(stranger)
            executable, argv0 = found
            return messages.RunYourself(executable, (argv0, *call.argv[1:]), stranger)
        decision = await daemon.pipeline.decide(call)
        daemon.tell(call, decision)
        match decision:
            case Answered(status, stdout, stderr):
                return messages.Done(status, stdout, stderr)
            case ExecHere(executable, argv, reason, note):
                return messages.RunYourself(executable, argv, reason, note)
            case RunHere():
                return await self._in_slot(decision)

    async def _in_slot(self, decision: RunHere) -> messages.Message:
        pipeline = self._daemon.pipeline
        try:
            ended = await self._ran_in_slot(decision)
        except BaseException:
            pipeline.abandoned(decision)
            raise
        answer = await pipeline.finished(decision, Finished(ended.status, ended.stdout, ended.stderr))
        return messages.Done(answer.status, answer.stdout, answer.stderr)

    async def _ran_in_slot(self, decision: RunHere) -> messages.Completed:
        slots = self._daemon.slots
        slot = await slots.acquire()
        try:
            waiting: Deferred[messages.Completed] = Deferred()
            self._completed = waiting
            self._send(messages.RunInSlot(slot, decision.executable, decision.argv))
            return await waiting
        finally:
            slots.release(slot)

    async def _query(self, name: str, args: tuple[str, ...]) -> messages.Message:
        self._daemon.hit_servers.catch_up()
        answering = self._daemon.queries.get(name)
        if answering is None:
            return messages.Refused(f"this daemon does not know the query {name!r}.")
        try:
            answer = answering(args)
            if isinstance(answer, Deferred):
                answer = await answer
        except SccacheTwistedError as problem:
            return messages.Refused(problem.explained())
        return messages.Answer(json.dumps(answer))

    def _send(self, message: messages.Message) -> None:
        if self._open and self.transport is not None:
            self.transport.write(messages.encode(message))

    def _hang_up(self) -> None:
        if self._open and self.transport is not None:
            self.transport.loseConnection()


class _Launchers(Factory):
    """Makes the protocol for each launcher that comes."""

    noisy = False

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def buildProtocol(self, addr: Any) -> LauncherProtocol:  # noqa: ARG002 - Twisted's signature
        """Called by Twisted for each connection."""
        return LauncherProtocol(self._daemon)


class Daemon(service.Service):
    """Listens on the socket and serves launchers until nobody has called for ``idle_seconds`` (0: for ever).

    Exactly one daemon serves a socket: it holds a lock beside it. ``end`` is called, with a reason, when the daemon
    should end; ``queries`` answer the ``Q`` frames. ``hit_servers`` take callers beside it when it can't take more.
    ``at_rest`` is called when nobody has called for a moment.
    """

    def __init__(
        self,
        reactor: Any,
        path: bytes,
        pipeline: Pipeline,
        slots: LocalSlots,
        queries: dict[str, Answering],
        end: Callable[[str], None],
        hit_servers: HitServers,
        at_rest: Callable[[], None],
        *,
        idle_seconds: float,
        max_request_bytes: int,
    ) -> None:
        self.pipeline = pipeline
        self.slots = slots
        self.hit_servers = hit_servers
        self.max_request_bytes = max_request_bytes
        self.world = World.of("self")
        self.log = EventLog.of("sccache_twisted.client", role="client")
        self.queries = {
            "ping": lambda _: {"pid": os.getpid()},
            "stop": self._asked_to_stop,
            **queries,
        }
        self._reactor = reactor
        self._path = path
        self._end = end
        self._rested = Rest(reactor, at_rest)
        self._idle_seconds = idle_seconds
        self._connections: set[LauncherProtocol] = set()
        self._factory = _Launchers(self)
        self._port: Any = None
        self._served = 0
        self._lock: int | None = None
        self._idle: IDelayedCall | None = None
        self._empty: Deferred[None] | None = None

    def startService(self) -> None:
        """Take the lock and listen; ConfigError when another daemon serves this socket, or nobody can."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted has no types here
        directory = os.path.dirname(self._path)
        if directory == home_directory(os.environ):
            private_directory(directory)
        self._lock = self._locked()
        # We hold the lock, so whoever made this socket is gone.
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            self.log.log.debug("no socket of an earlier daemon is in the way")
        with open(self._path + b".slots", "wb", opener=_private) as noted:
            noted.write(b"%d\n" % self.slots.count)
        address = os.fsdecode(self._path)
        self._port = self._reactor.listenUNIX(address, self._factory, backlog=_BACKLOG, mode=0o600)
        self.hit_servers.begin(self, self._port.fileno())
        self.log.emit(events.LISTENING, address=address)
        self._rest()

    def stopService(self) -> Deferred[None]:
        """Stop listening, cancel every call, let go of the lock."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted has no types here
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        if self._port is not None:
            port, self._port = self._port, None
            await maybeDeferred(port.stopListening)
        await self.hit_servers.stop()
        if self._connections:
            self._empty = Deferred()
            for connection in list(self._connections):
                connection.drop()
            await self._empty
        self._rested.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def connected(self, connection: LauncherProtocol) -> None:
        """A launcher has come."""
        self._connections.add(connection)
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        self.hit_servers.called()
        self._rested.called()
        if len(self._connections) > _MOST_CONNECTIONS:
            self.log.emit(events.TOO_MANY_LINKS, peer="a launcher", limit=_MOST_CONNECTIONS)
            connection.drop()

    def disconnected(self, connection: LauncherProtocol) -> None:
        """A launcher has gone."""
        self._connections.discard(connection)
        self._rested.called()
        if not self._connections:
            self._rest()
            if self._empty is not None:
                empty, self._empty = self._empty, None
                empty.callback(None)

    @property
    def waiting(self) -> int:
        """How many launchers wait for this process."""
        return len(self._connections)

    def accept(self, *, here: bool) -> None:
        """Whether this process takes callers itself: while hit servers serve, they do it alone."""
        if self._port is None:
            return
        if here:
            self._port.startReading()
        else:
            self._port.stopReading()

    def adopt(self, descriptor: int) -> None:
        """Serve a launcher whose connection a hit server has taken and left as it was. The descriptor becomes ours."""
        try:
            os.set_blocking(descriptor, False)
            self._reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, self._factory)
        except OSError as problem:
            self.log.emit(events.LINK_DROPPED, peer="a launcher", reason=problem.strerror)
        finally:
            os.close(descriptor)

    def served(self, hit: Served, process: int) -> None:
        """A hit server has answered a call: it is one of ours."""
        self._served += 1
        if self._idle is not None and self._idle.active():
            self._idle.reset(self._idle_seconds)
        self.pipeline.served(hit)
        self.log.emit(
            events.CALL_DECIDED,
            program=os.fsdecode(hit.program),
            directory=os.fsdecode(hit.directory),
            decision="hit",
            reason="",
            kept=False,
            process=process,
        )

    def tell(self, call: Call, decision: Decision) -> None:
        """Log what becomes of a call: ``hit``, ``remote``, ``here`` in a slot, ``itself`` untouched, ``refused``.

        ``kept``: what comes of it here will be looked for in the cache.
        """
        reason, server_id, kept = "", None, False
        match decision:
            case Answered(remote=remote):
                word = "hit" if decision.cached else "refused"
                if remote is not None:
                    word, server_id = "remote", remote.figures.server_id
            case ExecHere():
                word, reason = "itself", decision.reason
            case RunHere():
                word, reason, kept = "here", decision.reason, decision.watch is not None
        self.log.emit(
            events.CALL_DECIDED,
            server_id=server_id,
            program=os.fsdecode(call.argv[0]) if call.argv else "",
            directory=os.fsdecode(call.cwd),
            decision=word,
            reason=reason,
            kept=kept,
            process=os.getpid(),
        )

    def _rest(self) -> None:
        """Nobody is here; who stays away for long enough needs no daemon."""
        if self.running and self._idle_seconds > 0 and self._empty is None:
            self._idle = self._reactor.callLater(self._idle_seconds, self._nobody_calls)

    def _nobody_calls(self) -> None:
        served = self._served
        self.hit_servers.catch_up()
        if self._served > served:
            self._rest()
        elif not self._connections:
            self._end("nobody has called for a while")

    def _asked_to_stop(self, _: tuple[str, ...]) -> dict[str, int]:
        self._reactor.callLater(0, self._end, "asked to stop")
        return {"pid": os.getpid()}

    def _locked(self) -> int:
        path = self._path + b".lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno == errno.EWOULDBLOCK:
                raise ConfigError(f"another daemon serves {os.fsdecode(self._path)} already.") from None
            raise ConfigError(f"{os.fsdecode(path)}: {problem.strerror}.") from problem
        return lock


def _private(path: Any, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
