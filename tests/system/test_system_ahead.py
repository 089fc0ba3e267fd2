"""Slots that are held ahead of their jobs, on real processes: what they save, and that they are in nobody's way.

A preprocessor is held up at a named pipe in the place of a header; before it goes on, a regular file takes that place.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cluster import Cluster, wait_for

TEXT = "static int twice(int x) { return 2 * x; }\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One worker with one slot, which has the compiler already."""
    with Cluster(1, slots=1, extra={"SCCACHE_LOG": "debug"}) as started:
        place = started.directory / "warm"
        place.mkdir()
        (place / "warm.c").write_text("int warm;\n")
        compile_(started, place, "warm.c")
        yield started


def compile_(cluster: Cluster, place: Path, name: str, env: dict[str, str] | None = None) -> None:
    command = [*cluster.launcher, "gcc", "-c", name]
    subprocess.run(command, cwd=place, env=env or cluster.env, check=True, timeout=60)


class Held:
    """A compilation whose preprocessor stands still until it is let go."""

    def __init__(self, place: Path, name: str) -> None:
        place.mkdir()
        self.place = place
        self.name = name
        (place / name).write_text(f'#include "held.h"\nint {Path(name).stem}(int x) {{ return twice(x); }}\n')
        (place / "real.h").write_text(TEXT)
        self.header = place / "held.h"
        os.mkfifo(self.header)

    @contextlib.contextmanager
    def compiling(self, cluster: Cluster) -> Iterator[subprocess.Popen[bytes]]:
        command = [*cluster.launcher, "gcc", "-c", self.name]
        with subprocess.Popen(command, cwd=self.place, env=cluster.env, start_new_session=True) as running:
            try:
                yield running
            finally:
                if running.poll() is None:
                    os.killpg(running.pid, signal.SIGKILL)

    def let_go(self) -> None:
        """Put a regular file into the pipe's place; then whoever has opened the pipe reads the same from it."""
        with open(self.header, "wb") as pipe:
            os.rename(self.place / "real.h", self.header)
            pipe.write(TEXT.encode())

    def events(self, cluster: Cluster, process: str = "client") -> list[dict[str, Any]]:
        """What a process says of this compilation."""
        label = str(self.place / self.name)
        found = [event for event in cluster.log_events("client") if event.get("label") == label]
        jobs = {event["job_id"] for event in found if event["event"] == "lease_ahead"}
        return [event for event in cluster.log_events(process) if event.get("job_id") in jobs]

    def wait_until_held(self, cluster: Cluster) -> dict[str, Any]:
        """The event of its slot being leased, while it is not prepared."""
        return wait_for(
            lambda: next((each for each in self.events(cluster) if each["event"] == "worker_accepted"), None),
            "its slot is leased ahead",
        )

    def is_exact(self) -> bool:
        """Whether its object is the compiler's own."""
        ours = (self.place / self.name).with_suffix(".o").read_bytes()
        alone = self.place / "alone.o"
        subprocess.run(["gcc", "-c", self.name, "-o", alone.name], cwd=self.place, check=True)
        return ours == alone.read_bytes()


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


def free(cluster: Cluster) -> None:
    """Wait until no slot is taken, not for as long as a lease lasts."""
    wait_for(lambda: cluster.busy_slots() == 0, "the slot is free", timeout=2.0)


def test_a_warm_job_is_posted_when_it_is_prepared(cluster: Cluster, tmp_path: Path) -> None:
    """The worker has accepted before the preprocessor ends; then nothing is asked but the job's own request."""
    held = Held(tmp_path / "one", "one.c")
    with held.compiling(cluster) as running:
        accepted = held.wait_until_held(cluster)
        before = names(held.events(cluster, "scheduler"))
        assert running.poll() is None, "its preprocessor has not ended"
        held.let_go()
        assert running.wait(timeout=60) == 0
    (worker,) = cluster.status().workers.values()
    assert accepted["server_id"] == worker.server_id
    mine = held.events(cluster)
    assert {event["attempt"] for event in mine} == {1}
    assert names(mine)[:2] == ["lease_ahead", "worker_accepted"]
    assert names(mine).count("worker_accepted") == 1
    done = next(event for event in mine if event["event"] == "job_done")
    assert done["server_id"] == worker.server_id
    assert before == ["worker_asked", "worker_accepted"]
    assert names(held.events(cluster, "scheduler")) == before, "the scheduler was asked again"
    assert held.is_exact()
    free(cluster)


def test_a_slot_held_ahead_serves_whoever_is_ready(cluster: Cluster, tmp_path: Path) -> None:
    """Of two clients with one slot, one holds it ahead: it is taken back for the other's job, and both finish well."""
    held = Held(tmp_path / "two", "two.c")
    other = tmp_path / "other"
    other.mkdir()
    (other / "ready.c").write_text("int ready;\n")
    with cluster.another_client("ready") as env, held.compiling(cluster) as running:
        accepted = held.wait_until_held(cluster)
        compile_(cluster, other, "ready.c", env)
        assert running.poll() is None, "the other job did not wait for this one"
        stats = cluster.stats(env)
        assert sum(stats.dist_compiles.values()) == 1
        assert (stats.told["stats"]["dist_errors"], stats.dist_retries, stats.local_compiles) == (0, 0, {})
        held.let_go()
        assert running.wait(timeout=60) == 0
    for process in ("client", "scheduler", "worker-1"):
        taken = [event for event in held.events(cluster, process) if event["event"] == "lease_taken_back"]
        found = [(event["attempt"], event["server_id"]) for event in taken]
        assert found == [(1, accepted["server_id"])], process
    done = next(event for event in held.events(cluster) if event["event"] == "job_done")
    assert (done["attempt"], done["server_id"]) == (2, accepted["server_id"])
    assert not {"job_failed", "job_retried", "job_local"} & set(names(held.events(cluster)))
    stats = cluster.stats()
    assert (stats.told["stats"]["dist_errors"], stats.dist_retries, stats.local_compiles) == (0, 0, {})
    assert held.is_exact()
    free(cluster)


def test_a_hit_gives_its_slot_back_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """A result that the preprocessed text finds needs no slot: the one it asked for serves the next job."""
    place = tmp_path / "hits"
    place.mkdir()
    with cluster.another_client("caching", {"SCCACHE_CACHE_SIZE": "100M"}) as env:
        # A daemon that has no link yet asks for nothing ahead.
        (place / "first.c").write_text("int first;\n")
        settled(place / "first.c")
        compile_(cluster, place, "first.c", env)
        for number, text in enumerate(("int a; // one\n", "int a; // another\n")):
            (place / "a.c").write_text(text)
            settled(place / "a.c")
            compile_(cluster, place, "a.c", env)
            wait_for(lambda: cluster.stats(env).told["stats"]["cache_writes"] == 2, "the result is stored")
            assert sum(cluster.stats(env).told["stats"]["cache_hits"]["counts"].values()) == number
        log = cluster.log_events("caching")
        label = str(place / "a.c")
        first, second = [each["job_id"] for each in log if each["event"] == "lease_ahead" and each["label"] == label]
        mine = {job: [event["event"] for event in log if event.get("job_id") == job] for job in (first, second)}
        assert mine[first][-1] == "job_done"
        assert mine[second][-1] == "lease_given_back"
        assert "job_done" not in mine[second]
        free(cluster)
        (place / "b.c").write_text("int b;\n")
        compile_(cluster, place, "b.c", env)
        assert sum(cluster.stats(env).dist_compiles.values()) == 3


def settled(path: Path) -> None:
    """Wait until a file is no news any more: what is too new is not stored."""
    changed = path.stat().st_ctime_ns
    wait_for(lambda: time.time_ns() - changed > 50_000_000, "the file has been there for a moment")


def test_a_cancelled_call_leaves_no_lease(cluster: Cluster, tmp_path: Path) -> None:
    """Whoever interrupts a build whose preprocessor still runs frees the slot that was held for it."""
    held = Held(tmp_path / "gone", "gone.c")
    with held.compiling(cluster) as running:
        accepted = held.wait_until_held(cluster)
        assert cluster.busy_slots() == 1
        os.killpg(running.pid, signal.SIGINT)
        running.wait(timeout=10)
        free(cluster)
    given = [event for event in held.events(cluster) if event["event"] == "lease_given_back"]
    assert [(event["attempt"], event["server_id"]) for event in given] == [(1, accepted["server_id"])]
    assert not (held.place / "gone.o").exists()
