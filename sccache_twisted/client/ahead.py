"""Slots asked for before their jobs are ready for them: a few, each owned by whoever prepares its job.

Allocation takes a round trip to the scheduler and another from there to the worker, and needs nothing of a job but its
toolchain. So it runs while the preprocessor does, and a job that is prepared finds its slot waiting. The scheduler
gives ahead only what nobody who is ready waits for, and may take it back until the job has come to its worker: then
the job asks as any other. Knows requests and their ends; refuses to know what a job is prepared of.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.errors import NoWorkers, SchedulerUnavailable, StillQueued, TooManyRequests
from sccache_twisted.interfaces import IReservation, ISchedulerForClients
from sccache_twisted.logs import events
from sccache_twisted.model import Allocation, AllocationRequest, ServerId, Try

if TYPE_CHECKING:
    from sccache_twisted.client.dispatcher import Dispatcher

_NOTHING_LEFT = (NoWorkers, SchedulerUnavailable, StillQueued, TooManyRequests)
"""Answers after which the scheduler does not know the attempt any more."""


class _Stage(Enum):
    ASKED = "asked"
    HELD = "held"
    OVER = "over"


@frozen
class Used:
    """What a job makes of its reservation: the attempt to go on with, and its slot if there is one.

    ``answer``: where none is there yet, it fires if one comes. ``age``: for how many seconds it has been asked for.
    ``known``: the scheduler knows the attempt as one that was asked for ahead.
    """

    attempt: Try
    known: bool = False
    allocation: Allocation | None = None
    answer: Deferred[Allocation] | None = None
    age: float = 0.0


@implementer(IReservation)
class Reservation:
    """One slot, from asking for it until its job uses it, or it is given back or over."""

    def __init__(self, owner: Reservations, request: AllocationRequest, began: float) -> None:
        self.request = request
        self._owner = owner
        self._began = began
        self._stage = _Stage.ASKED
        self._next = request.attempt
        self._answer: Deferred[Allocation] = Deferred()
        self.allocation: Allocation | None = None

    def fits(self, toolchain: str, arch: str) -> bool:
        """Whether this is what a job turned out to need."""
        return (self.request.toolchain, self.request.arch) == (toolchain, arch)

    def use(self) -> Used:
        """The job is ready; from now on it is the job that gives up what it has."""
        stage, self._stage = self._stage, _Stage.OVER
        self._owner.forget(self)
        if stage is _Stage.OVER:
            return Used(self._next)
        age = self._owner.now() - self._began
        answer = self._answer if stage is _Stage.ASKED else None
        return Used(self.request.attempt, True, self.allocation, answer, age)

    def release(self, reason: str) -> None:
        """See IReservation."""
        if self._stage is not _Stage.OVER:
            self.end(reason)
            self._owner.cancel(self)

    def end(self, reason: str) -> None:
        """There is no slot any more, nor will there be one under this attempt."""
        self._over(known=True)
        server_id = self.allocation.server_id if self.allocation is not None else None
        self._owner.log(events.LEASE_GIVEN_BACK, attempt=self.request.attempt, server_id=server_id, reason=reason)

    def taken_back(self) -> None:
        """The scheduler has another use for the slot."""
        server_id = self.allocation.server_id if self.allocation is not None else None
        self._over(known=True)
        why = "the scheduler has another use for it"
        self._owner.log(events.LEASE_TAKEN_BACK, attempt=self.request.attempt, server_id=server_id, reason=why)

    def _over(self, *, known: bool) -> None:
        self._stage = _Stage.OVER
        attempt = self.request.attempt
        self._next = Try(attempt.job_id, attempt.attempt + 1) if known else attempt
        self._owner.forget(self)

    def answered(self, outcome: Allocation | Failure) -> None:
        """What the scheduler says to an ask ahead. A job that is ready already hears of a slot, and of nothing else."""
        if isinstance(outcome, Failure):
            if self._stage is _Stage.ASKED:
                self._over(known=not outcome.check(*_NOTHING_LEFT))
            return
        if self._stage is _Stage.ASKED:
            self._stage = _Stage.HELD
            self.allocation = outcome
            seconds = self._owner.now() - self._began
            attempt, server_id = self.request.attempt, outcome.server_id
            self._owner.log(events.WORKER_ACCEPTED, attempt=attempt, server_id=server_id, seconds=seconds)
        self._answer.callback(outcome)


class Reservations:
    """The slots that a client asks for or holds ahead, ``most`` at once."""

    def __init__(self, dispatcher: Dispatcher, most: int) -> None:
        self._dispatcher = dispatcher
        self._most = most
        self._open: dict[Try, Reservation] = {}

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, request: AllocationRequest) -> Reservation | None:
        """Ask for a slot ahead, if that may be of use: None where enough are asked for, or no scheduler is at hand."""
        if len(self._open) >= self._most:
            return None
        at_hand: list[ISchedulerForClients] = []
        link = self._dispatcher.link.scheduler()
        link.addCallbacks(at_hand.append, lambda _: None)
        if not at_hand:
            link.cancel()
            return None
        request = evolve(request, ahead=True)
        reservation = Reservation(self, request, self.now())
        self._open[request.attempt] = reservation
        self.log(events.LEASE_AHEAD, attempt=request.attempt, label=request.label)
        asked: Deferred[Allocation] = at_hand[0].allocate(request)
        asked.addTimeout(self._dispatcher.allocate_seconds, self._dispatcher.clock)
        asked.addBoth(reservation.answered)
        return reservation

    def lease_taken_back(self, attempt: Try) -> None:
        """See IClientPeer. A job that uses its slot already hears from the worker whether it came in time."""
        reservation = self._open.get(attempt)
        if reservation is not None:
            reservation.taken_back()

    def worker_lost(self, server_id: ServerId) -> None:
        """See IClientPeer: what was held there is lost with it."""
        for reservation in tuple(self._open.values()):
            if reservation.allocation is not None and reservation.allocation.server_id == server_id:
                reservation.end("its worker is lost")

    def release_all(self) -> None:
        """Give back everything."""
        for reservation in tuple(self._open.values()):
            reservation.release("this client stops")

    # --- for the reservations themselves ---

    def now(self) -> float:
        """The time."""
        return self._dispatcher.clock.seconds()

    def forget(self, reservation: Reservation) -> None:
        """One less is open."""
        self._open.pop(reservation.request.attempt, None)

    def cancel(self, reservation: Reservation) -> None:
        """Tell the scheduler that an attempt is not wanted."""
        attempt = reservation.request.attempt
        self._dispatcher.tell("a slot given back", lambda scheduler: scheduler.cancel(attempt))

    @property
    def log(self) -> Callable[..., None]:
        """Where it is said what became of one."""
        return self._dispatcher.log.emit


def first_of(answer: Deferred[Allocation], asked: Deferred[Allocation]) -> Deferred[Allocation]:
    """The slot that comes first: of an ask ahead, or of the later one of its job that is ready; or how that one failed.

    Cancelling ends the latter.
    """
    found: Deferred[Allocation] = Deferred(lambda _: asked.cancel())

    def fire(outcome: Allocation | Failure) -> None:
        if found.called:
            return
        if isinstance(outcome, Failure):
            found.errback(outcome)
        else:
            found.callback(outcome)

    answer.addCallback(fire)
    asked.addBoth(fire)
    return found
