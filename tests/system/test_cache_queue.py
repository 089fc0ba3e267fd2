"""Two clients that share a Redis and a cluster that is full: who waits in the queue finds what the other one stored."""

import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from support.cluster import Cluster, wait_for
from support.processes import compilers_below
from support.store_servers import RedisServer

HOT = "int hot(int x) { return x + 1; }\n"
SLOW = "".join(
    f"int f{n}(int *a, int n) {{ int s = 0; for (int i = 0; i < n; i++) for (int j = 0; j < i; j++) "
    f"s += a[i] * a[j] ^ {n}; return s; }}\n"
    for n in range(60)
)


def queued(cluster: Cluster) -> int:
    """How many jobs wait for a worker, by the scheduler's page."""
    ready = json.loads((cluster.directory / "scheduler.ready").read_text(encoding="utf-8"))
    with urllib.request.urlopen(f"http://{ready['http']}/status", timeout=5) as answer:
        return json.load(answer)["scheduler"]["queued"]


def begun(cluster: Cluster, folder: Path, name: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Compile a file of a folder, in the background."""
    words = ["gcc", "-O3", "-c", f"{name}.c", "-o", f"{name}.o"]
    return subprocess.Popen([*cluster.launcher, *words], cwd=folder, env=env, stdin=subprocess.DEVNULL)


def done(process: subprocess.Popen[bytes]) -> None:
    assert process.wait(120) == 0


def test_a_queued_job_becomes_a_hit(tmp_path: Path) -> None:
    """A job that waits while another client stores its result is never run: its lease or its place is given up."""
    redis = tmp_path / "redis"
    redis.mkdir()
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "hot.c").write_text(HOT)
    (folders[0] / "first.c").write_text(SLOW)
    (folders[1] / "second.c").write_text("int second;\n")
    newest = max(path.stat().st_ctime_ns for path in tmp_path.rglob("*"))
    wait_for(lambda: time.time_ns() - newest > 50_000_000, "the sources are no news")
    with RedisServer(redis) as server:
        shared = {"SCCACHE_REDIS_ENDPOINT": f"redis://127.0.0.1:{server.port}"}
        with (
            Cluster(1, slots=1, cache=True, extra=shared) as cluster,
            cluster.another_client("other", shared) as other,
        ):
            one = cluster.env
            holding = begun(cluster, folders[0], "first", one)
            (worker,) = cluster.status().workers.values()
            (compiler,) = wait_for(lambda: compilers_below(worker.pid), "the only slot is taken")
            os.kill(compiler.pid, signal.SIGSTOP)
            before = begun(cluster, folders[1], "second", other)
            wait_for(lambda: queued(cluster) == 1, "the other client's first job waits")
            waiting = begun(cluster, folders[1], "hot", other)
            wait_for(lambda: queued(cluster) == 2, "and its second one behind it")
            # The result comes about without a slot of the cluster's.
            local = {**one, "SCCACHE_NO_DIST": "1"}
            done(begun(cluster, folders[0], "hot", local))
            wait_for(lambda: cluster.stats(one).told["stats"]["cache_writes"] == 1, "it is stored")
            assert holding.poll() is None, "the slot was to be held until here"
            os.kill(compiler.pid, signal.SIGCONT)
            for process in (holding, before, waiting):
                done(process)
            assert (folders[1] / "hot.o").read_bytes() == (folders[0] / "hot.o").read_bytes()
            theirs = cluster.stats(other)
            assert sum(theirs.told["stats"]["cache_hits"]["counts"].values()) == 1
            assert sum(theirs.told["stats"]["cache_misses"]["counts"].values()) == 1
            assert sum(theirs.dist_compiles.values()) == 1
            assert not theirs.local_compiles
            wait_for(lambda: cluster.busy_slots() == 0, "the lease was given back")
            assert queued(cluster) == 0
