"""What a process of ours costs while nobody needs it: memory, and how often it wakes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from lone_kit import lone_daemon
from support.cluster import Cluster, wait_for
from support.farm import TIMERS, Farm
from support.processes import with_variable, with_words

from sccache_twisted.client.rest import REST_SECONDS

MIB_IN_KIB = 1 << 10
DAEMON, DAEMON_LATER, WORKER = 60 * MIB_IN_KIB, 100 * MIB_IN_KIB, 80 * MIB_IN_KIB
DISTRIBUTING = 42 * MIB_IN_KIB
"""Of its own, with the links to a scheduler and the connections to workers, which only who has a scheduler imports.

What else is resident are pages of libraries' files. They are everybody's, and how many of them the kernel maps beside
those that are read depends on how the files lie in its cache: from 22 to 24 MiB for the same daemon in two checkouts.
"""

WATCHED_SECONDS = 3.0
NEEDLESS = """\
import os, sys
from twisted.internet import reactor
from sccache_twisted.plugins import client
from sccache_twisted.client import DaemonService
from sccache_twisted.config import ClientSettings
DaemonService(ClientSettings(cache_dir=sys.argv[1]), reactor, print, {"HOME": sys.argv[1]})
print("\\n".join(sys.modules))
"""
UNWANTED = [
    "hiredis",
    "botocore",
    "boto3",
    "moto",
    "treq",
    "klein",
    "hyperlink",
    "werkzeug",
    "rich",
    "prometheus_client",
    "twisted.web",
    "twisted.protocols.amp",
    "sccache_twisted.cli",
    "sccache_twisted.scheduler",
    "sccache_twisted.worker",
    "sccache_twisted.web",
    "sccache_twisted.wire.scheduling",
    "sccache_twisted.net.agent",
    "sccache_twisted.net.links",
    "sccache_twisted.net.listener",
    "sccache_twisted.storage.redis",
    "sccache_twisted.storage.s3",
    "sccache_twisted.storage.memcached",
    "sccache_twisted.storage.http",
    "sccache_twisted.storage.requests",
    "sccache_twisted.storage.dialing",
    "sccache_twisted.storage.breaker",
    "sccache_twisted.storage.memory",
    "sccache_twisted.toolchains.keep",
    "sccache_twisted.security.tokens",
    "sccache_twisted.client.cache.why",
    "sccache_twisted.client.dispatcher",
    "sccache_twisted.client.workers",
    "difflib",
]


def resident(pid: int, which: str = "Rss") -> int:
    """In KiB, counted page by page: the sums in /proc/PID/status lag behind by what each processor has not told."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{which}:"))
    return int(line.split()[1])


def wakes(pid: int) -> int:
    """How often the threads of a process have gone to sleep, and so have woken."""
    told = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in told)


def compile_and_tell(run, root: Path, count: int) -> None:
    """Compile so many files, each for the first time, and have written down what was noted of them."""
    for number in range(count):
        text = f'#include <stdio.h>\nint f{number}(void) {{ return printf("{number}"); }}\n'
        (root / f"a{number}.c").write_text(text)
    for number in range(count):
        run("gcc", "-c", f"a{number}.c")
    run("why", "a0.c")


def running(words, env, cwd):
    """A function that runs a command behind a launcher."""
    return lambda *argv: subprocess.run([*words, *argv], env=env, cwd=cwd, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("count", "bound"),
    [(10, DAEMON), pytest.param(1000, DAEMON_LATER, marks=pytest.mark.full)],
    ids=["ten", "thousand"],
)
def test_a_daemon_with_the_disk_s_cache_is_small(tmp_path, count, bound):
    """At rest after its first ten jobs it takes 60 MiB, after a thousand 100."""
    with lone_daemon(tmp_path / "client") as client:
        compile_and_tell(running(client.launcher, client.env, tmp_path), tmp_path, count)
        assert client.stats()["compile_requests"] == count
        wait_for(lambda: resident(client.pid) <= bound, f"the daemon takes {bound} KiB at rest")


@pytest.mark.parametrize(
    ("count", "which", "bound"),
    [(10, "Anonymous", DISTRIBUTING), pytest.param(1000, "Rss", DAEMON_LATER, marks=pytest.mark.full)],
    ids=["ten", "thousand"],
)
def test_a_daemon_that_distributes_and_a_worker_are_small(tmp_path, count, which, bound):
    """A worker takes 80 MiB; a daemon at rest little more than one that has no scheduler."""
    with Cluster(1, slots=2, cache=True) as cluster:
        compile_and_tell(running(cluster.launcher, cluster.env, tmp_path), tmp_path, count)
        assert cluster.stats().dist_compiles == {"worker-1": count}
        ours = set(with_variable("SCCACHE_SERVER_UDS", cluster.env["SCCACHE_SERVER_UDS"]))
        (daemon,) = ours & set(with_words(b"sccache-client"))
        wait_for(lambda: resident(daemon, which) <= bound, f"the daemon takes {bound} KiB at rest")
        (worker,) = cluster.status().workers.values()
        assert resident(worker.pid) <= WORKER


def test_a_daemon_imports_what_it_uses(tmp_path):
    """Without a scheduler and with the disk alone, no other store, no HTTPS, no AMP and no other role is imported."""
    done = subprocess.run(
        [sys.executable, "-c", NEEDLESS, str(tmp_path)], cwd="/", capture_output=True, text=True, timeout=60, check=True
    )
    found = done.stdout.split()
    assert "sccache_twisted.storage.disk" in found
    assert [name for name in found if name in UNWANTED] == []


def at_rest(pid: int) -> None:
    """Wait until a process has not woken for longer than it waits before it tidies up."""
    last = [-1.0, 0.0]

    def still() -> bool:
        now = wakes(pid)
        if now != last[0]:
            last[:] = [now, time.monotonic()]
        return time.monotonic() - last[1] > REST_SECONDS + 0.5

    wait_for(still, f"{pid} is at rest")


def woken(*pids: int) -> list[int]:
    """How often each process wakes in the next seconds: a length of time is what is asked about."""
    before = [wakes(pid) for pid in pids]
    time.sleep(WATCHED_SECONDS)
    return [wakes(pid) - past for pid, past in zip(pids, before, strict=True)]


def test_a_daemon_without_a_scheduler_sleeps(tmp_path):
    """When it has noted its last job it does not wake at all."""
    with lone_daemon(tmp_path / "client") as client:
        compile_and_tell(running(client.launcher, client.env, tmp_path), tmp_path, 1)
        at_rest(client.pid)
        assert woken(client.pid) == [0]


@pytest.mark.root
def test_nobody_wakes_for_more_than_keep_alives(tmp_path):
    """Timers, answers and the peer's own pings explain it; one that wakes ten times a second besides would show."""
    intervals = WATCHED_SECONDS / float(TIMERS["client"]["ping_seconds"])
    assert TIMERS["worker"]["heartbeat_seconds"] == TIMERS["client"]["ping_seconds"]
    with Farm() as farm:
        worker, client = farm.worker("w"), farm.client("c")
        farm.registered(worker)
        client.ready()
        (tmp_path / "a.c").write_text("int a;\n")
        assert client.call("gcc", "-c", "a.c", cwd=tmp_path).returncode == 0
        client.call("why", "a.c", cwd=tmp_path)
        wait_for(lambda: farm.scheduler.busy() == 0, "the job is over")
        # A ping and its answer, and the peer's; a worker has heartbeats besides, a scheduler two links.
        bounds = [4 * intervals, 8 * intervals, 8 * intervals]
        found = woken(client.pid, worker.pid, farm.scheduler.pid)
        assert all(found), "they do keep each other alive"
        assert [each <= bound for each, bound in zip(found, bounds, strict=True)] == [True] * 3, found
