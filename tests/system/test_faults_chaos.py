"""Everything at once, at random, from a seed: the short form of ``make chaos``."""

import pytest
from support.farm import Farm
from support.farm.builds import Yard
from support.farm.chaos import LEAST_KINDS, SPINS, UNITS, chaos

pytestmark = pytest.mark.root


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("seconds", "seed"),
    [(15, 1), *(pytest.param(300, seed, marks=pytest.mark.full) for seed in range(2, 5))],
)
def test_no_build_notices_the_chaos(tmp_path, seconds, seed):
    """Builds that never end are hit again and again: nothing local, nothing failed, every object equal."""
    with Farm() as farm:
        story = chaos(farm, Yard(tmp_path, UNITS, SPINS), tmp_path, seconds, seed)
    assert not story.local
    assert story.jobs.total() >= UNITS * story.builds > 0
    # Jobs were really hit, and not only by one kind of fault.
    assert story.failed.total() > 0
    assert len(story.faults) >= LEAST_KINDS
