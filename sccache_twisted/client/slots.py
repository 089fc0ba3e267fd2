"""Local slots: how many compilations this user runs on this machine at once, whoever starts them.

A slot is a file under ``/tmp/sccache-twisted-<uid>/slots``; holding a flock on it is holding the slot. The
compiler keeps the lock by inheriting the descriptor, so launchers that have lost their daemon and several daemons
share the slots without talking to one another. A daemon only says which slot to try and never has more calls on
their way to slots than there are slots; the lock itself is taken by whoever runs the compiler.
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from sccache_twisted.client import places
from sccache_twisted.config import ClientSettings

_POLL_SECONDS = 0.01


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


class LocalSlots:
    """The daemon's side: hands out slot numbers, first come first served, none twice at once."""

    def __init__(self, count: int, directory: bytes) -> None:
        self.count = count
        self._directory = directory
        self._free = list(range(count))
        self._waiting: deque[Deferred[int]] = deque()

    @classmethod
    def from_settings(cls, settings: ClientSettings) -> LocalSlots:
        """The slots of this user on this machine; ConfigError if somebody else owns their place."""
        return cls(settings.local_slots or cores(), places.slot_directory())

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    def acquire(self) -> Deferred[int]:
        """Wait for a slot number; give it back with :meth:`release`. Cancelling leaves the queue."""
        if self._free:
            return succeed(self._take())
        waiter: Deferred[int] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def release(self, slot: int) -> None:
        """The slot is free again."""
        self._free.append(slot)
        if self._waiting:
            self._waiting.popleft().callback(self._take())

    def _take(self) -> int:
        """Prefer a slot that no other daemon or lonely launcher holds just now."""
        for position, slot in enumerate(self._free):
            lock = self._locked(slot)
            if lock is not None:
                os.close(lock)
                return self._free.pop(position)
        return self._free.pop(0)

    def _locked(self, slot: int) -> int | None:
        """A descriptor that holds the slot's lock, or None if another process does."""
        descriptor = os.open(
            self._directory + b"/%d" % slot, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    @asynccontextmanager
    async def held(self, clock: IReactorTime) -> AsyncIterator[int]:
        """Hold a slot and its lock within this process, for callers who have no launcher to take it."""
        slot = await self.acquire()
        try:
            while (lock := self._locked(slot)) is None:
                await deferLater(clock, _POLL_SECONDS)
            try:
                yield slot
            finally:
                os.close(lock)
        finally:
            self.release(slot)
