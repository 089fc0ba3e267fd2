"""^C in make, with real compilers at work on every slot of a cluster."""

import os
import signal

import pytest
from support import jobs
from support.cluster import Cluster, wait_for
from support.processes import compilers_below
from support.small import FOR_EVER, running, slow_tree
from support.trees import differences, snapshot

SLOTS = 2
UNITS = 8


@pytest.fixture
def cluster():
    """Two workers with two slots each."""
    with Cluster(2, slots=SLOTS, extra={"SCCACHE_LOG": "debug"}) as started:
        yield started


def test_interrupted_make_stops_its_remote_compilers(cluster, tmp_path):
    """Within a second they are dead and their slots free, nothing is half-written, and the next make completes."""
    tree = slow_tree(tmp_path / "tree", UNITS)
    plain = tree.build_aside(tmp_path / "plain", "-j2")
    before = snapshot(tree.root)
    workers = [worker.pid for worker in cluster.status().workers.values()]
    ours = f"CXX={cluster.launcher[0]} g++"
    with running(tree.make(f"-j{UNITS}", ours, f"SPINS={FOR_EVER}", env=cluster.env)) as make:
        wait_for(
            lambda: (
                all(len(compilers_below(pid)) == SLOTS for pid in workers)
                and len(jobs.running(cluster.log_events("client"))) == SLOTS * len(workers)
            ),
            "a compiler runs in every slot, and the client knows it",
            timeout=60,
        )
        hit = jobs.running(cluster.log_events("client"))
        assert cluster.busy_slots() == SLOTS * len(workers)
        os.killpg(make.pid, signal.SIGINT)
        wait_for(
            lambda: not any(map(compilers_below, workers)) and cluster.busy_slots() == 0,
            "the remote compilers are dead and their slots free",
            timeout=1.0,
        )
        said = make.communicate(timeout=10)[0]
    assert make.returncode in {2, -signal.SIGINT}, said
    assert snapshot(tree.root) == before
    cancelled = wait_for(
        lambda: jobs.attempts(cluster.log_events("client"), "job_cancelled").keys() >= hit.keys(),
        "the client has cancelled what ran",
    )
    assert cancelled
    # Those that waited in the queue are gone as well: nothing starts after the interrupt.
    assert jobs.running(cluster.log_events("client")) == {}
    assert all(worker.running == 0 for worker in cluster.status().workers.values())
    assert differences(plain, tree.build_aside(tmp_path / "ours", f"-j{UNITS}", ours, env=cluster.env)) == []
    stats = cluster.stats()
    assert stats.local_compiles == {}
    assert sum(stats.dist_compiles.values()) == UNITS
