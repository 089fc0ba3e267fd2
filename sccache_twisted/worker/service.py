"""The worker as a service: an identity, an HTTPS port, a link to each scheduler, and an orderly end.

A worker registers with every scheduler of its list; it alone knows which of its slots are free. Knows timers and
wiring. What a job is, what a link is and what a slot is are other modules' business.
"""

from __future__ import annotations

import os
import platform
import random
import socket
import time
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.application import service
from twisted.internet.defer import Deferred, DeferredList, execute, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted import __version__
from sccache_twisted.config import WorkerSettings
from sccache_twisted.errors import ConfigError
from sccache_twisted.interfaces import (
    PROTOCOL_VERSION,
    AssignOrder,
    Hello,
    IWorkerPeer,
    JobPhase,
    Registration,
    Role,
    Welcome,
)
from sccache_twisted.logs import EventLog, events
from sccache_twisted.model import Address, Digest, Try, WorkerCard, mint_server_id
from sccache_twisted.net.addresses import SchedulerAddress
from sccache_twisted.net.dialing import Connect, tcp
from sccache_twisted.net.links import SchedulerLink
from sccache_twisted.net.ports import ListeningService
from sccache_twisted.security.contexts import ServerTLS
from sccache_twisted.security.files import read_token
from sccache_twisted.security.identity import WorkerIdentity
from sccache_twisted.wire.facades import SchedulerForWorkers
from sccache_twisted.wire.locators import WorkerLocator
from sccache_twisted.worker.executor import Executor
from sccache_twisted.worker.health import beat_of
from sccache_twisted.worker.jobs import JobBounds, Jobs
from sccache_twisted.worker.preemption import preemption_service
from sccache_twisted.worker.server import ServerBounds, WorkerSite
from sccache_twisted.worker.slots import Slots
from sccache_twisted.worker.threads import Threads
from sccache_twisted.worker.turns import Turns
from sccache_twisted.worker.workshop import OpenWorkshop, machine_memory, open_workshop, slots_of

_log = Logger(namespace="sccache_twisted.worker")


@define(eq=False)
class _Told:
    """A scheduler that we are registered with, and the toolchains that it believes we have."""

    scheduler: SchedulerForWorkers
    toolchains: set[Digest] = field(factory=set)


class WorkerService(service.Service):
    """A worker. Making one opens its stores and claims its uids; raises ConfigError, SandboxFailed or WorkerStorage.

    ``startService`` raises ConfigError for a taken port. ``on_drained`` is called once, when a drain that a scheduler
    ordered or a preemption notice asked for has ended; :meth:`drain` does not call it. ``stopService`` kills what runs,
    and fires when nothing is left.
    """

    def __init__(
        self,
        reactor: Any,
        settings: WorkerSettings,
        *,
        on_drained: Callable[[], None] = lambda: None,
        connect: Connect | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        draw: Callable[[], float] = random.random,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._on_drained = on_drained
        self._now = now
        name = settings.name or socket.gethostname().partition(".")[0].lower()
        try:
            self.server_id = mint_server_id(name, entropy(8))
        except ValueError as error:
            raise ConfigError(f"worker.name: {error}.") from error
        self._identity = WorkerIdentity.create(self.server_id, now())
        self._tls = None if settings.insecure else ServerTLS(self._identity)
        self._log = EventLog.of("sccache_twisted.worker", role="worker", server_id=self.server_id)
        addresses = [SchedulerAddress.parse(text, insecure=settings.insecure) for text in settings.schedulers]
        try:
            self._public = Address.parse(settings.public) if settings.public else None
        except ValueError as error:
            raise ConfigError(f"worker.public: {error}.") from error
        token = read_token(settings.token, settings.token_file)
        self._told: list[_Told] = []
        self._preemption = preemption_service(reactor, settings, lambda _source, _said: self.leave(), self._log)
        self._draining: Deferred[None] | None = None
        self._leaving: Deferred[None] | None = None
        self._stopping: Deferred[None] | None = None
        self._open: OpenWorkshop = open_workshop(settings)
        shop = self._open.workshop
        self._slots = slots_of(settings)
        self._threads = Threads(reactor, max(4, 2 * self._slots + 2))
        self._executor = Executor(reactor, self._threads, shop, self._log)
        self.jobs = Jobs(
            reactor,
            self._threads,
            Slots(self._slots, settings.claim_seconds),
            Turns(settings.claim_seconds, settings.upload_seconds, settings.upload_least_bytes),
            self._executor,
            shop.toolchains,
            shop.blobs,
            JobBounds(settings.max_job_plain_bytes, settings.max_inputs),
            settings.claim_seconds,
            self._tell,
            self._log,
        )
        bounds = ServerBounds(
            settings.max_job_bytes,
            settings.max_toolchain_bytes,
            settings.max_requests,
            settings.links.tcp_user_timeout_seconds,
            settings.links.peer_lost_seconds,
        )
        self._site = WorkerSite(reactor, self.jobs, self._threads, bounds)
        self._listening = ListeningService(reactor, settings.listen, self._site, self._tls, "worker")
        hello = Hello(PROTOCOL_VERSION, Role.WORKER, token, self.server_id)
        peer = _Peer(self)
        self._links = [
            self._link(connect or tcp(reactor, settings.links), address, hello, peer, draw) for address in addresses
        ]
        self._loops = [
            self._loop(self._beat, settings.heartbeat_seconds),
            self._loop(self.jobs.time_passed, min(1.0, settings.claim_seconds / 4)),
            # Sooner than promised: a frame has a way to go.
            self._loop(self.jobs.show_progress, settings.progress_seconds * 0.75),
            self._loop(self._renew, settings.renew_seconds),
        ]

    @property
    def port(self) -> int:
        """The TCP port of the HTTPS listener."""
        return self._listening.port

    @property
    def registered(self) -> int:
        """With how many schedulers the worker is registered."""
        return len(self._told)

    # --- life ---------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Listen, or raise ConfigError; then dial the schedulers."""
        try:
            self._listening.startService()
        except ConfigError:
            self._open.close()
            raise
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service has no types
        self._threads.start()
        self._executor.start(self._open.groups(self._slots))
        if self._tls is None:
            sentence = "anybody can read and change what is compiled (worker.insecure)"
            self._log.emit(events.INSECURE, sentence=sentence)
        self._log.emit(events.STARTED, version=f"{__version__} (Python {platform.python_version()})")
        for loop, seconds in self._loops:
            loop.start(seconds, now=False).addErrback(self._loop_failed)
        for link in self._links:
            link.startService()
        self._preemption.startService()

    def drain(self) -> Deferred[None]:
        """Take no new jobs, let the running ones finish for ``drain_seconds``, leave the schedulers.

        Fires when that is done; then the service is to be stopped. Calling it again gives the same answer.
        """
        if self._draining is None:
            self._log.emit(events.WORKER_DRAINING, running=self.jobs.slots.taken)
            self._draining = Deferred.fromCoroutine(self._drain())

        return _after(self._draining)

    def drain_ordered(self) -> None:
        """A scheduler wants us to leave."""
        self._log.emit(events.DRAIN_ORDERED)
        self.leave()

    def leave(self) -> None:
        """Drain, and say so to ``on_drained``; once, however often and by whom it is wanted."""
        if self._leaving is None:
            # A drain that failed is over too: a worker that takes nothing and never ends would serve nobody.
            self._leaving = self.drain().addErrback(self._drain_failed).addCallback(lambda _: self._on_drained())

    def _drain_failed(self, failure: Failure) -> None:
        _log.failure("draining failed by a defect", failure)

    async def _drain(self) -> None:
        deadline = self._reactor.seconds() + self._settings.drain_seconds
        ended = self.jobs.drain()
        announced = self._announce_draining()
        if not ended.called:
            timer = self._reactor.callLater(self._settings.drain_seconds, self._give_up_draining)
            await ended
            if timer.active():
                timer.cancel()
            # Answered again when the last JobState has been heard: links are cut, and what is unsent is lost then.
            announced = self._announce_draining()
        await announced
        # A job is over for its client when it has the result, and that may still be on its way.
        patience = self._settings.links.connect_seconds
        await self._site.connections.farewell(max(deadline - self._reactor.seconds(), patience), patience)
        await self._leave()

    def _announce_draining(self) -> Deferred[None]:
        """Tell every scheduler; fires when those that answer have answered."""
        bound = self._settings.links.connect_seconds
        answers = [told.scheduler.draining().addTimeout(bound, self._reactor) for told in self._told]
        for answer in answers:
            answer.addErrback(self._not_told)
        return DeferredList(answers).addCallback(lambda _: None)

    def _give_up_draining(self) -> None:
        self.jobs.abandon_all().addErrback(self._not_told)

    async def _leave(self) -> None:
        await DeferredList([maybeDeferred(link.stopService) for link in self._links], consumeErrors=True)

    def stopService(self) -> Deferred[None]:
        """Leave, kill what runs, and wait until nothing is left. Calling it again waits for the same end."""
        if self._stopping is None:
            super().stopService()  # type: ignore[no-untyped-call]  # Twisted's Service has no types
            self._stopping = Deferred.fromCoroutine(self._stop())
        return _after(self._stopping)

    async def _stop(self) -> None:
        await maybeDeferred(self._preemption.stopService)
        for loop, _ in self._loops:
            if loop.running:
                loop.stop()
        await self._listening.stopService()
        await self.jobs.abandon_all()
        await self._leave()
        await self._executor.clear()
        self._site.connections.cut()
        self._threads.stop()
        self._open.close()

    # --- schedulers ---------------------------------------------------------------------------------

    def _link(
        self, connect: Connect, address: SchedulerAddress, hello: Hello, peer: IWorkerPeer, draw: Callable[[], float]
    ) -> SchedulerLink[SchedulerForWorkers]:
        told: list[_Told] = []

        def up(scheduler: SchedulerForWorkers, welcome: Welcome) -> Deferred[None]:
            return Deferred.fromCoroutine(self._register(scheduler, welcome, told))

        def down() -> None:
            self._told.remove(told.pop())

        return SchedulerLink(
            self._reactor,
            connect,
            address,
            self._settings.ca_file,
            lambda: hello,
            lambda: WorkerLocator(peer),
            SchedulerForWorkers,
            up,
            down,
            self._settings.links,
            draw,
        )

    async def _register(self, scheduler: SchedulerForWorkers, welcome: Welcome, told: list[_Told]) -> None:
        card = WorkerCard(
            self.server_id,
            self._public or Address("", self.port),
            self._identity.certificate,
            self._slots,
            machine_memory(),
            platform.machine(),
        )
        proof = self._identity.prove(welcome.challenge)
        registered = scheduler.register(Registration(card, proof, self.jobs.slots.phases()))
        # What happens from now on is told behind the registration: a job that ends before its answer is back would
        # else hold its slot in that scheduler's books for ever.
        one = _Told(scheduler)
        self._told.append(one)
        try:
            await registered
        except BaseException:
            self._told.remove(one)
            raise
        told.append(one)
        self._beat_to(one)
        if self.jobs.slots.draining:
            scheduler.draining().addErrback(self._not_told)

    def _tell(self, attempt: Try, phase: JobPhase) -> None:
        for told in self._told:
            told.scheduler.job_state(attempt, phase).addErrback(self._not_told)

    def _beat(self) -> None:
        for told in self._told:
            self._beat_to(told)

    def _beat_to(self, told: _Told) -> None:
        present = set(self.jobs.toolchains.digests())
        added, dropped = present - told.toolchains, told.toolchains - present
        told.toolchains = present
        beat = beat_of(self.jobs.slots.taken)
        told.scheduler.heartbeat(beat, sorted(added), sorted(dropped)).addErrback(self._not_told)

    def _not_told(self, failure: Failure) -> None:
        # A link that is gone is made again, and then everything is told anew.
        _log.debug("a scheduler could not be told: {error}", error=failure.getErrorMessage())

    # --- timers -------------------------------------------------------------------------------------

    def _loop(self, work: Callable[[], None], seconds: float) -> tuple[LoopingCall, float]:
        loop = LoopingCall(work)
        loop.clock = self._reactor
        return loop, seconds

    def _loop_failed(self, failure: Failure) -> None:
        _log.failure("a timer of the worker failed by a defect", failure)

    def _renew(self) -> None:
        """Show the same key in a certificate of today."""
        self._identity = self._identity.renew(self._now())
        if self._tls is not None:
            self._tls.show(self._identity)
        self._log.emit(events.CERTIFICATE_RENEWED, until=self._identity.chain[0].not_valid_after_utc.isoformat())


def _after(work: Deferred[None]) -> Deferred[None]:
    """Fires when ``work`` has ended, as many times as it is asked for; its failure goes to the first who asks."""
    done: Deferred[None] = Deferred()

    def tell(result: Failure | None) -> None:
        done.callback(None) if result is None else done.errback(result)

    work.addBoth(tell)
    return done


@implementer(IWorkerPeer)
class _Peer:
    """What a scheduler asks of this worker."""

    def __init__(self, worker: WorkerService) -> None:
        self._worker = worker

    def assign(self, order: AssignOrder) -> Deferred[bool]:
        """See IWorkerPeer."""
        return execute(self._worker.jobs.assign, order)

    def cancel(self, attempt: Try, *, unclaimed: bool = False) -> Deferred[None]:
        """See IWorkerPeer."""
        return execute(self._worker.jobs.take_back if unclaimed else self._worker.jobs.cancel, attempt)

    def drain(self) -> Deferred[None]:
        """See IWorkerPeer."""
        return execute(self._worker.drain_ordered)
