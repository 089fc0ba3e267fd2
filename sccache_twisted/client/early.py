"""When a compilation that is being prepared asks for its slot ahead, and who gives back what it did not need.

As soon as no stored result answers by command and source alone, and something is being done for it: its inputs are
predicted, or a preprocessor runs. Those that wait for a preprocessor are not next, and ask nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from sccache_twisted.client.preparing import Case, Preparer
from sccache_twisted.interfaces import IDispatcher, IReservation
from sccache_twisted.model import Digest


class EarlyAsk:
    """One compilation's slot, from asking for it until it is dispatched or :meth:`end`.

    ``dispatcher`` is None where nothing is distributed; ``in_thread`` runs what blocks.
    """

    def __init__(
        self, case: Case, dispatcher: IDispatcher | None, preparer: Preparer, in_thread: Callable[..., Any]
    ) -> None:
        self._case = case
        self._dispatcher = dispatcher if case.local is None else None
        self._preparer = preparer
        self._in_thread = in_thread
        self._reservation: IReservation | None = None
        self._looking: Deferred[None] | None = None

    def begin(self) -> None:
        """Preparing has begun. Asking twice is asking once, unless the first slot was used."""
        if self._dispatcher is None or self._reservation is not None or self._looking is not None:
            return
        if self._case.lookup is not None:
            self._reserve(Digest(self._case.lookup.sighted.facts.toolchain))
        else:
            self._looking = Deferred.fromCoroutine(self._look())

    async def _look(self) -> None:
        """Nobody has looked at the compiler yet: that takes a moment, and a second when it was never packaged."""
        digest = await self._in_thread(self._preparer.toolchain, self._case)
        self._looking = None
        if digest is not None:
            self._reserve(digest)

    def _reserve(self, toolchain: Digest) -> None:
        if self._dispatcher is not None:
            arch = self._case.compilation.compiler.arch
            self._reservation = self._dispatcher.reserve(toolchain, arch, label_of(self._case))

    def take(self) -> IReservation | None:
        """The slot, for the job; who takes it sees to its end."""
        self._stop_looking()
        reservation, self._reservation = self._reservation, None
        return reservation

    def end(self) -> None:
        """The compilation is decided: what it did not use is given back."""
        self._stop_looking()
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.release("nothing of the job needs a worker")

    def _stop_looking(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.addErrback(_cancelled)
            looking.cancel()


def label_of(case: Case) -> str:
    """What stands for a compilation in logs, and for what it is expected to need: its source's path."""
    source = case.compilation.source
    path = source if source.startswith(b"/") else case.cwd.rstrip(b"/") + b"/" + source
    return path.decode("utf-8", "backslashreplace")


def _cancelled(failure: Any) -> None:
    # What the thread finds out meanwhile is of no use to anybody.
    failure.trap(CancelledError)
