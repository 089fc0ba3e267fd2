"""Toolchains on their way to workers: each once, however many want it, and different ones side by side."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.cluster import Cluster
from support.small import fast_tree
from support.trees import CompileCommand, run_commands

UNITS = 16
WORKERS = 2


@pytest.fixture
def cluster():
    """Two workers that have never seen a toolchain."""
    with Cluster(WORKERS, slots=2, extra={"SCCACHE_LOG": "debug"}) as started:
        yield started


@pytest.mark.parametrize(
    "compilers", [("gcc",), ("gcc", "gcc"), ("gcc", "clang")], ids=["one client", "two alike", "two different"]
)
def test_a_toolchain_is_uploaded_once_to_each_worker(cluster, tmp_path, compilers):
    """Sixteen first jobs of each client at once: one upload for each toolchain and worker, and equal objects."""
    with (
        cluster.another_client("first") as first,
        cluster.another_client("second") as second,
        ThreadPoolExecutor(len(compilers)) as pool,
    ):
        clients = list(zip(compilers, (first, second), strict=False))
        builds = []
        for number, (compiler, _) in enumerate(clients):
            tree = fast_tree(tmp_path / f"tree{number}", UNITS)
            commands = [_command(tree, compiler, unit) for unit in tree.units]
            plain = run_commands(commands, jobs=2)
            builds.append((tree, commands, plain, _objects(tree)))
        ran = pool.map(lambda build, client: cluster.run_build(build[1], jobs=UNITS, env=client[1]), builds, clients)
        for (tree, _, plain, objects), ours in zip(builds, ran, strict=True):
            assert ours == plain
            assert _objects(tree) == objects
        for _, env in clients:
            stats = cluster.stats(env)
            assert stats.local_compiles == {}
            assert sum(stats.dist_compiles.values()) == UNITS
        names = list(cluster.status().workers)
    stored = Counter(
        (name, event["toolchain"])
        for name in names
        for event in cluster.log_events(name)
        if event["event"] == "toolchain_stored"
    )
    digests = {toolchain for _, toolchain in stored}
    assert len(digests) == len(set(compilers))
    assert stored == {(name, digest): 1 for name in names for digest in digests}
    # Nor was any of them sent in vain.
    sent = [
        (event["server_id"].rpartition("-")[0], event["toolchain"])
        for log in ("first", "second")
        for event in cluster.log_events(log)
        if event["event"] == "toolchain_sent"
    ]
    assert Counter(sent) == stored


def _command(tree, compiler, unit):
    """A compilation whose object has the same name each time: both builds write the same files."""
    argv = (compiler, "-O1", "-g", "-Wall", "-c", unit, "-o", f"{unit}.o")
    return CompileCommand(argv, str(tree.root), str(tree.root))


def _objects(tree):
    found = {}
    for unit in tree.units:
        found[unit] = (tree.root / f"{unit}.o").read_bytes()
        (tree.root / f"{unit}.o").unlink()
    return found
