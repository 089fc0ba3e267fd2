"""What is done at rest is done once after each busy time, and never in between."""

from twisted.internet.task import Clock

from sccache_twisted.client.rest import REST_SECONDS, Rest


def test_rest_comes_once_after_the_last_call() -> None:
    """However often somebody calls, it is the last call that counts; the next busy time has a rest of its own."""
    clock, rested = Clock(), []
    rest = Rest(clock, lambda: rested.append(clock.seconds()))
    for _ in range(30):
        rest.called()
        clock.advance(REST_SECONDS / 4)
    assert rested == []
    clock.advance(REST_SECONDS)
    assert len(rested) == 1
    clock.advance(100 * REST_SECONDS)
    assert len(rested) == 1
    assert clock.getDelayedCalls() == []
    rest.called()
    clock.advance(REST_SECONDS)
    assert len(rested) == 2


def test_a_daemon_that_ends_does_not_wait_for_its_rest() -> None:
    """Nothing is left to be called."""
    clock = Clock()
    rest = Rest(clock, lambda: None)
    rest.called()
    rest.stop()
    rest.stop()
    assert clock.getDelayedCalls() == []
