"""A scheduler that dies while a build runs: alone, and with another beside it. The workers own their slots."""

from collections import Counter

import pytest
from support.cluster import wait_for
from support.farm import Farm
from support.farm.builds import Yard, seeds, standing_still

pytestmark = pytest.mark.root

NAMES = ("w1", "w2")
SLOTS = 2
UNITS = 16
SPINS = 60_000
AT_ONCE = 1.5


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    """A tree that every test leaves as it was."""
    return Yard(tmp_path_factory.mktemp("yard"), UNITS, SPINS)


@pytest.fixture(scope="module")
def alone():
    """One scheduler, two workers, a client."""
    with Farm() as started:
        started.workers(*NAMES, slots=SLOTS)
        started.client("c1")
        yield started


@pytest.fixture(scope="module")
def pair():
    """Two schedulers with which the workers are registered both, a client that knows both."""
    with Farm(schedulers=2) as started:
        started.workers(*NAMES, slots=SLOTS)
        started.client("c1")
        yield started


@pytest.mark.parametrize("seed", seeds())
def test_the_scheduler_is_killed_and_comes_back(alone, yard, tmp_path, seed):
    """What runs goes on and counts in its successor's books; who waits is served when it is there again."""
    scheduler, client = alone.scheduler, alone.client("c1")
    workers = alone.workers(*NAMES)
    with yard.build(client) as build:
        with standing_still(workers):
            wait_for(lambda: len(build.running()) == len(NAMES) * SLOTS, "the client knows that all of them run")
            wait_for(lambda: scheduler.status()["scheduler"]["queued"], "somebody waits")
            hit = build.running()
            assert len(hit) == len(NAMES) * SLOTS
            scheduler.kill()
            wait_for(lambda: _retried(build), "who waited has lost the link")
            scheduler.start()
            wait_for(lambda: scheduler.busy() == len(hit), "the new books hold what runs")
            wait_for(lambda: scheduler.status()["scheduler"]["queued"], "who waited asks the new one")
            assert build.events("job_done") == [] or not hit.keys() & _done(build)
        build.finish(tmp_path / "ours")
    assert hit.keys() <= _done(build)
    assert not hit.keys() & {(event["job_id"], event["attempt"]) for event in build.events("job_failed")}
    alone.free()


@pytest.mark.parametrize("seed", seeds())
def test_another_scheduler_takes_over_at_once(pair, yard, tmp_path, seed):
    """What runs goes on; who waited for the dead one has asked the other within a second or so."""
    first, second = pair.schedulers
    client = pair.client("c1")
    workers = pair.workers(*NAMES)
    began, earlier = first.mark(), second.mark()
    try:
        with yard.build(client) as build:
            with standing_still(workers):
                wait_for(lambda: first.status()["scheduler"]["queued"], "somebody waits at the first one")
                wait_for(lambda: len(build.running()) == len(NAMES) * SLOTS, "the client knows that all of them run")
                hit = build.running()
                waiting = first.status()["scheduler"]["queued"]
                first.kill()
                wait_for(lambda: second.status()["scheduler"]["queued"] >= waiting, "they wait at the second one", 10)
            build.finish(tmp_path / "ours")
        lost_link = min(event["epoch"] for event in build.events("job_failed"))
        asked = min(event["epoch"] for event in second.events("job_queued", since=earlier))
        assert asked - lost_link < AT_ONCE
        assert hit.keys() <= _done(build)
        assert not hit.keys() & {(event["job_id"], event["attempt"]) for event in build.events("job_failed")}
        # Whatever the first had not placed when it died, the second did; who waited at its death among them.
        by_first = {event["job_id"] for event in first.events("worker_accepted", since=began)}
        by_second = {event["job_id"] for event in second.events("worker_accepted", since=earlier)}
        assert by_second >= {event["job_id"] for event in build.events("job_done")} - by_first
        assert len(by_second) >= waiting
    finally:
        if not first.alive:
            first.start()
    pair.workers(*NAMES)
    pair.free()


def test_two_schedulers_fill_the_same_slots(pair, yard, tmp_path):
    """Two clients, each with a scheduler of its own: the workers say who gets a slot, and none has more than it has."""
    clients = [
        pair.client(f"c{number + 2}", tables={"dist": {"schedulers": [url]}}) for number, url in enumerate(pair.urls)
    ]
    workers = pair.workers(*NAMES)
    marks = [worker.mark() for worker in workers]
    other = Yard(tmp_path / "other", UNITS, SPINS)
    with yard.build(clients[0]) as build, other.build(clients[1]) as another:
        another.finish(tmp_path / "another")
        build.finish(tmp_path / "ours")
    refused = Counter(event["code"] for each in pair.schedulers for event in each.events("worker_refused"))
    assert refused["worker_full"] > 0, "the schedulers were never in each other's way"
    for worker, mark in zip(workers, marks, strict=True):
        at_once = most = 0
        ends = ("job_finished", "job_cancelled", "lease_expired", "lease_taken_back")
        for event in worker.events("lease_granted", *ends, since=mark):
            at_once += 1 if event["event"] == "lease_granted" else -1
            most = max(most, at_once)
        assert 1 <= most <= SLOTS
    pair.free()


def test_a_new_scheduler_waits_for_its_workers(alone, tmp_path):
    """Before ``settle_seconds`` are over a call waits, although no worker has registered yet; then it is served."""
    scheduler, client = alone.scheduler, alone.client("c1")
    workers = alone.workers(*NAMES)
    (tmp_path / "a.c").write_text("int a;\n")
    earlier = client.mark()
    for worker in workers:
        worker.stop()
    try:
        scheduler.kill()
        scheduler.start()
        scheduler.ready()
        with client.calling("gcc", "-c", "a.c", cwd=tmp_path) as call:
            wait_for(lambda: scheduler.status()["scheduler"]["queued"] == 1, "the call waits")
            assert scheduler.workers() == {}
            for worker in workers:
                worker.resume()
            assert call.wait(60) == 0
    finally:
        for worker in workers:
            worker.resume()
    (done,) = client.events("job_done", since=earlier)
    assert done["server_id"] in {worker.server_id for worker in workers}
    assert client.events("job_local", since=earlier) == []


def _done(build):
    return {(event["job_id"], event["attempt"]) for event in build.events("job_done")}


def _retried(build):
    return [event for event in build.events("job_retried") if event["code"] in {"connection_failed", "silence"}]
