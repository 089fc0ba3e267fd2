"""Who is next when a slot frees: the client with the fewest slots first, its oldest request first.

That is max-min fairness in slots: a newcomer is served until it has as many as the others, and then all take turns,
however long their jobs run and however many requests each of them has sent.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator
from heapq import merge
from typing import Generic, TypeVar

from attrs import frozen

from sccache_twisted.model import ClientId
from sccache_twisted.policy.ladder import Ladder

Key = TypeVar("Key", bound="tuple[object, ...]")


@frozen(order=False)
class Waiting(Generic[Key]):
    """A place in the queue. ``since``: when the client began to ask; ``serial`` breaks ties; ``need`` in bytes."""

    key: Key
    client_id: ClientId
    since: float
    serial: int
    need: int = 0


_Line = list[tuple[float, int, Waiting[Key]]]


class FairQueue(Generic[Key]):
    """Requests that wait, by client and by age."""

    def __init__(self) -> None:
        self._lines: dict[ClientId, _Line[Key]] = {}
        self._places: dict[Key, Waiting[Key]] = {}
        self._order: Ladder[ClientId] = Ladder()
        self._needs: Counter[int] = Counter()
        self._share: dict[ClientId, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Waiting[Key]]:
        """Everybody, the oldest first."""
        return (place for _, _, place in merge(*self._lines.values()))

    @property
    def least_need(self) -> int:
        """The smallest need of memory of all; 0 when nobody waits."""
        return min(self._needs, default=0)

    def add(self, place: Waiting[Key], share: int) -> None:
        """Queue a request of a client that has ``share`` slots now."""
        self._places[place.key] = place
        insort(self._lines.setdefault(place.client_id, []), (place.since, place.serial, place))
        self._needs[place.need] += 1
        self._share[place.client_id] = share
        self._sort(place.client_id)

    def remove(self, key: Key) -> None:
        """Take a request out, if it is in."""
        place = self._places.pop(key, None)
        if place is None:
            return
        line = self._lines[place.client_id]
        del line[bisect_left(line, (place.since, place.serial))]
        self._needs[place.need] -= 1
        if not self._needs[place.need]:
            del self._needs[place.need]
        self._sort(place.client_id)

    def share_changed(self, client_id: ClientId, share: int) -> None:
        """A client has this many slots now."""
        if client_id in self._lines:
            self._share[client_id] = share
            self._sort(client_id)

    def first(self, eligible: Callable[[Waiting[Key]], bool]) -> Waiting[Key] | None:
        """Who is to be served among those that are ``eligible``; stays in the queue."""
        for client_id in self._order:
            for _, _, place in self._lines[client_id]:
                if eligible(place):
                    return place
        return None

    def _sort(self, client_id: ClientId) -> None:
        line = self._lines[client_id]
        if line:
            self._order.put(client_id, (self._share[client_id], *line[0][:2]))
        else:
            del self._lines[client_id], self._share[client_id]
            self._order.drop(client_id)
