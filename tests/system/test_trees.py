"""Real trees through a real cluster: every file and every byte of diagnostics is the compiler's own.

``make test`` replays a seeded subset of each tree's own compile commands in a pairwise sample of compilers, flags,
layouts and directories; ``make test-full`` builds every tree whole, by its own build system, in every combination.
Both compare with what the compiler alone gives in the same directory, and both demand that every compilation ran on
a worker of the cluster.
"""

import pytest
from support.cluster import Cluster
from support.trees import (
    COMPILERS,
    FLAGS,
    TREES,
    Kind,
    Layout,
    Toolchain,
    all_allowed,
    build_whole,
    differences,
    pairwise,
    record,
    run_commands,
    set_aside,
    site,
    snapshot,
    subset,
    workplace,
)
from support.trees.station import Station

pytestmark = pytest.mark.usefixtures("cluster")

SEED = 20
UNITS_OF_A_SUBSET = 20
# RE2's and Abseil's heavier half takes seconds a file; the subset is drawn from the lightest third.
LIGHTEST = {"lupa": 1.0, "libsodium": 1.0, "re2": 0.3}
JOBS = 4
# Probes that are meant to fail may be confirmed here, or fail in the preprocessor already.
ALLOWED_REASONS = {"confirm_error", "preprocessor_error"}
# A result out of the cache would prove nothing about workers.
NO_HITS = {"SCCACHE_RECACHE": "1"}


def _cells(choose):
    """Every allowed cell that ``choose`` takes of the matrix: trees, compilers, flags, layouts, places."""
    dimensions = {
        "tree": tuple(sorted(TREES)),
        "compiler": COMPILERS,
        "flags": tuple(FLAGS),
        "layout": tuple(Layout),
        "kind": tuple(Kind),
    }
    cells = []
    for cell in choose(dimensions, lambda cell: TREES[cell["tree"]].allows(cell["layout"], cell["kind"])):
        words = (cell["tree"], cell["compiler"], cell["flags"], cell["layout"].value, cell["kind"].value)
        cells.append(pytest.param(TREES[cell["tree"]], cell, id="-".join(words)))
    return cells


@pytest.fixture(scope="module")
def cluster():
    """Three workers, shared by the module."""
    with Cluster(3, slots=2) as running:
        yield running


@pytest.mark.timeout(900)  # the first cell of a tree may have to record it
@pytest.mark.parametrize(("tree", "cell"), _cells(lambda dimensions, allowed: pairwise(dimensions, allowed, seed=SEED)))
def test_a_subset_compiles_on_workers_as_it_does_here(cluster, tree, cell):
    """At least 20 translation units of a real tree: the plain compiler's files, modes, output and status."""
    with site(cell["kind"], cell["layout"]) as where, workplace() as aside:
        recorded = record(tree, cell["layout"])
        recorded.lay_out(where)
        toolchain = Toolchain(cell["compiler"], FLAGS[cell["flags"]])
        commands = subset(
            recorded.replay(where, toolchain.compiler, toolchain.flags),
            UNITS_OF_A_SUBSET,
            seed=SEED,
            lightest=LIGHTEST[tree.name],
        )
        before = snapshot(where.root)
        plain = set_aside(where.root, before, aside / "plain", run_commands(commands, jobs=2))
        assert [result.stderr for result in plain.results.values() if result.status] == []
        cluster.zero_stats()
        results = cluster.run_build(commands, jobs=JOBS, env=NO_HITS)
        ours = set_aside(where.root, before, aside / "ours", results)
        assert differences(plain, ours, dwo_ids_vary=toolchain.dwo_ids_vary) == []
        _all_ran_on_workers(cluster, len(commands), set())


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("tree", "cell"), _cells(all_allowed))
def test_a_whole_tree_builds_on_workers_as_it_does_here(cluster, tree, cell):
    """Configured and built whole: configuration, sources, objects, libraries, programs and diagnostics are equal."""
    with site(cell["kind"], cell["layout"]) as where, workplace() as place:
        station = Station.laid_out(place / "station")
        toolchain = Toolchain(cell["compiler"], FLAGS[cell["flags"]], station.front)
        plain = build_whole(tree, where, station, toolchain, place / "plain", jobs=2)
        cluster.zero_stats()
        ours = build_whole(
            tree,
            where,
            station,
            toolchain,
            place / "ours",
            jobs=JOBS,
            prefix=cluster.launcher,
            extra={**cluster.env, **NO_HITS},
        )
        told = differences(plain.side, ours.side, tree.is_ignored, dwo_ids_vary=toolchain.dwo_ids_vary)
        assert told == []
        _all_ran_on_workers(cluster, len(ours.compilations), ALLOWED_REASONS)


def _all_ran_on_workers(cluster, compilations, allowed_reasons):
    """Nothing ran here but for the allowed reasons, and the workers that ran something are this cluster's."""
    stats = cluster.stats()
    assert set(stats.local_compiles) <= allowed_reasons
    assert set(stats.dist_compiles) <= set(cluster.status().workers)
    # Configure's probes run there as well, beyond what the build itself compiles.
    ran = sum(stats.dist_compiles.values())
    assert ran >= compilations if allowed_reasons else ran == compilations
