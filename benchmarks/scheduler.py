"""What an allocation costs the scheduler, with clusters of several sizes.

    python benchmarks/scheduler.py [--workers 10 100 1000] [--seconds 10]

A real ``twistd sccache-scheduler``, tokens and TLS on, logging as it does by default; a swarm of simulated workers
and clients on real sockets (swarm.py). For each size:

* *idle*: CPU of the scheduler with all workers connected and nothing to do, heartbeats each second;
* *CPU*: of the scheduler for one complete allocation (AllocateJob, AssignJob, two JobStates, ReportJob), without the
  idle cost, at 70 % of its ceiling; *the ceiling* is how many fit into one core beside the idle cost;
* *latency*: from AllocateJob to its answer at that rate, arrivals at random moments (Poisson);
* *memory*: the scheduler's RSS at the end.

``--profile FILE`` keeps the scheduler's own cProfile.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peers
from attrs import frozen
from swarm import Door, Swarm

from sccache_twisted.security.invitations import Invitation

PROGRAMS = Path(sys.executable).parent
SLOTS = 8
CLIENTS = 16
JOB_SECONDS = 0.2
WARM_SECONDS = 3.0
IDLE_SECONDS = 5.0
FIRST_RATE = 400.0


@frozen
class Row:
    """One size of cluster. Times in seconds."""

    workers: int
    idle: float
    each: float
    rate: float
    allocations: int
    median: float
    p99: float
    rss: int

    @property
    def ceiling(self) -> float:
        """Allocations per second that fill one core."""
        return (1 - self.idle) / self.each


@contextmanager
def scheduler(place: Path, profile: str) -> Iterator[tuple[int, Door]]:
    """A scheduler and the way into it; its pid."""
    port, pages = peers.free_port(), peers.free_port()
    config = place / "scheduler.toml"
    config.write_text(
        f'[scheduler]\nlisten = "tcp:{port}:interface=127.0.0.1"\npublic = "127.0.0.1:{port}"\n'
        f'http = "tcp:{pages}:interface=127.0.0.1"\nstate_dir = "{place}/state"\n'
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("SCCACHE_")}
    kept = ["--profile", profile, "--profiler=cprofile", "--savestats"] if profile else []
    argv = [str(PROGRAMS / "twistd"), "--nodaemon", "--pidfile=", *kept, "sccache-scheduler", "--config", str(config)]
    with peers.background(argv, place / "scheduler.err", env=env, cwd="/") as process:
        peers.wait_for("the scheduler", lambda: peers.listens(process.pid, port))
        client, worker = (_invited(config, role) for role in ("client", "worker"))
        yield process.pid, Door(client.address, client.token, worker.token)


def _invited(config: Path, role: str) -> Invitation:
    argv = [str(PROGRAMS / "sccache-twisted"), "invite", role, "--config", str(config)]
    return Invitation.parse(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip())


def measure(workers: int, seconds: float, profile: str) -> Row:
    """Measure one size."""
    with tempfile.TemporaryDirectory() as place, scheduler(Path(place), profile) as (pid, door):
        swarm = Swarm(door, workers, SLOTS if workers > 50 else SLOTS * 50, CLIENTS, JOB_SECONDS)
        arrivals = Arrivals(swarm)
        swarm.run(WARM_SECONDS)
        idle = _cpu_while(pid, swarm, IDLE_SECONDS) / IDLE_SECONDS
        rate = FIRST_RATE
        for _ in range(2):  # the second time at 70 % of what the first has shown
            arrivals.set(rate)
            swarm.run(WARM_SECONDS)
            swarm.measured.latencies.clear()
            ended = swarm.measured.ended
            used = _cpu_while(pid, swarm, seconds)
            count = swarm.measured.ended - ended
            each = (used - idle * seconds) / count
            measured, shown = rate, list(swarm.measured.latencies)
            rate = 0.7 * (1 - idle) / each
        swarm.close()
        cuts = statistics.quantiles(shown, n=100)
        rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return Row(workers, idle, each, measured, count, statistics.median(shown), cuts[98], rss)


class Arrivals:
    """Jobs that begin at random moments."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._rate = 0.0
        self._number = 0
        self._random = random.Random(7)
        self._running = False

    def set(self, rate: float) -> None:
        """Begin ``rate`` jobs per second from now on."""
        self._rate = rate
        if not self._running:
            self._running = True
            self._next()

    def _next(self) -> None:
        self._swarm.later(self._random.expovariate(self._rate), self._begin)

    def _begin(self) -> None:
        self._number += 1
        self._swarm.begin_job(self._number)
        self._next()


def _cpu_while(pid: int, swarm: Swarm, seconds: float) -> float:
    before = peers.cpu_seconds(pid)
    swarm.run(seconds)
    return peers.cpu_seconds(pid) - before


def table(rows: list[Row]) -> str:
    """The figures as a table."""
    lines = [
        "| workers | idle CPU | CPU per allocation | ceiling | measured at | median | p99 | RSS |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.workers:,} | {row.idle:.1%} | {row.each * 1000:.2f} ms | {row.ceiling:,.0f}/s | {row.rate:,.0f}/s "
        f"| {row.median * 1000:.1f} ms | {row.p99 * 1000:.1f} ms | {row.rss >> 20} MB |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--profile", default="", metavar="FILE")
    options = parser.parse_args()
    print(table([measure(workers, options.seconds, options.profile) for workers in options.workers]))


if __name__ == "__main__":
    main()
