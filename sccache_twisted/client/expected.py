"""What a job is expected to need: the most that its source ever needed, else a first guess."""

from __future__ import annotations

from collections import OrderedDict

from attrs import frozen

_MOST_REMEMBERED = 65_536


@frozen
class Need:
    """Memory in bytes and wall time in seconds; 0.0 seconds where nothing is known."""

    memory_bytes: int
    seconds: float = 0.0


class Expectations:
    """Remembers by label, which is the source's path; the least recently used are forgotten."""

    def __init__(self, first_guess_bytes: int) -> None:
        self._first = Need(first_guess_bytes)
        self._seen: OrderedDict[str, Need] = OrderedDict()

    def of(self, label: str) -> Need:
        """What a job with this label is expected to need."""
        return self._seen.get(label, self._first)

    def seen(self, label: str, memory_bytes: int, seconds: float) -> None:
        """A job with this label has needed this much; 0 bytes when it was not measured."""
        known = self._seen.get(label)
        if memory_bytes <= 0 and known is None:
            return
        most = max(memory_bytes, known.memory_bytes if known is not None else 0)
        self._seen[label] = Need(most, seconds)
        self._seen.move_to_end(label)
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
