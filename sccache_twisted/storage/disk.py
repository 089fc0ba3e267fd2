"""The cache on this machine's disk, as a store: the default.

Knows when a file may be read at once and when in a thread. Refuses to know how files are laid out and who else uses
them: that is :mod:`sccache_twisted.storage.disk_files`'.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, execute, fail, succeed
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from sccache_twisted.errors import StorageError
from sccache_twisted.hashing.digests import read_open_file
from sccache_twisted.interfaces import ICacheStore, IKeptHere, IReadAtOnce, Removed, Survey
from sccache_twisted.storage.disk_files import DiskDirectory

_T = TypeVar("_T")
_INLINE = 256 << 10
"""Entries up to this size are read at once: a thread would cost more than the read."""


@implementer(ICacheStore, IKeptHere, IReadAtOnce)
class DiskStore:
    """A :class:`DiskDirectory` for the reactor: small entries are read at once, everything else is done in threads."""

    def __init__(self, reactor: Any, directory: bytes, capacity_bytes: int) -> None:
        self._reactor = reactor
        self._files = DiskDirectory(directory, capacity_bytes)
        self._under_way: set[Deferred[Any]] = set()
        self._closed = False
        self.capacity = capacity_bytes

    @property
    def location(self) -> str:
        """Where the entries are, for a person."""
        return f'Local disk: "{os.fsdecode(self._files.path)}"'

    def size(self) -> Deferred[int]:
        """Bytes taken."""
        return self._in_thread(self._files.size)

    def get(self, key: str) -> Deferred[bytes | None]:
        """See ICacheStore."""
        if self._closed:
            return fail(_closed())
        try:
            opened = self._files.open(key)
        except StorageError as problem:
            return fail(problem)
        if opened is None:
            return succeed(None)
        if opened[1] <= _INLINE:
            return execute(_read_and_close, *opened)
        return self._in_thread(_read_and_close, *opened)

    def read(self, key: str) -> bytes | None:
        """See IReadAtOnce."""
        if self._closed:
            raise _closed()
        opened = self._files.open(key)
        return None if opened is None else _read_and_close(*opened)

    def put(self, key: str, entry: bytes) -> Deferred[None]:
        """See ICacheStore."""
        return self._in_thread(self._files.put, key, entry)

    def delete(self, key: str) -> Deferred[None]:
        """See ICacheStore."""
        return self._in_thread(self._files.delete, key)

    def survey(self) -> Deferred[Survey]:
        """See IKeptHere."""
        return self._in_thread(self._files.survey)

    def evict(self, before_ns: int | None) -> Deferred[Removed]:
        """See IKeptHere."""
        return self._in_thread(self._files.evict, before_ns)

    def close(self) -> Deferred[None]:
        """See ICacheStore; waits for what is being written."""
        self._closed = True
        return DeferredList([_followed(work) for work in self._under_way]).addCallback(lambda _: None)

    def _in_thread(self, function: Callable[..., _T], *args: Any) -> Deferred[_T]:
        if self._closed:
            return fail(_closed())
        work: Deferred[_T] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)
        self._under_way.add(work)

        def ended(result: Any) -> Any:
            self._under_way.discard(work)
            return result

        work.addBoth(ended)
        return work


def _followed(work: Deferred[Any]) -> Deferred[None]:
    """Fires when ``work`` has ended in whatever way, and leaves its result to others."""
    done: Deferred[None] = Deferred()

    def ended(result: Any) -> Any:
        done.callback(None)
        return result

    work.addBoth(ended)
    return done


def _read_and_close(descriptor: int, size: int) -> bytes:
    try:
        return read_open_file(descriptor, size)
    except OSError as problem:
        raise StorageError(f"An entry of the cache cannot be read: {problem.strerror}.") from problem
    finally:
        os.close(descriptor)


def _closed() -> StorageError:
    return StorageError("The cache on disk is closed.")
