"""A worker that leaves: by whom that is wanted and how often, and what becomes of the jobs that it runs."""

import itertools
import os
import shutil

import attrs
import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from worker_confinement_kit import body, processes, until
from worker_kit import digest_of, open_directory, program_in
from worker_service_kit import send_tiny_toolchain

from sccache_twisted.config import LinkTimers, WorkerSettings
from sccache_twisted.errors import ConnectionFailed, SccacheTwistedError, WorkerDraining
from sccache_twisted.interfaces import AssignOrder
from sccache_twisted.model import DirectoryInput, JobId, Try
from sccache_twisted.worker.connections import Connections
from sccache_twisted.worker.service import WorkerService

pytestmark = pytest.mark.root


@pytest.fixture
def place():
    made = open_directory()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def logged():
    """What was logged: names of events, and failures."""
    found = []

    def observe(event):
        found.append(event.get("event") or event.get("log_failure"))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def worker(reactor, place):
    """``worker(**settings)``: one that runs, with ``ended`` counting what it said to its process."""
    made = []

    def start(**settings):
        ended = []
        service = WorkerService(
            reactor,
            WorkerSettings(
                name="w",
                listen="tcp:0:interface=127.0.0.1",
                directory=str(place / "worker"),
                slot_uids="2000062000-2000062999",
                slots=2,
                **settings,
            ),
            on_drained=lambda: ended.append(service),
        )
        made.append(service)
        service.startService()
        return service, ended

    yield start
    for service in made:
        pytest_twisted.blockon(service.stopService())


def lease(worker, number=1):
    attempt = Try(JobId(f"01920000-0000-7000-8000-{number:012d}"), 1)
    worker.jobs.assign(AssignOrder(attempt, "token", digest_of(b""), 0))
    return attempt


@pytest.mark.parametrize("order", list(itertools.permutations(("signal", "order", "notice"))), ids="-".join)
@pytest_twisted.ensureDeferred
async def test_it_leaves_once_whoever_wants_it(worker, reactor, place, logged, order):
    """Signal, scheduler and notice, each twice or for ever, in any order: one drain, one end, after the last job."""
    notice = place / "going"
    service, ended = worker(preemption_file=str(notice), preemption_seconds=0.02)
    attempt = lease(service)
    waiting = []
    for wanted in order:
        if wanted == "notice":
            notice.touch()
            await until(reactor, lambda: "preemption_notice" in logged)
        else:
            for _ in range(2):
                waiting.append(service.drain()) if wanted == "signal" else service.drain_ordered()
        with pytest.raises(WorkerDraining):
            lease(service, 2)
    assert ended == []
    assert not any(each.called for each in waiting)
    service.jobs.cancel(attempt)
    for each in waiting:
        await each
    await until(reactor, lambda: ended)
    assert ended == [service]
    assert logged.count("worker_draining") == 1
    assert logged.count("preemption_notice") == 1
    assert [each for each in logged if isinstance(each, Failure)] == []


@pytest_twisted.ensureDeferred
async def test_a_signal_alone_ends_no_process(worker, reactor):
    """Whoever drains the worker himself decides what follows."""
    service, ended = worker()
    await service.drain()
    assert ended == []


@pytest_twisted.ensureDeferred
async def test_a_notice_is_bounded_like_any_drain(worker, reactor, place):
    """What nobody ends within drain_seconds is ended."""
    (place / "going").touch()
    service, ended = worker(preemption_file=str(place / "going"), drain_seconds=0.2, claim_seconds=600.0)
    lease(service)
    await until(reactor, lambda: ended)
    assert service.jobs.slots.taken == 0


@pytest_twisted.ensureDeferred
async def test_a_renewal_is_an_event(worker, reactor, logged):
    """Each new certificate is told, until the worker stops."""
    worker(renew_seconds=0.02)
    await until(reactor, lambda: logged.count("certificate_renewed") >= 2)


@pytest_twisted.ensureDeferred
async def test_drain_lets_the_running_finish(served, shop, reactor, directory):
    """A draining worker takes nothing new and ends when the last running job has."""
    code = 'write(1, "x", 1); for (;;) { if (access("/out/go", F_OK) == 0) return 0; usleep(1000); }'
    action = program_in(shop, body(code), name="drain-probe", outputs=[b"/out/a.o"])
    action = attrs.evolve(action, inputs=(*action.inputs, DirectoryInput(b"/out")))
    async with served() as client:
        await send_tiny_toolchain(client, shop, action)
        running = client.run(client.lease(action.toolchain), action, shop.blobs)
        await until(reactor, lambda: processes(b"/bin/drain-probe"))
        drained = client.worker.drain()
        with pytest.raises(WorkerDraining):
            client.lease(action.toolchain)
        assert not drained.called
        (job,) = os.listdir(directory / "worker" / "jobs")
        os.mknod(directory / "worker" / "jobs" / job / "root" / "out" / "go")
        assert (await running).stdout == b"x"
        await drained


NOISE = """unsigned x = 1; static unsigned char noise[1 << 20];
    while (access("/out/go", F_OK) != 0) usleep(1000);
    for (int part = 0; part < 24; part++) {
        for (int i = 0; i < sizeof noise; i++) { x = x * 1664525u + 1013904223u; noise[i] = x >> 24; }
        if (write(1, noise, sizeof noise) != sizeof noise) return 1;
    }"""
"""What no compression makes smaller, and no socket buffer holds."""


async def end_with_noise(client, shop, reactor, directory):
    """A job that ends with much noise while its worker drains and its client reads nothing: the run, and the drain."""
    action = program_in(shop, body(NOISE), name="noise-probe", outputs=[b"/out/a.o"])
    action = attrs.evolve(action, inputs=(*action.inputs, DirectoryInput(b"/out")))
    await send_tiny_toolchain(client, shop, action)
    running = client.run(client.lease(action.toolchain), action, shop.blobs)
    await until(reactor, lambda: processes(b"/bin/noise-probe"))
    drained = client.worker.drain()
    client.slow(paused=True)
    (job,) = os.listdir(directory / "worker" / "jobs")
    os.mknod(directory / "worker" / "jobs" / job / "root" / "out" / "go")
    await until(reactor, lambda: client.worker.jobs.slots.taken == 0)
    return running, drained


@pytest_twisted.ensureDeferred
async def test_a_drain_ends_with_the_last_answer(served, shop, reactor, directory):
    """A large result to a slow client is sent whole before the worker is through; then its connections are closed."""
    async with served() as client:
        running, drained = await end_with_noise(client, shop, reactor, directory)
        client.slow(paused=False)
        await drained
        assert len(client.worker._site.connections) == 0
        assert len((await running).stdout) == 24 << 20


@pytest_twisted.ensureDeferred
async def test_an_answer_that_nobody_takes_does_not_hold_the_drain(served, shop, reactor, directory):
    """A client that reads no more is cut off when nothing has moved for connect_seconds."""
    async with served(drain_seconds=60.0, links=LinkTimers(connect_seconds=0.5)) as client:
        running, drained = await end_with_noise(client, shop, reactor, directory)
        await drained
        assert len(client.worker._site.connections) == 0
        client.slow(paused=False)
        with pytest.raises(ConnectionFailed):
            await running


class Channel:
    """A connection that closes by itself when it is asked to, or only when it is cut."""

    def __init__(self, connections, *, willing):
        self._connections = connections
        self._willing = willing
        self.transport = self
        self.cut = False
        connections.opened(self)

    def loseConnection(self):
        if self._willing:
            self._connections.closed(self)

    def abortConnection(self):
        self.cut = True
        self._connections.closed(self)


@pytest.mark.parametrize(("seconds", "patience"), [(2.0, 60.0), (60.0, 2.0)], ids=["in all", "silence"])
def test_a_farewell_is_bounded(seconds, patience):
    """Whoever closes is waited for, whoever does not is cut; then no timer is left."""
    clock = Clock()
    connections = Connections(clock)
    willing, deaf = (Channel(connections, willing=willing) for willing in (True, False))
    ended = connections.farewell(seconds, patience)
    clock.pump([0.25] * 7)
    assert not ended.called
    clock.pump([0.25] * 4)
    assert ended.called
    assert (willing.cut, deaf.cut) == (False, True)
    assert clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_drain_is_bounded(served, shop, reactor):
    """What still runs after drain_seconds is killed."""
    action = program_in(shop, body("pause();"), name="undrained-probe")
    async with served(drain_seconds=0.3) as client:
        await send_tiny_toolchain(client, shop, action)
        running = client.run(client.lease(action.toolchain), action, shop.blobs)
        await until(reactor, lambda: processes(b"/bin/undrained-probe"))
        await client.worker.drain()
        with pytest.raises(SccacheTwistedError):
            await running
        assert processes(b"/bin/undrained-probe") == []
