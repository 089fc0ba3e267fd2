"""The notice that a machine is about to go: how it looks, where it is looked for, and what is said when it can't be."""

import os

import pytest
from treq.testing import RequestTraversalAgent
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.web.resource import Resource

from sccache_twisted.config import LinkTimers, WorkerSettings
from sccache_twisted.errors import ConfigError, Malformed
from sccache_twisted.logs import EventLog
from sccache_twisted.worker.preemption import (
    FileSource,
    PreemptionWatch,
    UrlSource,
    notice_in,
    parse_headers,
    preemption_service,
)

EC2 = "http://169.254.169.254/latest/meta-data/spot/instance-action"
ACTION = b'{"action": "terminate", "time": "2026-09-18T08:22:00Z"}'
SECONDS = 5.0


class Metadata(Resource):
    """A metadata service: what it answers next, and the headers that it was asked with."""

    isLeaf = True

    def __init__(self, *answers, token=None):
        super().__init__()
        self.answers = list(answers)
        self.token = token
        self.asked = []
        self.puts = 0

    def render_GET(self, request):
        self.asked.append(dict(request.requestHeaders.getAllRawHeaders()))
        if self.token is not None and request.getHeader(b"x-aws-ec2-metadata-token") != self.token:
            request.setResponseCode(401)
            return b"Unauthorized"
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        request.setResponseCode(status)
        return body

    def render_PUT(self, request):
        assert request.path == b"/latest/api/token"
        assert request.getHeader(b"x-aws-ec2-metadata-token-ttl-seconds") == b"21600"
        self.puts += 1
        return self.token


class Watched:
    """A watch over a Clock; ``notices`` are those that it told, ``events`` what it logged."""

    def __init__(self, source, clock, events):
        self.clock = clock
        self.notices = []
        self.events = events
        self.watch = PreemptionWatch(
            clock, source, SECONDS, lambda *notice: self.notices.append(notice), EventLog.of("test")
        )
        self.watch.startService()
        clock.advance(0)

    def warnings(self):
        return [event["reason"] for event in self.events if event["event"] == "preemption_unknown"]


@pytest.fixture
def events():
    found = []

    def observe(event):
        if event.get("event"):
            found.append(event)

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def watched(events):
    """``watched(service)`` or ``watched(source, clock)``; stopped afterwards, and then no timer is left."""
    made = []

    def watch(what, clock=None, headers=()):
        clock = clock or Clock()
        if isinstance(what, Metadata):
            what = UrlSource(clock, RequestTraversalAgent(what), EC2, dict(headers), SECONDS)
        made.append(Watched(what, clock, events))
        return made[-1]

    yield watch
    for each in made:
        each.watch.stopService()
        assert each.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("status", "body", "notice"),
    [
        (404, b"<html>Not Found</html>", None),
        (200, b"FALSE", None),
        (200, b"false\n", None),
        (200, b"NONE", None),
        (200, b" \n", None),
        (200, b"TRUE", "TRUE"),
        (200, ACTION, ACTION.decode()),
        (200, b"a\x1b[2Jb", "a [2Jb"),
        (200, b"x" * 5000, "x" * 200),
    ],
)
def test_what_an_answer_says(status, body, notice):
    """404, an empty body, FALSE and NONE are no notice, anything else with 200 is one, shown cut and printable."""
    assert notice_in(status, body) == notice


@pytest.mark.parametrize("status", [204, 302, 401, 403, 500])
def test_other_answers_say_neither(status):
    """An answer that is neither yes nor no is a failure with its status."""
    with pytest.raises(Malformed, match=str(status)):
        notice_in(status, b"TRUE")


def test_headers_are_read():
    """A header is a name, a colon and a value."""
    assert parse_headers(("Metadata-Flavor: Google", "X-Key:a b:c ")) == {"Metadata-Flavor": "Google", "X-Key": "a b:c"}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"preemption_url": "ftp://169.254.169.254/x"}, "worker.preemption_url"),
        ({"preemption_url": "https://metadata/x"}, "worker.preemption_url"),
        ({"preemption_url": "http:///x"}, "worker.preemption_url"),
        ({"preemption_url": "http://h:port/x"}, "worker.preemption_url"),
        ({"preemption_url": "http://user:word@h/x"}, "worker.preemption_url"),
        ({"preemption_url": "http://h/x y"}, "worker.preemption_url"),
        ({"preemption_url": "http://[::1/x"}, "worker.preemption_url"),
        ({"preemption_url": EC2, "preemption_headers": ("Metadata-Flavor",)}, "worker.preemption_headers"),
        ({"preemption_url": EC2, "preemption_headers": ("A: b\r\nHost: x",)}, "worker.preemption_headers"),
        ({"preemption_headers": ("Metadata-Flavor: Google",)}, "worker.preemption_url"),
    ],
)
def test_wrong_settings_name_their_key(settings, key):
    """A URL or header that can't be used is refused before anything starts."""
    with pytest.raises(ConfigError, match=key):
        preemption_service(MemoryReactorClock(), WorkerSettings(**settings), lambda *_: None, EventLog.of("test"))


def test_a_file_that_appears_is_noticed_once(watched, tmp_path):
    """Until the path exists nothing is said; then it is, at the next look, once, with the path."""
    path = tmp_path / "going"
    watch = watched(FileSource(str(path)))
    watch.clock.advance(SECONDS)
    assert watch.notices == []
    path.touch()
    watch.clock.pump([1.0] * 4)
    assert watch.notices == []
    watch.clock.pump([1.0] * 60)
    ((source, _),) = watch.notices
    assert source == str(path)
    assert [event["source"] for event in watch.events] == [str(path)]


def test_a_file_that_is_there_is_noticed_at_once(watched, tmp_path):
    """A worker that starts on a machine that goes does not wait for its first look."""
    assert watched(FileSource(str(tmp_path))).notices


def test_a_path_that_cannot_be_looked_at_is_no_notice(watched, tmp_path):
    """A failing look is warned of, and is no notice."""
    loop = tmp_path / "loop"
    os.symlink(loop, loop)
    watch = watched(FileSource(str(loop)))
    watch.clock.pump([SECONDS] * 5)
    assert watch.notices == []
    (reason,) = watch.warnings()
    assert "symbolic links" in reason


def test_a_url_is_asked_until_it_says_so(watched):
    """Every look is one request with the configured headers; a notice ends the looking."""
    service = Metadata((404, b""), (200, b"FALSE"), (200, ACTION))
    watch = watched(service, headers=[("Metadata-Flavor", "Google")])
    watch.clock.advance(SECONDS)
    assert watch.notices == []
    watch.clock.pump([SECONDS] * 5)
    assert watch.notices == [(EC2, ACTION.decode())]
    assert len(service.asked) == 3
    assert all(headers[b"Metadata-Flavor"] == [b"Google"] for headers in service.asked)
    (told,) = watch.events
    assert (told["event"], told["source"], told["said"]) == ("preemption_notice", EC2, ACTION.decode())
    assert watch.warnings() == []


def test_a_service_that_wants_a_token_gets_one(watched):
    """EC2's second version: the token is fetched when it is asked for, kept, and fetched again when it has expired."""
    service = Metadata((404, b""), token=b"first==")
    watch = watched(service)
    watch.clock.advance(SECONDS)
    assert service.puts == 1
    service.token = b"second=="
    service.answers = [(200, ACTION)]
    watch.clock.advance(SECONDS)
    assert service.puts == 2
    assert watch.notices == [(EC2, ACTION.decode())]
    assert watch.warnings() == []


def test_a_token_that_is_none_is_a_failure(watched):
    """What can't be a header's value is not sent as one."""
    service = Metadata((404, b""), token=b"a\r\nb")
    watch = watched(service)
    watch.clock.pump([SECONDS] * 3)
    (reason,) = watch.warnings()
    assert "401" in reason
    assert len(service.asked) == 4


def test_a_failing_url_is_warned_of_once(watched):
    """An outage is one line however long it lasts; the next outage is another, and polling goes on through both."""
    service = Metadata((500, b""), (503, b""), (404, b""), (500, b""), (500, b""), (200, b"TRUE"))
    watch = watched(service)
    watch.clock.pump([SECONDS] * 3)
    assert ["500" in reason for reason in watch.warnings()] == [True, True]
    watch.clock.pump([SECONDS] * 3)
    assert len(watch.warnings()) == 2
    assert watch.notices == [(EC2, "TRUE")]


def test_an_endless_answer_is_cut_off(watched):
    """A body over its bound is a failure, not a notice."""
    watch = watched(Metadata((200, b"x" * (1 << 20))))
    (reason,) = watch.warnings()
    assert "65536 bytes" in reason
    assert watch.notices == []


def test_silence_is_bounded_and_asked_again(events):
    """A URL that never answers is given up after connect_seconds, warned of once, and dialled again."""
    reactor = MemoryReactorClock()
    settings = WorkerSettings(
        preemption_url="http://127.0.0.1:80/x", preemption_seconds=1.0, links=LinkTimers(connect_seconds=2.0)
    )
    watches = preemption_service(reactor, settings, lambda *_: None, EventLog.of("test"))
    watches.startService()
    reactor.pump([0.0] * 2)
    assert len(reactor.tcpClients) == 1
    reactor.pump([0.5] * 20)
    assert len(reactor.tcpClients) == 4
    assert [(event["event"], event["reason"]) for event in events] == [
        ("preemption_unknown", "it does not answer within 2 s.")
    ]
    watches.stopService()
    reactor.pump([1.0] * 20)
    assert len(reactor.tcpClients) == 4
    assert reactor.getDelayedCalls() == []
