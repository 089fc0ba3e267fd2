"""A worker's client as a client daemon has it, over real TLS sockets that can be told to be slow."""

from __future__ import annotations

import zstandard
from twisted.internet.interfaces import IStreamClientEndpoint
from worker_kit import tiny_tar
from zope.interface import implementer

from sccache_twisted.client.workers import WorkerConnections
from sccache_twisted.config import LinkTimers
from sccache_twisted.interfaces import AssignOrder
from sccache_twisted.model import Address, Allocation, JobId, Try
from sccache_twisted.net.agent import WorkerAgent
from sccache_twisted.net.dialing import tcp
from sccache_twisted.security.book import CertificateBook

TIMERS = LinkTimers()


class Blobs:
    """A client's files, as the worker's store of another worker has them."""

    def __init__(self, store):
        self._store = store

    def read(self, digest):
        return self._store.read(digest)


class Phases(list):
    def phase_changed(self, phase):
        self.append(phase)

    def sent(self, size):
        assert size > 0

    def received(self, size, seconds):
        assert size > 0
        assert seconds >= 0


@implementer(IStreamClientEndpoint)
class Remembering:
    """An endpoint whose sockets can be told to be slow."""

    def __init__(self, endpoint, sockets):
        self._endpoint = endpoint
        self._sockets = sockets

    def connect(self, factory):
        def connected(protocol):
            self._sockets.append(protocol.transport)
            return protocol

        return self._endpoint.connect(factory).addCallback(connected)


class Client:
    """What a client daemon has: connections, and allocations as a scheduler would hand them out."""

    def __init__(self, reactor, worker):
        self.reactor = reactor
        self.worker = worker
        self.connections = WorkerConnections(
            reactor,
            reactor.getThreadPool(),
            WorkerAgent(reactor, self._connect, book := CertificateBook(), TIMERS),
            book,
            silence_seconds=5,
            answer_seconds=100,
            compression_level=1,
        )
        self._serial = 0
        self._sockets = []

    def _connect(self, address):
        return Remembering(tcp(self.reactor, TIMERS)(address), self._sockets)

    def slow(self, *, paused):
        """Take nothing from the sockets, or go on."""
        for socket in self._sockets:
            socket.pauseProducing() if paused else socket.resumeProducing()

    def lease(self, toolchain, token=None):
        """Lease a slot; an Allocation."""
        self._serial += 1
        attempt = Try(JobId(f"01920000-0000-7000-8000-{self._serial:012d}"), 1)
        order = AssignOrder(attempt, f"token-{self._serial}", toolchain, 0)
        present = self.worker.jobs.assign(order)
        return Allocation(
            attempt,
            self.worker.server_id,
            Address("127.0.0.1", self.worker.port),
            self.worker._identity.certificate,
            token or order.token,
            present,
        )

    def run(self, allocation, action, blobs, phases=None):
        return self.connections.run(allocation, action, Blobs(blobs), Phases() if phases is None else phases)


async def send_tiny_toolchain(client, shop, action):
    """Put a program's toolchain into the worker's store, without a client's upload."""
    intake = client.worker.jobs.toolchains.begin(action.toolchain)
    intake.write(zstandard.ZstdCompressor().compress(tiny_tar()))
    intake.finish()
