"""A client daemon that is killed in the middle of a build, proven to have hit jobs whose compilers ran."""

import os
import signal
from pathlib import Path

import pytest
from support import jobs
from support.cluster import Cluster, wait_for
from support.processes import compilers_below, tenants, with_variable, with_words
from support.sampler import LocalCompilers
from support.small import running, slow_tree
from support.trees import differences, snapshot

pytestmark = pytest.mark.alone

# A unit compiles for about a second: long enough to be hit, with several on their way at once and more to come after.
SPINS = 120_000
UNITS = 22
JOBS = 8
LOCAL_SLOTS = 2


@pytest.fixture(scope="module")
def cluster():
    """Three workers with two slots each."""
    with Cluster(3, slots=2, extra={"SCCACHE_LOG": "debug", "SCCACHE_LOCAL_SLOTS": str(LOCAL_SLOTS)}) as started:
        yield started


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A tree that every test leaves as it was."""
    return slow_tree(tmp_path_factory.mktemp("faults") / "tree", UNITS)


@pytest.fixture(scope="module")
def plain(tree, tmp_path_factory):
    """What the compiler alone makes of it."""
    return tree.build_aside(tmp_path_factory.mktemp("plain"), "-j2", f"SPINS={SPINS}")


def test_killed_daemon(cluster, tree, plain, tmp_path):
    """Launchers under way compile for themselves in the local slots, and the next one starts a new daemon.

    What ran for them on workers dies, so no orphan can write an output, and the build ends as without the fault.
    """
    before = snapshot(tree.root)
    workers = [worker.pid for worker in cluster.status().workers.values()]
    with LocalCompilers(f"SPINS={SPINS}", workers) as here, running(_make(cluster, tree)) as make:
        remote, hit = wait_for(lambda: _under_way(cluster, workers), "four compilers run there", timeout=60)
        # A child that has not yet become its program looks like the daemon itself.
        (killed,) = wait_for(lambda: len(found := _daemons(cluster)) == 1 and found, "the daemon is seen alone")
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: not remote & _pids(workers), "what ran on the workers is dead", timeout=2.0)
        said = make.communicate(timeout=120)[0].decode("utf-8", "replace")
    assert make.returncode == 0, said
    assert remote
    assert hit
    assert tenants(tree.root) == []
    assert differences(plain, tree.aside(before, tmp_path / "ours")) == []
    lonely = Path(cluster.env["SCCACHE_SERVER_UDS"] + ".log").read_text(encoding="utf-8").count("the daemon went away")
    assert len(hit) <= lonely <= JOBS
    assert len(here.seen) == lonely
    assert 1 <= here.most <= LOCAL_SLOTS
    (successor,) = _daemons(cluster)
    assert successor != killed
    stats = cluster.stats()
    assert stats.local_compiles == {}
    # What the killed daemon had delivered, what its launchers did alone, and what its successor had others do.
    delivered = jobs.attempts(cluster.log_events("client"), "job_done")
    assert sum(stats.dist_compiles.values()) >= 1
    assert len(delivered) + lonely >= UNITS
    wait_for(lambda: cluster.busy_slots() == 0, "every slot is free", timeout=5)


def _make(cluster, tree):
    return tree.make(f"-j{JOBS}", f"CXX={cluster.launcher[0]} g++", f"SPINS={SPINS}", env=cluster.env)


def _running(cluster):
    return jobs.running(cluster.log_events("client"))


def _pids(workers):
    return {process.pid for worker in workers for process in compilers_below(worker)}


def _under_way(cluster, workers):
    """The compilers on workers and the jobs that run, as soon as there are four of each."""
    remote, running = _pids(workers), _running(cluster)
    return (remote, running) if min(len(remote), len(running)) >= 4 else None


def _daemons(cluster):
    socket = cluster.env["SCCACHE_SERVER_UDS"]
    return set(with_words(b"sccache-client")) & set(with_variable("SCCACHE_SERVER_UDS", socket))
