"""When nobody has called for a moment: the time for what would only be in the way before.

Knows one timer, which a busy daemon does not touch for each call. Refuses to know what is done then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

REST_SECONDS = 2.0


class Rest:
    """Calls ``then`` once after calls have come and none has for ``REST_SECONDS``. ``stop`` forgets that."""

    def __init__(self, reactor: Any, then: Callable[[], None]) -> None:
        self._reactor = reactor
        self._then = then
        self._last = 0.0
        self._timer: IDelayedCall | None = None

    def called(self) -> None:
        """Somebody has called, or was served."""
        self._last = self._reactor.seconds()
        if self._timer is None:
            self._timer = self._reactor.callLater(REST_SECONDS, self._look)

    def stop(self) -> None:
        """Nothing is to be done any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        left = self._last + REST_SECONDS - self._reactor.seconds()
        if left > 0:
            self._timer = self._reactor.callLater(left, self._look)
            return
        self._timer = None
        self._then()
