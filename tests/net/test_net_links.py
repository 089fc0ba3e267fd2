"""Links over real TLS: Hello, refusals, loss and return; the scheduler's door under fire."""

from __future__ import annotations

import socket
import struct

import pytest
import pytest_twisted
from links_help import DIGEST, JOB, A, Door, Idle, LostWorkers, card, identity
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import (
    ConnectionFailed,
    IdentityTaken,
    Malformed,
    PinMismatch,
    ProtocolMismatch,
    SchedulerUnavailable,
    StillQueued,
    TooManyRequests,
    Unauthorized,
)
from sccache_twisted.interfaces import PROTOCOL_VERSION, Hello, Registration, Role
from sccache_twisted.model import Address, AllocationRequest, ClientId, Try
from sccache_twisted.net.addresses import SchedulerAddress
from sccache_twisted.net.dialing import tcp
from sccache_twisted.net.links import SchedulerLink
from sccache_twisted.net.listener import BrakedDoor, SchedulerListener
from sccache_twisted.net.scheduler_links import SchedulerLinks
from sccache_twisted.security import BadTokenBrake
from sccache_twisted.security.contexts import PinnedPeer, ServerTLS
from sccache_twisted.wire.facades import SchedulerForWorkers
from sccache_twisted.wire.locators import WorkerLocator

TIMERS = LinkTimers(reconnect_first_seconds=0.01, reconnect_longest_seconds=0.02)
# Any identity serves as a scheduler's: it is judged by its pin.
SCHEDULER = identity(A)
REQUEST = AllocationRequest(ClientId("client"), Try(JOB, 1), DIGEST, "x86_64")


class Scheduler:
    """A listener with a door, on a port of its own."""

    def __init__(self, *, port=0, timers=TIMERS, max_links=100, brake=None, shows=SCHEDULER):
        self.door = Door()
        self.listener = SchedulerListener(
            reactor, f"tcp:{port}:interface=127.0.0.1", self.door, ServerTLS(shows), timers, max_links, brake
        )
        self.listener.startService()
        self.port = self.listener.port
        self.address = SchedulerAddress(Address("127.0.0.1", self.port), pin=SCHEDULER.pin)


GOOD = "good"


def links(addresses, *, token=GOOD, grace=10.0, clock=reactor, timers=TIMERS, peer=None):
    return SchedulerLinks(
        clock,
        tcp(reactor, timers),
        addresses,
        "",
        token,
        ClientId("client"),
        peer or LostWorkers(),
        timers,
        grace,
        lambda: 0.5,
    )


class Worker:
    """A worker's link, with what it was told of."""

    def __init__(self, scheduler, *, token=GOOD, version=PROTOCOL_VERSION):
        self.identity = identity(A)
        self.ups = []
        self.downs = 0
        self.registered = Deferred()
        self.down = Deferred()
        hello = Hello(version, Role.WORKER, token, A)
        self.link = SchedulerLink(
            reactor,
            tcp(reactor, TIMERS),
            scheduler.address,
            "",
            lambda: hello,
            lambda: WorkerLocator(Idle()),
            SchedulerForWorkers,
            self.rises,
            self.falls,
            TIMERS,
            lambda: 0.5,
        )
        self.link.startService()

    def rises(self, facade, welcome):
        self.ups.append(welcome)
        proof = self.identity.prove(welcome.challenge)

        def done(result):
            waiting, self.registered = self.registered, Deferred()
            waiting.callback(result)
            return result

        return facade.register(Registration(card(self.identity), proof)).addBoth(done)

    def falls(self):
        self.downs += 1
        waiting, self.down = self.down, Deferred()
        waiting.callback(None)


async def until(fact):
    """Turn the reactor until a fact holds; the test's own time limit ends it otherwise."""
    while not fact():
        turn = Deferred()
        reactor.callLater(0.002, turn.callback, None)
        await turn


@pytest_twisted.ensureDeferred
async def test_client_asks_and_is_told():
    """A client's calls reach the scheduler and errors come back as themselves; WorkerLost comes the other way."""
    scheduler = Scheduler()
    peer = LostWorkers()
    client = links([scheduler.address], peer=peer)
    client.startService()
    facade = await client.scheduler()
    (business,) = scheduler.door.businesses
    ((hello, host),) = scheduler.door.hellos
    assert (hello.role, hello.name, host) == (Role.CLIENT, "client", "127.0.0.1")
    with pytest.raises(StillQueued):
        await facade.allocate(AllocationRequest(ClientId("client"), Try(JOB, 1), DIGEST, "x86_64", age=1.0))
    assert business.asked[0].client_id == "client"
    await business.peer.worker_lost(A)
    await peer.told
    assert peer.lost == [A]
    assert client.refused() is None
    await client.stopService()
    await business.lost
    await scheduler.listener.stopService()
    assert scheduler.listener.links == 0


@pytest_twisted.ensureDeferred
async def test_worker_registers_and_is_asked():
    """A worker signs the scheduler's challenge and is then asked over the same link."""
    scheduler = Scheduler()
    worker = Worker(scheduler)
    await worker.registered
    (business,) = scheduler.door.businesses
    assert business.cards == [card(worker.identity)]
    await business.peer.drain()
    await until(lambda: worker.link.up is not None)
    await worker.link.stopService()
    await business.lost
    assert worker.downs == 1
    await scheduler.listener.stopService()


@pytest.mark.parametrize(
    ("token", "version", "error"),
    [("bad", PROTOCOL_VERSION, Unauthorized), ("good", PROTOCOL_VERSION + 1, ProtocolMismatch)],
)
@pytest_twisted.ensureDeferred
async def test_refused_hello_is_remembered(events, token, version, error):
    """A refused Hello never counts as up, is remembered with its sentence, and is not tried again at once."""
    scheduler = Scheduler()
    worker = Worker(scheduler, token=token, version=version)
    await until(lambda: worker.link.refused is not None)
    assert isinstance(worker.link.refused, error)
    assert worker.ups == []
    await until(lambda: scheduler.listener.links == 0)
    assert len(scheduler.door.hellos) == 1
    retried = [event["wait"] for name, event in events if name == "link_retry"]
    assert all(wait > 5.0 for wait in retried)
    said = [event for name, event in events if name == "hello_refused"]
    assert {event["code"] for event in said} == {error.code}
    assert len(said) == 2, "once on each side"
    await worker.link.stopService()
    await scheduler.listener.stopService()


@pytest_twisted.ensureDeferred
async def test_refused_register_ends_the_link():
    """A worker whose Register is refused is not up, whatever its Hello was."""
    scheduler = Scheduler()
    scheduler.door.taken = True
    worker = Worker(scheduler)
    failure = await worker.registered.addErrback(lambda failure: failure.value)
    assert isinstance(failure, IdentityTaken)
    await until(lambda: worker.link.refused is not None)
    assert worker.downs == 0
    await until(lambda: scheduler.listener.links == 0)
    await worker.link.stopService()
    await scheduler.listener.stopService()


@pytest_twisted.ensureDeferred
async def test_another_scheduler_at_the_address():
    """A scheduler with another key is refused before the token is sent."""
    scheduler = Scheduler(shows=identity(A))
    client = links([scheduler.address], grace=0.5)
    client.startService()
    with pytest.raises(SchedulerUnavailable, match="shows another key"):
        await client.scheduler()
    assert isinstance(client.refused(), PinMismatch)
    assert scheduler.door.hellos == []
    await client.stopService()
    await scheduler.listener.stopService()


@pytest_twisted.ensureDeferred
async def test_links_come_back():
    """When a scheduler restarts, its clients' calls fail, and its workers register again by themselves."""
    scheduler = Scheduler()
    worker = Worker(scheduler)
    client = links([scheduler.address])
    client.startService()
    await worker.registered
    facade = await client.scheduler()
    asking = facade.allocate(REQUEST)
    down, again = worker.down, worker.registered
    await until(lambda: worker.link.up is not None)
    await scheduler.listener.stopService()
    with pytest.raises(ConnectionFailed):
        await asking
    await down
    assert worker.link.up is None
    restarted = Scheduler(port=scheduler.port)
    await again
    await client.scheduler()
    assert len(worker.ups) == 2
    await gatherResults([worker.link.stopService(), client.stopService()])
    await restarted.listener.stopService()


@pytest_twisted.ensureDeferred
async def test_client_prefers_and_moves_on():
    """Of several schedulers the first usable one is used; when it dies, the next, and when it is back, it again."""
    first, second = Scheduler(), Scheduler()
    client = links([first.address, second.address])
    client.startService()
    await until(lambda: all(status.up for status in client.status()))
    preferred = await client.scheduler()
    await preferred.cancel(Try(JOB, 1))
    assert first.door.businesses[0].asked == [Try(JOB, 1)]
    await first.listener.stopService()
    await until(lambda: not client.status()[0].up)
    await (await client.scheduler()).cancel(Try(JOB, 2))
    assert second.door.businesses[0].asked == [Try(JOB, 2)]
    again = Scheduler(port=first.port)
    await until(lambda: client.status()[0].up)
    await (await client.scheduler()).cancel(Try(JOB, 3))
    assert again.door.businesses[0].asked == [Try(JOB, 3)]
    await client.stopService()
    await gatherResults([again.listener.stopService(), second.listener.stopService()])


@pytest_twisted.ensureDeferred
async def test_outage_is_waited_for_once():
    """Whoever asks in an outage waits until its grace is over, counted from its beginning; then none."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    clock = Clock()
    client = links([SchedulerAddress(Address("127.0.0.1", port), pin=SCHEDULER.pin)], clock=clock, grace=10.0)
    client.startService()
    early = client.scheduler()
    clock.advance(6.0)
    late, given_up = client.scheduler(), client.scheduler()
    given_up.cancel()
    with pytest.raises(CancelledError):
        await given_up
    assert not early.called
    clock.advance(4.0)
    for waiting in (early, late, client.scheduler()):
        with pytest.raises(SchedulerUnavailable):
            await waiting
    await client.stopService()


@pytest_twisted.ensureDeferred
async def test_no_scheduler_is_configured():
    """Without any scheduler the answer is a sentence."""
    client = links([], grace=0.01)
    client.startService()
    with pytest.raises(SchedulerUnavailable, match="No scheduler is configured"):
        await client.scheduler()
    await client.stopService()


class Raw(Protocol):
    """Sends what it is told and notes what it gets."""

    def __init__(self):
        self.data = b""
        self.gone = Deferred()

    def dataReceived(self, data):
        self.data += data

    def connectionLost(self, reason):
        self.gone.callback(None)


async def raw(scheduler, *, tls=True):
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", scheduler.port)
    if tls:
        endpoint = wrapClientTLS(PinnedPeer("127.0.0.1", SCHEDULER.pin, "it"), endpoint)
    return await connectProtocol(endpoint, Raw())


def box(**pairs):
    strings = [each for key, value in pairs.items() for each in (key.encode(), value)]
    return b"".join(struct.pack("!H", len(each)) + each for each in strings) + b"\0\0"


HELLO = box(_ask=b"1", _command=b"Hello", version=b"%d" % PROTOCOL_VERSION, role=b"client", token=b"good", name=b"raw")


@pytest.mark.parametrize(
    ("sent", "tls"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"\0\1a\0\1b\0\0", True),
        (box(_answer=b"7"), True),
        (box(_error=b"7", _error_code=b"x", _error_description=b"y"), True),
        (box(_ask=b"1", _command=b"Heartbeat"), True),
        (box(_ask=b"1", _command=b"StartTLS"), True),
        (box(_ask=b"1", _command=b"Hello", version=b"x"), True),
        (box(_ask=b"1", _command=b"Hello", version=b"1", role=b"king", token=b"", name=b""), True),
        (
            b"".join(struct.pack("!H", 2) + b"%02d" % n + struct.pack("!H", 65535) + bytes(65535) for n in range(9)),
            True,
        ),
        (HELLO + b"".join(b"\0\2%02d" % n + b"\xff\xff" + bytes(65535) for n in range(9)), True),
        (HELLO + b"\xff\xff", True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_garbage_ends_its_own_link_only(events, sent, tls):
    """Whatever a peer sends that is no conversation, its link ends and the others go on; it costs few lines."""
    scheduler = Scheduler()
    client = links([scheduler.address])
    client.startService()
    facade = await client.scheduler()
    before = len(events)
    attacker = await raw(scheduler, tls=tls)
    attacker.transport.write(sent)
    await attacker.gone
    await facade.cancel(Try(JOB, 1))
    await until(lambda: scheduler.listener.links == 1)
    assert len([name for name, _ in events[before:] if name != "link_up"]) <= 1
    await client.stopService()
    await scheduler.listener.stopService()


@pytest_twisted.ensureDeferred
async def test_message_after_hello_that_can_not_be_decoded():
    """A welcomed peer's single wrong message is answered as malformed, and its link goes on."""
    scheduler = Scheduler()
    peer = await raw(scheduler)
    peer.transport.write(HELLO)
    await until(lambda: b"_answer" in peer.data)
    peer.transport.write(box(_ask=b"2", _command=b"CancelJob", job=b"x", attempt=b"much"))
    peer.transport.write(box(_command=b"ReportJob", job=b"x"))
    peer.transport.write(box(_ask=b"3", _command=b"Nothing"))
    peer.transport.write(box(_ask=b"4", _command=b"Ping"))
    await until(lambda: b"\0\7_answer\0\x014" in peer.data)
    assert Malformed.code.encode() in peer.data
    peer.transport.loseConnection()
    await peer.gone
    await scheduler.listener.stopService()


@pytest_twisted.ensureDeferred
async def test_hello_must_come_in_time():
    """Who connects and says nothing is dropped, with TLS spoken or not."""
    scheduler = Scheduler(timers=LinkTimers(connect_seconds=0.2))
    waiting = [await raw(scheduler, tls=False), await raw(scheduler, tls=True)]
    for each in waiting:
        await each.gone
    await until(lambda: scheduler.listener.links == 0)
    await scheduler.listener.stopService()


@pytest_twisted.ensureDeferred
async def test_links_are_bounded(events):
    """One link too many is closed at once, and said once a second at most; those open go on."""
    scheduler = Scheduler(max_links=1)
    client = links([scheduler.address])
    client.startService()
    facade = await client.scheduler()
    for _ in range(3):
        one_too_many = await raw(scheduler, tls=False)
        await one_too_many.gone
    await facade.cancel(Try(JOB, 1))
    assert 1 <= [name for name, _ in events].count("too_many_links") <= 2
    await client.stopService()
    await scheduler.listener.stopService()


@pytest_twisted.ensureDeferred
async def test_revoked_token_ends_its_links():
    """An open link whose token is no longer wanted can be ended; others stay."""
    scheduler = Scheduler()
    client = links([scheduler.address])
    client.startService()
    await client.scheduler()
    assert scheduler.listener.dismiss(lambda hello: hello.token == "good", Unauthorized()) == 0
    assert scheduler.listener.dismiss(lambda _: False, Unauthorized()) == 1
    await scheduler.door.businesses[0].lost
    await client.stopService()
    await scheduler.listener.stopService()


def test_wrong_tokens_are_slowed_down():
    """A host that tried too many wrong tokens waits, even with a right one; another host does not."""
    clock = Clock()
    door = BrakedDoor(Door(), BadTokenBrake(burst=2, seconds_each=10.0), clock)
    wrong = Hello(PROTOCOL_VERSION, Role.CLIENT, "bad", "x")
    right = Hello(PROTOCOL_VERSION, Role.CLIENT, "good", "x")
    for _ in range(2):
        with pytest.raises(Unauthorized):
            door.welcome(wrong, "a")
    with pytest.raises(TooManyRequests, match="wait 10 s"):
        door.welcome(right, "a")
    assert door.welcome(right, "b")
    clock.advance(10.0)
    assert door.welcome(right, "a")
