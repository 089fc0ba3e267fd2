"""The client's parts, put together: what the daemon and the library have in common, and the daemon itself."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.application import service
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from sccache_twisted import __version__
from sccache_twisted.client.cache import CompileCache
from sccache_twisted.client.cache.observer import Observer
from sccache_twisted.client.cache.stored import open_stored
from sccache_twisted.client.cache.upkeep import Upkeep
from sccache_twisted.client.daemon import Daemon
from sccache_twisted.client.detect import CompilerFinder
from sccache_twisted.client.hits.servers import HitServers
from sccache_twisted.client.inputs import Lister
from sccache_twisted.client.pipeline import Pipeline
from sccache_twisted.client.places import cache_directory, object_directory, socket_path
from sccache_twisted.client.slots import LocalSlots, cores
from sccache_twisted.client.stats import Statistics
from sccache_twisted.client.toolchains import Toolchains
from sccache_twisted.config import ClientSettings
from sccache_twisted.errors import SccacheTwistedError, UserError
from sccache_twisted.interfaces import IClientPeer, IWorkerConnection
from sccache_twisted.model import ClientId, ServerId, Try
from sccache_twisted.net.processes import ProcessRunner
from sccache_twisted.security.files import read_secret
from sccache_twisted.storage.notebook import Notebook
from sccache_twisted.toolchains import ToolchainCache
from sccache_twisted.wire.hits import Terms

if TYPE_CHECKING:
    from sccache_twisted.client.dispatcher import Dispatcher
    from sccache_twisted.client.workers import WorkerConnections
    from sccache_twisted.net.scheduler_links import SchedulerLinks

_MOST_PROCESSES = 4
"""That serve one socket, if nothing else is configured."""


@implementer(IClientPeer)
class _Peer:
    """What the scheduler tells a client. ``dispatcher`` is set before anything is told."""

    def __init__(self, workers: IWorkerConnection) -> None:
        self._workers = workers
        self.dispatcher: Dispatcher | None = None

    def worker_lost(self, server_id: ServerId) -> Deferred[None]:
        """The worker is gone: whatever runs there is given up, and tried elsewhere."""
        self._workers.worker_lost(server_id)
        if self.dispatcher is not None:
            self.dispatcher.worker_lost(server_id)
        return succeed(None)

    def lease_taken_back(self, attempt: Try) -> Deferred[None]:
        """A slot that was held ahead serves another job now."""
        if self.dispatcher is not None:
            self.dispatcher.lease_taken_back(attempt)
        return succeed(None)


class ClientService(service.MultiService):
    """Everything between a compiler call and a decision, which ``pipeline`` makes.

    ``environ`` gives HOME and the XDG directories. ConfigError for settings that can't work.
    """

    def __init__(self, settings: ClientSettings, reactor: Any, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted has no types here
        self.settings = settings
        self._reactor = reactor
        self.statistics = Statistics()
        self.slots = LocalSlots.from_settings(settings)
        self.runner = ProcessRunner(reactor)
        self.links: SchedulerLinks | None = None
        self._dispatcher: Dispatcher | None = None
        self._workers: WorkerConnections | None = None
        if settings.schedulers:
            self._connect(settings, reactor)
        toolchains = Toolchains(ToolchainCache(cache_directory(settings, environ)))
        self._stored = open_stored(settings, reactor, environ)
        self._environ = environ
        self._cache = None
        if self._stored.store is not None:
            notebook = Notebook(cache_directory(settings, environ) + b"/notes.sqlite")
            self._cache = CompileCache(
                reactor,
                self._stored.store,
                toolchains,
                self.statistics,
                observer=Observer(reactor, notebook),
                bases=tuple(map(os.fsencode, settings.basedirs)),
            )
        self.finder = CompilerFinder(self.runner, settings.cc_only_basenames)
        self._lister = Lister(reactor, self.runner, settings.preprocessor_slots or cores() + 1)
        self.pipeline = Pipeline(
            reactor,
            self.runner,
            self.finder,
            self._lister,
            toolchains,
            self._dispatcher,
            self.statistics,
            self._cache,
            predict=settings.predict_inputs,
        )

    def _connect(self, settings: ClientSettings, reactor: Any) -> None:
        # A daemon that only caches has no use for HTTPS and AMP.
        from sccache_twisted.client.dispatcher import Dispatcher
        from sccache_twisted.client.workers import WorkerConnections
        from sccache_twisted.net.addresses import SchedulerAddress
        from sccache_twisted.net.agent import WorkerAgent
        from sccache_twisted.net.dialing import tcp
        from sccache_twisted.net.scheduler_links import SchedulerLinks
        from sccache_twisted.security.book import CertificateBook

        book = CertificateBook()
        connect = tcp(reactor, settings.links)
        workers = WorkerConnections(
            reactor,
            reactor.getThreadPool(),
            WorkerAgent(reactor, connect, book, settings.links, insecure=settings.insecure),
            book,
            silence_seconds=settings.silence_seconds,
            answer_seconds=settings.answer_seconds,
            compression_level=settings.compression_level,
        )
        peer = _Peer(workers)
        client_id = ClientId(f"client-{os.urandom(8).hex()}")
        self.links = SchedulerLinks(
            reactor,
            connect,
            [SchedulerAddress.parse(text, insecure=settings.insecure) for text in settings.schedulers],
            settings.ca_file,
            client_token(settings),
            client_id,
            peer,
            settings.links,
            settings.scheduler_grace_seconds,
            random.random,
        )
        service.Service.setServiceParent(self.links, self)
        self._workers = workers
        peer.dispatcher = self._dispatcher = Dispatcher(reactor, self.links, workers, settings, self.statistics)

    def zero_statistics(self) -> None:
        """Begin to count anew."""
        fresh = Statistics()
        for name in Statistics.__slots__:
            if not name.startswith("__"):
                setattr(self.statistics, name, getattr(fresh, name))
        self._stored.zero()

    async def figures(self) -> dict[str, Any]:
        """The statistics, with what the cache's store tells of itself."""
        return self.statistics.as_json(await self._stored.figures())

    def terms(self) -> Terms | None:
        """What hit servers work with; None where no hit is theirs to answer."""
        store, disk = self._stored.store, self._stored.disk
        if store is None or disk is None or store.on_disk is None or not store.on_disk.readable:
            return None
        return Terms(
            version=__version__,
            parent=os.getpid(),
            objects=object_directory(self.settings, self._environ),
            capacity=disk.capacity,
            toolchains=cache_directory(self.settings, self._environ),
            bases=tuple(map(os.fsencode, self.settings.basedirs)),
        )

    @property
    def upkeep(self) -> Upkeep:
        """Counting and removing what the cache stores."""
        return self._stored.upkeep

    async def why(self, path: bytes) -> dict[str, Any]:
        """Why the last compilation of a file was what it was; UserError where nothing is cached."""
        if self._cache is None:
            raise UserError("Nothing is cached here, so every compilation runs.")
        from sccache_twisted.client.cache.why import Why

        return await Why(self._reactor, self._cache).answer(path)

    async def distribution(self) -> dict[str, Any]:
        """How it stands with the schedulers, in sccache's shape; waits for a link that is being made."""
        if self.links is None:
            return {"Disabled": "disabled: no scheduler is configured"}
        try:
            if not any(status.up or status.trouble is not None for status in self.links.status()):
                await self.links.scheduler()
            for status in self.links.status():
                if status.up:
                    figures = await (await self.links.scheduler()).cluster()
                    numbers = {
                        "num_servers": figures.workers,
                        "num_cpus": figures.slots,
                        "in_progress": figures.running,
                        "queued": figures.queued,
                    }
                    return {"SchedulerStatus": [str(status.address), numbers]}
        except SccacheTwistedError as problem:
            return {"NotConnected": [str(self.links.status()[0].address), problem.explained()]}
        first = self.links.status()[0]
        trouble = first.trouble.explained() if first.trouble is not None else "has not answered yet"
        return {"NotConnected": [str(first.address), trouble]}

    def stopService(self) -> Deferred[None]:
        """Cancel what runs, say goodbye, remove what was scratch."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._dispatcher is not None:
            await self._dispatcher.stop()
        await super().stopService()  # type: ignore[no-untyped-call]  # Twisted has no types here
        if self._workers is not None:
            await self._workers.close()
        if self._cache is not None:
            await self._cache.stop()
        self._lister.close()


class DaemonService(service.MultiService):
    """The client daemon: a client, and the socket that launchers call. ``end`` ends the process, with a reason.

    ``at_rest`` is called when nobody has called for a moment.
    """

    def __init__(
        self,
        settings: ClientSettings,
        reactor: Any,
        end: Callable[[str], None],
        environ: Mapping[str, str] = os.environ,
        at_rest: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted has no types here
        self.client = ClientService(settings, reactor, environ)
        self.path = socket_path(settings, environ)
        self.daemon = Daemon(
            reactor,
            self.path,
            self.client.pipeline,
            self.client.slots,
            {
                "stats": lambda _: Deferred.fromCoroutine(self.client.figures()),
                "zero-stats": self._zero_statistics,
                "dist-status": lambda _: Deferred.fromCoroutine(self.client.distribution()),
                "cache-size": lambda _: Deferred.fromCoroutine(self.client.upkeep.size()),
                "cache-remove": self._remove,
                "why": lambda args: Deferred.fromCoroutine(self.client.why(unquote_to_bytes(args[0]))),
            },
            end,
            HitServers(
                reactor,
                self.client.terms(),
                self.client.finder,
                self.client.statistics,
                most=(settings.processes or min(cores(), _MOST_PROCESSES)) - 1,
                idle_seconds=settings.hit_servers_idle_seconds,
            ),
            at_rest,
            idle_seconds=settings.idle_seconds,
            max_request_bytes=settings.max_request_bytes,
        )
        self.client.setServiceParent(self)  # type: ignore[no-untyped-call]  # Twisted has no types here
        self.daemon.setServiceParent(self)  # type: ignore[no-untyped-call]  # Twisted has no types here

    def _remove(self, args: tuple[str, ...]) -> Deferred[dict[str, Any]]:
        """Arguments: the level, or nothing for all that are this machine's; the time in nanoseconds, or nothing."""
        level, before = args
        return Deferred.fromCoroutine(self.client.upkeep.remove(level, int(before) if before else None))

    def _zero_statistics(self, _: tuple[str, ...]) -> Deferred[dict[str, Any]]:
        self.client.zero_statistics()
        return Deferred.fromCoroutine(self.client.figures())


def client_token(settings: ClientSettings) -> str:
    """The client's token, in place or out of its file; empty if none is configured. ConfigError for a bad file."""
    if settings.token or not settings.token_file:
        return settings.token
    return read_secret(settings.token_file, "the client token").decode("utf-8", "replace").strip()
