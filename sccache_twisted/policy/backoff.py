"""How long to wait before trying again: exponential bounds, full jitter.

Full jitter means that the wait is uniform between nothing and the bound, so that a thousand peers that lost the
same scheduler at the same moment don't come back at the same moment.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Backoff:
    """A series of bounds: ``first``, ``first * factor``, … never above ``longest``. All in seconds."""

    first: float
    factor: float
    longest: float

    def bound(self, failures: int) -> float:
        """The longest wait after this many failures in a row; 0.0 seconds after none."""
        if failures <= 0:
            return 0.0
        reach = self.first
        for _ in range(failures - 1):
            if reach >= self.longest or self.factor <= 1.0:
                break
            reach *= self.factor
        return min(reach, self.longest)

    def wait(self, failures: int, draw: float) -> float:
        """The wait in seconds after this many failures in a row; ``draw`` is uniform in [0, 1)."""
        return full_jitter(self.bound(failures), draw)


def full_jitter(bound: float, draw: float) -> float:
    """A wait between 0 and ``bound`` seconds; ``draw`` is uniform in [0, 1)."""
    return bound * draw
