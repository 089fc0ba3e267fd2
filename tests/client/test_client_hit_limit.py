"""When a daemon has hit servers: by what two looks at it tell."""

import pytest
from attrs import evolve

from sccache_twisted.client.hits.limit import Look, is_the_limit, wanted_seconds

BEFORE = Look(at=100.0, wanted_seconds=7.0, requests=1000, hits=900)
PRESSED = Look(at=100.5, wanted_seconds=7.45, requests=1200, hits=1090)


def test_a_daemon_that_is_busy_with_hits_is_the_limit() -> None:
    """Busy nearly all the time, mostly with hits, with callers that wait: one process is not enough."""
    assert is_the_limit(BEFORE, PRESSED, waiting=4)


@pytest.mark.parametrize(
    ("now", "waiting"),
    [
        (evolve(PRESSED, wanted_seconds=7.3), 4),
        (PRESSED, 1),
        (evolve(PRESSED, hits=905), 4),
        (evolve(PRESSED, requests=1400), 4),
        (evolve(PRESSED, hits=10, requests=10), 4),
        (evolve(PRESSED, at=100.0), 4),
    ],
    ids=["rests", "one caller", "few hits", "mostly no hits", "counters were zeroed", "no time has passed"],
)
def test_others_are_not(now: Look, waiting: int) -> None:
    """It is not the limit of hits when one of these is missing."""
    assert not is_the_limit(BEFORE, now, waiting)


def test_work_is_wanted_time() -> None:
    """What a process computes counts, whether or not it gets a processor at once."""
    began = wanted_seconds()
    while wanted_seconds() - began < 0.02:
        sum(range(1000))
    assert wanted_seconds() > began
