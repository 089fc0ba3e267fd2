"""A worker's slots as leases: facts come in, effects go out.

The worker is the authority over its own slots. A lease's life: :class:`Leased` until a client claims it with its
token, :class:`Uploading` while that client sends the toolchain, :class:`Awaiting` while its job waits for another's
upload, :class:`Running`, then :class:`Ending` until nothing of its process tree is left; only then the slot is
free. Nothing here waits, reads a clock or knows Twisted: ``now`` is seconds of any steady clock.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator

from attrs import evolve, frozen

from sccache_twisted.errors import AttemptRunning, UnknownAttempt, WorkerDraining, WorkerFull
from sccache_twisted.interfaces import AssignOrder, JobPhase
from sccache_twisted.model import Try

Connection = int
"""Names one client request that holds or wants an attempt; never used twice."""


@frozen
class Leased:
    """Waits for its client until ``expires``."""

    order: AssignOrder
    slot: int
    expires: float


@frozen
class Uploading:
    """Its client sends the toolchain; no clock runs."""

    order: AssignOrder
    slot: int


@frozen
class Awaiting:
    """Its job is here and waits for another's upload."""

    order: AssignOrder
    slot: int
    connection: Connection


@frozen
class Running:
    """Its job runs for the client on ``connection``."""

    order: AssignOrder
    slot: int
    connection: Connection


@frozen
class Ending:
    """Its job was killed and something of it may still live; ``successor`` runs it again when nothing does."""

    order: AssignOrder
    slot: int
    successor: Connection | None = None


Lease = Leased | Uploading | Awaiting | Running | Ending


@frozen
class Pin:
    """Keep the order's toolchain from now on."""

    order: AssignOrder


@frozen
class Unpin:
    """The order is over."""

    order: AssignOrder


@frozen
class Tell:
    """Tell the schedulers how far the attempt is."""

    attempt: Try
    phase: JobPhase


@frozen
class Run:
    """Start the attempt's job in this slot for this connection."""

    attempt: Try
    slot: int
    connection: Connection


@frozen
class Kill:
    """Kill what runs for the attempt; its end is to be told by :meth:`Slots.run_ended`."""

    attempt: Try


@frozen
class HangUp:
    """Close a waiting connection: its attempt is over."""

    connection: Connection


Effect = Pin | Unpin | Tell | Run | Kill | HangUp

_PHASES: dict[type, JobPhase] = {
    Leased: JobPhase.LEASED,
    Uploading: JobPhase.UPLOADING,
    Awaiting: JobPhase.UPLOADING,
    Running: JobPhase.RUNNING,
    Ending: JobPhase.RUNNING,
}


class Slots:
    """The leases of one worker. Every method that returns effects wants them performed in order."""

    def __init__(self, count: int, claim_seconds: float) -> None:
        self.count = count
        self.draining = False
        self._claim_seconds = claim_seconds
        self._leases: dict[Try, Lease] = {}
        self._free = list(range(count - 1, -1, -1))

    # --- what is asked ----------------------------------------------------------------------------

    @property
    def taken(self) -> int:
        """How many slots are leased, in whatever state."""
        return len(self._leases)

    @property
    def running(self) -> int:
        """How many jobs run or are being killed."""
        return sum(isinstance(lease, Running | Ending) for lease in self._leases.values())

    def lease(self, attempt: Try) -> Lease | None:
        """The lease of an attempt."""
        return self._leases.get(attempt)

    def phases(self) -> tuple[tuple[Try, JobPhase], ...]:
        """Every attempt in hand, as Register tells them."""
        return tuple((attempt, _PHASES[type(lease)]) for attempt, lease in self._leases.items())

    def next_expiry(self) -> float | None:
        """When :meth:`time_passed` should be called next, if ever."""
        return min((lease.expires for lease in self._leases.values() if isinstance(lease, Leased)), default=None)

    def admit(self, attempt: Try, token: str) -> Lease:
        """The lease that a token opens; raises UnknownAttempt for an unknown attempt or another job's token."""
        lease = self._leases.get(attempt)
        expected = lease.order.token if lease is not None else ""
        # Compared in constant time, also when there is nothing to compare with.
        same = hmac.compare_digest(expected.encode(), token.encode("utf-8", "surrogateescape"))
        if lease is None or not same:
            raise UnknownAttempt
        return lease

    # --- what happened ----------------------------------------------------------------------------

    def assigned(self, now: float, order: AssignOrder) -> list[Effect]:
        """A scheduler wants a slot; raises WorkerFull or WorkerDraining."""
        held = self._leases.get(order.attempt)
        if held is not None:
            return self._assigned_again(now, held, order)
        if self.draining:
            raise WorkerDraining
        if not self._free:
            raise WorkerFull
        self._leases[order.attempt] = Leased(order, self._free.pop(), now + self._claim_seconds)
        return [Pin(order)]

    def _assigned_again(self, now: float, held: Lease, order: AssignOrder) -> list[Effect]:
        # A scheduler that was restarted may ask again for an attempt that another gave us: the newer token holds,
        # unless a client has come with the older one.
        if isinstance(held, Leased):
            self._leases[order.attempt] = Leased(order, held.slot, now + self._claim_seconds)
            return [Pin(order), Unpin(held.order)]
        if hmac.compare_digest(held.order.token, order.token):
            return []
        raise WorkerFull

    def upload_started(self, attempt: Try) -> list[Effect]:
        """The attempt's client sends the toolchain, or was given the turn to."""
        return self._renew(attempt, None, JobPhase.UPLOADING)

    def renewed(self, now: float, attempt: Try) -> list[Effect]:
        """The client was heard from, or its upload is over, however it went: the job is expected now."""
        return self._renew(attempt, now, JobPhase.LEASED)

    def _renew(self, attempt: Try, now: float | None, phase: JobPhase) -> list[Effect]:
        lease = self._leases.get(attempt)
        if not isinstance(lease, Leased | Uploading):
            return []
        if now is None:
            changed: Lease = Uploading(lease.order, lease.slot)
        else:
            changed = Leased(lease.order, lease.slot, now + self._claim_seconds)
        self._leases[attempt] = changed
        return [] if type(changed) is type(lease) else [Tell(attempt, phase)]

    def claimed(self, attempt: Try, token: str, connection: Connection, *, toolchain: bool) -> list[Effect]:
        """A client has sent the job; raises UnknownAttempt or AttemptRunning.

        Without its ``toolchain`` it waits for :meth:`toolchain_came`.
        """
        lease = self.admit(attempt, token)
        match lease:
            case Leased() | Uploading():
                if toolchain:
                    return self._run(lease, connection)
                self._leases[attempt] = Awaiting(lease.order, lease.slot, connection)
                return [Tell(attempt, JobPhase.UPLOADING)]
            case Ending(successor=None):
                self._leases[attempt] = evolve(lease, successor=connection)
                return []
            case _:
                raise AttemptRunning

    def _run(self, lease: Leased | Uploading | Awaiting | Ending, connection: Connection) -> list[Effect]:
        attempt = lease.order.attempt
        self._leases[attempt] = Running(lease.order, lease.slot, connection)
        return [Tell(attempt, JobPhase.RUNNING), Run(attempt, lease.slot, connection)]

    def toolchain_came(self, attempt: Try) -> list[Effect]:
        """What the attempt's job waited for is there."""
        lease = self._leases.get(attempt)
        return self._run(lease, lease.connection) if isinstance(lease, Awaiting) else []

    def sent_back(self, now: float, attempt: Try) -> list[Effect]:
        """The job was answered with what its client must send first; the lease waits for it to come again."""
        lease = self._leases.get(attempt)
        match lease:
            case Awaiting() | Running():
                self._leases[attempt] = Leased(lease.order, lease.slot, now + self._claim_seconds)
                return [Tell(attempt, JobPhase.LEASED)]
            case Ending():
                return self.run_ended(attempt)
            case _:
                return []

    def run_ended(self, attempt: Try) -> list[Effect]:
        """Nothing of the attempt's job is left: delivered, failed, or killed."""
        lease = self._leases.get(attempt)
        if isinstance(lease, Ending) and lease.successor is not None:
            return self._run(lease, lease.successor)
        return self._free_slot(lease) if isinstance(lease, Running | Ending) else []

    def hung_up(self, connection: Connection) -> list[Effect]:
        """A client's request is gone: its job is killed, its slot freed."""
        for attempt, lease in self._leases.items():
            match lease:
                case Awaiting(connection=held) if held == connection:
                    return self._free_slot(lease)
                case Running(connection=held) if held == connection:
                    self._leases[attempt] = Ending(lease.order, lease.slot)
                    return [Kill(attempt)]
                case Ending(successor=held) if held == connection:
                    self._leases[attempt] = evolve(lease, successor=None)
                    return []
        return []

    def cancelled(self, attempt: Try) -> list[Effect]:
        """A scheduler takes the attempt back."""
        lease = self._leases.get(attempt)
        match lease:
            case None:
                return []
            case Running():
                self._leases[attempt] = Ending(lease.order, lease.slot)
                return [Kill(attempt)]
            case Ending():
                self._leases[attempt] = evolve(lease, successor=None)
                return [HangUp(lease.successor)] if lease.successor is not None else []
            case Awaiting():
                return [*self._free_slot(lease), HangUp(lease.connection)]
            case _:
                return self._free_slot(lease)

    def taken_back(self, attempt: Try) -> list[Effect]:
        """A scheduler has a better use for the slot, unless the attempt's client has come for it."""
        lease = self._leases.get(attempt)
        return self._free_slot(lease) if isinstance(lease, Leased) else []

    def time_passed(self, now: float) -> list[Effect]:
        """Free every lease that nobody claimed in time."""
        return list(self._expire(now))

    def _expire(self, now: float) -> Iterator[Effect]:
        for lease in list(self._leases.values()):
            if isinstance(lease, Leased) and lease.expires <= now:
                yield from self._free_slot(lease)

    def drain(self) -> None:
        """Take no new jobs from now on."""
        self.draining = True

    def _free_slot(self, lease: Lease) -> list[Effect]:
        attempt = lease.order.attempt
        del self._leases[attempt]
        self._free.append(lease.slot)
        return [Unpin(lease.order), Tell(attempt, JobPhase.ENDED)]
