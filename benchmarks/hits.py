"""Hits a second of one client daemon, with one process and with hit servers beside it, and what a hit costs of CPU.

Callers are processes that send a launcher's request over the daemon's socket, one after another, and check the answer:
so it is the daemon that is measured, and not the start of launchers. Each configuration has a daemon of its own on one
cache, and is measured in turn in each round, so that a drifting machine hits all alike. CPU is that of the daemon and
of its hit servers together, per hit.

    .venv/bin/python benchmarks/hits.py --processes 1,2,4 --callers 8 --seconds 5 --rounds 3
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sccache_twisted.wire import launcher as messages

LAUNCHER = Path(sys.executable).parent / "sccache-twisted"
START_SECONDS = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


def source(number: int, headers: int) -> str:
    """A unit that includes as many headers."""
    lines = [f'#include "h{one}.h"' for one in range(headers)]
    return "\n".join([*lines, f"int unit{number}(void) {{ return {number}; }}", ""])


def make_tree(root: Path, units: int, headers: int) -> None:
    """Units that include the same headers."""
    root.mkdir()
    for one in range(headers):
        (root / f"h{one}.h").write_text(f"#pragma once\nextern int h{one};\n")
    for number in range(units):
        (root / f"u{number}.c").write_text(source(number, headers))
    # The daemon trusts no file that is younger than its clock can tell.
    for path in root.iterdir():
        os.utime(path, (1_600_000_000, 1_600_000_000))


class Daemon:
    """A daemon with its configuration, on the cache that all share."""

    def __init__(self, home: Path, processes: int) -> None:
        self.processes = processes
        self.socket = home / f"s{processes}"
        config = home / f"client{processes}.toml"
        config.write_text(f"[server]\nprocesses = {processes}\nhit_servers_idle_seconds = 60\n")
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "SCCACHE_CONF": str(config),
            "SCCACHE_SERVER_UDS": str(self.socket),
            "SCCACHE_DIR": str(home / "cache"),
            "SCCACHE_DIST_CACHE_DIR": str(home / "toolchains"),
        }

    def command(self, *words: str) -> bytes:
        """Run the program with the daemon's environment."""
        return subprocess.run([LAUNCHER, *words], env=self.env, check=True, capture_output=True).stdout

    @property
    def pid(self) -> int:
        """The daemon's."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.fspath(self.socket))
            connection.sendall(messages.encode(messages.Query("ping")))
            said = b""
            while piece := connection.recv(1 << 16):
                said += piece
        message = messages.decode(said[4:5], said[5:])
        if not isinstance(message, messages.Answer):
            raise SystemExit("the daemon does not answer")
        return int(json.loads(message.text)["pid"])

    def hits(self) -> int:
        """Hits since the start."""
        stats = json.loads(self.command("--show-stats", "--stats-format", "json"))["stats"]
        return int(sum(stats["cache_hits"]["counts"].values()))


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *map(int, children)]


def cpu_seconds(pid: int) -> float:
    """What a process and its living children have had of the processors."""
    total = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def call(path: str, root: Path, env: list[bytes], units: int, until: float, first: int) -> int:
    """Ask for one unit after another until then; how many were answered."""
    done = 0
    while time.monotonic() < until:
        number = (first + done) % units
        words = (b"gcc", b"-c", b"u%d.c" % number, b"-o", b"o%d-%d.o" % (first, number))
        frame = messages.encode(messages.LaunchRequest(os.fsencode(root), 0o022, False, words, tuple(env)))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(frame)
            said = b""
            while piece := connection.recv(1 << 16):
                said += piece
        if said[4:5] != b"D":
            raise SystemExit(f"no hit: {said[:80]!r}")
        done += 1
    return done


def round_of(daemon: Daemon, root: Path, units: int, callers: int, seconds: float) -> tuple[int, float]:
    """Calls that many callers had answered in so many seconds, and the CPU of it."""
    env = [os.fsencode(f"{name}={value}") for name, value in daemon.env.items()]
    pid = daemon.pid
    before = cpu_seconds(pid)
    until = time.monotonic() + seconds
    with multiprocessing.Pool(callers) as pool:
        asked = [(os.fspath(daemon.socket), root, env, units, until, first) for first in range(callers)]
        done = sum(pool.starmap(call, asked, chunksize=1))
    return done, cpu_seconds(pid) - before


@contextlib.contextmanager
def started(home: Path, counts: list[int]) -> Iterator[list[Daemon]]:
    """The daemons, ended with the block."""
    daemons = [Daemon(home, count) for count in counts]
    try:
        for daemon in daemons:
            daemon.command("--start-server")
        yield daemons
    finally:
        for daemon in daemons:
            daemon.command("--stop-server")


def warm_up(daemon: Daemon, root: Path, units: int, callers: int) -> None:
    """Call until as many processes serve as there may be."""
    deadline = time.monotonic() + START_SECONDS
    while len(family(daemon.pid)) < daemon.processes:
        if time.monotonic() > deadline:
            raise SystemExit(f"the daemon started no hit servers in {START_SECONDS:.0f} s")
        round_of(daemon, root, units, callers, 1.0)
    round_of(daemon, root, units, callers, 1.0)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", default="1,2", help="how many processes serve, one configuration each")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--units", type=int, default=40)
    parser.add_argument("--headers", type=int, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hits-") as place:
        home = Path(place)
        root = home / "tree"
        make_tree(root, asked.units, asked.headers)
        with started(home, [int(count) for count in asked.processes.split(",")]) as daemons:
            for number in range(asked.units):
                words = ("gcc", "-c", f"u{number}.c", "-o", f"o{number}.o")
                subprocess.run([LAUNCHER, *words], cwd=root, env=daemons[0].env, check=True)
            for daemon in daemons:
                warm_up(daemon, root, asked.units, asked.callers)
            rates: dict[int, list[float]] = {daemon.processes: [] for daemon in daemons}
            costs: dict[int, list[float]] = {daemon.processes: [] for daemon in daemons}
            for _ in range(asked.rounds):
                for daemon in daemons:
                    before = daemon.hits()
                    done, cpu = round_of(daemon, root, asked.units, asked.callers, asked.seconds)
                    if daemon.hits() - before != done:
                        raise SystemExit("the daemon counts other hits than its callers")
                    rates[daemon.processes].append(done / asked.seconds)
                    costs[daemon.processes].append(1000 * cpu / done)
    print("| processes | hits/s | daemon CPU, ms per hit |\n|---|---|---|")
    for count, rate in rates.items():
        print(f"| {count} | {statistics.median(rate):.0f} | {statistics.median(costs[count]):.2f} |")


if __name__ == "__main__":
    main()
