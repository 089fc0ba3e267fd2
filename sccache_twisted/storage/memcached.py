"""Entries in a memcached server, by Twisted's own client.

A value has a bound there, 1 MiB unless the server was started with ``-I``; a connection asks for it. Larger entries
are EntryTooLarge: nothing is wrong, they only can't be shared this way.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import connectionDone
from twisted.protocols.memcache import MemCacheProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.errors import EntryTooLarge, StorageError
from sccache_twisted.interfaces import ICacheStore
from sccache_twisted.storage.connections import Connections
from sccache_twisted.storage.dialing import Dialled, Dialler, Server, closed_early
from sccache_twisted.storage.entries import MAX_ENTRY_BYTES, check_key, check_size

_ITEM_OVERHEAD = 512
"""Bytes of an item that are not its value: header, key, suffix. Fewer than this, with keys of at most 250 bytes."""


@frozen
class MemcachedLogin:
    """For a server that was started with ``--auth-file``; SASL, which needs the binary protocol, is not spoken."""

    username: str = ""
    password: str = field(default="", repr=False)


@implementer(ICacheStore)
class MemcachedStore:
    """Entries under ``prefix`` + key, for ``expiration_seconds`` (at most 30 days) where that is not 0."""

    def __init__(
        self,
        reactor: Any,
        server: Server,
        login: MemcachedLogin,
        prefix: str,
        expiration_seconds: float,
        connect_seconds: float,
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._login = login
        self._prefix = prefix.encode()
        # memcached counts whole seconds, and takes 0 for never.
        self._expiration = max(1, round(expiration_seconds)) if expiration_seconds else 0
        self._connect_seconds = connect_seconds
        self._largest = MAX_ENTRY_BYTES
        self._dialler = Dialler(reactor, server, lambda: _Line(server.who), connect_seconds)
        self._connections: Connections[_Line] = Connections(reactor, server.who, self._connect)

    def get(self, key: str) -> Deferred[bytes | None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._get(key))

    def put(self, key: str, entry: bytes) -> Deferred[None]:
        """See ICacheStore; EntryTooLarge for what the server would not take."""
        return Deferred.fromCoroutine(self._put(key, entry))

    def delete(self, key: str) -> Deferred[None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._delete(key))

    def close(self) -> Deferred[None]:
        """See ICacheStore."""
        return self._connections.close()

    async def _get(self, key: str) -> bytes | None:
        name = self._name(key)
        found: bytes | None = await self._call(lambda line: line.fetch(name))
        return found

    async def _put(self, key: str, entry: bytes) -> None:
        name = self._name(key)
        check_size(entry)
        if len(entry) > self._largest:
            raise self._too_large(entry)
        if not await self._call(lambda line: self._store(line, name, bytes(entry))):
            raise StorageError(f"{self._server.who} did not store an entry.")

    async def _delete(self, key: str) -> None:
        name = self._name(key)
        await self._call(lambda line: line.delete(name))

    def _name(self, key: str) -> bytes:
        check_key(key)
        return self._prefix + key.encode()

    def _store(self, line: _Line, name: bytes, entry: bytes) -> Deferred[Any]:
        # The bound became known with the connection.
        if len(entry) > self._largest:
            raise self._too_large(entry)
        return line.set(name, entry, expireTime=self._expiration)  # type: ignore[no-any-return,no-untyped-call]  # Twisted's

    def _too_large(self, entry: bytes) -> EntryTooLarge:
        return EntryTooLarge(f"{self._server.who} takes at most {self._largest} bytes, not an entry of {len(entry)}.")

    async def _call(self, use: Any) -> Any:
        try:
            return await self._connections.call(use)
        except (StorageError, CancelledError):
            raise
        except Exception as problem:
            raise self._failure(problem) from problem

    def _failure(self, problem: Exception) -> StorageError:
        words = str(problem) or type(problem).__name__
        return StorageError(f"{self._server.who} refuses: {words}.")

    async def _connect(self) -> _Line:
        line = await self._dialler.dial()
        try:
            if self._login.username:
                # memcached's way of logging in: the first thing that is stored, under any name, is the password.
                words = f"{self._login.username} {self._login.password}".encode()
                await self._within(line.set(b"login", words))  # type: ignore[no-untyped-call]  # Twisted's
            settings = await self._within(line.stats(b"settings"))  # type: ignore[no-untyped-call]  # Twisted's
            self._largest = int(settings.get(b"item_size_max", MAX_ENTRY_BYTES)) - _ITEM_OVERHEAD
        except StorageError:
            line.abort()
            raise
        except Exception as problem:
            line.abort()
            raise self._failure(problem) from problem
        return line

    def _within(self, answer: Deferred[Any]) -> Deferred[Any]:
        def late(_result: Any, _seconds: float) -> Any:
            raise StorageError(f"{self._server.who} did not let us in within {self._connect_seconds:g} s.")

        return answer.addTimeout(self._connect_seconds, self._reactor, late)


class _Line(Dialled, MemCacheProtocol):
    """Twisted's client, whose surprises become a failed call instead of a traceback in the log."""

    def __init__(self, who: str) -> None:
        # Deadlines are kept by those who call.
        super().__init__(timeOut=None)
        self._who = who

    def fetch(self, name: bytes) -> Deferred[bytes | None]:
        """A value, or None. Twisted's client takes any answer for one to what was asked; this judges it."""

        def judged(answer: Any) -> bytes | None:
            match answer:
                case (_, None | bytes() as value):
                    return value
            raise self._foreign(b"another command's answer")

        return self.get(name).addCallback(judged)  # type: ignore[no-untyped-call,no-any-return]  # Twisted's

    def lineReceived(self, line: bytes) -> None:
        """Called by LineReceiver: one line of an answer."""
        refusal = line.startswith((b"CLIENT_ERROR ", b"SERVER_ERROR ")) or line == b"ERROR"
        if refusal and self._current:
            self._current.popleft().fail(StorageError(f"{self._who} refuses: {_text(line)}."))
            return
        waiting = tuple(self._current)
        try:
            super().lineReceived(line)  # type: ignore[no-untyped-call]  # Twisted's
        except Exception:  # noqa: BLE001 - Twisted's client raises whatever int() and split() do
            self._give_up(line, waiting)

    def cmd_VALUE(self, line: bytes) -> None:
        """Called by Twisted's client: the head of a value."""
        if int(line.split()[2]) > MAX_ENTRY_BYTES:
            raise ValueError
        super().cmd_VALUE(line)  # type: ignore[no-untyped-call]  # Twisted's

    def lineLengthExceeded(self, line: bytes) -> None:
        """Called by LineReceiver."""
        self._give_up(line, tuple(self._current))

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 Twisted's
        """Called by Twisted; the client below fails what was under way with whatever it is given."""
        super().connectionLost(Failure(closed_early(self._who)))

    def _give_up(self, line: bytes, waiting: tuple[Any, ...]) -> None:
        problem = self._foreign(line)
        self._current.clear()
        for command in waiting:
            # The client may have taken it from its queue and stumbled before it answered.
            if not command._deferred.called:  # noqa: SLF001 - Twisted's client has no other way to ask
                command.fail(problem)

    def _foreign(self, line: bytes) -> StorageError:
        self.abort()
        return StorageError(f"{self._who} answers with something that is not memcached's: {_text(line)!r}.")


def _text(line: bytes) -> str:
    return line[:80].decode("ascii", "replace")
