"""One request to a worker and its answer, watched for silence; every failure becomes one of the failure table.

Knows HTTP and frames. Refuses to know: what the frames of an answer mean for a job.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Shape
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer

from sccache_twisted.errors import (
    ConnectionFailed,
    Malformed,
    NoWorkers,
    SccacheTwistedError,
    SchedulerUnavailable,
    Silence,
    StillQueued,
    TooLarge,
    UserError,
)
from sccache_twisted.net.agent import Exchange
from sccache_twisted.net.dialing import as_peer_failure
from sccache_twisted.net.transfer import PiecewiseBody, SilenceWatch
from sccache_twisted.wire.frames import FrameDecoder
from sccache_twisted.wire.http import MAX_ERROR_BODY, STILL_HERE, error_from_response

Result = TypeVar("Result")
_GOOD = frozenset({200, 201})
_OTHERS_WORDS = (UserError, NoWorkers, SchedulerUnavailable, StillQueued)
"""What only this side, or a scheduler, can know. From a worker it would send a job home, or have it wait for ever."""


class Receiver(Shape):
    """Takes the body of an answer."""

    def received(self, data: bytes) -> None:
        """Take bytes as they come; raises Malformed or TooLarge."""

    def complete(self) -> None:
        """The body has ended in good order; raises Malformed if that is too early."""


class WholeBody:
    """A short body, kept whole."""

    def __init__(self, limit: int = MAX_ERROR_BODY) -> None:
        self.data = b""
        self._limit = limit

    def received(self, data: bytes) -> None:
        """See Receiver."""
        self.data += data
        if len(self.data) > self._limit:
            raise TooLarge(f"The worker's answer is longer than {self._limit} bytes.")

    def complete(self) -> None:
        """See Receiver; any body is whole."""


class FrameBody:
    """A stream of frames: ``between`` takes those that may come any number of times, the other one ends it."""

    def __init__(self, max_frame: int, between: Callable[[bytes, bytes], bool], now: Callable[[], float]) -> None:
        self.last: tuple[bytes, bytes] | None = None
        """The frame that ended the stream: kind and payload."""
        self.size = 0
        self.seconds = 0.0
        """From the first byte of that frame to its last."""
        self._decoder = FrameDecoder(max_frame)
        self._between = between
        self._now = now
        self._began: float | None = None

    def received(self, data: bytes) -> None:
        """See Receiver."""
        self.size += len(data)
        if self.last is not None:
            raise Malformed("The worker goes on after the end of its answer.")
        for kind, payload in self._decoder.feed(data):
            if self.last is not None:
                raise Malformed("The worker goes on after the end of its answer.")
            if not self._between(kind, payload):
                self.last = (kind, payload)
                self.seconds = 0.0 if self._began is None else self._now() - self._began
            self._began = None
        if self._decoder.pending and self._began is None:
            self._began = self._now()

    def complete(self) -> None:
        """See Receiver."""
        if self.last is None or self._decoder.pending:
            raise Malformed("The worker's answer ends before its end.")


class Conversation:
    """Watches one exchange. ``who`` begins sentences, as in "Worker a-… at 10.0.0.7:10501"."""

    def __init__(self, clock: IReactorTime, exchange: Exchange, silence_seconds: float, who: str) -> None:
        self._clock = clock
        self._exchange = exchange
        self._silence_seconds = silence_seconds
        self._who = who
        self._silent: Silence | None = None
        self._current: Deferred[object] | None = None
        self._finished = False
        self._watch = SilenceWatch(clock, silence_seconds, self._unsent_bytes, self._went_silent)
        self._sign: IDelayedCall | None = None
        self._bound: IDelayedCall | None = None
        self._showing_life = False

    def moved(self) -> None:
        """A byte moved."""
        self._watch.moved()

    def be_patient(self, seconds: float) -> None:
        """From now on tolerate this much silence: the worker has work to do before it can answer."""
        self._silence_seconds = max(seconds, self._silence_seconds)
        self._watch.allow(self._silence_seconds)

    def answer_within(self, seconds: float) -> None:
        """Give the worker up after so many seconds, whatever it moves: who shows progress for ever is of no use."""
        why = f"{self._who} has had the job for {seconds:g} s and shows progress, but no result."
        self._bound = self._clock.callLater(seconds, self._give_up, why)

    def abandon(self) -> None:
        """Nothing will be asked after all."""
        self._watch.stop()

    def show_life(self, every: float, body: PiecewiseBody) -> None:
        """Once the request has arrived, say every so many seconds that this side still waits for the answer.

        A process that stands still has a kernel that acknowledges what comes: only its own words show that it lives.
        """
        # From the first word on bytes under way say nothing of the worker any more: they are ours.
        self._showing_life = self._showing_life or (body.sent == body.length and not self._exchange.unsent_bytes())
        if self._showing_life:
            self._exchange.say(STILL_HERE)
        self._sign = self._clock.callLater(every, self.show_life, every, body)

    def _unsent_bytes(self) -> int:
        return 0 if self._showing_life else self._exchange.unsent_bytes()

    async def ask(self, method: str, path: str, headers: Headers, body: IBodyProducer | None, to: Receiver) -> int:
        """Send the request, give the answer's body to ``to``; the answer is its status, 200 or 201.

        Raises the worker's own error for another status, PinMismatch, ConnectionFailed, Silence, Malformed, TooLarge.
        Cancelling hangs up.
        """
        refusal = WholeBody()
        try:
            status = await self._ask(method, path, headers, body, to, refusal)
        except Exception as error:
            judged = self._judged(error)
            if judged is error:
                raise
            raise judged from error
        finally:
            self._watch.stop()
            for timer in (self._sign, self._bound):
                if timer is not None and timer.active():
                    timer.cancel()
            if self._finished:
                self._exchange.finished()
            else:
                self._exchange.hang_up()
        if status not in _GOOD:
            raise spoken(error_from_response(status, refusal.data), self._who)
        return status

    async def _ask(
        self, method: str, path: str, headers: Headers, body: IBodyProducer | None, to: Receiver, refusal: Receiver
    ) -> int:
        response = await self._wait(self._exchange.request(method, path, headers, body))
        taking = _Taking(to if response.code in _GOOD else refusal, self._watch.moved)
        response.deliverBody(taking)
        await self._wait(taking.ended)
        # An answer before the end of the request is a refusal; the rest of the request would only block the line.
        self._finished = body is None or getattr(body, "sent", body.length) == body.length
        return int(response.code)

    async def _wait(self, waited: Deferred[Result]) -> Result:
        self._current = waited  # type: ignore[assignment]  # only ever cancelled
        try:
            return await waited
        finally:
            self._current = None

    def _went_silent(self) -> None:
        self._give_up(f"{self._who} moved no byte for {self._silence_seconds:g} s.")

    def _give_up(self, why: str) -> None:
        self._silent = Silence(why)
        # While dialling there is nothing to hang up yet; cancelling ends that too.
        self._exchange.hang_up()
        if self._current is not None:
            self._current.cancel()

    def _judged(self, error: Exception) -> Exception:
        if self._silent is not None:
            return self._silent
        inner = _innermost(error)
        if isinstance(inner, Malformed | TooLarge):
            return blamed(inner, self._who)
        if isinstance(inner, SccacheTwistedError | CancelledError):
            return inner
        judged = as_peer_failure(Failure(inner), self._who).value
        return judged if isinstance(judged, Exception) else ConnectionFailed(f"{self._who} closed the connection.")


class _Taking(Protocol):
    """Gives a response's body to a receiver; ``ended`` fires at its end, or fails at once when it is wrong."""

    def __init__(self, to: Receiver, moved: Callable[[], None]) -> None:
        self._to = to
        self._moved = moved
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted."""
        self._moved()
        if not self.ended.called:
            try:
                self._to.received(data)
            except SccacheTwistedError:
                self.ended.errback()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted at the end of the body, good or bad."""
        if self.ended.called:
            return
        if not reason.check(ResponseDone):
            self.ended.errback(reason)
            return
        try:
            self._to.complete()
        except SccacheTwistedError:
            self.ended.errback()
        else:
            self.ended.callback(None)


def _innermost(error: BaseException) -> BaseException:
    """What made a request fail, below the wrappers of twisted.web."""
    reasons = getattr(error, "reasons", None)
    if isinstance(error, ResponseFailed) or isinstance(reasons, list):
        for reason in reasons or ():
            found = _innermost(reason.value)
            if not isinstance(found, ResponseDone):
                return found
    return error


def blamed(error: SccacheTwistedError, who: str) -> SccacheTwistedError:
    """What is wrong with an answer, and whose answer it was."""
    return type(error)(f"{who} answered what cannot be used: {error.sentence}")


def spoken(error: SccacheTwistedError, who: str) -> SccacheTwistedError:
    """A worker's own error; what is not a worker's to say is malformed."""
    said = f"{who} answered: {error.sentence}"
    if isinstance(error, _OTHERS_WORDS):
        return Malformed(said)
    return type(error)(said) if isinstance(error, Malformed | TooLarge) else error
