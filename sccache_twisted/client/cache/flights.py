"""One compilation at a time for one key: who comes second waits for the first one's result.

Knows keys and turns. Refuses to know what is done in a turn.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from enum import Enum

from twisted.internet.defer import Deferred, succeed

_REMEMBERED = 1024


class Turn(Enum):
    """What becomes of somebody who asks for a turn."""

    OWNER = "it is yours: end it"
    LOOK_AGAIN = "somebody has stored a result meanwhile"
    ALONE = "somebody had a result that could not be stored: go on without a turn"


class Outcome(Enum):
    """How a turn ended."""

    STORED = "there is a result to be found"
    NOT_STORED = "there is none, and the next would have none either"
    CANCELLED = "its owner has gone"


class Flights:
    """The turns of one daemon."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Deferred[Turn]]] = {}
        self._stored: OrderedDict[str, int] = OrderedDict()
        self.landed = 0
        """How many turns have ended with a result; what :meth:`landed_since` counts from."""

    def join(self, key: str) -> Deferred[Turn]:
        """Wait for a turn. Cancelling leaves the queue."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            return succeed(Turn.OWNER)
        waiter: Deferred[Turn] = Deferred(waiting.remove)
        waiting.append(waiter)
        return waiter

    def landed_since(self, key: str, count: int) -> bool:
        """Whether a turn for this key has ended with a result after ``landed`` was ``count``."""
        return self._stored.get(key, 0) > count

    def end(self, key: str, outcome: Outcome) -> None:
        """The owner's turn is over: hand it over when cancelled, else tell all who wait."""
        waiting = self._waiting[key]
        if outcome is Outcome.CANCELLED and waiting:
            waiting.popleft().callback(Turn.OWNER)
            return
        del self._waiting[key]
        if outcome is Outcome.STORED:
            self.landed += 1
            self._stored[key] = self.landed
            self._stored.move_to_end(key)
            if len(self._stored) > _REMEMBERED:
                self._stored.popitem(last=False)
        turn = Turn.LOOK_AGAIN if outcome is Outcome.STORED else Turn.ALONE
        # Whoever is told may cancel others that wait, so each is taken out before it is told.
        while waiting:
            waiting.popleft().callback(turn)
