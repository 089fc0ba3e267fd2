"""Which worker a job is offered to: the living workers of one architecture, kept sorted by rank.

The rank, the most important first: not avoided, not suspect, has the toolchain, not short of memory, lowest load per
slot, fewest recent faults. A worker is asked only while the books show a free slot and enough free memory, and while it
is not silent: heartbeats come every second, so there is nothing to gain by asking. Whom the job avoids is a **last
resort**: not asked while any other worker lives and speaks, even if all of those are full, because a job that waits is
better off than one that fails again.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from attrs import frozen

from sccache_twisted.model import Digest, ServerId
from sccache_twisted.policy.ladder import Ladder
from sccache_twisted.policy.standing import Grade

UNLIMITED = 1 << 62
"""The memory of a worker that does not tell how much it has, in bytes."""

_STEPS = 8
_MOST_TOOLCHAINS = 64


@frozen
class Seat:
    """What placement knows of a living worker.

    ``booked`` and ``booked_bytes``: slots and expected memory of the jobs on it; ``other_load``: load that is not our
    jobs'; ``blame``: what ``Decaying.order`` says of its faults; ``short``: its memory is under pressure;
    ``ready``: nothing else speaks against asking it now.
    """

    server_id: ServerId
    slots: int
    memory_bytes: int
    booked: int = 0
    booked_bytes: int = 0
    grade: Grade = Grade.TRUSTED
    blame: float = float("-inf")
    other_load: float = 0.0
    short: bool = False
    ready: bool = True

    @property
    def open(self) -> bool:
        """Whether it can be asked for a slot."""
        return self.ready and self.booked < self.slots and self.grade is not Grade.SILENT

    @property
    def key(self) -> tuple[int, bool, int, float, float]:
        """Its rank as far as it is the same for every job. Load counts in steps, so that faults can tell."""
        load = (self.booked + self.other_load) / self.slots
        return (int(self.grade), self.short, int(_STEPS * load), self.blame, load)

    def fits(self, need: int) -> bool:
        """Whether the books leave this much memory."""
        return self.booked_bytes + need <= self.memory_bytes


@frozen
class Wish:
    """What a job looks for; ``expected_bytes`` of memory."""

    toolchain: Digest
    expected_bytes: int = 0
    avoid: frozenset[ServerId] = frozenset()


class Pool:
    """The living workers of one architecture. Every change costs a few bisections, every choice a short walk."""

    def __init__(self) -> None:
        self.seats: dict[ServerId, Seat] = {}
        self._toolchains: dict[ServerId, AbstractSet[Digest]] = {}
        self._open: Ladder[ServerId] = Ladder()
        self._open_with: dict[Digest, Ladder[ServerId]] = {}
        self._by_memory: Ladder[ServerId] = Ladder()
        self._sound_by_memory: Ladder[ServerId] = Ladder()

    def put(self, seat: Seat, toolchains: AbstractSet[Digest]) -> None:
        """Place a worker, or place it anew. ``toolchains`` is kept by reference: put again when it has changed."""
        name = seat.server_id
        held = self.seats.get(name)
        self.seats[name] = seat
        self._toolchains[name] = toolchains
        if held is None or held.memory_bytes != seat.memory_bytes or held.grade != seat.grade:
            self._by_memory.put(name, (-seat.memory_bytes,))
            if seat.grade is Grade.SILENT:
                self._sound_by_memory.drop(name)
            else:
                self._sound_by_memory.put(name, (-seat.memory_bytes,))
        key = seat.key
        _place(self._open, seat, key, wanted=True)
        for toolchain, ladder in self._open_with.items():
            _place(ladder, seat, key, wanted=toolchain in toolchains)

    def drop(self, server_id: ServerId) -> None:
        """Take a worker out, if it is in."""
        if self.seats.pop(server_id, None) is None:
            return
        del self._toolchains[server_id]
        for ladder in (self._open, self._by_memory, self._sound_by_memory, *self._open_with.values()):
            ladder.drop(server_id)

    def has_open(self) -> bool:
        """Whether any worker can be asked, by slots."""
        return len(self._open) > 0

    def open_workers(self) -> list[ServerId]:
        """Who can be asked, the best first."""
        return list(self._open)

    def has_other(self, avoid: frozenset[ServerId]) -> bool:
        """Whether somebody lives who is neither silent nor in ``avoid``."""
        return _first_outside(self._sound_by_memory, avoid) is not None

    def need(self, wish: Wish) -> int:
        """The memory to set aside: what is expected, at most all that the largest worker for this job has."""
        largest = _first_outside(self._sound_by_memory, wish.avoid) or _first_outside(self._by_memory, frozenset())
        return wish.expected_bytes if largest is None else min(wish.expected_bytes, self.seats[largest].memory_bytes)

    def choose(self, wish: Wish) -> ServerId | None:
        """Whom to ask for this job, or None: everybody is full or rests after a refusal."""
        need = self.need(wish)
        if not self.has_other(wish.avoid):
            return self._last_resort(wish, need)
        bare = self._first(self._open, wish, need)
        if bare is None:
            return None
        equipped = self._first(self._ladder_of(wish.toolchain), wish, need)
        if equipped is None or self.seats[equipped].grade > self.seats[bare].grade:
            return bare
        return equipped

    def admits(self, server_id: ServerId, wish: Wish) -> bool:
        """Whether this worker may be asked for this job."""
        seat = self.seats.get(server_id)
        if seat is None or not seat.open or not seat.fits(self.need(wish)):
            return False
        return server_id not in wish.avoid or not self.has_other(wish.avoid)

    def would_admit(self, server_id: ServerId, wish: Wish, freed_bytes: int) -> bool:
        """Whether this worker might be asked for this job if one of its jobs, of so many bytes, were gone."""
        seat = self.seats.get(server_id)
        if seat is None or not seat.ready or seat.grade is Grade.SILENT:
            return False
        if seat.booked_bytes - freed_bytes + self.need(wish) > seat.memory_bytes:
            return False
        return server_id not in wish.avoid or not self.has_other(wish.avoid)

    def roomiest(self, wish: Wish) -> ServerId | None:
        """Who is to be kept free for a job that fits nowhere yet: whoever has most memory to spare, then most slots."""
        need = self.need(wish)
        several = self.has_other(wish.avoid)
        able = [
            seat
            for seat in self.seats.values()
            if seat.memory_bytes >= need and seat.ready and not (several and seat.server_id in wish.avoid)
        ]
        best = max(
            able,
            key=lambda seat: (-seat.grade, seat.memory_bytes - seat.booked_bytes, seat.slots - seat.booked),
            default=None,
        )
        return None if best is None else best.server_id

    def _first(self, ladder: Iterable[ServerId], wish: Wish, need: int) -> ServerId | None:
        for server_id in ladder:
            if self.seats[server_id].fits(need) and server_id not in wish.avoid:
                return server_id
        return None

    def _last_resort(self, wish: Wish, need: int) -> ServerId | None:
        able = [name for name in self._open if self.seats[name].fits(need)]
        return min(able, key=lambda name: self.rank(name, wish), default=None)

    def rank(self, server_id: ServerId, wish: Wish) -> tuple[object, ...]:
        """The whole rank of a worker for a job; the smallest is the best."""
        grade, *rest = self.seats[server_id].key
        return (server_id in wish.avoid, grade, wish.toolchain not in self._toolchains[server_id], *rest, server_id)

    def _ladder_of(self, toolchain: Digest) -> Ladder[ServerId]:
        ladder = self._open_with.pop(toolchain, None)
        if ladder is None:
            ladder = Ladder()
            for name in self._open:
                if toolchain in self._toolchains[name]:
                    ladder.put(name, self._open.key(name))
            if len(self._open_with) >= _MOST_TOOLCHAINS:
                del self._open_with[next(iter(self._open_with))]
        self._open_with[toolchain] = ladder  # the last in the dict is the last that was asked for
        return ladder


def _place(ladder: Ladder[ServerId], seat: Seat, key: tuple[object, ...], *, wanted: bool) -> None:
    if wanted and seat.open:
        ladder.put(seat.server_id, key)
    else:
        ladder.drop(seat.server_id)


def _first_outside(ladder: Iterable[ServerId], avoid: frozenset[ServerId]) -> ServerId | None:
    return next((name for name in ladder if name not in avoid), None)
