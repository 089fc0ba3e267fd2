"""Workers that are killed, stand still or are cut off: before a build, during it, and as a matter of routine.

Whatever the fault, nothing compiles on the client, nothing fails, and every object is the compiler's own. Each test
proves from the logs that its fault hit jobs in the phase that it names.
"""

import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from attrs import frozen
from support.cluster import wait_for
from support.farm import Farm
from support.farm.builds import TRANSPORT, Yard, seeds, standing_still, struck

pytestmark = pytest.mark.root

NAMES = ("w1", "w2", "w3")
UNITS = 24
SPINS = 120_000


@pytest.fixture(scope="module")
def farm():
    """A scheduler, three workers with two slots each, and a client."""
    with Farm() as started:
        started.workers(*NAMES)
        started.client("c1")
        yield started


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    """A tree that every test leaves as it was."""
    return Yard(tmp_path_factory.mktemp("yard"), UNITS, SPINS)


@pytest.fixture
def workers(farm):
    """All workers, alive and well."""
    return {worker.name: worker for worker in farm.workers(*NAMES)}


@frozen
class Fault:
    """Something that happens to a worker, and its end."""

    name: str

    def strike(self, worker):
        {"KILL": worker.kill, "STOP": worker.stop, "CUT": worker.host.cut}[self.name]()

    def end(self, worker):
        if self.name == "STOP":
            worker.resume()
        elif self.name == "CUT":
            worker.host.mend()


FAULTS = [pytest.param(Fault(name), id=name) for name in ("KILL", "STOP", "CUT")]


@contextmanager
def ending(fault, victims):
    """What was struck in the block is well again after it, and holds nothing any more."""
    try:
        yield
    finally:
        for victim in victims:
            fault.end(victim)


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("fault", FAULTS)
def test_two_of_three_workers_are_lost_before_a_build(farm, yard, workers, tmp_path, fault, seed):
    """The build begins at once after the fault, and all of it runs on the one that is left."""
    draw = random.Random(seed)
    client = farm.client("c1")
    *victims, survivor = draw.sample(list(workers.values()), 3)
    lost = {victim.server_id for victim in victims}
    earlier = farm.scheduler.mark()
    with ending(fault, victims):
        for victim in victims:
            fault.strike(victim)
        with yard.build(client) as build:
            done = build.finish(tmp_path / "ours")
    assert {event["server_id"] for event in done.values()} == {survivor.server_id}
    told = farm.scheduler.events(since=earlier)
    suspected = [event["server_id"] for event in told if event.get("event") == "worker_suspect"]
    assert set(suspected) == lost
    if fault.name == "KILL":
        # A dead worker's connections close, so the scheduler knew before it was first asked.
        first_asked = next(at for at, event in enumerate(told) if event.get("event") == "worker_asked")
        assert lost <= {event.get("server_id") for event in told[:first_asked]}
    else:
        # The others look alive: a job was meant for each of them, and went to the next best.
        in_vain = [event for event in told if event.get("event") == "worker_refused" and event["code"] == "silence"]
        assert {event["server_id"] for event in in_vain} == lost
        assert {event["job_id"] for event in in_vain} <= done.keys()
    farm.free()


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("fault", FAULTS)
def test_two_of_three_workers_are_lost_during_a_build(farm, yard, workers, tmp_path, fault, seed):
    """At random moments, with compilers running there; one that comes back to itself does no harm."""
    draw = random.Random(seed)
    client = farm.client("c1")
    *victims, survivor = draw.sample(list(workers.values()), 3)
    lost = {victim.server_id for victim in victims}
    hit = {}
    with ending(fault, victims), yard.build(client) as build:
        build.wait_for_done(draw.randrange(UNITS // 4))
        with standing_still(victims):
            for victim in victims:
                wait_for(lambda victim=victim: len(build.running(victim.server_id)) == victim.slots, "it compiles")
                hit |= build.running(victim.server_id)
                fault.strike(victim)
            # The client has given them up. What they still hold must not come back when they do.
            wait_for(lambda: hit.keys() <= _ended(build), "the client has given up what ran there", 60)
        if fault.name != "KILL":
            for victim in victims:
                fault.end(victim)
        done = build.finish(tmp_path / "ours")
    failed = struck(build, hit, TRANSPORT)
    assert {event["server_id"] for event in failed.values()} == lost
    assert survivor.server_id in {event["server_id"] for event in done.values()}
    farm.free()
    if fault.name != "KILL":
        for victim in victims:
            assert farm.registered(victim) == victim.server_id


def _ended(build):
    return {(event["job_id"], event["attempt"]) for event in build.events("job_done", "job_failed")}


def _build_on_and_on(yard, client, directory, over):
    """One build after another until it is over; every job_done. More jobs than slots, so that nobody is idle."""
    jobs = []
    while not over.is_set():
        with yard.build(client, parallel=UNITS) as build:
            jobs.extend(build.finish(directory / str(len(jobs))).values())
    return jobs


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("cycles", "most", "seed"), [(2, 3, 0), *(pytest.param(10, 6, seed, marks=pytest.mark.full) for seed in range(20))]
)
def test_scale_out_and_scale_in(farm, yard, tmp_path, cycles, most, seed):
    """Under a continuous build the farm grows from one worker and shrinks to one again, by TERM and by KILL."""
    draw = random.Random(seed)
    client = farm.client("c1")
    (stays,) = farm.workers("w1")
    for name in NAMES[1:]:
        worker = farm.worker(name, start=False)
        if worker.alive:
            worker.finish()
    names = [f"w{number}" for number in range(2, most + 1)]
    earlier = client.mark()
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(_build_on_and_on, yard, client, tmp_path, over)
        try:
            for cycle in range(cycles):
                grown = farm.workers(*names)
                ids = {worker.server_id for worker in grown}
                wait_for(
                    lambda ids=ids: (
                        ids <= {event["server_id"] for event in client.events("job_done", since=earlier)}
                        or building.done()
                    ),
                    "every new worker has done a job",
                    120,
                )
                draw.shuffle(grown)
                for number, worker in enumerate(grown):
                    if (cycle + number) % 2:
                        worker.kill()
                    else:
                        assert worker.finish(signal.SIGTERM) == 0
        finally:
            over.set()
        jobs = building.result()
    assert len(jobs) >= UNITS * cycles
    by_worker = {event["server_id"] for event in jobs}
    assert len(by_worker) == 1 + cycles * len(names)
    assert stays.server_id in by_worker
    # Who was told to leave lost nothing; who was killed had jobs in hand at least once.
    failed = client.events("job_failed", since=earlier)
    assert {event["code"] for event in failed} <= TRANSPORT | {"worker_draining", "unknown_attempt"}
    farm.free()
