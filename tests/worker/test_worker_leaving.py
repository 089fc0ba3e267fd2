"""A worker that is to leave: wanted by its owner, a scheduler and a notice, in any order and more than once."""

import itertools
import shutil

import pytest
import pytest_twisted
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from worker_confinement_kit import until
from worker_kit import digest_of, open_directory

from sccache_twisted.config import WorkerSettings
from sccache_twisted.errors import WorkerDraining
from sccache_twisted.interfaces import AssignOrder
from sccache_twisted.model import JobId, Try
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
