"""When a store that fails is left alone, and when it is tried again.

*Closed*: calls go through; ``failures`` in a row open it. Calls that were under way together and fail say one thing
once: a build begins with many, and a store may be slow to answer the first. *Open*: no call goes through before
``until``. *Probing*: one call went through to see, the others don't; its end closes the breaker or opens it for longer.
"""

from __future__ import annotations

from attrs import frozen

from sccache_twisted.policy.backoff import Backoff


@frozen
class BreakerRules:
    """``failures`` in a row open; ``backoff`` bounds how long it stays open the first, second … time in a row."""

    failures: int
    backoff: Backoff


@frozen
class Closed:
    """Calls go through; so many have failed since the last success, the last of those counted at ``last``."""

    failed: int = 0
    last: float = float("-inf")


@frozen
class Open:
    """No call goes through before ``until``; ``times``: opened so often since it was last closed."""

    until: float
    times: int


@frozen
class Probing:
    """One call is under way to see whether the store is back."""

    times: int


BreakerState = Closed | Open | Probing


def admit(state: BreakerState, now: float) -> tuple[BreakerState, bool]:
    """The state after a call asked to go through, and whether it may."""
    if isinstance(state, Open) and now >= state.until:
        return Probing(state.times), True
    return state, isinstance(state, Closed)


def succeeded(state: BreakerState) -> BreakerState:
    """The state after an admitted call ended well. One from before the breaker opened closes nothing."""
    return state if isinstance(state, Open) else Closed()


def failed(state: BreakerState, rules: BreakerRules, began: float, now: float, draw: float) -> BreakerState:
    """The state after a call failed that was admitted at ``began``; ``draw`` is uniform in [0, 1)."""
    if isinstance(state, Closed):
        if began < state.last:
            return state
        if state.failed + 1 < rules.failures:
            return Closed(state.failed + 1, now)
        return _opened(1, rules, now, draw)
    if isinstance(state, Probing):
        return _opened(state.times + 1, rules, now, draw)
    return state


def abandoned(state: BreakerState, now: float) -> BreakerState:
    """The state after an admitted call was given up by its caller: a probe that told nothing is made again."""
    return Open(now, state.times) if isinstance(state, Probing) else state


def _opened(times: int, rules: BreakerRules, now: float, draw: float) -> Open:
    # Half of the wait is certain, or chance would let some clients try a dead store without pause.
    return Open(now + rules.backoff.bound(times) * (0.5 + draw / 2), times)
