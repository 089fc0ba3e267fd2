"""Keep-alive and back-off, in a time of their own."""

from __future__ import annotations

from functools import partial

from links_help import A, Idle
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.amp import UnhandledCommand
from zope.interface import implementer

from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import ConnectionFailed, Silence
from sccache_twisted.interfaces import PROTOCOL_VERSION, Hello, Role
from sccache_twisted.model import Address
from sccache_twisted.net.addresses import SchedulerAddress
from sccache_twisted.net.amp_link import AmpLink
from sccache_twisted.net.links import SchedulerLink
from sccache_twisted.net.transfer import PIECE, PiecewiseBody, SilenceWatch
from sccache_twisted.wire.facades import SchedulerForWorkers, ping
from sccache_twisted.wire.locators import Pinged, WorkerLocator
from sccache_twisted.wire.scheduling import ClusterStatus

TIMERS = LinkTimers()


class Pair:
    """Two ends of a link, whose bytes are carried when the test says so."""

    def __init__(self):
        self.clock = Clock()
        self.ended = {}
        self.ends = []
        for name in ("one", "other"):
            link = AmpLink(Pinged(), self.clock, TIMERS, name, self.end)
            link.makeConnection(StringTransport())
            link.keep_alive(5.0)
            self.ends.append(link)

    def end(self, link, reason):
        self.ended[link.peer] = reason.value

    def carry(self):
        """Deliver all that was written; the number of bytes."""
        total = 0
        while True:
            moved = 0
            for source, target in (self.ends, self.ends[::-1]):
                if source.transport is None or target.transport is None:
                    continue
                data = source.transport.value()
                source.transport.clear()
                moved += len(data)
                if data:
                    target.dataReceived(data)
            total += moved
            if not moved:
                return total


def test_idle_link_is_pinged_and_lives():
    """An idle link is kept alive for as long as both ends answer."""
    pair = Pair()
    carried = 0
    for _ in range(100):
        pair.clock.advance(1.0)
        carried += pair.carry()
    assert pair.ended == {}
    assert carried > 0


def test_busy_link_is_not_pinged():
    """A peer that talks is evidently alive; nothing is sent to find that out."""
    pair = Pair()
    one, _other = pair.ends
    for _ in range(50):
        pair.clock.advance(1.0)
        ping(one.callRemote)
        assert pair.carry() < 100, "one ping and its answer"
    assert pair.ended == {}


def test_silent_peer_is_lost():
    """A peer from which nothing came for peer_lost_seconds is lost, then and not earlier; waiting calls fail so."""
    pair = Pair()
    one, _other = pair.ends
    waiting = ping(one.callRemote)
    failures = []
    waiting.addErrback(lambda failure: failures.append(failure.value))
    for _ in range(149):
        pair.clock.advance(0.1)
    assert one.why is None
    for _ in range(2):
        pair.clock.advance(0.1)
    assert isinstance(one.why, Silence)
    one.connectionLost()
    assert [type(failure) for failure in failures] == [Silence]
    assert isinstance(pair.ended["one"], Silence)


def test_failure_that_nobody_takes_yet_harms_no_link():
    """A call may fail before its errback is attached: the failure waits for it, and the link lives."""
    pair = Pair()
    failed = pair.ends[0].callRemote(ClusterStatus)
    pair.carry()
    assert pair.ended == {}
    assert [link.transport.disconnecting for link in pair.ends] == [False, False]
    failures = []
    failed.addErrback(failures.append)
    assert [failure.type for failure in failures] == [UnhandledCommand]
    answers = []
    ping(pair.ends[0].callRemote).addCallback(answers.append)
    pair.carry()
    assert len(answers) == 1


def test_end_is_told_once_and_leaves_no_timer():
    """A link that was lost tells its owner, fails later calls, and has no timer left."""
    pair = Pair()
    for link in pair.ends:
        link.connectionLost()
    assert {name: type(error) for name, error in pair.ended.items()} == {
        "one": ConnectionFailed,
        "other": ConnectionFailed,
    }
    assert pair.clock.getDelayedCalls() == []
    failed = []
    ping(pair.ends[0].callRemote).addErrback(lambda failure: failed.append(failure.value))
    assert isinstance(failed[0], ConnectionFailed)


@implementer(IStreamClientEndpoint)
class Nobody:
    """A scheduler that is not there; notes when it was dialled."""

    def __init__(self, clock):
        self.clock = clock
        self.dialled = []

    def connect(self, factory):
        self.dialled.append(self.clock.seconds())
        return fail(Refused(osError=111))


def link(clock, endpoint, draw):
    hello = Hello(PROTOCOL_VERSION, Role.WORKER, "t", A)
    return SchedulerLink(
        clock,
        lambda _: endpoint,
        SchedulerAddress(Address("h", 1), tls=False),
        "",
        lambda: hello,
        lambda: WorkerLocator(Idle()),
        SchedulerForWorkers,
        lambda *_: succeed(None),
        lambda: None,
        TIMERS,
        draw,
    )


def test_waits_grow_with_full_jitter():
    """The waits between dials are uniform below bounds that grow by half up to two seconds."""
    clock = Clock()
    nobody = Nobody(clock)
    draws = iter([1.0] * 12 + [0.0] * 3 + [0.5] * 100)
    service = link(clock, nobody, lambda: next(draws))
    service.startService()
    for _ in range(4000):
        clock.advance(0.01)
    waits = [later - earlier for earlier, later in zip(nobody.dialled, nobody.dialled[1:], strict=False)]
    bounds = [min(2.0, 0.1 * 1.5**n) for n in range(12)]
    assert all(abs(wait - bound) < 0.03 for wait, bound in zip(waits[:12], bounds, strict=True))
    assert all(wait < 0.03 for wait in waits[12:15])
    assert all(abs(wait - 1.0) < 0.03 for wait in waits[15:20])
    assert service.trouble.sentence == "The scheduler at h:1 cannot be reached: Connection refused."
    stopped = []
    service.stopService().addCallback(stopped.append)
    assert stopped == [None]
    assert clock.getDelayedCalls() == []


@implementer(IStreamClientEndpoint)
class Slow:
    """A connection that never comes; notes whether it was given up."""

    def __init__(self):
        self.given_up = 0

    def connect(self, factory):
        def cancelled(_):
            self.given_up += 1

        return Deferred(cancelled)


def test_dialling_is_bounded():
    """A dial that does not come about is given up after connect_seconds, and dialled again."""
    clock = Clock()
    slow = Slow()
    service = link(clock, slow, lambda: 0.0)
    service.startService()
    clock.advance(4.9)
    assert slow.given_up == 0
    clock.advance(0.1)
    assert slow.given_up == 1
    assert service.trouble.sentence == "The scheduler at h:1 did not answer within 5 s."
    clock.advance(0.0)
    service.stopService()
    assert slow.given_up == 2
    assert clock.getDelayedCalls() == []


def test_silence_is_noticed_on_time():
    """Nothing moved for so long: told once, at that moment."""
    clock = Clock()
    told = []
    watch = SilenceWatch(clock, 10.0, lambda: 0, lambda: told.append(clock.seconds()))
    for _ in range(3):
        clock.advance(1.0)
    watch.moved()
    for _ in range(200):
        clock.advance(0.1)
    assert len(told) == 1
    assert 13.0 <= told[0] <= 13.2
    assert clock.getDelayedCalls() == []


def test_bytes_that_the_kernel_sends_are_no_silence():
    """A slow line that carries away what the kernel holds is not silent; one that carries nothing is."""
    clock = Clock()
    told = []
    held = [1000]
    SilenceWatch(clock, 10.0, lambda: held[0], lambda: told.append(clock.seconds()))
    for _ in range(60):
        clock.advance(1.0)
        held[0] -= 1
    assert told == []
    for _ in range(13):
        clock.advance(1.0)
    assert len(told) == 1


def test_stopped_watch_is_still():
    """A watch that was stopped never tells."""
    clock = Clock()
    watch = SilenceWatch(clock, 1.0, lambda: 0, lambda: 1 / 0)
    watch.stop()
    watch.moved()
    watch.stop()
    assert clock.getDelayedCalls() == []


class Consumer:
    """Takes one piece, then says stop."""

    def __init__(self, body):
        self.body = body
        self.pieces = []

    def write(self, data):
        self.pieces.append(data)
        self.body.pauseProducing()


def drain(body):
    consumer = Consumer(body)
    moved = []
    done = body.startProducing(consumer)
    while not done.called:
        body.resumeProducing()
    return consumer, done, moved


def test_body_goes_piece_by_piece(tmp_path):
    """A body in memory and one in a file arrive whole, in pieces, never faster than the connection takes them."""
    for size in (0, 1, PIECE, PIECE + 1, 3 * PIECE):
        data = bytes(n % 251 for n in range(256)) * (size // 256) + b"x" * (size % 256)
        path = tmp_path / "body"
        path.write_bytes(data)
        ended = []
        for body in (
            PiecewiseBody.of_bytes(data, lambda: None),
            PiecewiseBody.of_file(str(path), lambda: None, partial(ended.append, 1)),
        ):
            consumer, _, _ = drain(body)
            assert b"".join(consumer.pieces) == data
            assert max(map(len, consumer.pieces), default=0) <= PIECE
            assert body.sent == body.length == size
        assert ended == [1]


def test_file_that_shrinks_while_it_is_sent(tmp_path):
    """A file that ends early fails the request instead of hanging it, and is closed."""
    path = tmp_path / "body"
    path.write_bytes(bytes(2 * PIECE))
    ended = []
    body = PiecewiseBody.of_file(str(path), lambda: None, lambda: ended.append(1))
    consumer = Consumer(body)
    done = body.startProducing(consumer)
    path.write_bytes(b"")
    body.resumeProducing()
    failures = []
    done.addErrback(lambda failure: failures.append(str(failure.value)))
    assert failures == ["the file became shorter while it was sent"]
    assert ended == [1]
