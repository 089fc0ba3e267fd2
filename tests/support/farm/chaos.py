"""Chaos: one build after another while workers and the scheduler are hit at random, from a seed.

    make chaos SECONDS=120 SEED=7

A worker is killed, told to leave, stopped, cut off, or a new one started; now and then the scheduler is killed and
started anew. One worker is always left in peace, which is all that the first promise asks for: nothing may compile on
the client, nothing fail, and every object must be the compiler's own. Status 1 if that does not hold.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from attrs import field, frozen

from support.cluster import wait_for
from support.farm import Client, Farm, Worker
from support.farm.builds import Yard

UNITS = 24
SPINS = 60_000
MOST = 6
LONGEST_PAUSE = 6
LEAST_KINDS = 3
_SETTLED_SECONDS = 120.0


@frozen
class Story:
    """What happened: ``jobs`` that were done, by server; attempts that failed, by code; faults by name."""

    seed: int
    seconds: float
    builds: int
    jobs: Counter[str]
    failed: Counter[str]
    local: Counter[str]
    faults: Counter[str]

    def told(self) -> str:
        """The story for a person."""
        rows = {
            "jobs done": f"{self.jobs.total()} in {self.builds} builds, on {len(self.jobs)} servers",
            "faults": _listed(self.faults),
            "failed attempts": _listed(self.failed),
            "compiled on the client": _listed(self.local),
        }
        title = f"{self.seconds:.0f} s of chaos with seed {self.seed}"
        return "\n".join([title, *(f"  {name:<24}{text}" for name, text in rows.items())])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


@frozen
class Struck:
    """A worker that is stopped or cut off, and how it comes to itself."""

    worker: Worker
    heal: Callable[[], None]


@frozen
class Chaos:
    """A farm, a build that never ends, and a hand that strikes. ``at_peace`` is never struck."""

    farm: Farm
    client: Client
    at_peace: Worker
    draw: random.Random
    faults: Counter[str] = field(factory=Counter)
    struck: list[Struck] = field(factory=list)

    def go_on(self, building: "Future[int]", seconds: float) -> None:
        """Strike until the time is over and jobs were hit by several faults, or the build has ended; then heal all."""
        ends = time.monotonic() + seconds
        try:
            while not building.done() and (time.monotonic() < ends or not self._was_felt()):
                assert time.monotonic() < ends + _SETTLED_SECONDS, "no job was ever hit"
                self._strike()
                self._let_work(self.draw.randrange(LONGEST_PAUSE), building)
                if self.struck and self.draw.random() < 0.5:
                    self._heal(self.draw.randrange(len(self.struck)))
        finally:
            while self.struck:
                self._heal(0)

    def _was_felt(self) -> bool:
        return len(self.faults) >= LEAST_KINDS and bool(self.client.events("job_failed"))

    def _strike(self) -> None:
        names = [f"w{number}" for number in range(2, MOST + 1)]
        busy = {each.worker.name for each in self.struck}
        worker = self.farm.worker(self.draw.choice([name for name in names if name not in busy] or names), start=False)
        if worker.name in busy:
            return
        if not worker.alive:
            self._count("worker started")
            self.farm.worker(worker.name)
            worker.ready()
            return
        what = self.draw.choices(("kill", "leave", "stop", "cut", "scheduler"), (3, 3, 2, 2, 1))[0]
        if what == "kill":
            self._count("worker killed")
            worker.kill()
        elif what == "leave":
            self._count("worker told to leave")
            assert worker.finish() == 0
        elif what == "stop":
            self._count("worker stopped")
            worker.stop()
            self.struck.append(Struck(worker, worker.resume))
        elif what == "cut":
            self._count("worker cut off")
            worker.host.cut()
            self.struck.append(Struck(worker, worker.host.mend))
        else:
            self._count("scheduler killed")
            self.farm.scheduler.kill()
            self.farm.scheduler.start()
            self.farm.scheduler.ready()

    def _count(self, fault: str) -> None:
        self.faults[fault] += 1

    def _heal(self, index: int) -> None:
        self.struck.pop(index).heal()

    def _let_work(self, jobs: int, building: "Future[int]") -> None:
        before = len(self.client.events("job_done"))
        wait_for(
            lambda: building.done() or len(self.client.events("job_done")) >= before + jobs,
            f"{jobs} more jobs are done",
            _SETTLED_SECONDS,
        )


def chaos(farm: Farm, yard: Yard, directory: Path, seconds: float, seed: int) -> Story:
    """Build and strike for ``seconds``; AssertionError if a build is not what it would be in peace."""
    client = farm.client("chaos")
    (at_peace,) = farm.workers("w1")
    over = threading.Event()
    began, earlier = time.monotonic(), client.mark()

    def build_on_and_on() -> int:
        builds = 0
        while not over.is_set():
            with yard.build(client) as build:
                build.finish(directory / str(builds))
            builds += 1
        return builds

    hand = Chaos(farm, client, at_peace, random.Random(seed))
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(build_on_and_on)
        try:
            hand.go_on(building, seconds)
        finally:
            over.set()
        builds = building.result()
    farm.free()
    told = client.events(since=earlier)

    def counted(name: str, key: str) -> Counter[str]:
        return Counter(event[key] for event in told if event.get("event") == name)

    return Story(
        seed,
        time.monotonic() - began,
        builds,
        counted("job_done", "server_id"),
        counted("job_failed", "code"),
        counted("job_local", "reason"),
        hand.faults,
    )


def main() -> int:
    """Run it, and tell."""
    parser = argparse.ArgumentParser(description="Builds under random faults.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if os.getuid() != 0:
        sys.stderr.write("chaos cuts networks, for which it must be root.\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="chaos-") as place, Farm() as farm:
        os.chmod(place, 0o755)
        story = chaos(farm, Yard(Path(place), UNITS, SPINS), Path(place), options.seconds, options.seed)
    sys.stdout.write(f"{story.told()}\n")
    return 1 if story.local else 0


if __name__ == "__main__":
    sys.exit(main())
