"""Several stores as one: the fastest first, each level filled from the slower ones below it.

Knows order, who may be read and written, and when storing has failed. Refuses to know what a store is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from zope.interface import implementer

from sccache_twisted.errors import StorageError
from sccache_twisted.interfaces import ICacheStore, IKeptHere, IReadAtOnce
from sccache_twisted.storage.measured import LevelFigures


class WriteErrors(str, Enum):
    """Which level's failure makes storing fail; sccache's ``write_error_policy``."""

    IGNORE = "ignore"
    L0 = "l0"
    ALL = "all"


@frozen
class Level:
    """A store and what may be done with it. ``kept``: the store itself where it is this machine's own.

    ``at_hand``: the same where its entries can be read at once.
    """

    store: ICacheStore
    figures: LevelFigures
    readable: bool = True
    writable: bool = True
    kept: IKeptHere | None = None
    at_hand: IReadAtOnce | None = None


@implementer(ICacheStore)
class Levels:
    """``levels`` in order. A level that fails is a miss as long as a later one answers with a hit."""

    def __init__(self, levels: Sequence[Level], write_errors: WriteErrors = WriteErrors.L0) -> None:
        self._levels = tuple(levels)
        self._write_errors = write_errors
        self._backfills: set[Deferred[None]] = set()
        self._closed = False

    @property
    def figures(self) -> tuple[LevelFigures, ...]:
        """Every level's, in order."""
        return tuple(level.figures for level in self._levels)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels, in order."""
        return self._levels

    @property
    def shared(self) -> bool:
        """Whether others may store into a level that is read here: it is not this machine's own."""
        return any(level.kept is None and level.readable for level in self._levels)

    @property
    def first(self) -> Level | None:
        """The level that is asked first."""
        return next((level for level in self._levels if level.readable), None)

    @property
    def on_disk(self) -> Level | None:
        """The level on this machine's disk, where nothing stands before it that others share."""
        for level in self._levels:
            if level.kept is None:
                return None
            if level.figures.name == "disk":
                return level
        return None

    def silent(self, key: str) -> list[str]:
        """Of a look-up that was a miss: what the levels kept to themselves, a sentence each."""
        return [said for level in self._levels if (said := level.figures.silence(key))]

    def get(self, key: str) -> Deferred[bytes | None]:
        """See ICacheStore; fails when no level has the entry and one could not tell."""
        return Deferred.fromCoroutine(self._get(key))

    def put(self, key: str, entry: bytes) -> Deferred[None]:
        """See ICacheStore: into every level that may be written, at once."""
        return Deferred.fromCoroutine(self._put(key, entry))

    def delete(self, key: str) -> Deferred[None]:
        """See ICacheStore: from every level that may be written."""
        return Deferred.fromCoroutine(self._delete(key))

    def close(self) -> Deferred[None]:
        """See ICacheStore. What is being copied between levels is given up."""
        self._closed = True
        return Deferred.fromCoroutine(self._close())

    async def _get(self, key: str) -> bytes | None:
        self._check()
        problem: StorageError | None = None
        for number, level in enumerate(self._levels):
            if not level.readable:
                continue
            try:
                found = await level.store.get(key)
            except StorageError as failure:
                problem = problem or failure
                continue
            if found is not None:
                self._backfill(key, found, number)
                return found
        if problem is not None:
            raise problem
        return None

    async def _put(self, key: str, entry: bytes) -> None:
        self._check()
        problems = await self._everywhere(lambda level: level.store.put(key, entry))
        fatal = {
            WriteErrors.IGNORE: (),
            WriteErrors.L0: problems[:1] if self._levels[0].writable else (),
            WriteErrors.ALL: problems,
        }[self._write_errors]
        for problem in fatal:
            if problem is not None:
                raise problem

    async def _delete(self, key: str) -> None:
        self._check()
        for problem in await self._everywhere(lambda level: level.store.delete(key)):
            if problem is not None:
                raise problem

    async def _everywhere(self, what: Callable[[Level], Deferred[None]]) -> list[StorageError | None]:
        """Do it at once in every writable level; each one's problem, or None, in order."""
        doing = [what(level) for level in self._levels if level.writable]
        problems: list[StorageError | None] = []
        try:
            for each in doing:
                try:
                    await each
                except StorageError as problem:
                    problems.append(problem)
                else:
                    problems.append(None)
        except CancelledError:
            for each in doing:
                each.addErrback(lambda failure: failure.trap(CancelledError, StorageError))
                each.cancel()
            raise
        return problems

    def _backfill(self, key: str, entry: bytes, source: int) -> None:
        for level in self._levels[:source]:
            if level.writable and level.readable and not self._closed:
                self._levels[source].figures.backfills_from += 1
                copying = Deferred.fromCoroutine(_copy(level, key, entry))
                self._backfills.add(copying)
                copying.addCallback(_forget, self._backfills, copying)

    async def _close(self) -> None:
        for copying in tuple(self._backfills):
            copying.cancel()
        await gatherResults([level.store.close() for level in self._levels], consumeErrors=True)

    def _check(self) -> None:
        if self._closed:
            raise StorageError("The cache is closed.")


async def _copy(level: Level, key: str, entry: bytes) -> None:
    try:
        await level.store.put(key, entry)
    except (StorageError, CancelledError):
        # Counted by the level that did not take it; nobody waits for a copy.
        return
    level.figures.backfills_to += 1


def _forget(_: None, pending: set[Deferred[None]], done: Deferred[None]) -> None:
    pending.discard(done)
