"""The store, as look-ups see it: what it can't give is a miss, counted and told; what is damaged goes.

Knows failures. Refuses to know what anything is looked for.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThreadPool

from sccache_twisted.client.cache import files
from sccache_twisted.client.cache.observer import Trail
from sccache_twisted.client.stats import Statistics
from sccache_twisted.errors import StorageError
from sccache_twisted.hashing.entry import Entry
from sccache_twisted.hashing.envelope import Damaged
from sccache_twisted.hashing.note import Look
from sccache_twisted.interfaces import ICacheStore
from sccache_twisted.logs import events
from sccache_twisted.logs.events import EventLog
from sccache_twisted.storage.levels import Levels


class Shelf:
    """Asks ``store``; of what went wrong, ``trail`` learns as well."""

    def __init__(self, reactor: Any, store: ICacheStore, statistics: Statistics) -> None:
        self._reactor = reactor
        self._store = store
        self._statistics = statistics
        self._log = EventLog.of("sccache_twisted.client", role="client")

    async def get(self, key: str, trail: Trail) -> bytes | None:
        """What is stored under a key."""
        try:
            found = await self._store.get(key)
        except StorageError as problem:
            self._statistics.cache_read_errors += 1
            self._log.emit(events.CACHE_FAILED, what="read", reason=problem.sentence)
            trail.troubles.append(problem.sentence)
            return None
        if found is None and isinstance(self._store, Levels):
            trail.troubles += self._store.silent(key)
        return found

    async def entry(self, key: str, trail: Trail) -> Entry | None:
        """The result that is stored under a key."""
        stored = await self.get(key, trail)
        if stored is None:
            return None
        entry = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), files.unpack, key, stored)
        if isinstance(entry, Damaged):
            trail.look = Look.DAMAGED
            await self.drop(key, entry)
            return None
        return entry

    async def drop(self, key: str, damage: Damaged) -> None:
        """Remove what is damaged."""
        self._statistics.cache_read_errors += 1
        self._log.emit(events.CACHE_DAMAGED, key=key, reason=str(damage))
        try:
            await self._store.delete(key)
        except StorageError as problem:
            self._log.emit(events.CACHE_FAILED, what="remove", reason=problem.sentence)
