"""Conversations 2 and 3: both ends of AMP, joined in memory."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.protocols import amp
from twisted.test.iosim import FakeTransport, connect
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sccache_twisted.errors import (
    BY_CODE,
    ConnectionFailed,
    InternalError,
    Malformed,
    NoWorkers,
    SccacheTwistedError,
    StillQueued,
    TooLarge,
    Unauthorized,
    WorkerFull,
)
from sccache_twisted.interfaces import (
    AssignOrder,
    AttemptReport,
    Hello,
    IClientPeer,
    ISchedulerDoor,
    ISchedulerForClients,
    ISchedulerForWorkers,
    IWorkerPeer,
    JobPhase,
    Outcome,
    Registration,
    Role,
    Welcome,
)
from sccache_twisted.model import (
    Address,
    Allocation,
    AllocationRequest,
    Beat,
    ClientId,
    Digest,
    Transfers,
    Try,
    WorkerCard,
)
from sccache_twisted.model.identity import mint_job_id, mint_server_id
from sccache_twisted.wire import locators
from sccache_twisted.wire.facades import (
    ClientPeer,
    SchedulerForClients,
    SchedulerForWorkers,
    WorkerPeer,
    ping,
    say_hello,
)
from sccache_twisted.wire.locators import ClientLocator, SchedulerLocator, WorkerLocator

ATTEMPT = Try(mint_job_id(1_700_000_000_000, b"0123456789"), 1)
SERVER = mint_server_id("alpha", b"12345678")
TOOLCHAIN = Digest("ab" * 32)
ALLOCATION = Allocation(ATTEMPT, SERVER, Address("::1", 10501), b"\x30der", "secret", toolchain_present=True)
WELCOME = Welcome(1, "sched", b"c" * 32, 5.0, 15.0)


@implementer(ISchedulerForClients, ISchedulerForWorkers)
class Business:
    """A scheduler's business that keeps what it was told and answers what it was given."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.answer: Deferred | None = None

    def _take(self, *facts: object) -> Deferred:
        self.told.append(facts)
        return succeed(None) if self.answer is None else self.answer

    def allocate(self, request):
        return self._take("allocate", request)

    def report(self, report):
        return self._take("report", report)

    def stayed_local(self, reason, count):
        return self._take("stayed_local", reason, count)

    def cancel(self, attempt):
        return self._take("cancel", attempt)

    def register(self, registration):
        return self._take("register", registration)

    def heartbeat(self, beat, added, dropped):
        return self._take("heartbeat", beat, tuple(added), tuple(dropped))

    def job_state(self, attempt, phase):
        return self._take("job_state", attempt, phase)

    def draining(self):
        return self._take("draining")

    def link_lost(self):
        self.told.append(("link_lost",))


@implementer(ISchedulerDoor)
class Door:
    def __init__(self, business: Business) -> None:
        self.business = business
        self.peer = None
        self.hello = None

    def welcome(self, hello, host):
        self.hello = hello
        if hello.token != "good":
            raise Unauthorized
        return WELCOME

    def client(self, hello, peer):
        self.peer = peer
        return self.business

    def worker(self, hello, welcome, peer, host):
        self.peer = peer
        return self.business


@implementer(IClientPeer, IWorkerPeer)
class Peer:
    """The dialling side's ear."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.answer: Deferred | None = None

    def worker_lost(self, server_id):
        self.told.append(server_id)
        return succeed(None)

    def lease_taken_back(self, attempt):
        self.told.append(("taken back", attempt))
        return succeed(None)

    def assign(self, order):
        self.told.append(order)
        return succeed(True) if self.answer is None else self.answer

    def cancel(self, attempt, *, unclaimed=False):
        self.told.append((attempt, "unclaimed") if unclaimed else attempt)
        return succeed(None)

    def drain(self):
        self.told.append("drain")
        return succeed(None)


class Link:
    """Two AMP protocols joined in memory."""

    def __init__(self, peer_locator, door) -> None:
        self.locator = SchedulerLocator(door, "127.0.0.1")
        server, self.client = amp.AMP(locator=self.locator), amp.AMP(locator=peer_locator)
        self.locator.attach(server.callRemote)
        server_end, client_end = FakeTransport(server, isServer=True), FakeTransport(self.client, isServer=False)
        self.pump = connect(server, server_end, self.client, client_end)

    def get(self, deferred: Deferred):
        results: list = []
        deferred.addBoth(results.append)
        self.pump.flush()
        assert len(results) == 1, "the call was not answered"
        return results[0]


@pytest.fixture
def business() -> Business:
    return Business()


@pytest.fixture
def door(business) -> Door:
    return Door(business)


@pytest.fixture
def peer() -> Peer:
    return Peer()


def as_client(door, peer) -> Link:
    link = Link(ClientLocator(peer), door)
    assert link.get(say_hello(link.client.callRemote, Hello(1, Role.CLIENT, "good", "client-1"))) == WELCOME
    return link


def as_worker(door, peer) -> Link:
    link = Link(WorkerLocator(peer), door)
    assert link.get(say_hello(link.client.callRemote, Hello(1, Role.WORKER, "good", SERVER))) == WELCOME
    return link


REQUEST = AllocationRequest(
    ClientId("client-1"), ATTEMPT, TOOLCHAIN, "x86_64", frozenset({SERVER}), "a.c", 1.5, 1 << 40, 2.5, 20.0
)


def test_an_allocation_request_arrives_and_returns_as_it_was_meant(door, business, peer):
    """AllocateJob carries every field of the request, and its answer every field of the allocation."""
    link = as_client(door, peer)
    business.answer = succeed(ALLOCATION)
    assert link.get(SchedulerForClients(link.client.callRemote).allocate(REQUEST)) == ALLOCATION
    assert business.told == [("allocate", REQUEST)]


def test_who_asks_ahead_says_so_and_who_is_ready_says_nothing(door, business, peer):
    """The flag travels where it is set; a request without it is what an older client sends."""
    link = as_client(door, peer)
    business.answer = succeed(ALLOCATION)
    ahead = evolve(REQUEST, ahead=True)
    assert link.get(SchedulerForClients(link.client.callRemote).allocate(ahead)) == ALLOCATION
    assert business.told == [("allocate", ahead)]
    ready = evolve(REQUEST, attempt=Try(ATTEMPT.job_id, 2))
    business.answer = succeed(ALLOCATION)
    assert link.get(SchedulerForClients(link.client.callRemote).allocate(ready)).server_id == SERVER
    assert business.told[1] == ("allocate", ready)


@pytest.mark.parametrize("error", [StillQueued("later"), NoWorkers("none of them"), WorkerFull()])
def test_an_error_keeps_its_class_and_sentence(door, business, peer, error):
    """What the scheduler raises is what the client gets."""
    link = as_client(door, peer)
    business.answer = fail(error)
    failure = link.get(SchedulerForClients(link.client.callRemote).allocate(REQUEST))
    assert failure.type is type(error)
    assert failure.value.sentence == error.sentence


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_error_of_the_table_travels(door, business, peer, code):
    """The wire code names the class, however deep it stands in the tree."""
    link = as_client(door, peer)
    business.answer = fail(BY_CODE[code]("a sentence"))
    assert link.get(SchedulerForClients(link.client.callRemote).allocate(REQUEST)).type is BY_CODE[code]


def test_a_defect_becomes_a_declared_error_and_the_link_lives(door, business, peer):
    """An exception nobody declared is InternalError at the caller, and the next call works."""
    link = as_client(door, peer)
    business.answer = fail(RuntimeError("secret detail"))
    failure = link.get(SchedulerForClients(link.client.callRemote).allocate(REQUEST))
    assert failure.type is InternalError
    assert "secret" not in failure.value.sentence
    business.answer = succeed(ALLOCATION)
    assert link.get(SchedulerForClients(link.client.callRemote).allocate(REQUEST)) == ALLOCATION


def test_a_wrong_token_is_refused_and_nothing_else_is_understood(door, business, peer):
    """Before Hello is accepted, every message is an error."""
    link = Link(ClientLocator(peer), door)
    hello = Hello(1, Role.CLIENT, "bad", "x")
    assert link.get(say_hello(link.client.callRemote, hello)).type is Unauthorized
    assert link.get(SchedulerForClients(link.client.callRemote).allocate(REQUEST)).type is Malformed
    assert business.told == []


def test_a_client_may_not_speak_as_a_worker(door, business, peer):
    """The role that said Hello decides which messages are heard."""
    link = as_client(door, peer)
    assert link.get(SchedulerForWorkers(link.client.callRemote).draining()).type is Malformed
    assert link.get(SchedulerForClients(link.client.callRemote).cancel(ATTEMPT)) is None
    assert business.told == [("cancel", ATTEMPT)]


def test_a_worker_tells_all_it_has_to_tell(door, business, peer):
    """Register, Heartbeat, JobState and Draining arrive with their values."""
    link = as_worker(door, peer)
    scheduler = SchedulerForWorkers(link.client.callRemote)
    card = WorkerCard(SERVER, Address("", 10501), b"cert", 4, 1 << 34, "x86_64")
    registration = Registration(card, b"proof", ((ATTEMPT, JobPhase.RUNNING),))
    assert link.get(scheduler.register(registration)) is None
    digests = tuple(Digest(f"{n:064x}") for n in range(2500))
    assert link.get(scheduler.heartbeat(Beat(1, 0.5, 7, 0.1), digests, ())) is None
    assert link.get(scheduler.job_state(ATTEMPT, JobPhase.ENDED)) is None
    assert link.get(scheduler.draining()) is None
    assert business.told[0] == ("register", registration)
    beats = [fact for fact in business.told if fact[0] == "heartbeat"]
    assert [beat[1] for beat in beats] == [Beat(1, 0.5, 7, 0.1)] * 3
    assert sum((beat[2] for beat in beats), ()) == digests
    assert business.told[-2:] == [("job_state", ATTEMPT, JobPhase.ENDED), ("draining",)]


def test_a_report_arrives_without_an_answer(door, business, peer):
    """ReportJob and ReportLocal are told, not asked."""
    link = as_client(door, peer)
    report = AttemptReport(ATTEMPT, Outcome.FAILED, SERVER, "killed", 1.25, 99, Transfers(5, 0.5, 7, 9, 0.25))
    scheduler = SchedulerForClients(link.client.callRemote)
    assert link.get(scheduler.report(report)) is None
    assert link.get(scheduler.stayed_local("no_workers", 3)) is None
    assert business.told == [("report", report), ("stayed_local", "no_workers", 3)]


def test_the_scheduler_asks_a_worker_on_the_same_link(door, peer):
    """AssignJob, CancelJob and Drain go the other way; refusals come back as themselves."""
    link = as_worker(door, peer)
    order = AssignOrder(ATTEMPT, "token", TOOLCHAIN, 512)
    assert link.get(door.peer.assign(order)) is True
    peer.answer = fail(WorkerFull())
    assert link.get(door.peer.assign(order)).type is WorkerFull
    assert link.get(door.peer.cancel(ATTEMPT)) is None
    assert link.get(door.peer.cancel(ATTEMPT, unclaimed=True)) is None
    assert link.get(door.peer.drain()) is None
    assert peer.told == [order, order, ATTEMPT, (ATTEMPT, "unclaimed"), "drain"]


def test_a_client_hears_of_a_lost_worker_and_answers_pings(door, peer):
    """WorkerLost and LeaseTakenBack are told; a ping is answered in both directions."""
    link = as_client(door, peer)
    assert link.get(door.peer.worker_lost(SERVER)) is None
    assert link.get(door.peer.lease_taken_back(ATTEMPT)) is None
    assert peer.told == [SERVER, ("taken back", ATTEMPT)]
    assert link.get(ping(link.client.callRemote)) is None
    assert link.get(ping(door.peer.call)) is None


def test_a_call_on_a_lost_link_fails_as_transport(door, peer):
    """Losing the link fails what waits, and what is asked later, with ConnectionFailed."""
    link = as_client(door, peer)
    door.business.answer = Deferred()
    waiting = SchedulerForClients(link.client.callRemote).allocate(REQUEST)
    link.pump.flush()
    link.client.transport.loseConnection()
    link.pump.flush()
    assert link.get(waiting).type is ConnectionFailed
    assert link.get(SchedulerForClients(link.client.callRemote).allocate(REQUEST)).type is ConnectionFailed


def test_what_nobody_waits_for_is_lost_with_its_link(door, business, peer):
    """A report on a lost link fails nobody: the scheduler learns of the end by the lost link itself."""
    link = as_client(door, peer)
    link.client.transport.loseConnection()
    link.pump.flush()
    report = AttemptReport(ATTEMPT, Outcome.DONE, SERVER)
    assert link.get(SchedulerForClients(link.client.callRemote).report(report)) is None
    assert business.told == []


def test_a_value_too_long_for_a_box_fails_that_call_alone(door, business, peer):
    """AMP values end at 65,535 bytes: the call fails with TooLarge, the link lives."""
    link = as_client(door, peer)
    long = AttemptReport(ATTEMPT, Outcome.FAILED, SERVER, "x" * 70_000)
    assert link.get(SchedulerForClients(link.client.callRemote).report(long)).type is TooLarge
    assert link.get(ping(link.client.callRemote)) is None


def test_nonsense_in_a_message_is_the_peers_fault_and_harms_no_link(door, business, peer):
    """A wrong job id or server id is Malformed; the link lives."""
    link = as_client(door, peer)
    request = AllocationRequest(ClientId("c"), Try("nonsense", 1), TOOLCHAIN, "x86_64")
    assert link.get(SchedulerForClients(link.client.callRemote).allocate(request)).type is Malformed
    assert (
        link.get(SchedulerForClients(link.client.callRemote).report(AttemptReport(ATTEMPT, Outcome.DONE, "no server")))
        is None
    )
    assert link.get(ping(link.client.callRemote)) is None
    assert business.told == []


def test_the_end_of_a_link_reaches_the_business_once(door, business, peer):
    """link_lost is told exactly once."""
    link = as_client(door, peer)
    link.locator.link_lost()
    link.locator.link_lost()
    assert business.told == [("link_lost",)]


def test_the_facades_keep_their_promise():
    """Each façade provides its interface, method by method."""
    for interface, facade in [
        (ISchedulerForClients, SchedulerForClients),
        (ISchedulerForWorkers, SchedulerForWorkers),
        (IClientPeer, ClientPeer),
        (IWorkerPeer, WorkerPeer),
    ]:
        assert verifyObject(interface, facade(lambda *_a, **_k: None))


def test_every_error_has_a_sentence_and_its_own_code():
    """The failure table has no two classes with one code, and each explains itself."""

    def tree(root):
        return [root, *(below for child in root.__subclasses__() for below in tree(child))]

    # Rooms above may have errors of their own, which never travel; the table is what errors.py holds.
    classes = [error for error in tree(SccacheTwistedError) if error.__module__ == SccacheTwistedError.__module__]
    assert len({error.code for error in classes}) == len(classes) == len(BY_CODE)
    assert all(error().sentence.endswith(".") for error in classes)


def test_no_responder_is_without_its_boundary():
    """Each says whether its failures are answered or only logged; one that said neither could end the link."""
    tree = ast.parse(Path(locators.__file__).read_text(encoding="utf-8"))
    found = 0
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            names = [ast.unparse(each) for each in function.decorator_list]
            if any(name.endswith(".responder") for name in names):
                found += 1
                assert names[-1] in {"answering", "hearing"}, function.name
    assert found >= 14
