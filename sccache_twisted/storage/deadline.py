"""A store that answers in time or is not waited for.

Knows two bounds, for looking up and for storing. Puts that are under way may hold so much memory and no more: beyond
that, an entry is not stored.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.errors import StorageError, StorageTimeout
from sccache_twisted.interfaces import ICacheStore

MOST_PENDING_BYTES = 256 << 20
"""Entries on their way into one store together."""

Result = TypeVar("Result")


@implementer(ICacheStore)
class Deadline:
    """``store``, where a get takes at most ``get_seconds``, and a put or delete ``put_seconds``.

    What takes longer is cancelled and fails with StorageTimeout. ``who`` begins its sentence.
    """

    def __init__(
        self,
        store: ICacheStore,
        clock: Any,
        who: str,
        get_seconds: float,
        put_seconds: float,
        most_pending_bytes: int = MOST_PENDING_BYTES,
    ) -> None:
        self._store = store
        self._clock = clock
        self._who = who
        self._get_seconds = get_seconds
        self._put_seconds = put_seconds
        self._most_pending = most_pending_bytes
        self._pending = 0

    def get(self, key: str) -> Deferred[bytes | None]:
        """See ICacheStore."""
        return self._within(self._get_seconds, self._store.get(key))

    def put(self, key: str, entry: bytes) -> Deferred[None]:
        """See ICacheStore."""
        size = len(entry)
        # One entry always may, however large.
        if self._pending and self._pending + size > self._most_pending:
            return fail(StorageError(f"{self._who} is too slow for all that is to be stored; an entry is left out."))
        self._pending += size

        def ended(result: Failure | None) -> Failure | None:
            self._pending -= size
            return result

        return self._within(self._put_seconds, self._store.put(key, entry)).addBoth(ended)

    def delete(self, key: str) -> Deferred[None]:
        """See ICacheStore."""
        return self._within(self._put_seconds, self._store.delete(key))

    def close(self) -> Deferred[None]:
        """See ICacheStore."""
        return self._store.close()

    def _within(self, seconds: float, doing: Deferred[Result]) -> Deferred[Result]:
        def late(_result: object, _seconds: float) -> Result:
            raise StorageTimeout(f"{self._who} did not answer within {seconds:g} s.")

        return doing.addTimeout(seconds, self._clock, late)
