"""What the operations on a store came to, and how long they took.

Knows outcomes. Refuses to know what they lead to: the decorators around decide, and count what only they see.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any, TypeVar

from attrs import Factory, define, field
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from sccache_twisted.errors import EntryTooLarge, StorageTimeout
from sccache_twisted.interfaces import ICacheStore
from sccache_twisted.logs import EventLog, events

Result = TypeVar("Result")
_MOST_SILENT = 4096


@define
class LevelFigures:
    """Counts of (operation, outcome) of one level, seconds of the same, and what was copied between levels.

    Outcomes of *get*: hit, miss, timeout, error, cancelled; skipped, when the breaker was open; bad_signature, besides
    the miss that it is. Of *put*: stored, too_large, timeout, error, cancelled; skipped, which is an entry that was
    dropped. Of *delete*: done, timeout, error, cancelled, skipped.
    """

    name: str
    location: str = ""
    counts: Counter[tuple[str, str]] = Factory(Counter)
    seconds: Counter[tuple[str, str]] = Factory(Counter)
    backfills_from: int = 0
    backfills_to: int = 0
    _silent: OrderedDict[str, str] = field(factory=OrderedDict, repr=False)

    def silently(self, key: str, sentence: str) -> None:
        """Remember why a look-up of this key was a miss that is no plain one; of the last thousands only."""
        self._silent[key] = sentence
        self._silent.move_to_end(key)
        if len(self._silent) > _MOST_SILENT:
            self._silent.popitem(last=False)

    def silence(self, key: str) -> str:
        """Why the last look-up of this key was no plain miss; empty if it was one. Forgets it."""
        return self._silent.pop(key, "")

    def add(self, operation: str, outcome: str, seconds: float = 0.0) -> None:
        """Count one."""
        self.counts[operation, outcome] += 1
        self.seconds[operation, outcome] += seconds  # type: ignore[assignment]  # a Counter adds whatever adds

    def clear(self) -> None:
        """Begin anew."""
        self.counts.clear()
        self.seconds.clear()
        self.backfills_from = self.backfills_to = 0

    def as_json(self, level: int) -> dict[str, Any]:
        """One item of sccache's ``multi_level``, and what sccache doesn't count, behind it."""
        counts = self.counts
        failures = counts["put", "error"] + counts["put", "timeout"]
        return {
            "name": f"L{level} ({self.name})",
            "location": self.location,
            "hits": counts["get", "hit"],
            "misses": counts["get", "miss"],
            "writes": counts["put", "stored"],
            "write_failures": failures,
            "backfills_from": self.backfills_from,
            "backfills_to": self.backfills_to,
            "hit_duration": _duration(self.seconds["get", "hit"]),
            "write_duration": _duration(self.seconds["put", "stored"]),
            "read_errors": counts["get", "error"],
            "read_timeouts": counts["get", "timeout"],
            "reads_skipped": counts["get", "skipped"],
            "writes_skipped": counts["put", "skipped"],
            "too_large": counts["put", "too_large"],
            "bad_signatures": counts["get", "bad_signature"],
        }


@implementer(ICacheStore)
class Measured:
    """``store``, with every operation's outcome and duration in ``figures``, and in the log of those who debug."""

    def __init__(self, store: ICacheStore, figures: LevelFigures, clock: Any) -> None:
        self._store = store
        self._figures = figures
        self._clock = clock
        self._log = EventLog.of("sccache_twisted.storage", store=figures.name)

    def get(self, key: str) -> Deferred[bytes | None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._measure("get", self._store.get(key)))

    def put(self, key: str, entry: bytes) -> Deferred[None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._measure("put", self._store.put(key, entry)))

    def delete(self, key: str) -> Deferred[None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._measure("delete", self._store.delete(key)))

    def close(self) -> Deferred[None]:
        """See ICacheStore."""
        return self._store.close()

    async def _measure(self, operation: str, doing: Deferred[Result]) -> Result:
        began = self._clock.seconds()
        outcome = "error"
        try:
            result = await doing
            outcome = _good(operation, result)
        except CancelledError:
            outcome = "cancelled"
            raise
        except EntryTooLarge:
            outcome = "too_large"
            raise
        except StorageTimeout:
            outcome = "timeout"
            raise
        finally:
            seconds = self._clock.seconds() - began
            self._figures.add(operation, outcome, seconds)
            self._log.emit(events.STORE_CALLED, operation=operation, outcome=outcome, seconds=seconds)
        return result


def _good(operation: str, result: object) -> str:
    if operation == "get":
        return "miss" if result is None else "hit"
    return "stored" if operation == "put" else "done"


def _duration(seconds: float) -> dict[str, int]:
    whole = int(seconds)
    return {"secs": whole, "nanos": int((seconds - whole) * 1e9)}
