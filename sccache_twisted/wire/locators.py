"""The answering ends: each turns messages into calls of an interface.

A locator knows how a message is decoded and whether it may be said at this point of the conversation; it knows
neither the protocol's life nor the business.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.protocols import amp

from sccache_twisted.errors import Malformed
from sccache_twisted.interfaces import (
    AssignOrder,
    AttemptReport,
    Hello,
    IClientPeer,
    ISchedulerDoor,
    ISchedulerForClients,
    ISchedulerForWorkers,
    IWorkerPeer,
    JobPhase,
    Outcome,
    Registration,
    Role,
)
from sccache_twisted.model import Allocation, AllocationRequest, Beat, ClientId, ClusterFigures, Transfers, WorkerCard
from sccache_twisted.wire import scheduling as messages
from sccache_twisted.wire.boundary import Call, answering, hearing
from sccache_twisted.wire.facades import ClientPeer, WorkerPeer
from sccache_twisted.wire.http import parse_digest
from sccache_twisted.wire.spelling import (
    read_address,
    read_attempt,
    read_digests,
    read_jobs,
    read_server,
    read_word,
)

_LEAST_PATIENCE = 0.1


def _nothing(_: object) -> dict[str, Any]:
    return {}


class Pinged(amp.CommandLocator):
    """Answers pings, on every side."""

    @messages.Ping.responder
    @answering
    def ping(self) -> dict[str, Any]:
        """Show that we are alive."""
        return {}


class ClientLocator(Pinged):
    """What a client hears from its scheduler."""

    def __init__(self, peer: IClientPeer) -> None:
        super().__init__()
        self._peer = peer

    @messages.WorkerLost.responder
    @hearing
    def worker_lost(self, server: str) -> Deferred[None]:
        """Decode WorkerLost."""
        return self._peer.worker_lost(read_server(server))

    @messages.LeaseTakenBack.responder
    @hearing
    def lease_taken_back(self, job: str, attempt: int) -> Deferred[None]:
        """Decode LeaseTakenBack."""
        return self._peer.lease_taken_back(read_attempt(job, attempt))


class WorkerLocator(Pinged):
    """What a worker hears from a scheduler."""

    def __init__(self, peer: IWorkerPeer) -> None:
        super().__init__()
        self._peer = peer

    @messages.AssignJob.responder
    @answering
    def assign(self, job: str, attempt: int, token: str, toolchain: str, **sizes: int) -> Deferred[dict[str, Any]]:
        """Decode AssignJob."""
        order = AssignOrder(read_attempt(job, attempt), token, parse_digest(toolchain), sizes["bytes"])
        return self._peer.assign(order).addCallback(lambda present: {"present": present})

    @messages.CancelJob.responder
    @answering
    def cancel(self, job: str, attempt: int, unclaimed: bool | None) -> Deferred[dict[str, Any]]:
        """Decode CancelJob."""
        return self._peer.cancel(read_attempt(job, attempt), unclaimed=bool(unclaimed)).addCallback(_nothing)

    @messages.Drain.responder
    @answering
    def drain(self) -> Deferred[dict[str, Any]]:
        """Decode Drain."""
        return self._peer.drain().addCallback(_nothing)


class SchedulerLocator(Pinged):
    """What a scheduler hears on one link: Hello first, then what the role may say.

    ``call`` sends messages the other way on the same link; the net room attaches it and tells the end of the link.
    """

    def __init__(self, door: ISchedulerDoor, host: str) -> None:
        super().__init__()
        self._door = door
        self._host = host
        self._call: Call | None = None
        self._client: ISchedulerForClients | None = None
        self._worker: ISchedulerForWorkers | None = None
        self._client_id = ClientId("")

    @property
    def said_hello(self) -> bool:
        """Whether the link is up: its Hello was accepted."""
        return self._client is not None or self._worker is not None

    def attach(self, call: Call) -> None:
        """Say how messages are sent the other way."""
        self._call = call

    def link_lost(self) -> None:
        """Tell the business that the link is gone, once."""
        gone: list[ISchedulerForClients | ISchedulerForWorkers] = [
            avatar for avatar in (self._client, self._worker) if avatar is not None
        ]
        self._client = self._worker = None
        for avatar in gone:
            avatar.link_lost()

    @messages.SayHello.responder
    @answering
    def hello(self, version: int, role: str, token: str, name: str) -> dict[str, Any]:
        """Decode Hello; decides who this is for the link's whole life."""
        if self.said_hello or self._call is None:
            raise Malformed("This link has said Hello before.")
        hello = Hello(version, read_word(Role, role), token, name[:200])
        welcome = self._door.welcome(hello, self._host)
        if hello.role is Role.CLIENT:
            self._client_id = ClientId(hello.name)
            self._client = self._door.client(hello, ClientPeer(self._call))
        else:
            read_server(hello.name)
            self._worker = self._door.worker(hello, welcome, WorkerPeer(self._call), self._host)
        return {
            "version": welcome.version,
            "scheduler": welcome.scheduler_id,
            "challenge": welcome.challenge,
            "ping": welcome.ping_seconds,
            "lost": welcome.peer_lost_seconds,
        }

    def _as_client(self) -> ISchedulerForClients:
        if self._client is None:
            raise Malformed("This message is a client's; say Hello with a client token first.")
        return self._client

    def _as_worker(self) -> ISchedulerForWorkers:
        if self._worker is None:
            raise Malformed("This message is a worker's; say Hello with a worker token first.")
        return self._worker

    @messages.AllocateJob.responder
    @answering
    def allocate(
        self, job: str, attempt: int, toolchain: str, arch: str, avoid: list[str], label: str, **numbers: Any
    ) -> Deferred[dict[str, Any]]:
        """Decode AllocateJob and encode the allocation."""
        client = self._as_client()
        request = AllocationRequest(
            client_id=self._client_id,
            attempt=read_attempt(job, attempt),
            toolchain=parse_digest(toolchain),
            arch=arch[:64],
            avoid=frozenset(map(read_server, avoid)),
            label=label,
            expected_seconds=max(0.0, numbers["seconds"]),
            expected_bytes=max(0, numbers["bytes"]),
            age=max(0.0, numbers["age"]),
            patience=max(_LEAST_PATIENCE, numbers["patience"]),
            ahead=bool(numbers["ahead"]),
        )
        return client.allocate(request).addCallback(_spell_allocation)

    @messages.ReportJob.responder
    @hearing
    def report(
        self,
        job: str,
        attempt: int,
        outcome: str,
        server: str,
        reason: str,
        seconds: float,
        peak: int,
        toolchain: int,
        upload: float,
        sent: int,
        received: int,
        download: float,
    ) -> Deferred[None]:
        """Decode ReportJob."""
        return self._as_client().report(
            AttemptReport(
                attempt=read_attempt(job, attempt),
                outcome=read_word(Outcome, outcome),
                server_id=read_server(server),
                reason=reason[:64],
                seconds=seconds,
                peak_memory_bytes=peak,
                transfers=Transfers(toolchain, upload, sent, received, download),
            )
        )

    @messages.ReportLocal.responder
    @hearing
    def stayed_local(self, reason: str, count: int) -> Deferred[None]:
        """Decode ReportLocal."""
        return self._as_client().stayed_local(reason[:64], count)

    @messages.CancelJob.responder
    @answering
    def cancel(self, job: str, attempt: int, unclaimed: bool | None) -> Deferred[dict[str, Any]]:  # noqa: ARG002
        """Decode a client's CancelJob."""
        return self._as_client().cancel(read_attempt(job, attempt)).addCallback(_nothing)

    @messages.ClusterStatus.responder
    @answering
    def cluster(self) -> Deferred[dict[str, Any]]:
        """Encode the cluster's figures."""
        return self._as_client().cluster().addCallback(_spell_figures)

    @messages.Register.responder
    @answering
    def register(
        self,
        server: str,
        address: str,
        certificate: bytes,
        proof: bytes,
        slots: int,
        memory: int,
        arch: str,
        jobs: bytes,
    ) -> Deferred[dict[str, Any]]:
        """Decode Register."""
        if not 0 < slots <= 65536 or memory < 0:
            raise Malformed(f"A worker with {slots} slots and {memory} bytes of memory cannot be.")
        card = WorkerCard(read_server(server), read_address(address), certificate, slots, memory, arch[:64])
        registration = Registration(card, proof, read_jobs(jobs))
        return self._as_worker().register(registration).addCallback(_nothing)

    @messages.Heartbeat.responder
    @answering
    def heartbeat(
        self, running: int, load: float, free: int, pressure: float, added: bytes, dropped: bytes
    ) -> Deferred[dict[str, Any]]:
        """Decode Heartbeat."""
        beat = Beat(running, load, free, pressure)
        return self._as_worker().heartbeat(beat, read_digests(added), read_digests(dropped)).addCallback(_nothing)

    @messages.JobState.responder
    @hearing
    def job_state(self, job: str, attempt: int, phase: str) -> Deferred[None]:
        """Decode JobState."""
        return self._as_worker().job_state(read_attempt(job, attempt), read_word(JobPhase, phase))

    @messages.Draining.responder
    @answering
    def draining(self) -> Deferred[dict[str, Any]]:
        """Decode Draining."""
        return self._as_worker().draining().addCallback(_nothing)


def _spell_allocation(allocation: Allocation) -> dict[str, Any]:
    return {
        "server": allocation.server_id,
        "address": str(allocation.address),
        "certificate": allocation.certificate,
        "token": allocation.token,
        "present": allocation.toolchain_present,
    }


def _spell_figures(figures: ClusterFigures) -> dict[str, Any]:
    return {
        "workers": figures.workers,
        "slots": figures.slots,
        "running": figures.running,
        "queued": figures.queued,
    }
