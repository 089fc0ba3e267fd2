"""A sorted index whose members move: put, drop and walk from the best. Moves cost a bisection each."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

Name = TypeVar("Name", bound="str | tuple[Any, ...]")
_Rung = tuple[Any, ...]


class Ladder(Generic[Name]):
    """Names in the order of their keys, the smallest first.

    A key is a tuple; keys of one ladder are comparable, and so are names, which break ties.
    """

    def __init__(self) -> None:
        self._rungs: list[tuple[_Rung, Name]] = []
        self._keys: dict[Name, _Rung] = {}

    def put(self, name: Name, key: _Rung) -> None:
        """Place ``name``, wherever it stood before."""
        held = self._keys.get(name)
        if held == key:
            return
        if held is not None:
            del self._rungs[bisect_left(self._rungs, (held, name))]
        self._keys[name] = key
        insort(self._rungs, (key, name))

    def drop(self, name: Name) -> None:
        """Take ``name`` out, if it is in."""
        held = self._keys.pop(name, None)
        if held is not None:
            del self._rungs[bisect_left(self._rungs, (held, name))]

    def __iter__(self) -> Iterator[Name]:
        """Walk from the smallest key."""
        return (name for _, name in self._rungs)

    def __len__(self) -> int:
        return len(self._rungs)

    def __contains__(self, name: Name) -> bool:
        return name in self._keys

    def key(self, name: Name) -> _Rung:
        """The key of a member; KeyError if it is none."""
        return self._keys[name]
