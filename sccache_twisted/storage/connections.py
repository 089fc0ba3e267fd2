"""A store's connections: kept, lent to one call at a time, and made for the next call when this one gives up.

A call that is cancelled costs the connection that it was using, so no answer is ever taken for another call's. A
connection in the making belongs to nobody: it is finished although the call that needed it has given up, or a server
that is further away than a deadline would never be reached.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from sccache_twisted.errors import StorageError
from sccache_twisted.storage.dialing import Dialled

IDLE_SECONDS = 30.0
"""A connection that was not used for longer is not trusted: what lies between may have forgotten it."""
MOST_CONNECTIONS = 16

Line = TypeVar("Line", bound=Dialled)
Result = TypeVar("Result")


class Connections(Generic[Line]):
    """At most ``most`` connections, which ``dial`` makes. ``who`` is the server's name in sentences."""

    def __init__(
        self, clock: Any, who: str, dial: Callable[[], Coroutine[Any, Any, Line]], most: int = MOST_CONNECTIONS
    ) -> None:
        self._clock = clock
        self._who = who
        self._dial = dial
        self._most = most
        self._idle: list[tuple[float, Line]] = []
        self._lines: set[Line] = set()
        self._dialling: set[Deferred[Line]] = set()
        self._waiting: deque[Deferred[Line]] = deque()
        self._closed = False
        self._ended: list[Deferred[None]] = []

    def call(self, use: Callable[[Line], Deferred[Result]]) -> Deferred[Result]:
        """What ``use`` makes of a connection that is its own meanwhile."""
        return Deferred.fromCoroutine(self._call(use))

    def take(self) -> Deferred[Line]:
        """A connection, to be given back. Fails with StorageError."""
        if self._closed:
            raise StorageError(f"The store on {self._who} is closed.")
        now = self._clock.seconds()
        while self._idle:
            since, line = self._idle.pop()
            if now - since < IDLE_SECONDS and not line.closed:
                return succeed(line)
            line.abort()
        waiter: Deferred[Line] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        self._grow()
        return waiter

    def give(self, line: Line) -> None:
        """Give a connection back; a closed one counts until it is lost."""
        if line.closed:
            return
        if self._closed:
            line.abort()
        elif self._waiting:
            self._waiting.popleft().callback(line)
        else:
            self._idle.append((self._clock.seconds(), line))

    def close(self) -> Deferred[None]:
        """Abort every connection; fires when they are gone."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft().errback(StorageError(f"The store on {self._who} is closed."))
        for dialling in tuple(self._dialling):
            dialling.cancel()
        for line in tuple(self._lines):
            line.abort()
        ended: Deferred[None] = Deferred()
        self._ended.append(ended)
        self._check_ended()
        return ended

    async def _call(self, use: Callable[[Line], Deferred[Result]]) -> Result:
        line = await self.take()
        try:
            return await use(line)
        except CancelledError:
            line.abort()
            raise
        finally:
            self.give(line)

    def _grow(self) -> None:
        while len(self._dialling) < len(self._waiting) and len(self._lines) + len(self._dialling) < self._most:
            dialling = Deferred.fromCoroutine(self._dial())
            self._dialling.add(dialling)
            dialling.addBoth(self._dialled, dialling)

    def _dialled(self, result: Line | Failure, dialling: Deferred[Line]) -> None:
        self._dialling.discard(dialling)
        if isinstance(result, Failure):
            # The oldest waiter takes it; where nobody waits any more, the next call meets the same.
            if self._waiting:
                self._waiting.popleft().errback(result)
            self._grow()
        else:
            line = result
            self._lines.add(line)
            line.on_lost = lambda: self._lost(line)
            self.give(line)
        self._check_ended()

    def _lost(self, line: Line) -> None:
        self._lines.discard(line)
        self._idle = [(since, other) for since, other in self._idle if other is not line]
        self._grow()
        self._check_ended()

    def _check_ended(self) -> None:
        if self._closed and not self._lines and not self._dialling:
            while self._ended:
                self._ended.pop().callback(None)
