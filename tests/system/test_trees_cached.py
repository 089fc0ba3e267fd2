"""Real trees built twice: the second time everything is copied out of the cache, and every file is the compiler's own.

``make test`` replays a subset of one tree's own compile commands; ``make test-full`` builds every tree whole, by its
own build system, with gcc and clang. In between all that a build makes is removed, as by a new checkout.
"""

import pytest
from support.cluster import Cluster, wait_for
from support.trees import (
    FLAGS,
    TREES,
    Kind,
    Layout,
    Toolchain,
    build_whole,
    differences,
    record,
    run_commands,
    set_aside,
    site,
    snapshot,
    subset,
    workplace,
)
from support.trees.station import Station

SEED = 20
UNITS = 30
JOBS = 4


@pytest.fixture(scope="module")
def cluster():
    """Two workers, and a client that stores what they compile."""
    with Cluster(2, slots=2, cache=True, extra={"SCCACHE_LOG": "debug"}) as running:
        yield running


def counted(cluster):
    """Hits, misses, what workers compiled and what was compiled here, and what was not looked for."""
    stats = cluster.stats()
    hits, misses = (sum(stats.told["stats"][name]["counts"].values()) for name in ("cache_hits", "cache_misses"))
    return hits, misses, sum(stats.dist_compiles.values()), stats.local_compiles, stats.told["stats"]["not_cached"]


def stored(cluster):
    """Wait until every miss is stored."""
    wait_for(lambda: cluster.stats().told["stats"]["cache_writes"] >= counted(cluster)[1], "every result is stored")


def ran(cluster):
    """How many compilers the workers have started so far."""
    return sum(
        event["event"] == "job_running" for name in cluster.status().workers for event in cluster.log_events(name)
    )


@pytest.mark.timeout(900)  # the tree may have to be recorded first
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_subset_of_a_tree_is_found_whole(cluster, compiler):
    """Units of a real tree, compiled and found: all hits, no job, files and words are the plain compiler's."""
    tree = TREES["libsodium"]
    with site(Kind.TMP, Layout.OUT_OF_SOURCE) as where, workplace() as aside:
        recorded = record(tree, Layout.OUT_OF_SOURCE)
        recorded.lay_out(where)
        commands = subset(recorded.replay(where, compiler, FLAGS["O2"]), UNITS, seed=SEED)
        before = snapshot(where.root)
        plain = set_aside(where.root, before, aside / "plain", run_commands(commands, jobs=2))
        cluster.zero_stats()
        cold = set_aside(where.root, before, aside / "cold", cluster.run_build(commands, jobs=JOBS))
        assert differences(plain, cold) == []
        assert counted(cluster) == (0, len(commands), len(commands), {}, {})
        stored(cluster)
        cluster.zero_stats()
        jobs = ran(cluster)
        assert jobs >= len(commands)
        warm = set_aside(where.root, before, aside / "warm", cluster.run_build(commands, jobs=JOBS))
        assert differences(plain, warm) == []
        assert counted(cluster) == (len(commands), 0, 0, {}, {})
        assert ran(cluster) == jobs


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("name", sorted(TREES))
def test_a_whole_tree_is_found_whole(cluster, name, compiler):
    """Configured and built alone, cold, and again: the last build is all hits, and nothing reaches a worker.

    What configure compiles has names and places that are new each time, so only the build is counted.
    """
    tree = TREES[name]
    layout = Layout.OUT_OF_SOURCE if tree.allows(Layout.OUT_OF_SOURCE, Kind.TMP) else Layout.IN_SOURCE
    with site(Kind.TMP, layout) as where, workplace() as place:
        station = Station.laid_out(place / "station")
        toolchain = Toolchain(compiler, FLAGS["O2"], station.front)
        plain = build_whole(tree, where, station, toolchain, place / "plain", jobs=2)

        def ours(kept):
            words = {"prefix": cluster.launcher, "extra": cluster.env, "configured": cluster.zero_stats}
            built = build_whole(tree, where, station, toolchain, place / kept, jobs=JOBS, **words)
            assert differences(plain.side, built.side, tree.is_ignored) == []
            return built

        ours("cold")
        stored(cluster)
        warm = ours("warm")
        *counts, uncached = counted(cluster)
        assert counts == [len(warm.compilations), 0, 0, {}]
        # LuaJIT's makefile asks gcc for its defaults with ``-o /dev/null``.
        assert set(uncached) <= {"bad_output_file"}
