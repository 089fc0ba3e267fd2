"""A cache store in the memory of this process: for embedded clients, as a first tier, and for tests of what is above.

At most so many bytes; the longest unused entry goes first.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, execute, succeed
from zope.interface import implementer

from sccache_twisted.errors import StorageError
from sccache_twisted.interfaces import ICacheStore, IKeptHere, Removed, Survey
from sccache_twisted.storage.entries import check_key, check_size
from sccache_twisted.storage.lru import LruLedger


@implementer(ICacheStore, IKeptHere)
class MemoryStore:
    """Entries in a dictionary, at most ``capacity_bytes`` of them. For the reactor's thread."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity = capacity_bytes
        self._ledger: LruLedger[str] = LruLedger()
        self._entries: dict[str, bytes] = {}
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return self._ledger.total

    def get(self, key: str) -> Deferred[bytes | None]:
        """See ICacheStore."""
        return execute(self._get, key)

    def put(self, key: str, entry: bytes) -> Deferred[None]:
        """See ICacheStore."""
        return execute(self._put, key, bytes(entry))

    def delete(self, key: str) -> Deferred[None]:
        """See ICacheStore."""
        return execute(self._delete, key)

    def close(self) -> Deferred[None]:
        """See ICacheStore; the entries are gone."""
        return execute(self._close)

    def survey(self) -> Deferred[Survey]:
        """See IKeptHere; times are not kept."""
        return succeed(Survey(len(self._entries), self._ledger.total))

    def evict(self, before_ns: int | None) -> Deferred[Removed]:
        """See IKeptHere; all or nothing, since times are not kept."""
        return execute(self._evict, before_ns)

    def _evict(self, before_ns: int | None) -> Removed:
        if before_ns is not None:
            raise StorageError("The cache in memory keeps no times of use: it can only be cleared.")
        removed = Removed(len(self._entries), self._ledger.total)
        self._entries.clear()
        self._ledger = LruLedger()
        return removed

    def _get(self, key: str) -> bytes | None:
        self._check(key)
        self._ledger.touch(key)
        return self._entries.get(key)

    def _put(self, key: str, entry: bytes) -> None:
        self._check(key)
        check_size(entry, self.capacity)
        self._ledger.admit(key, len(entry))
        self._entries[key] = entry
        # The new entry was used last and fits by itself, so it is never among those that must go.
        for victim in self._ledger.victims(self._ledger.total - self.capacity):
            self._delete(victim)

    def _delete(self, key: str) -> None:
        self._check(key)
        self._ledger.forget(key)
        self._entries.pop(key, None)

    def _close(self) -> None:
        self._closed = True
        self._evict(None)

    def _check(self, key: str) -> None:
        if self._closed:
            raise StorageError("The cache in memory is closed.")
        check_key(key)
