"""A store that keeps failing is left alone for a while: reads miss at once, writes are dropped, both counted.

The rules are :mod:`sccache_twisted.policy.breaker`'s. Reads and writes are judged each by their own: a store that is
full or read-only still gives what it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from sccache_twisted.errors import EntryTooLarge, StorageError
from sccache_twisted.interfaces import ICacheStore
from sccache_twisted.logs import EventLog, events
from sccache_twisted.policy.breaker import (
    BreakerRules,
    BreakerState,
    Closed,
    Open,
    abandoned,
    admit,
    failed,
    succeeded,
)
from sccache_twisted.storage.entries import check_key
from sccache_twisted.storage.measured import LevelFigures

Result = TypeVar("Result")


@implementer(ICacheStore)
class Breaker:
    """``store``, left alone as ``rules`` say. An entry that is too large for it is no failure and just not stored."""

    def __init__(
        self,
        store: ICacheStore,
        rules: BreakerRules,
        figures: LevelFigures,
        clock: Any,
        draw: Callable[[], float],
    ) -> None:
        self._store = store
        self._figures = figures
        self._clock = clock
        log = EventLog.of("sccache_twisted.storage", store=figures.name)
        self._reads = _Switch(rules, clock, draw, log.bind(operation="reads"))
        self._writes = _Switch(rules, clock, draw, log.bind(operation="writes"))

    def get(self, key: str) -> Deferred[bytes | None]:
        """See ICacheStore; None at once while the breaker is open."""
        return Deferred.fromCoroutine(self._run(self._reads, "get", key, lambda: self._store.get(key)))

    def put(self, key: str, entry: bytes) -> Deferred[None]:
        """See ICacheStore; dropped while the breaker is open."""
        return Deferred.fromCoroutine(self._run(self._writes, "put", key, lambda: self._store.put(key, entry)))

    def delete(self, key: str) -> Deferred[None]:
        """See ICacheStore; dropped while the breaker is open."""
        return Deferred.fromCoroutine(self._run(self._writes, "delete", key, lambda: self._store.delete(key)))

    def close(self) -> Deferred[None]:
        """See ICacheStore."""
        return self._store.close()

    async def _run(
        self, switch: _Switch, operation: str, key: str, begin: Callable[[], Deferred[Result]]
    ) -> Result | None:
        # A caller's mistake says nothing about the store.
        check_key(key)
        began = self._clock.seconds()
        if not switch.admit(began):
            self._figures.add(operation, "skipped")
            if operation == "get":
                self._figures.silently(key, f"{self._figures.name} was left alone, since it kept failing.")
            return None
        try:
            result = await begin()
        except EntryTooLarge:
            switch.succeeded()
            return None
        except StorageError as problem:
            switch.failed(problem, began)
            raise
        except BaseException:
            # Cancelled, or a defect: a probe that told nothing must not be waited for.
            switch.abandoned()
            raise
        switch.succeeded()
        return result


class _Switch:
    """One breaker's state, and what is said about it."""

    def __init__(self, rules: BreakerRules, clock: Any, draw: Callable[[], float], log: EventLog) -> None:
        self._rules = rules
        self._clock = clock
        self._draw = draw
        self._log = log
        self._state: BreakerState = Closed()

    def admit(self, now: float) -> bool:
        self._state, may = admit(self._state, now)
        return may

    def succeeded(self) -> None:
        before, self._state = self._state, succeeded(self._state)
        if not isinstance(before, Closed) and isinstance(self._state, Closed):
            self._log.emit(events.STORE_BACK)

    def failed(self, problem: StorageError, began: float) -> None:
        now = self._clock.seconds()
        before, self._state = self._state, failed(self._state, self._rules, began, now, self._draw())
        if isinstance(before, Closed) and isinstance(self._state, Open):
            self._log.emit(events.STORE_LEFT_ALONE, sentence=problem.sentence)

    def abandoned(self) -> None:
        self._state = abandoned(self._state, self._clock.seconds())
