"""The AMP protocol's life, the same on both sides: bounds, keep-alive, and an end that is told once.

The locator says what is understood, the owner what an open link means; this only keeps the line. Whatever a peer
sends, it costs at most one box of ``MAX_BOX`` bytes and one log line, and harms no other link.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import ConnectionFailed, Malformed, SccacheTwistedError, Silence, TooLarge
from sccache_twisted.net.dialing import as_peer_failure
from sccache_twisted.net.sockets import tune
from sccache_twisted.wire.facades import ping

MAX_BOX = 256 << 10
"""Most bytes of one box. The largest of ours, a page of toolchains, is a quarter of it."""

_log = Logger(namespace="sccache_twisted.net")


class AmpLink(amp.AMP):
    """One end of a link. ``peer`` names the other in sentences; ``ended`` is called once, with the reason."""

    def __init__(
        self,
        locator: amp.CommandLocator,
        clock: IReactorTime,
        timers: LinkTimers,
        peer: str,
        ended: Callable[[AmpLink, Failure], None],
    ) -> None:
        amp.AMP.__init__(self, locator=locator)
        self.peer = peer
        self.why: SccacheTwistedError | None = None
        """Why the link was ended: set when we end it, and in any case when it has ended."""
        self._clock = clock
        self._timers = timers
        self._ended = ended
        self._lost = False
        self._box_bytes = 0
        self._heard = clock.seconds()
        self._beat: IDelayedCall | None = None
        self._ping_seconds = timers.ping_seconds

    # --- life ---------------------------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        """Called by Twisted. AMP's own version would log two lines for each link."""
        tune(transport, self._timers.tcp_user_timeout_seconds)
        self._heard = self._clock.seconds()
        amp.BinaryBoxProtocol.makeConnection(self, transport)

    def keep_alive(self, ping_seconds: float) -> None:
        """Begin to ping when the link is idle, and to expect signs of life. Call it when the link is up."""
        self._ping_seconds = min(self._timers.ping_seconds, ping_seconds) if ping_seconds > 0 else self._ping_seconds
        self._beat = self._clock.callLater(self._ping_seconds, self._check_life)

    def _check_life(self) -> None:
        idle = self._clock.seconds() - self._heard
        if idle >= self._timers.peer_lost_seconds:
            self.drop(Silence(f"{self.peer} has been silent for {idle:.0f} s."))
            return
        # A peer that talks proves by it that it is alive: only an idle link is pinged.
        if idle >= self._ping_seconds:
            ping(self.callRemote).addErrback(self._ping_failed)
        left = self._timers.peer_lost_seconds - idle
        self._beat = self._clock.callLater(min(self._ping_seconds, left), self._check_life)

    def _ping_failed(self, failure: Failure) -> None:
        if not self._lost and isinstance(failure.value, SccacheTwistedError):
            self.drop(failure.value)

    def close(self) -> None:
        """End the link in good order: what was written is still sent."""
        if self.transport is not None:
            self.transport.loseConnection()

    def drop(self, why: SccacheTwistedError) -> None:
        """End the link at once, because of the peer."""
        if self.why is None:
            self.why = why
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted. Every call that waits fails with an error of the failure table."""
        self._lost = True
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        if self.why is None:
            self.why = self._why_lost(reason)
        reason = Failure(self.why)
        amp.BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None
        self._ended(self, reason)

    def _why_lost(self, reason: Failure) -> SccacheTwistedError:
        if not reason.check(ConnectionDone, ConnectionLost):
            found = as_peer_failure(reason, self.peer).value
            if isinstance(found, SccacheTwistedError):
                return found
        return ConnectionFailed(f"{self.peer} closed the link.")

    # --- what a peer may send -----------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted. Bytes that are no AMP end the link."""
        if self.why is not None:
            return
        try:
            amp.BinaryBoxProtocol.dataReceived(self, data)
        except Exception as error:  # noqa: BLE001 - AMP's parser has many ways to fail, and a peer chooses among them
            self.drop(Malformed(f"{self.peer} sent something that is no message ({type(error).__name__})."))

    def stringReceived(self, string: bytes) -> None:
        """Called for each key and value of a box, and with an empty string at its end."""
        self._box_bytes += len(string) + 2
        if self._box_bytes > MAX_BOX:
            self.drop(TooLarge(f"{self.peer} sent a message of more than {MAX_BOX} bytes."))
            return
        if not string:
            self._box_bytes = 0
            self._heard = self._clock.seconds()
        if self.why is None:
            amp.BinaryBoxProtocol.stringReceived(self, string)

    def lengthLimitExceeded(self, length: int) -> None:
        """Called when a key is longer than AMP's 255 bytes: this is no AMP, perhaps no TLS on either side."""
        self.drop(Malformed(f"{self.peer} sent something that is no message (a key of {length} bytes)."))

    def dispatchCommand(self, box: amp.AmpBox) -> Deferred[amp.AmpBox]:
        """Run a responder. A box whose arguments can't be decoded is answered so, and harms nothing else."""
        answer: Deferred[amp.AmpBox] = amp.AMP.dispatchCommand(self, box)
        answer.addCallback(_sendable).addErrback(_declared, self.peer)
        # Nobody hears of a failure to understand what wants no answer; it is in the log.
        return answer if amp.ASK in box else answer.addErrback(lambda _: amp.AmpBox())

    def unhandledError(self, failure: Failure) -> Failure:  # type: ignore[override]  # see below
        """Called behind the callbacks of every call. AMP would drop the link and answer None in the failure's place."""
        return failure


def _sendable(box: amp.AmpBox) -> amp.AmpBox:
    # AMP finds this out only when it writes, and then the peer would wait for ever.
    if any(len(value) > amp.MAX_VALUE_LENGTH for value in box.values()):
        raise amp.RemoteAmpError(TooLarge.code.encode("ascii"), "The answer is too long for a message.", False)
    return box


def _declared(failure: Failure, peer: str) -> Failure:
    if failure.check(amp.RemoteAmpError):
        return failure
    _log.warn("{peer} sent a message that was not understood: {error}", peer=peer, error=failure.getErrorMessage())
    code = Malformed.code.encode("ascii")
    return Failure(amp.RemoteAmpError(code, "The message was not understood.", False, local=failure))
