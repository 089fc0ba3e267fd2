"""Command lines as they are met in the world: handled as is written beside each, exactly as by the compiler alone.

Each runs by the compiler alone, here with a cold cache, out of the cache, on a worker with a cold cache, and out of
what the worker made, in equal directories. Every file, mode and link, both streams and the status are equal; what a
worker was to run, a worker of this cluster ran; what was in the cache began no process, but where that is said.
"""

from random import Random

import pytest
from commandline import CACHED, DISTRIBUTED
from every_case import CASES, ROWS
from outcome import differences
from support.counts import COUNTED
from ways import ALONE, HERE, HIT_HERE, HIT_THERE, HITS, THERE, UNASKED, WAYS, Told, bench

pytestmark = pytest.mark.timeout(1500)

SEED = 7
NOTHING = Told("itself", UNASKED)
LEAN_WAYS = (ALONE, THERE, HIT_THERE)
"""What half of the cases take in ``make test``: a worker's way is the one that all must take."""
ONE = "test_a_command_line_is_handled_as_it_should_be"
AT_LEAST = 300
DISTRIBUTED_SHARE = 0.8


@pytest.fixture(scope="module")
def runs(request):
    """All cases that were chosen, by all ways."""
    cases = [item.callspec.params["case"] for item in request.session.items if item.originalname == ONE]
    names = [case.name for case in CASES] if "not full" in request.config.option.markexpr else []
    lean = set(Random(SEED).sample(names, len(names) // 2))
    with bench() as made:
        return made.run(cases, lambda case: LEAN_WAYS if case.name in lean else WAYS), made.servers


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_a_command_line_is_handled_as_it_should_be(runs, case, record_property):
    """The decision and the files are those that are expected, and nothing differs from the compiler alone."""
    run, servers = runs[0][case.name], runs[1]
    plain = run.outcomes[ALONE]
    assert plain.status == case.status, plain.stderr.decode("utf-8", "replace")
    assert run.written == case.written
    told = {way: differences(plain, run.outcomes[way], case.varies) for way in run.ways if way != ALONE}
    assert not any(told.values()), (told, run.told)
    there = run.told.get(THERE, NOTHING)
    assert (there.kind, there.reason) == (case.decision, case.reason)
    if case.decision == DISTRIBUTED:
        assert there.server_id in servers
        assert HERE not in run.ways or run.told[HERE].reason == "no_dist"
    if case.decision in {DISTRIBUTED, CACHED} and case.hit:
        direct = case.hit == "direct"
        assert run.told[HIT_THERE].decision == "hit"
        assert run.began[HIT_THERE] == (not direct)
        if HIT_HERE in run.ways:
            assert run.told[HIT_HERE].decision == ("hit" if direct else "remote")
            assert run.began[HIT_HERE] == 0 or not direct
    else:
        assert all(run.told.get(way, NOTHING).decision != "hit" for way in HITS & set(run.ways))
    for what in ("cases", case.decision):
        record_property(COUNTED, ("command lines", what, case.name))


def test_there_are_enough_cases_and_most_objects_are_made_elsewhere():
    """No fewer than three hundred different lines; four fifths of those that make an object go to a worker."""
    assert len({(str(case.line), str(sorted(case.files)), str(case.env), case.umask) for case in CASES}) >= AT_LEAST
    objects = [case for case in CASES if case.makes_an_object]
    assert sum(case.decision == DISTRIBUTED for case in objects) >= DISTRIBUTED_SHARE * len(objects)


def test_every_rule_has_an_example_and_one_where_it_does_not_hold():
    """Each row of the table of options that need care is met by a line that is taken over and by one that is not."""
    told = {case.row for case in CASES if case.row}
    assert {row.rstrip("+-") for row in told} == ROWS
    assert {row + sign for row in ROWS for sign in "+-"} <= told
