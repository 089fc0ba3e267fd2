"""How far a worker is trusted: suspicion with its reasons, blame with its half-life.

Three things speak against a worker, from the heaviest down. It did not answer the scheduler: that is forgotten as
soon as it is heard from. Clients could not reach it: heartbeats say nothing about that way, so it is forgotten when
a client got a result, or fades. Jobs failed by its fault: that fades too.
"""

from __future__ import annotations

from enum import IntEnum
from math import exp, inf, log, log2

from attrs import evolve, frozen

_LN2 = log(2.0)
_REMEMBERED = 0.5
_HAIR = 1e-6  # keeps rounding from finding the same grade at the very moment when it ends


class Grade(IntEnum):
    """How a worker is ranked, the best first. Who is SILENT is not asked before it is heard from."""

    TRUSTED = 0
    BLAMED = 1
    UNREACHABLE = 2
    SILENT = 3


@frozen
class Decaying:
    """A count whose every unit halves in ``half_life`` seconds."""

    score: float = 0.0
    at: float = 0.0

    def value(self, now: float, half_life: float) -> float:
        """What is left of the count."""
        return self.score * exp(-_LN2 * max(0.0, now - self.at) / half_life)

    def one_more(self, now: float, half_life: float) -> Decaying:
        """The count with one more."""
        return Decaying(self.value(now, half_life) + 1.0, now)

    def falls_below(self, level: float, half_life: float) -> float:
        """When the count falls to ``level``."""
        return self.at + half_life * log2(self.score / level) if self.score > level else self.at

    def order(self, half_life: float) -> float:
        """A number that sorts counts by their value at any one moment, whichever it is: all decay alike."""
        return log2(self.score) + self.at / half_life if self.score > 0.0 else -inf


_NEVER = Decaying()


@frozen
class Standing:
    """What speaks against one worker. Every method gives a new value; times in seconds.

    ``blamed_at`` is the count of recent faults at which a worker is ranked behind its peers.
    """

    half_life: float
    blamed_at: float = 3.0
    silent: bool = False
    reports: Decaying = _NEVER
    faults: Decaying = _NEVER

    def heard(self) -> Standing:
        """The worker spoke to the scheduler."""
        return evolve(self, silent=False) if self.silent else self

    def unanswered(self) -> Standing:
        """The worker left the scheduler without an answer."""
        return evolve(self, silent=True)

    def unreachable(self, now: float) -> Standing:
        """A client could not reach the worker, or lost it."""
        return evolve(self, reports=self.reports.one_more(now, self.half_life))

    def reached(self) -> Standing:
        """A client got a result from the worker."""
        return evolve(self, reports=_NEVER) if self.reports.score else self

    def failed(self, now: float) -> Standing:
        """A job failed by the worker's fault."""
        return evolve(self, faults=self.faults.one_more(now, self.half_life))

    def recent_faults(self, now: float) -> float:
        """How many faults are remembered."""
        return self.faults.value(now, self.half_life)

    def grade(self, now: float) -> Grade:
        """How the worker is ranked now."""
        if self.silent:
            return Grade.SILENT
        if self.reports.value(now, self.half_life) > _REMEMBERED:
            return Grade.UNREACHABLE
        return Grade.BLAMED if self.recent_faults(now) >= self.blamed_at else Grade.TRUSTED

    def changes_at(self, now: float) -> float:
        """When the grade improves by itself; ``inf`` if it does not."""
        grade = self.grade(now)
        if grade is Grade.UNREACHABLE:
            return self.reports.falls_below(_REMEMBERED * (1 - _HAIR), self.half_life)
        if grade is Grade.BLAMED:
            return self.faults.falls_below(self.blamed_at * (1 - _HAIR), self.half_life)
        return inf
