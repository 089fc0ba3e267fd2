"""A notice that this machine is about to be taken away: a file that appears, or what the cloud's metadata service says.

Knows how a notice looks and where to look for it. Refuses to know what follows from one: that is a function.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

from twisted.application import service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol as Receiver
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from sccache_twisted.config import WorkerSettings
from sccache_twisted.errors import ConfigError, Malformed, TooLarge
from sccache_twisted.logs import EventLog, events

_LARGEST_ANSWER = 64 << 10
_SHOWN = 200
_NO_NOTICE = frozenset({b"", b"FALSE", b"NONE"})
_HEADER = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[!-~](?:[ -~]*[!-~])?)[ \t]*\Z")
_URL = re.compile(r"[!-~]+\Z")
# Version 2 of EC2's service wants a token of its own, good for six hours, with every question.
_TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
_TOKEN_ASKED = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
_TOKEN_SHOWN = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name


class Source(Protocol):
    """Where a notice may come from. ``name`` tells a person where that is."""

    name: str

    async def look(self) -> str | None:
        """What the notice says, or None while there is none; raises whatever keeps it from being known."""


def notice_in(status: int, body: bytes) -> str | None:
    """What an answer of a metadata service says of this machine's end, None if nothing; raises Malformed.

    EC2 answers 404 until there is something to say, Google 200 with FALSE.
    """
    if status == 404:
        return None
    if status != 200:
        raise Malformed(f"it answers with status {status}.")
    if body.strip().upper() in _NO_NOTICE:
        return None
    shown = body.strip().decode("utf-8", "replace")[:_SHOWN]
    return "".join(each if each.isprintable() else " " for each in shown)


def parse_headers(lines: tuple[str, ...]) -> dict[str, str]:
    """``worker.preemption_headers`` by name; raises ConfigError."""
    found: dict[str, str] = {}
    for line in lines:
        header = _HEADER.match(line)
        if header is None:
            raise ConfigError(f'worker.preemption_headers: {line[:80]!r} is not a header "Name: value".')
        found[header["name"]] = header["value"]
    return found


def check_url(url: str) -> str:
    """``worker.preemption_url``; raises ConfigError."""
    try:
        parts = urlsplit(url)
        good = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        good = False
    if not good or _URL.match(url) is None:
        raise ConfigError(f"worker.preemption_url: {url[:200]!r} is not a URL http://HOST[:PORT]/PATH.")
    return url


def preemption_service(
    reactor: Any, settings: WorkerSettings, noticed: Callable[[str, str], None], log: EventLog
) -> service.MultiService:
    """Watches what the settings name, perhaps nothing; raises ConfigError.

    ``noticed`` is called with a source and what it says, at most once for each source.
    """
    bound = settings.links.connect_seconds
    headers = parse_headers(settings.preemption_headers)
    sources: list[Source] = []
    if settings.preemption_file:
        sources.append(FileSource(settings.preemption_file))
    if settings.preemption_url:
        agent = Agent(reactor, connectTimeout=bound)
        sources.append(UrlSource(reactor, agent, check_url(settings.preemption_url), headers, bound))
    elif headers:
        raise ConfigError("worker.preemption_headers is set, but not worker.preemption_url.")
    watches = service.MultiService()
    for source in sources:
        watch = PreemptionWatch(reactor, source, settings.preemption_seconds, noticed, log)
        watch.setServiceParent(watches)  # type: ignore[no-untyped-call]  # Twisted's services have no types
    return watches


class PreemptionWatch(service.Service):
    """Looks at a source every ``seconds``, the first time as soon as the reactor runs, until there is a notice.

    A source that fails is warned of once until it answers again, and is looked at all the same.
    """

    def __init__(
        self,
        clock: IReactorTime,
        source: Source,
        seconds: float,
        noticed: Callable[[str, str], None],
        log: EventLog,
    ) -> None:
        self._clock = clock
        self._source = source
        self._seconds = seconds
        self._noticed = noticed
        self._log = log
        self._failing = False
        self._timer: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None

    def startService(self) -> None:
        """Begin to look."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service has no types
        self._timer = self._clock.callLater(0, self._begin)

    def stopService(self) -> Deferred[None]:
        """Look no more; a look that is under way is given up."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's Service has no types
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        return succeed(None)

    def _begin(self) -> None:
        self._timer = None
        looking: Deferred[str | None] = Deferred.fromCoroutine(self._source.look())
        self._looking = looking.addCallbacks(self._answered, self._failed).addErrback(self._defect)

    def _answered(self, said: str | None) -> None:
        self._looking = None
        self._failing = False
        if said is None:
            self._again()
        elif self.running:
            self._log.emit(events.PREEMPTION_NOTICE, source=self._source.name, said=said)
            self._noticed(self._source.name, said)

    def _failed(self, failure: Failure) -> None:
        self._looking = None
        if self.running and not self._failing:
            self._failing = True
            self._log.emit(events.PREEMPTION_UNKNOWN, source=self._source.name, reason=_reason(failure))
        self._again()

    def _again(self) -> None:
        if self.running:
            self._timer = self._clock.callLater(self._seconds, self._begin)

    def _defect(self, failure: Failure) -> None:
        self._log.log.failure("following a preemption notice failed by a defect", failure)


class FileSource:
    """The notice is that a path exists, whatever it is."""

    def __init__(self, path: str) -> None:
        self.name = path

    async def look(self) -> str | None:
        """See Source."""
        try:
            os.stat(self.name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return "the file exists"


class UrlSource:
    """The notice is an answer of a metadata service. ``seconds`` bounds each question.

    Where the service wants EC2's token (it answers 401) that is fetched, and again when it has expired.
    """

    def __init__(self, clock: IReactorTime, agent: IAgent, url: str, headers: dict[str, str], seconds: float) -> None:
        self.name = url
        self._clock = clock
        self._agent = agent
        self._headers = headers
        self._seconds = seconds
        self._token: dict[str, str] = {}

    async def look(self) -> str | None:
        """See Source."""
        status, body = await self._ask("GET", self.name, self._headers | self._token)
        if status == 401:
            self._token = await self._new_token()
            status, body = await self._ask("GET", self.name, self._headers | self._token)
        return notice_in(status, body)

    async def _new_token(self) -> dict[str, str]:
        parts = urlsplit(self.name)
        status, body = await self._ask("PUT", f"{parts.scheme}://{parts.netloc}{_TOKEN_PATH}", _TOKEN_ASKED)
        if status != 200 or _HEADER.match(f"{_TOKEN_SHOWN}: {body.decode('ascii', 'replace')}") is None:
            raise Malformed(f"it answers with status 401, and PUT {_TOKEN_PATH} with {status} gives no token.")
        return {_TOKEN_SHOWN: body.decode("ascii").strip()}

    def _ask(self, method: str, url: str, headers: dict[str, str]) -> Deferred[tuple[int, bytes]]:
        lines = Headers({name: [value] for name, value in headers.items()})
        answer = Deferred.fromCoroutine(self._answer(method, url, lines))
        return answer.addTimeout(self._seconds, self._clock, self._timed_out)

    async def _answer(self, method: str, url: str, headers: Headers) -> tuple[int, bytes]:
        response: IResponse = await self._agent.request(method.encode("ascii"), url.encode("ascii"), headers, None)
        return response.code, await _whole(response)

    def _timed_out(self, _result: object, _seconds: float) -> tuple[int, bytes]:
        raise TimeoutError(f"it does not answer within {self._seconds:g} s.")


def _reason(failure: Failure) -> str:
    error = failure.value
    if isinstance(error, ResponseFailed) and error.reasons:
        return _reason(error.reasons[0])
    return failure.getErrorMessage() or type(error).__name__


def _whole(response: IResponse) -> Deferred[bytes]:
    """A response's body; fails with TooLarge. Cancelling it closes the connection."""
    receiver = _Body()
    response.deliverBody(receiver)
    return receiver.whole


class _Body(Receiver):
    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._close())
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted."""
        self._data += data
        if len(self._data) > _LARGEST_ANSWER and not self.whole.called:
            self.whole.errback(TooLarge(f"its answer is longer than {_LARGEST_ANSWER} bytes."))
            self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted at the body's end, or when it was cut short."""
        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(self._data)
        else:
            self.whole.errback(reason)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
