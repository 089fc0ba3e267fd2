"""A cache store in the memory of this process: for embedded clients, as a first tier, and for tests of what is above.

At most so many bytes; the longest unused entry goes first.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from sccache_twisted.errors import StorageError
from sccache_twisted.interfaces import ICacheStore
from sccache_twisted.storage.entries import check_key, check_size
from sccache_twisted.storage.lru import LruLedger


@implementer(ICacheStore)
class MemoryStore:
    """Entries in a dictionary, at most ``capacity_bytes`` of them. For the reactor's thread."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
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

    def _get(self, key: str) -> bytes | None:
        self._check(key)
        self._ledger.touch(key)
        return self._entries.get(key)

    def _put(self, key: str, entry: bytes) -> None:
        self._check(key)
        check_size(entry, self._capacity)
        self._ledger.admit(key, len(entry))
        self._entries[key] = entry
        # The new entry was used last and fits by itself, so it is never among those that must go.
        for victim in self._ledger.victims(self._ledger.total - self._capacity):
            self._delete(victim)

    def _delete(self, key: str) -> None:
        self._check(key)
        self._ledger.forget(key)
        self._entries.pop(key, None)

    def _close(self) -> None:
        self._closed = True
        self._entries.clear()
        self._ledger = LruLedger()

    def _check(self, key: str) -> None:
        if self._closed:
            raise StorageError("The cache in memory is closed.")
        check_key(key)
