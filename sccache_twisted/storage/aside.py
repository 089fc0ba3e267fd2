"""Work that may hang for as long as it likes: name servers, credentials.

Each piece runs in a thread of its own, so that it takes none from the reactor's pool, where the build's own work is
done; nobody waits for it when the process ends. Whoever asks for the same thing waits for the one answer.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

Result = TypeVar("Result")
KNOWN_SECONDS = 60.0
"""How long a host name's addresses are believed."""


def aside(reactor: Any, function: Callable[[], Result]) -> Deferred[Result]:
    """The function's result, out of a thread of its own."""
    done: Deferred[Result] = Deferred()

    def run() -> None:
        try:
            result = function()
        except Exception:  # noqa: BLE001 - it is the Deferred's
            reactor.callFromThread(done.errback, Failure())
        else:
            reactor.callFromThread(done.callback, result)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return done


class Shared(Generic[Result]):
    """``begin`` under way at most once: many wait for its one result. Cancelling ends a wait, not the work."""

    def __init__(self, begin: Callable[[], Deferred[Result]]) -> None:
        self._begin = begin
        self._waiting: list[Deferred[Result]] = []
        self._busy = False

    def result(self) -> Deferred[Result]:
        """The result of what is under way, or is begun now."""
        waiter: Deferred[Result] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        if not self._busy:
            self._busy = True
            self._begin().addBoth(self._ended)
        return waiter

    def _ended(self, result: Result | Failure) -> None:
        self._busy = False
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(result)


class HostName:
    """A host name's addresses, looked up aside and believed for a while."""

    def __init__(self, reactor: Any, host: str) -> None:
        self._reactor = reactor
        # Whatever ends in .localhost is this machine, whether or not the resolver knows (RFC 6761).
        self._host = "localhost" if host.endswith(".localhost") else host
        self._known: tuple[float, tuple[str, ...]] | None = None
        self._lookup = Shared(self._look_up)

    def addresses(self) -> Deferred[tuple[str, ...]]:
        """At least one, the best first; OSError where there is none."""
        if isIPAddress(self._host) or isIPv6Address(self._host):
            return succeed((self._host,))
        if self._known is not None and self._reactor.seconds() - self._known[0] < KNOWN_SECONDS:
            return succeed(self._known[1])
        return self._lookup.result()

    def forget(self) -> None:
        """They led nowhere: ask again."""
        self._known = None

    def _look_up(self) -> Deferred[tuple[str, ...]]:
        host = self._host

        def ask() -> tuple[str, ...]:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))

        return aside(self._reactor, ask).addCallback(self._learnt)

    def _learnt(self, found: tuple[str, ...]) -> tuple[str, ...]:
        self._known = (self._reactor.seconds(), found)
        return found
