"""Links that dial: one service for one scheduler, made again whenever it is lost.

A link's life is a loop: dial and judge the peer, say Hello, hand the open link to the owner, wait for its end, wait a
little, begin again. TLS 1.3 lets a client write before the server has judged anything, so only an answered Hello is
up. The waits between grow with full jitter; after a refusal, which another attempt rarely mends, they are long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.application import service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import (
    BadProof,
    ConnectionFailed,
    IdentityTaken,
    InternalError,
    PinMismatch,
    ProtocolMismatch,
    SccacheTwistedError,
    Unauthorized,
)
from sccache_twisted.interfaces import Hello, Welcome
from sccache_twisted.logs import EventLog, events
from sccache_twisted.net.addresses import SchedulerAddress
from sccache_twisted.net.amp_link import AmpLink
from sccache_twisted.net.dialing import Connect, dial
from sccache_twisted.policy.backoff import Backoff
from sccache_twisted.wire.boundary import Call
from sccache_twisted.wire.facades import say_hello

REFUSALS = (Unauthorized, ProtocolMismatch, PinMismatch, IdentityTaken, BadProof)
REFUSED_SECONDS = 15.0
"""The least wait after a refusal, in units of which half is jitter: people mend tokens, not loops."""

Facade = TypeVar("Facade")
_log = Logger(namespace="sccache_twisted.net")


class SchedulerLink(service.Service, Generic[Facade]):
    """Keeps one link to one scheduler.

    ``locator`` makes what this side answers, ``facade`` what it calls, both anew for each link. ``on_up`` is told of
    each link whose Hello was answered and may say by a failure that the scheduler is of no use (a refused Register);
    only when its Deferred has fired is the link up. ``on_down`` follows every ``on_up`` that fired. ``draw`` gives
    uniform randomness in [0, 1).
    """

    def __init__(
        self,
        clock: IReactorTime,
        connect: Connect,
        address: SchedulerAddress,
        ca_file: str,
        hello: Callable[[], Hello],
        locator: Callable[[], amp.CommandLocator],
        facade: Callable[[Call], Facade],
        on_up: Callable[[Facade, Welcome], Deferred[None]],
        on_down: Callable[[], None],
        timers: LinkTimers,
        draw: Callable[[], float],
    ) -> None:
        self.address = address
        self.up: Facade | None = None
        """The scheduler, while the link is up."""
        self.trouble: SccacheTwistedError | None = None
        """Why there is no link, if there is none; kept until the next one is up."""
        self._clock = clock
        self._connect = connect
        self._peer = address.peer(ca_file)
        self._who = f"The scheduler at {address.address}"
        self._hello = hello
        self._locator = locator
        self._facade = facade
        self._on_up = on_up
        self._on_down = on_down
        self._timers = timers
        self._draw = draw
        self._backoff = Backoff(
            timers.reconnect_first_seconds, timers.reconnect_factor, timers.reconnect_longest_seconds
        )
        self._log = EventLog.of("sccache_twisted.net")
        self._life: Deferred[None] | None = None
        self._link: AmpLink | None = None

    @property
    def refused(self) -> SccacheTwistedError | None:
        """Why the scheduler will not have us, if that is the trouble."""
        return self.trouble if isinstance(self.trouble, REFUSALS) else None

    def startService(self) -> None:
        """Begin to dial."""
        if self._life is None:
            service.Service.startService(self)
            self._life = Deferred.fromCoroutine(self._live())

    def stopService(self) -> Deferred[None]:
        """End the link and dial no more; fires when the connection is gone."""
        service.Service.stopService(self)
        life, self._life = self._life, None
        if life is None:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        life.addBoth(_life_ended).addCallback(stopped.callback)
        life.cancel()
        # Called from within a callback that the life is waiting for, cancelling finds nothing to cancel.
        if self._link is not None:
            self._link.drop(ConnectionFailed("The link was ended on this side."))
        return stopped

    async def _live(self) -> None:
        failures = 0
        while self.running:
            began = self._clock.seconds()
            try:
                await self._one_link()
            except SccacheTwistedError as error:
                self.trouble = error
            except CancelledError:
                if not self.running:
                    raise
                self.trouble = ConnectionFailed("The link was given up by its owner.")
            except Exception as error:  # noqa: BLE001 - a defect in an owner's callback must not end the dialling
                _log.failure("a link failed by a defect")
                self.trouble = InternalError(f"The link failed: {type(error).__name__}.")
            if not self.running:
                return
            # A link that breaks as soon as it is up must not be made again at full speed.
            lasted = self._clock.seconds() - began
            failures = 1 if lasted >= self._timers.reconnect_longest_seconds else failures + 1
            wait = self._wait(failures)
            self._log.emit(events.LINK_RETRY, peer=str(self.address), wait=wait, reason=str(self.trouble))
            await deferLater(self._clock, wait)

    def _wait(self, failures: int) -> float:
        if self.refused is not None:
            return REFUSED_SECONDS * (0.5 + 0.5 * self._draw())
        return self._backoff.wait(failures, self._draw())

    async def _one_link(self) -> None:
        """Make a link and stay until it ends; raises why there is none or none any more."""
        lost: Deferred[None] = Deferred()
        link = AmpLink(self._locator(), self._clock, self._timers, self._who, lambda _, reason: lost.errback(reason))
        factory = _Single(link)
        try:
            await dial(self._clock, self._connect(self.address.address), self._peer, factory, self._timers, self._who)
        except SccacheTwistedError as error:
            self._refuse(error)
            raise
        ended = _ended(lost)
        self._link = link
        try:
            welcome = await _within(
                self._clock, self._timers.connect_seconds, say_hello(link.callRemote, self._hello()), self._who
            )
            link.keep_alive(welcome.ping_seconds)
            await self._used(link, welcome, ended)
        except SccacheTwistedError as error:
            self._refuse(error)
            raise
        finally:
            self._link = None
            link.drop(ConnectionFailed("The link was ended on this side."))
            await _watched(ended)

    async def _used(self, link: AmpLink, welcome: Welcome, ended: Deferred[SccacheTwistedError]) -> None:
        facade = self._facade(link.callRemote)
        await maybeDeferred(self._on_up, facade, welcome)
        self.trouble = None
        self.up = facade
        self._log.emit(events.LINK_UP, peer=str(self.address), role=self._hello().role.value)
        try:
            reason = await _watched(ended)
        finally:
            self.up = None
            self._on_down()
        self._log.emit(events.LINK_DOWN, peer=str(self.address), reason=reason.sentence)
        raise reason

    def _refuse(self, error: SccacheTwistedError) -> None:
        if isinstance(error, REFUSALS) and (self.trouble is None or self.trouble.sentence != error.sentence):
            self._log.emit(events.HELLO_REFUSED, peer=str(self.address), code=error.code, sentence=error.sentence)


class _Single(Factory):
    """Gives the one protocol that was made for this dialling."""

    noisy = False

    def __init__(self, link: AmpLink) -> None:
        self._link = link

    def buildProtocol(self, addr: Any) -> AmpLink:  # noqa: ARG002 Twisted's
        """Called by Twisted."""
        return self._link


def _ended(lost: Deferred[None]) -> Deferred[SccacheTwistedError]:
    """Why the link was lost, as a result instead of a failure, so that nobody need be waiting for it."""

    def reason(failure: Failure) -> SccacheTwistedError:
        error = failure.value
        return error if isinstance(error, SccacheTwistedError) else ConnectionFailed("The link was lost.")

    return lost.addErrback(reason)  # type: ignore[return-value]  # it never fires with None


async def _watched(ended: Deferred[SccacheTwistedError]) -> SccacheTwistedError:
    """Wait for the end of a link; cancelling stops the waiting and not the thing waited for."""
    waiting: Deferred[SccacheTwistedError] = Deferred()

    def tell(reason: SccacheTwistedError) -> SccacheTwistedError:
        if not waiting.called:
            waiting.callback(reason)
        return reason

    ended.addCallback(tell)
    return await waiting


async def _within(clock: IReactorTime, seconds: float, waiting: Deferred[Welcome], who: str) -> Welcome:
    late = False

    def give_up() -> None:
        nonlocal late
        late = True
        waiting.cancel()

    timer = clock.callLater(seconds, give_up)
    try:
        return await waiting
    except CancelledError:
        if late:
            raise ConnectionFailed(f"{who} did not answer Hello within {seconds:g} s.") from None
        raise
    finally:
        if timer.active():
            timer.cancel()


def _life_ended(result: object) -> None:
    if isinstance(result, Failure) and not result.check(CancelledError):
        _log.failure("a link's life ended by a defect", result)
