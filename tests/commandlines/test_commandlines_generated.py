"""Command lines that are drawn from the tables of options: behind us each is the compiler alone, whatever it does."""

import pytest
from generated import lines
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from outcome import differences
from ways import ALONE, HIT_THERE, THERE, WAYS, bench

AT_A_TIME = 50
pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def one_bench():
    """One cluster for all of them."""
    with bench() as made:
        yield made


def check(made, batch):
    """All lines of a batch by all ways: no file, mode, word or status differs, and what a worker made is a hit."""
    runs = made.run([line.case(f"g{number}") for number, line in enumerate(batch)])
    told = {}
    for run in runs.values():
        plain = run.outcomes[ALONE]
        found = {way: differences(plain, run.outcomes[way], run.case.varies) for way in WAYS if way != ALONE}
        there = run.told[THERE]
        if there.decision == "remote" and (
            there.server_id not in made.servers or run.told[HIT_THERE].decision not in {"hit", "remote"}
        ):
            found["told"] = [str(run.told)]
        if any(found.values()):
            told[" ".join(run.case.line)] = ({way: what for way, what in found.items() if what}, run.told)
    assert not told, "\n".join(f"{line}\n  {what}" for line, what in told.items())


# Shrinking is left out: a line that differs says in what, and stands alone.
_SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
BATCHES = st.lists(lines(), min_size=AT_A_TIME, max_size=AT_A_TIME, unique=True)


@settings(_SETTINGS, max_examples=2)
@given(batch=BATCHES)
def test_lines_that_were_drawn(one_bench, batch):
    """A hundred of them."""
    check(one_bench, batch)


@pytest.mark.full
@pytest.mark.timeout(7200)
@settings(_SETTINGS, max_examples=40)
@given(batch=BATCHES)
def test_many_lines_that_were_drawn(one_bench, batch):
    """Two thousand of them."""
    check(one_bench, batch)
