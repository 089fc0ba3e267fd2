"""Clients that vanish: in the queue, while they upload, while their job runs; and one that never comes for its slot.

Killed, a client's place or slot is free within two seconds; stopped or cut off, as soon as nothing has been heard from
it for long enough. Nobody else notices, and a client that comes back to itself ends its calls rightly.
"""

import platform
import signal
from contextlib import ExitStack, contextmanager

import pytest
from attrs import frozen
from bad_input_kit import ScriptedPeer
from support import jobs
from support.cluster import wait_for
from support.farm import TIMERS, Farm
from support.farm.builds import seeds
from support.processes import compilers_below
from support.small import FOR_EVER, slow_tree

from sccache_twisted.wire import scheduling as messages

pytestmark = pytest.mark.root

KILLED_SECONDS = 2.0
LOST_SECONDS = TIMERS["worker"]["tcp_user_timeout_seconds"] + 3.0
"""Of short timers: the longest after which something is lost, a look at it, and a busy machine."""
DEFAULT_LOST_SECONDS = 20.0
CLAIM_SLACK_SECONDS = 3.0
SPINS = 40_000


@frozen
class Fault:
    """Something that happens to a client, and its end."""

    name: str

    def strike(self, client):
        if self.name == "KILL":
            client.kill()
        elif self.name == "STOP":
            client.send(signal.SIGSTOP)
        else:
            client.host.cut()

    def end(self, client):
        if self.name == "STOP":
            client.send(signal.SIGCONT)
        elif self.name == "CUT":
            client.host.mend()


FAULTS = [pytest.param(Fault(name), id=name) for name in ("KILL", "STOP", "CUT")]


# --- who is there ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def farm():
    """A scheduler, a worker with two slots, and a client that stays."""
    with staffed() as started:
        yield started


@contextmanager
def staffed(timers=TIMERS):
    with Farm(timers=timers) as started:
        started.workers("w1")
        started.client("stays")
        yield started


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Units whose compilers take as long as they are told."""
    return slow_tree(tmp_path_factory.mktemp("tree"), 6)


class Calls:
    """Calls of one client's, made now: one for each of these units."""

    def __init__(self, client, tree, units, spins, stack):
        self.client = client
        self.since = client.mark()
        limits = (f"-fconstexpr-ops-limit={FOR_EVER}", f"-fconstexpr-loop-limit={FOR_EVER}")
        words = ("g++", "-std=c++17", *limits, f"-DSPINS={spins}", "-c")
        self.running = [
            stack.enter_context(client.calling(*words, unit, "-o", f"{unit}.{client.name}.o", cwd=tree.root))
            for unit in units
        ]

    def events(self, *names):
        return self.client.events(*names, since=self.since)

    def begun(self):
        """The attempts whose compilers run."""
        return jobs.running(self.events())

    def wait_until_begun(self):
        """Wait until all of them run on workers."""
        wait_for(lambda: len(self.begun()) == len(self.running), "the compilers run", 60)
        return self.begun()

    def undisturbed(self):
        """Whether all of them run as before."""
        return len(self.begun()) == len(self.running) and not self.events("job_failed", "job_local", "job_cancelled")

    def end(self):
        """Interrupt them, as ^C does."""
        for call in self.running:
            call.kill()
        wait_for(lambda: not self.begun(), "they are cancelled")

    def finish(self):
        """Each ends well, was done by a worker, and once."""
        for call in self.running:
            said, _ = call.communicate(timeout=120)
            assert (call.returncode, said) == (0, b"")
        assert self.events("job_local") == []
        done = [event["job_id"] for event in self.events("job_done")]
        assert len(done) == len(set(done)) == len(self.running)


@contextmanager
def staying(farm, tree, count):
    """Calls of another client's hold this many slots of w1; at the end they were not disturbed."""
    with ExitStack() as stack:
        calls = Calls(farm.client("stays"), tree, tree.units[:count], FOR_EVER, stack)
        calls.wait_until_begun()
        yield calls
        calls.end()
    farm.free()


def wait_for_free(fault, is_free, seconds):
    """Wait until what the client held is free."""
    wait_for(is_free, "what the client held is free", KILLED_SECONDS if fault.name == "KILL" else seconds)


def compilers(worker):
    """The pids of the compilers that run on a worker."""
    return {process.pid for process in compilers_below(worker.pid)}


@contextmanager
def vanishing(farm, fault):
    """A client to strike; gone at the end."""
    client = farm.client("vanishes")
    try:
        yield client
    finally:
        fault.end(client)
        client.end()


# --- the three phases ---------------------------------------------------------------------------------


def in_the_queue(farm, tree, fault, seconds, count=2):
    """Every slot is another's."""
    scheduler = farm.scheduler
    with vanishing(farm, fault) as client, ExitStack() as stack:
        with staying(farm, tree, 2) as others:
            calls = Calls(client, tree, tree.units[2 : 2 + count], SPINS, stack)
            wait_for(lambda: scheduler.status()["scheduler"]["queued"] == count, "they wait")
            fault.strike(client)
            wait_for_free(fault, lambda: scheduler.status()["scheduler"]["queued"] == 0, seconds)
            assert calls.begun() == {}
            assert others.undisturbed()
            if fault.name != "KILL":
                fault.end(client)
                wait_for(lambda: scheduler.status()["scheduler"]["queued"] == count, "they wait again")
        if fault.name != "KILL":
            calls.finish()


def during_the_upload(farm, tree, fault, seconds, count=1):
    """To a worker that has no toolchain; it stands still for a moment, so that the upload is surely under way."""
    scheduler, name = farm.scheduler, f"empty-{len(farm.scheduler.events('worker_registered'))}"
    with vanishing(farm, fault) as client, ExitStack() as stack:
        with staying(farm, tree, 2) as others:
            (empty,) = farm.workers(name, slots=count)
            stack.callback(empty.end)
            calls = Calls(client, tree, tree.units[2 : 2 + count], SPINS, stack)
            arriving = empty.home / "store" / "toolchains"
            wait_for(lambda: list(arriving.glob(".in-*/*")), "the upload has begun")
            empty.stop()
            try:
                assert not empty.events("toolchain_stored")
                assert not calls.events("toolchain_sent")
                fault.strike(client)
            finally:
                empty.resume()
            wait_for_free(fault, lambda: scheduler.workers()[empty.server_id]["running"] == 0, seconds)
            assert not empty.events("toolchain_stored", "lease_expired")
            taken = jobs.attempts(empty.events(), "lease_granted")
            assert jobs.attempts(empty.events(), "job_cancelled").keys() == taken.keys()
            assert not list(arriving.glob(".in-*"))
            assert others.undisturbed()
        if fault.name != "KILL":
            fault.end(client)
            calls.finish()


def during_the_run(farm, tree, fault, seconds, count=1):
    """On a worker that runs another's job too."""
    scheduler, (worker,) = farm.scheduler, farm.workers("w1")
    with vanishing(farm, fault) as client, ExitStack() as stack, staying(farm, tree, 2 - count) as others:
        wait_for(lambda: len(compilers(worker)) == 2 - count, "the other's compiler runs")
        theirs = compilers(worker)
        calls = Calls(client, tree, tree.units[2 : 2 + count], FOR_EVER, stack)
        hit = calls.wait_until_begun()
        earlier = worker.mark()
        wait_for(lambda: len(compilers(worker)) == 2, "both compilers run")
        fault.strike(client)
        wait_for_free(fault, lambda: scheduler.busy() == 2 - count and compilers(worker) == theirs, seconds)
        assert jobs.attempts(worker.events(since=earlier), "job_cancelled").keys() == hit.keys()
        assert others.undisturbed()
        if fault.name != "KILL":
            fault.end(client)
            wait_for(lambda: not calls.begun().keys() & hit.keys(), "it has given up what was taken from it")
            again = calls.wait_until_begun()
            assert {job_id for job_id, _ in again} == {job_id for job_id, _ in hit}
            assert calls.events("job_local", "job_done") == []
            calls.end()


PHASES = [pytest.param(phase, id=phase.__name__) for phase in (in_the_queue, during_the_upload, during_the_run)]


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("phase", PHASES)
def test_a_client_vanishes(farm, tree, phase, fault, seed):
    """Its place or slot is free soon; when it is back its calls end as if nothing had been."""
    phase(farm, tree, fault, LOST_SECONDS)


@pytest.mark.full
@pytest.mark.parametrize("phase", PHASES)
def test_a_client_vanishes_with_the_timers_that_users_have(tree, phase):
    """Killed within two seconds, stopped or cut off within twenty."""
    with staffed({"scheduler": {}, "worker": {}, "client": {}}) as farm:
        for name in ("KILL", "STOP", "CUT"):
            phase(farm, tree, Fault(name), DEFAULT_LOST_SECONDS)


# --- one that never comes -----------------------------------------------------------------------------


def test_an_answer_that_is_never_claimed(farm, tree):
    """Its slot is free after ``claim_seconds``, although its client is there, and who waits gets it."""
    (worker,) = farm.workers("w1")
    scheduler, earlier = farm.scheduler, worker.mark()
    token = (farm.directory / "client.token").read_text().strip()
    with ExitStack() as stack:
        peer = stack.enter_context(
            scheduler.host.there(lambda: ScriptedPeer(farm.urls[0].partition("//")[2].partition("?")[0]))
        )
        peer.hello("client", token)
        kept = [peer.call(messages.AllocateJob, **request(number)) for number in range(worker.slots)]
        assert {answer["server"] for answer in kept} == {worker.server_id}
        calls = Calls(farm.client("stays"), tree, tree.units[:1], SPINS, stack)
        wait_for(lambda: scheduler.status()["scheduler"]["queued"] == 1, "another waits")

        def expired():
            peer.call(messages.ClusterStatus)
            return worker.events("lease_expired", since=earlier)

        claim_seconds = TIMERS["worker"]["claim_seconds"]
        wait_for(lambda: len(expired()) == worker.slots, "nobody came for the slots", claim_seconds + 5)
        calls.finish()
    granted = jobs.attempts(worker.events(since=earlier), "lease_granted")
    for attempt, event in jobs.attempts(worker.events(since=earlier), "lease_expired").items():
        assert claim_seconds <= event["epoch"] - granted[attempt]["epoch"] < claim_seconds + CLAIM_SLACK_SECONDS
    farm.free()


def request(number):
    return {
        "job": f"01920000-0000-7000-8000-{number:012d}",
        "attempt": 1,
        "toolchain": "0" * 64,
        "arch": platform.machine(),
        "avoid": [],
        "label": "never claimed",
        "seconds": 1.0,
        "bytes": 0,
        "age": 0.0,
        "patience": 30.0,
    }
