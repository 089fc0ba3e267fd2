"""A farm that is full, and one that is empty: demand is shown and served, and falling back is right only here."""

import os
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.cluster import wait_for
from support.farm import TIMERS, Farm
from support.farm.builds import Yard, standing_still

pytestmark = pytest.mark.root

UNITS = 12
SPINS = 40_000
AT_ONCE = 1.0
LOCAL_SECONDS = 0.5


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    """A tree that every test leaves as it was."""
    return Yard(tmp_path_factory.mktemp("yard"), UNITS, SPINS)


def figures(scheduler):
    """Every sample of /metrics by its name without ours, and its label values."""
    found = {}
    for family in text_string_to_metric_families(scheduler.page("/metrics")):
        for sample in family.samples:
            found[(sample.name.removeprefix("sccache_twisted_"), *sample.labels.values())] = sample.value
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("allocate_seconds", "rounds"), [(0.5, 6), pytest.param(30.0, 6, marks=pytest.mark.full)], ids=["short", "minutes"]
)
def test_everything_full(yard, tmp_path, allocate_seconds, rounds):
    """The queue grows, /status and /metrics tell of it, and nothing is local however long it waits.

    A worker that joins takes from the queue at once.
    """
    timers = {**TIMERS, "scheduler": {**TIMERS["scheduler"], "allocate_seconds": allocate_seconds}}
    with Farm(timers=timers) as farm:
        workers = farm.workers("w1", "w2", slots=1)
        slots = len(workers)
        client = farm.client("c1")
        scheduler = farm.scheduler
        with yard.build(client, parallel=UNITS) as build:
            with standing_still(workers):

                def shown():
                    # A job may have ended just before its compiler could be stopped, so each look counts anew.
                    left = UNITS - len(build.events("job_done"))
                    told, found = scheduler.status(), figures(scheduler)
                    numbers = (left - slots, left, slots)
                    agree = numbers == tuple(told["scheduler"][name] for name in ("queued", "demand", "slots"))
                    agree = agree and numbers == (found["queued",], found["demand",], found["slots",])
                    return (left, told["queue"]) if agree and len(told["queue"]) == left - slots else None

                left, queue = wait_for(shown, "status and metrics tell that all others wait")
                assert left > slots
                assert {entry["label"].rpartition("/")[2] for entry in queue} < set(yard.tree.units)
                wait_for(
                    lambda: figures(scheduler)["allocations_total", "still_queued"] >= rounds * (left - slots),
                    "each has been told several times to wait on",
                    rounds * (allocate_seconds + 5),
                )
                assert build.events("job_local") == []
                done = len(build.events("job_done"))
                (joins,) = farm.workers("w3", slots=1)
                build.wait_for_done(done + 1)
            finished = build.finish(tmp_path / "ours")
        (came,) = (event for event in scheduler.events("worker_registered") if event["server_id"] == joins.server_id)
        first = min(
            event["epoch"] for event in scheduler.events("worker_asked") if event["server_id"] == joins.server_id
        )
        assert 0 <= first - came["epoch"] < AT_ONCE
        assert joins.server_id in {event["server_id"] for event in finished.values()}
        farm.free()


def test_a_newcomer_is_not_starved(tmp_path):
    """Four jobs of a client that comes late are done long before the thirty that another sent first."""
    with Farm() as farm:
        farm.workers("w1", slots=2)
        many, few = Yard(tmp_path / "many", 30, SPINS), Yard(tmp_path / "few", 4, SPINS)
        first, second = farm.client("c1"), farm.client("c2")
        with many.build(first, parallel=30) as large:
            wait_for(lambda: farm.scheduler.status()["scheduler"]["queued"] >= 20, "a long queue has formed")
            with few.build(second, parallel=4) as small:
                small.finish(tmp_path / "small")
            assert len(large.events("job_done")) < 25
            large.finish(tmp_path / "large")
        farm.free()


@pytest.fixture(scope="module")
def empty():
    """A scheduler that has been up for longer than ``settle_seconds``, and no worker."""
    with Farm() as farm:
        wait_for(
            lambda: farm.scheduler.status()["scheduler"]["uptime"] > TIMERS["scheduler"]["settle_seconds"],
            "the scheduler has settled",
        )
        yield farm


def test_no_worker_at_all(empty, tmp_path):
    """Within half a second a call compiles here, with its reason; with the first worker it is remote again."""
    client = empty.client("c1")
    (tmp_path / "a.c").write_text("int a;\n")
    # The first call makes the compiler's acquaintance.
    assert client.call("gcc", "-c", "a.c", cwd=tmp_path).returncode == 0
    seconds = []
    for _ in range(3):
        earlier, began = client.mark(), time.time()
        assert client.call("gcc", "-c", "a.c", cwd=tmp_path).returncode == 0
        (local,) = client.events("job_local", since=earlier)
        assert local["reason"] == "no_workers"
        seconds.append(local["epoch"] - began)
    assert min(seconds) < LOCAL_SECONDS
    assert client.stats()["local_compiles"] == {"no_workers": 4}
    (worker,) = empty.workers("w1")
    earlier = client.mark()
    assert client.call("gcc", "-c", "a.c", cwd=tmp_path).returncode == 0
    (done,) = client.events("job_done", since=earlier)
    assert done["server_id"] == worker.server_id
    assert worker.finish() == 0


def test_no_worker_and_no_fallback(empty, tmp_path):
    """With fallback = "never" the call fails with a sentence that says why, and leaves no output."""
    client = empty.client("c9", tables={"dist": {"fallback": "never"}})
    (tmp_path / "a.c").write_text("int a;\n")
    said = client.call("gcc", "-c", "a.c", cwd=tmp_path)
    assert said.returncode == 1
    assert said.stdout == b""
    (line,) = said.stderr.decode().splitlines()
    assert line.startswith("sccache-twisted: ")
    assert "No worker" in line
    assert os.listdir(tmp_path) == ["a.c"]
    assert client.events("job_local") == []
