"""An attempt in the scheduler's table: its states are types, and what has ended is not in the table any more."""

from __future__ import annotations

from attrs import define, field, frozen

from sccache_twisted.model import Allocation, AllocationRequest, ClientId, ServerId, Try
from sccache_twisted.policy.fairness import Waiting
from sccache_twisted.policy.placement import Wish
from sccache_twisted.scheduler.effects import AskId, JobKey, LinkId

NOBODY = ClientId("")
"""The client of a job that a worker brought back after a restart of the scheduler."""


@frozen
class Queued:
    """Waits for a slot."""

    place: Waiting[JobKey]


@frozen
class Asking:
    """A worker was asked at ``since`` and has not answered."""

    server_id: ServerId
    nonce: int
    since: float


@frozen
class Leased:
    """A worker accepted; its client has not yet come to claim the slot. The books forget it at ``until``.

    ``links`` are those over which it was told, as far as they are still there.
    """

    server_id: ServerId
    allocation: Allocation
    until: float
    links: frozenset[LinkId] = frozenset()


@frozen
class Running:
    """Its client has come, or it was found running when its worker registered: then there is no allocation.

    ``links`` as in :class:`Leased`: its worker may send it back for something to be sent first.
    """

    server_id: ServerId
    allocation: Allocation | None
    links: frozenset[LinkId] = frozenset()


@frozen
class TakenBack:
    """Its slot was held ahead and somebody else waits for it: its worker is asked to free it, unless it was claimed.

    The books free it at ``until``. ``links`` and ``allocation`` as in :class:`Leased`: it may turn out to be running.
    """

    server_id: ServerId
    allocation: Allocation
    until: float
    links: frozenset[LinkId] = frozenset()


@frozen
class Ending:
    """Its client is done with it, its worker has not yet freed the slot. The books free it at ``until``."""

    server_id: ServerId
    until: float


JobState = Queued | Asking | Leased | Running | TakenBack | Ending
Placed = Asking | Leased | Running | TakenBack | Ending


@frozen
class Ask:
    """Somebody who waits for an answer. ``due``: when the answer is StillQueued at the latest."""

    ask: AskId
    link: LinkId
    due: float


@define(eq=False)
class Job:
    """One attempt. ``since``: when its client began to ask; ``serial`` sorts those of one moment.

    ``ahead``: it is still being prepared, as far as is known here. Only the table changes that.
    """

    key: JobKey
    request: AllocationRequest
    wish: Wish
    since: float
    serial: int
    state: JobState | None = None
    asks: list[Ask] = field(factory=list)
    reserved: ServerId | None = None
    ahead: bool = False

    @property
    def attempt(self) -> Try:
        """The attempt, as the wire names it."""
        return self.request.attempt

    @property
    def at(self) -> ServerId | None:
        """The worker in whose books it stands."""
        return self.state.server_id if isinstance(self.state, Placed) else None
