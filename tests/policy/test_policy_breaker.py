"""The breaker's rules, as facts in and decisions out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sccache_twisted.policy.backoff import Backoff
from sccache_twisted.policy.breaker import (
    BreakerRules,
    Closed,
    Open,
    Probing,
    abandoned,
    admit,
    failed,
    succeeded,
)

RULES = BreakerRules(3, Backoff(first=1.0, factor=2.0, longest=8.0))


def test_it_opens_after_so_many_failures_in_a_row():
    """Failures with a success between them don't add up; the third in a row opens for a second at most."""
    state = Closed()
    for _ in range(4):
        state = failed(failed(state, RULES, 0.0, 0.0, 0.5), RULES, 0.0, 0.0, 0.5)
        assert admit(state, 0.0) == (state, True)
        state = succeeded(state)
    for _ in range(3):
        state = failed(state, RULES, 100.0, 100.0, 1.0)
    assert state == Open(until=101.0, times=1)
    assert admit(state, 100.9) == (state, False)


def test_calls_that_fail_together_count_once():
    """Sixty look-ups that were under way together and time out are one failure; sixty-one after them are the second."""
    state = Closed()
    for number in range(60):
        state = failed(state, RULES, 0.0, 0.25 + number / 1000, 0.5)
    assert state == Closed(1, 0.25)
    for _ in range(61):
        state = failed(state, RULES, 0.5, 0.75, 0.5)
    assert state == Closed(2, 0.75)


def test_one_call_goes_through_to_see():
    """After the wait one call is admitted and no other, until it ends; if well, everybody is."""
    probing, may = admit(Open(until=5.0, times=1), 5.0)
    assert (probing, may) == (Probing(1), True)
    assert admit(probing, 99.0) == (probing, False)
    assert admit(succeeded(probing), 99.0) == (Closed(), True)


def test_a_probe_that_fails_doubles_the_wait():
    """Each failed probe opens for twice as long, up to the longest; half of it is certain whatever chance says."""
    state = Open(until=0.0, times=1)
    waits = []
    for _ in range(5):
        now = state.until
        probing, _ = admit(state, now)
        state = failed(probing, RULES, now, now, 0.0)
        waits.append(state.until - now)
    assert waits == [1.0, 2.0, 4.0, 4.0, 4.0]
    assert failed(Probing(1), RULES, 9.0, 10.0, 1.0).until == 12.0


def test_a_probe_given_up_is_made_again():
    """A caller that gives up a probe tells nothing: the next call is the probe, at once, and nothing is forgotten."""
    state = abandoned(Probing(4), 7.0)
    assert state == Open(7.0, 4)
    assert admit(state, 7.0) == (Probing(4), True)
    assert abandoned(Closed(2), 7.0) == Closed(2)


def test_calls_from_before_it_opened_change_nothing():
    """What was under way when it opened neither closes it nor opens it for longer."""
    state = Open(until=5.0, times=2)
    assert succeeded(state) == state
    assert failed(state, RULES, 3.0, 4.0, 1.0) == state


@given(st.lists(st.tuples(st.sampled_from(["call", "good", "bad", "gone"]), st.floats(0, 5)), max_size=60))
def test_there_is_always_a_way_back(steps):
    """Whatever happened, after the longest wait a call goes through, and when it ends well all do."""
    state, now, under_way = Closed(), 0.0, 0
    for what, passed in steps:
        now += passed
        if what == "call":
            state, may = admit(state, now)
            under_way += may
        elif under_way:
            under_way -= 1
            if what == "good":
                state = succeeded(state)
            elif what == "bad":
                state = failed(state, RULES, now, now, 1.0)
            else:
                state = abandoned(state, now)
    if isinstance(state, Probing):
        state = abandoned(state, now)
    state, may = admit(state, now + 8.0)
    assert may
    assert admit(succeeded(state), now + 8.0) == (Closed(), True)
