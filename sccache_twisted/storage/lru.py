"""Who must go when room is needed: the longest unused that nobody has pinned.

Sizes in bytes, order of use, pins. Refuses to know files, clocks and threads: its owner holds a lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from attrs import define

K = TypeVar("K")


@define
class _Held:
    size: int
    pins: int = 0


class LruLedger(Generic[K]):
    """Keys with sizes in the order of their last use."""

    def __init__(self) -> None:
        self._held: OrderedDict[K, _Held] = OrderedDict()
        self.total = 0

    def __contains__(self, key: K) -> bool:
        return key in self._held

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[K]:
        return iter(self._held)

    def admit(self, key: K, size: int) -> None:
        """Take in a key as the last used; one that is there already keeps its pins."""
        known = self._held.get(key)
        if known is None:
            self._held[key] = _Held(size)
        else:
            self.total -= known.size
            known.size = size
            self._held.move_to_end(key)
        self.total += size

    def touch(self, key: K) -> bool:
        """Note a use; False if the key isn't there."""
        if key not in self._held:
            return False
        self._held.move_to_end(key)
        return True

    def forget(self, key: K) -> None:
        """Remove a key, pinned or not."""
        gone = self._held.pop(key, None)
        if gone is not None:
            self.total -= gone.size

    def pin(self, key: K) -> bool:
        """Keep a key from becoming a victim until as many :meth:`unpin`; False if it isn't there."""
        held = self._held.get(key)
        if held is None:
            return False
        held.pins += 1
        self._held.move_to_end(key)
        return True

    def unpin(self, key: K) -> None:
        """Take back one pin; nothing if the key was forgotten meanwhile."""
        held = self._held.get(key)
        if held is not None and held.pins:
            held.pins -= 1

    def victims(self, needed: int) -> list[K]:
        """The longest unused unpinned keys that together are at least ``needed`` bytes, or all there are."""
        found: list[K] = []
        for key, held in self._held.items():
            if needed <= 0:
                break
            if not held.pins:
                found.append(key)
                needed -= held.size
        return found
