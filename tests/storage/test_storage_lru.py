"""The ledger of what may be evicted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sccache_twisted.storage.lru import LruLedger


def test_the_longest_unused_goes_first_and_the_pinned_never() -> None:
    """Victims come in the order of their last use, as many as are needed, none of them pinned."""
    ledger: LruLedger[str] = LruLedger()
    for key in "abcd":
        ledger.admit(key, 10)
    ledger.touch("a")
    assert ledger.pin("b")
    assert ledger.victims(15) == ["c", "d"]
    assert ledger.victims(1000) == ["c", "d", "a"]
    ledger.unpin("b")
    assert ledger.victims(1000) == ["c", "d", "a", "b"]
    assert not ledger.pin("x")
    assert not ledger.touch("x")


@given(
    st.lists(
        st.tuples(st.sampled_from(["admit", "forget", "pin", "unpin", "touch"]), st.integers(0, 5), st.integers(0, 9))
    )
)
def test_the_total_is_always_the_sum_of_what_is_held(steps: list[tuple[str, int, int]]) -> None:
    """Whatever happens, the total is that of the keys present, and unbalanced unpins harm nobody."""
    ledger: LruLedger[int] = LruLedger()
    model: dict[int, int] = {}
    for what, key, size in steps:
        if what == "admit":
            ledger.admit(key, size)
            model[key] = size
        elif what == "forget":
            ledger.forget(key)
            model.pop(key, None)
        else:
            getattr(ledger, what)(key)
        assert ledger.total == sum(model.values())
        assert set(ledger) == set(model)
        assert len(ledger) == len(model)
