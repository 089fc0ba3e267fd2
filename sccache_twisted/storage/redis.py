"""Entries in a Redis server.

hiredis reads and writes the protocol; a connection carries one command at a time. Knows GET, SET, DEL and how to log
in. What Redis evicts, and how much it keeps, is configured there.
"""

from __future__ import annotations

from typing import Any

import hiredis
from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.errors import StorageError
from sccache_twisted.interfaces import ICacheStore
from sccache_twisted.storage.connections import Connections
from sccache_twisted.storage.dialing import Dialled, Dialler, Server, closed_early
from sccache_twisted.storage.entries import MAX_ENTRY_BYTES, check_key, check_size

MAX_VALUE_BYTES = 512 << 20
"""Largest string that Redis keeps."""

_MORE = object()


@frozen
class RedisLogin:
    """How a connection introduces itself; nothing is said that isn't needed."""

    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0


@implementer(ICacheStore)
class RedisStore:
    """Entries under ``prefix`` + key, for ``ttl_seconds`` where that is not 0."""

    def __init__(
        self, reactor: Any, server: Server, login: RedisLogin, prefix: str, ttl_seconds: float, connect_seconds: float
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._login = login
        self._prefix = prefix.encode()
        self._expiry = ("PX", b"%d" % max(1, round(ttl_seconds * 1000))) if ttl_seconds else ()
        self._connect_seconds = connect_seconds
        self._dialler = Dialler(reactor, server, lambda: _Line(server.who), connect_seconds)
        self._connections: Connections[_Line] = Connections(reactor, server.who, self._connect)

    def get(self, key: str) -> Deferred[bytes | None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._get(key))

    def put(self, key: str, entry: bytes) -> Deferred[None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._put(key, entry))

    def delete(self, key: str) -> Deferred[None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._delete(key))

    def close(self) -> Deferred[None]:
        """See ICacheStore."""
        return self._connections.close()

    async def _get(self, key: str) -> bytes | None:
        found = await self._ask("GET", self._name(key))
        if found is not None and not isinstance(found, bytes):
            raise StorageError(f"{self._server.who} answered GET with {type(found).__name__}.")
        return found

    async def _put(self, key: str, entry: bytes) -> None:
        name = self._name(key)
        check_size(entry, MAX_VALUE_BYTES)
        answer = await self._ask("SET", name, bytes(entry), *self._expiry)
        if answer != b"OK":
            raise StorageError(f"{self._server.who} answered SET with {type(answer).__name__}.")

    async def _delete(self, key: str) -> None:
        await self._ask("DEL", self._name(key))

    def _name(self, key: str) -> bytes:
        check_key(key)
        return self._prefix + key.encode()

    def _ask(self, *words: str | bytes) -> Deferred[Any]:
        return self._connections.call(lambda line: line.ask(*words))

    async def _connect(self) -> _Line:
        line = await self._dialler.dial()
        login = self._login
        try:
            if login.username or login.password:
                user = (login.username,) if login.username else ()
                await line.ask("AUTH", *user, login.password).addTimeout(self._connect_seconds, self._reactor)
            if login.db:
                await line.ask("SELECT", str(login.db)).addTimeout(self._connect_seconds, self._reactor)
        except StorageError:
            line.abort()
            raise
        except Exception as problem:
            line.abort()
            raise StorageError(f"{self._server.who} did not let us in within {self._connect_seconds:g} s.") from problem
        return line


class _Line(Dialled, Protocol):
    """A connection: one command, one reply, in turn."""

    def __init__(self, who: str) -> None:
        super().__init__()
        self._who = who
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._reply: Deferred[Any] | None = None
        self._received = 0

    def ask(self, *words: str | bytes) -> Deferred[Any]:
        """The reply to a command. Cancelling ends the connection, and with it any answer that is still to come."""
        if self.closed:
            raise closed_early(self._who)
        reply: Deferred[Any] = Deferred(lambda _: self.abort())
        self._reply = reply
        self._received = 0
        self.transport.write(hiredis.pack_command(tuple(words)))  # type: ignore[arg-type]  # typed as of one word
        return reply

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted."""
        self._received += len(data)
        try:
            self._reader.feed(data)
            reply = self._reader.gets()
        except hiredis.ProtocolError as problem:
            self._end(StorageError(f"{self._who} answers with something that is not Redis: {problem}."))
            return
        if reply is _MORE:
            if self._received > MAX_ENTRY_BYTES:
                self._end(StorageError(f"{self._who} answers with more than {MAX_ENTRY_BYTES} bytes."))
        elif self._reply is None or self._reader.has_data():
            self._end(StorageError(f"{self._who} answers what was not asked."))
        else:
            waiting, self._reply = self._reply, None
            if isinstance(reply, hiredis.ReplyError):
                waiting.errback(StorageError(f"{self._who} refuses: {reply}."))
            else:
                waiting.callback(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted."""
        super().connectionLost(reason)
        self._end(closed_early(self._who))

    def _end(self, problem: StorageError) -> None:
        if not self.closed:
            self.abort()
        waiting, self._reply = self._reply, None
        if waiting is not None and not waiting.called:
            waiting.errback(problem)
