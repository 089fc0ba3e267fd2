"""Leases as values: facts in, effects out."""

from contextlib import suppress

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sccache_twisted.errors import AttemptRunning, UnknownAttempt, WorkerDraining, WorkerFull
from sccache_twisted.interfaces import AssignOrder, JobPhase
from sccache_twisted.model import Digest, JobId, Try
from sccache_twisted.worker.slots import (
    Awaiting,
    Ending,
    HangUp,
    Kill,
    Leased,
    Pin,
    Run,
    Running,
    Slots,
    Tell,
    Unpin,
    Uploading,
)

TOOLCHAIN = Digest("0" * 64)


def order(number, name="token"):
    return AssignOrder(Try(JobId(f"job-{number}"), 1), f"{name}-{number}", TOOLCHAIN, 0)


def test_a_lease_is_claimed_run_and_freed():
    """A lease pins its toolchain, runs for its client, and frees its slot when its job has ended."""
    slots = Slots(1, 15)
    one = order(1)
    assert slots.assigned(0, one) == [Pin(one)]
    claimed = slots.claimed(one.attempt, one.token, 7, toolchain=True)
    assert claimed == [Tell(one.attempt, JobPhase.RUNNING), Run(one.attempt, 0, 7)]
    assert slots.phases() == ((one.attempt, JobPhase.RUNNING),)
    assert slots.run_ended(one.attempt) == [Unpin(one), Tell(one.attempt, JobPhase.ENDED)]
    assert slots.taken == 0


def test_full_and_draining_are_refusals():
    """A worker without a free slot, or about to leave, refuses."""
    slots = Slots(1, 15)
    slots.assigned(0, order(1))
    with pytest.raises(WorkerFull):
        slots.assigned(0, order(2))
    slots.drain()
    with pytest.raises(WorkerDraining):
        slots.assigned(0, order(3))


def test_a_repeated_order_is_one_lease():
    """An order that comes twice holds one slot; a newer token replaces an unclaimed one, never a claimed one."""
    slots = Slots(2, 15)
    first, newer = order(1), order(1, "newer")
    slots.assigned(0, first)
    assert slots.assigned(5, newer) == [Pin(newer), Unpin(first)]
    assert slots.taken == 1
    with pytest.raises(UnknownAttempt):
        slots.claimed(first.attempt, first.token, 1, toolchain=True)
    slots.claimed(newer.attempt, newer.token, 1, toolchain=True)
    assert slots.assigned(6, newer) == []
    with pytest.raises(WorkerFull):
        slots.assigned(6, first)


def test_an_unclaimed_lease_ends_and_an_upload_renews_it():
    """A lease that nobody claims ends after claim_seconds; an upload stops the clock, its end starts it anew."""
    slots = Slots(1, 15)
    one = order(1)
    slots.assigned(0, one)
    assert slots.next_expiry() == 15
    assert slots.time_passed(14.9) == []
    assert slots.upload_started(one.attempt) == [Tell(one.attempt, JobPhase.UPLOADING)]
    assert isinstance(slots.lease(one.attempt), Uploading)
    assert slots.time_passed(1000) == []
    slots.renewed(1000, one.attempt)
    assert slots.time_passed(1014) == []
    assert slots.time_passed(1015) == [Unpin(one), Tell(one.attempt, JobPhase.ENDED)]


def test_tokens():
    """Another job's token opens nothing, nor does any token an attempt that is unknown."""
    slots = Slots(2, 15)
    slots.assigned(0, order(1))
    slots.assigned(0, order(2))
    for attempt, token in ((order(1).attempt, order(2).token), (order(3).attempt, ""), (order(1).attempt, "\udcff")):
        with pytest.raises(UnknownAttempt):
            slots.claimed(attempt, token, 1, toolchain=True)


def test_a_second_claim_waits_only_for_a_dead_first():
    """A second request for a running attempt is refused, unless the first client is gone: then it is killed first."""
    slots = Slots(1, 15)
    one = order(1)
    slots.assigned(0, one)
    slots.claimed(one.attempt, one.token, 1, toolchain=True)
    with pytest.raises(AttemptRunning):
        slots.claimed(one.attempt, one.token, 2, toolchain=True)
    assert slots.hung_up(1) == [Kill(one.attempt)]
    assert slots.claimed(one.attempt, one.token, 2, toolchain=True) == []
    with pytest.raises(AttemptRunning):
        slots.claimed(one.attempt, one.token, 3, toolchain=True)
    assert slots.run_ended(one.attempt) == [Tell(one.attempt, JobPhase.RUNNING), Run(one.attempt, 0, 2)]


def test_a_hung_up_job_frees_its_slot_when_it_is_dead():
    """The slot of a killed job is free when nothing of it is left, and not before."""
    slots = Slots(1, 15)
    one = order(1)
    slots.assigned(0, one)
    slots.claimed(one.attempt, one.token, 1, toolchain=True)
    slots.hung_up(1)
    with pytest.raises(WorkerFull):
        slots.assigned(0, order(2))
    slots.run_ended(one.attempt)
    assert slots.assigned(0, order(2)) == [Pin(order(2))]


def test_a_waiting_job_runs_when_its_toolchain_comes():
    """A job without its toolchain waits; it runs when the toolchain comes, and is sent back when it does not."""
    slots = Slots(2, 15)
    for number in (1, 2):
        slots.assigned(0, order(number))
        slots.claimed(order(number).attempt, order(number).token, number, toolchain=False)
    assert isinstance(slots.lease(order(1).attempt), Awaiting)
    assert Run(order(1).attempt, 0, 1) in slots.toolchain_came(order(1).attempt)
    assert slots.sent_back(100, order(2).attempt) == [Tell(order(2).attempt, JobPhase.LEASED)]
    assert slots.lease(order(2).attempt) == Leased(order(2), 1, 115)


def test_a_slot_is_taken_back_only_until_it_is_claimed():
    """A scheduler with another use for a slot gets it from who has not come, never from who has."""
    slots = Slots(2, 15)
    idle, claimed = order(1), order(2)
    slots.assigned(0, idle)
    slots.assigned(0, claimed)
    slots.claimed(claimed.attempt, claimed.token, 7, toolchain=True)
    assert slots.taken_back(idle.attempt) == [Unpin(idle), Tell(idle.attempt, JobPhase.ENDED)]
    assert slots.taken_back(claimed.attempt) == []
    assert slots.taken_back(idle.attempt) == []
    assert slots.phases() == ((claimed.attempt, JobPhase.RUNNING),)
    with pytest.raises(UnknownAttempt):
        slots.claimed(idle.attempt, idle.token, 8, toolchain=True)


def test_cancel():
    """A cancelled lease is freed at once, a running job killed, a waiting client hung up on."""
    slots = Slots(3, 15)
    for number in (1, 2, 3):
        slots.assigned(0, order(number))
    slots.claimed(order(2).attempt, order(2).token, 2, toolchain=True)
    slots.claimed(order(3).attempt, order(3).token, 3, toolchain=False)
    assert slots.cancelled(order(1).attempt) == [Unpin(order(1)), Tell(order(1).attempt, JobPhase.ENDED)]
    assert slots.cancelled(order(2).attempt) == [Kill(order(2).attempt)]
    assert slots.cancelled(order(2).attempt) == []
    assert HangUp(3) in slots.cancelled(order(3).attempt)
    assert slots.cancelled(order(9).attempt) == []


class Leases(RuleBasedStateMachine):
    """Any order of facts keeps the books: slots are held once, pins are paired, a job runs for one client at a time."""

    def __init__(self):
        super().__init__()
        self.slots = Slots(3, 10)
        self.now = 0.0
        self.pins = {}
        self.running = {}
        self.connections = 0

    def perform(self, effects):
        for effect in effects:
            match effect:
                case Pin(one):
                    self.pins[one] = self.pins.get(one, 0) + 1
                case Unpin(one):
                    self.pins[one] -= 1
                case Run(attempt, slot, connection):
                    assert attempt not in self.running
                    assert slot not in {held for held, _ in self.running.values()}
                    self.running[attempt] = (slot, connection)
                case Kill(attempt):
                    assert attempt in self.running

    numbers = st.integers(0, 5)

    @rule(number=numbers, token=st.sampled_from(["a", "b"]))
    def assign(self, number, token):
        try:
            self.perform(self.slots.assigned(self.now, order(number, token)))
        except (WorkerFull, WorkerDraining):
            assert self.slots.taken == 3 or self.slots.lease(order(number).attempt) or self.slots.draining

    @rule(number=numbers, token=st.sampled_from(["a", "b"]), toolchain=st.booleans())
    def claim(self, number, token, toolchain):
        self.connections += 1
        one = order(number, token)
        with suppress(UnknownAttempt, AttemptRunning):
            self.perform(self.slots.claimed(one.attempt, one.token, self.connections, toolchain=toolchain))

    @rule(number=numbers)
    def upload(self, number):
        self.perform(self.slots.upload_started(order(number).attempt))

    @rule(number=numbers)
    def renew(self, number):
        self.perform(self.slots.renewed(self.now, order(number).attempt))

    @rule(number=numbers)
    def toolchain_comes(self, number):
        self.perform(self.slots.toolchain_came(order(number).attempt))

    @rule(number=numbers, again=st.booleans())
    def ends(self, number, again):
        attempt = order(number).attempt
        if self.running.pop(attempt, None) is not None:
            self.perform(self.slots.sent_back(self.now, attempt) if again else self.slots.run_ended(attempt))

    @rule(number=numbers)
    def cancel(self, number):
        self.perform(self.slots.cancelled(order(number).attempt))

    @rule(number=st.integers(0, 4))
    def take_back(self, number):
        self.perform(self.slots.taken_back(order(number).attempt))

    @rule(back=st.integers(0, 5))
    def hang_up(self, back):
        self.perform(self.slots.hung_up(self.connections - back))

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        self.now += seconds
        self.perform(self.slots.time_passed(self.now))
        expiry = self.slots.next_expiry()
        assert expiry is None or expiry > self.now

    @invariant()
    def books(self):
        leases = [self.slots.lease(attempt) for attempt, _ in self.slots.phases()]
        held = [lease.slot for lease in leases]
        assert len(set(held)) == len(held) == self.slots.taken <= 3
        assert sorted(one.token for one, count in self.pins.items() for _ in range(count)) == sorted(
            lease.order.token for lease in leases
        )
        live = {lease.order.attempt for lease in leases if isinstance(lease, Running | Ending)}
        assert live == set(self.running)


TestLeases = Leases.TestCase
