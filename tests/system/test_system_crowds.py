"""Many calls at once from one machine: a wide make, hundreds of launchers, and the bound on local compilations."""

import contextlib
import fcntl
import os
import subprocess
from pathlib import Path

import pytest
from support.cluster import Cluster, wait_for
from support.processes import with_variable, with_words
from support.sampler import LocalCompilers
from support.small import fast_tree, slow_tree
from support.trees import differences

pytestmark = pytest.mark.alone

SLOW_SPINS = 30_000
FEW, MANY = 1, 4
CROWD, WHOLE_CROWD = 100, 300
crowds = pytest.mark.parametrize("count", [CROWD, pytest.param(WHOLE_CROWD, marks=pytest.mark.full)])


@pytest.fixture(scope="module")
def cluster():
    """Two workers with two slots each."""
    with Cluster(2, slots=2, extra={"SCCACHE_LOG": "debug"}) as started:
        yield started


@pytest.fixture(scope="module")
def deserted():
    """A scheduler whose only worker was killed."""
    with Cluster(1, slots=1) as started:
        started.remove("worker-1", "KILL")
        yield started


def launchers_notes(cluster):
    """What launchers that had to do without the daemon have written into its log: why."""
    lines = Path(f"{cluster.env['SCCACHE_SERVER_UDS']}.log").read_text().splitlines()
    return [line for line in lines if " [launcher#" in line]


def test_a_make_of_64_jobs(cluster, tmp_path):
    """Make -j64 of 150 files on four slots: every file is the compiler's own, and none was compiled here."""
    tree = fast_tree(tmp_path / "tree", 150)
    plain = tree.build_aside(tmp_path / "plain", "-j3")
    cluster.zero_stats()
    ours = tree.build_aside(tmp_path / "ours", "-j64", f"CC={cluster.launcher[0]} gcc", env=cluster.env)
    assert differences(plain, ours) == []
    assert launchers_notes(cluster) == []
    stats = cluster.stats()
    assert stats.local_compiles == {}
    assert sum(stats.dist_compiles.values()) == 150
    assert set(stats.dist_compiles) == set(cluster.status().workers)


@crowds
def test_a_crowd_of_launchers_starts_one_daemon(cluster, tmp_path, count):
    """Launchers that all find no daemon start exactly one, and every one of them gets its object from a worker."""
    tree = fast_tree(tmp_path / "tree", 20)
    tree.built("-j3")
    with cluster.another_client("crowd") as env:
        crowd = [(n % 20, _launch(cluster, tree.root, env, f"unit{n % 20}.c", f"ours{n}.o")) for n in range(count)]
        outcomes = [(launcher.communicate(timeout=200), launcher.returncode) for _, launcher in crowd]
        assert [status for _, status in outcomes] == [0] * count, {said for said, status in outcomes if status}
        for n, (unit, _) in enumerate(crowd):
            assert (tree.root / f"ours{n}.o").read_bytes() == (tree.root / f"unit{unit}.o").read_bytes()
        stats = cluster.stats(env)
        assert stats.local_compiles == {}
        assert sum(stats.dist_compiles.values()) == count
        # A daemon that lost the race would have complained into the socket's log, or would still be there.
        assert [event["event"] for event in cluster.log_events("crowd") if event["event"] == "listening"] == [
            "listening"
        ]
        assert len(_daemons(env)) == 1
        socket_log = Path(env["SCCACHE_SERVER_UDS"] + ".log").read_text(encoding="utf-8")
        assert socket_log == ""


@contextlib.contextmanager
def _served_here(cluster, slots):
    """A daemon of its own that is told to compile here."""
    with cluster.another_client(f"local-{slots}", {"SCCACHE_LOCAL_SLOTS": str(slots)}) as env:
        yield {**env, "SCCACHE_NO_DIST": "1"}, "no_dist"


@contextlib.contextmanager
def _without_workers(deserted, slots):
    """A daemon of its own whose cluster has no worker left."""
    with deserted.another_client(f"deserted-{slots}", {"SCCACHE_LOCAL_SLOTS": str(slots)}) as env:
        yield env, "no_workers"


@contextlib.contextmanager
def _without_daemon(cluster, slots):
    """A socket that no daemon can make."""
    yield {**cluster.env, "SCCACHE_SERVER_UDS": "/proc/nowhere/daemon.sock", "SCCACHE_LOCAL_SLOTS": str(slots)}, None


@pytest.fixture
def free_slots():
    """The local slots belong to the user, not to the test: whoever else compiles locally has to end first."""
    wait_for(lambda: all(map(_is_free, range(MANY))), "nobody else holds local slots", timeout=60)


def _is_free(slot):
    path = f"/tmp/sccache-twisted-{os.getuid()}/slots/{slot}"
    if not os.path.exists(path):
        return True
    with open(path, "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


ways = pytest.mark.parametrize(
    "way", [_served_here, _without_workers, _without_daemon], ids=["NO_DIST", "no workers", "no daemon"]
)


@ways
@pytest.mark.usefixtures("free_slots")
@pytest.mark.parametrize("slots", [FEW, MANY])
def test_local_compilations_keep_to_the_local_slots(cluster, deserted, tmp_path, way, slots):
    """With one slot one compiler runs, with four up to four: so it is the slots that hold them back."""
    tree = slow_tree(tmp_path / f"bound-{slots}", 10)
    where = deserted if way is _without_workers else cluster
    with way(where, slots) as (env, reason), LocalCompilers(tree.root.name, _workers(cluster)) as watched:
        words = ("-std=c++17", f"-DSPINS={SLOW_SPINS}", f"-DROOT={tree.root.name}")
        crowd = [_launch(where, tree.root, env, unit, f"{unit}.o", "g++", *words) for unit in tree.units]
        for launcher in crowd:
            _, said = launcher.communicate(timeout=120)
            assert launcher.returncode == 0, said
        counted = None if reason is None else where.stats(env).local_compiles
    assert (FEW if slots == FEW else FEW + 2) <= watched.most <= slots
    assert counted == (None if reason is None else {reason: len(crowd)})
    assert len(watched.seen) == len(crowd)


@crowds
@pytest.mark.usefixtures("free_slots")
@pytest.mark.parametrize("way", [_served_here, _without_daemon], ids=["NO_DIST", "no daemon"])
def test_a_crowd_keeps_to_the_local_slots(cluster, tmp_path, way, count):
    """So do hundreds of launchers at once, all of which succeed."""
    tree = fast_tree(tmp_path / "tree", 20)
    with way(cluster, 2) as (env, _), LocalCompilers("_STAYS_HERE", _workers(cluster)) as watched:
        crowd = [
            _launch(cluster, tree.root, env, f"unit{n % 20}.c", f"ours{n}.o", "gcc", "-D_STAYS_HERE")
            for n in range(count)
        ]
        outcomes = [(launcher.communicate(timeout=200), launcher.returncode) for launcher in crowd]
    assert [status for _, status in outcomes] == [0] * count, {said for said, status in outcomes if status}
    assert 1 <= watched.most <= 2


def _launch(cluster, cwd, env, source, target, compiler="gcc", *words):
    flags = words or ("-O1", "-g", "-Wall")
    return subprocess.Popen(
        [*cluster.launcher, compiler, *flags, "-c", source, "-o", target],
        cwd=cwd,
        env={**env, "PWD": str(cwd)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _daemons(env):
    return set(with_words(b"sccache-client")) & set(with_variable("SCCACHE_SERVER_UDS", env["SCCACHE_SERVER_UDS"]))


def _workers(cluster):
    return [worker.pid for worker in cluster.status().workers.values()]
