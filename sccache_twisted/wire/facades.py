"""The calling ends: each provides an interface and turns its calls into messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList, succeed
from zope.interface import implementer

from sccache_twisted.errors import ProtocolMismatch
from sccache_twisted.interfaces import (
    OLDEST_PROTOCOL,
    PROTOCOL_VERSION,
    AssignOrder,
    AttemptReport,
    Hello,
    IClientPeer,
    ISchedulerForClients,
    ISchedulerForWorkers,
    IWorkerPeer,
    JobPhase,
    Registration,
    Welcome,
)
from sccache_twisted.model import Allocation, AllocationRequest, Beat, ClusterFigures, Digest, ServerId, Try
from sccache_twisted.wire import scheduling as messages
from sccache_twisted.wire.boundary import Call, calling
from sccache_twisted.wire.spelling import (
    attempt_arguments,
    pack_digests,
    pack_jobs,
    pages,
    read_address,
    read_server,
)


def _nothing(_: object) -> None:
    return None


def say_hello(call: Call, hello: Hello) -> Deferred[Welcome]:
    """Say Hello; the link is up when this has fired."""
    answer = calling(
        call, messages.SayHello, version=hello.version, role=hello.role.value, token=hello.token, name=hello.name
    )
    return answer.addCallback(_read_welcome)


def _read_welcome(box: dict[str, Any]) -> Welcome:
    version = box["version"]
    if not OLDEST_PROTOCOL <= version <= PROTOCOL_VERSION:
        raise ProtocolMismatch(
            f"The scheduler speaks protocol {version}, this side {OLDEST_PROTOCOL} to {PROTOCOL_VERSION}."
        )
    return Welcome(
        version=version,
        scheduler_id=box["scheduler"],
        challenge=box["challenge"],
        ping_seconds=box["ping"],
        peer_lost_seconds=box["lost"],
    )


def ping(call: Call) -> Deferred[None]:
    """Ask for a sign of life."""
    return calling(call, messages.Ping).addCallback(_nothing)


@implementer(ISchedulerForClients)
@frozen
class SchedulerForClients:
    """A scheduler, as a client sees it through its link."""

    call: Call

    def allocate(self, request: AllocationRequest) -> Deferred[Allocation]:
        """See ISchedulerForClients."""

        def read(box: dict[str, Any]) -> Allocation:
            return Allocation(
                attempt=request.attempt,
                server_id=read_server(box["server"]),
                address=read_address(box["address"]),
                certificate=box["certificate"],
                token=box["token"],
                toolchain_present=box["present"],
            )

        answer = calling(
            self.call,
            messages.AllocateJob,
            **attempt_arguments(request.attempt),
            toolchain=request.toolchain,
            arch=request.arch,
            avoid=sorted(request.avoid)[: messages.MAX_AVOID],
            label=request.label[: messages.MAX_LABEL],
            seconds=request.expected_seconds,
            bytes=request.expected_bytes,
            age=request.age,
            patience=request.patience,
            ahead=request.ahead or None,
        )
        return answer.addCallback(read)

    def report(self, report: AttemptReport) -> Deferred[None]:
        """See ISchedulerForClients."""
        return _tell(
            self.call,
            messages.ReportJob,
            **attempt_arguments(report.attempt),
            outcome=report.outcome.value,
            server=report.server_id,
            reason=report.reason,
            seconds=report.seconds,
            peak=report.peak_memory_bytes,
            toolchain=report.transfers.toolchain_bytes,
            upload=report.transfers.upload_seconds,
            sent=report.transfers.sent_bytes,
            received=report.transfers.received_bytes,
            download=report.transfers.download_seconds,
        )

    def stayed_local(self, reason: str, count: int) -> Deferred[None]:
        """See ISchedulerForClients."""
        return _tell(self.call, messages.ReportLocal, reason=reason, count=count)

    def cancel(self, attempt: Try) -> Deferred[None]:
        """See ISchedulerForClients."""
        return calling(self.call, messages.CancelJob, **attempt_arguments(attempt)).addCallback(_nothing)

    def cluster(self) -> Deferred[ClusterFigures]:
        """See ISchedulerForClients."""

        def read(box: dict[str, Any]) -> ClusterFigures:
            return ClusterFigures(box["workers"], box["slots"], box["running"], box["queued"])

        return calling(self.call, messages.ClusterStatus).addCallback(read)

    def link_lost(self) -> None:
        """See ISchedulerForClients; nothing to do at the calling end."""


@implementer(ISchedulerForWorkers)
@frozen
class SchedulerForWorkers:
    """A scheduler, as a worker sees it through its link."""

    call: Call

    def register(self, registration: Registration) -> Deferred[None]:
        """See ISchedulerForWorkers. Jobs beyond one page follow as JobState."""
        card = registration.card
        answer = calling(
            self.call,
            messages.Register,
            server=card.server_id,
            address=str(card.address) if card.address.host else f":{card.address.port}",
            certificate=card.certificate,
            proof=registration.proof,
            slots=card.slots,
            memory=card.memory_bytes,
            arch=card.arch,
            jobs=pack_jobs(registration.jobs),
        )

        def tell_the_rest(_: object) -> None:
            for attempt, phase in registration.jobs[messages.JOBS_PER_PAGE :]:
                self.job_state(attempt, phase)

        return answer.addCallback(tell_the_rest)

    def heartbeat(self, beat: Beat, added: Sequence[Digest], dropped: Sequence[Digest]) -> Deferred[None]:
        """See ISchedulerForWorkers. Long lists go out as several beats."""
        size = messages.DIGESTS_PER_PAGE
        gone, come = list(pages(dropped, size)), list(pages(added, size))
        count = max(len(gone), len(come))
        beats = [
            calling(
                self.call,
                messages.Heartbeat,
                running=beat.running,
                load=beat.load,
                free=beat.free_memory_bytes,
                pressure=beat.pressure,
                added=pack_digests(come[page] if page < len(come) else ()),
                dropped=pack_digests(gone[page] if page < len(gone) else ()),
            )
            for page in range(count)
        ]
        if len(beats) == 1:
            return beats[0].addCallback(_nothing)
        return DeferredList(beats, fireOnOneErrback=True, consumeErrors=True).addCallback(_nothing)

    def job_state(self, attempt: Try, phase: JobPhase) -> Deferred[None]:
        """See ISchedulerForWorkers."""
        return _tell(self.call, messages.JobState, **attempt_arguments(attempt), phase=phase.value)

    def draining(self) -> Deferred[None]:
        """See ISchedulerForWorkers."""
        return calling(self.call, messages.Draining).addCallback(_nothing)

    def link_lost(self) -> None:
        """See ISchedulerForWorkers; nothing to do at the calling end."""


@implementer(IClientPeer)
@frozen
class ClientPeer:
    """A client, as the scheduler sees it through its link."""

    call: Call

    def worker_lost(self, server_id: ServerId) -> Deferred[None]:
        """See IClientPeer."""
        return _tell(self.call, messages.WorkerLost, server=server_id)

    def lease_taken_back(self, attempt: Try) -> Deferred[None]:
        """See IClientPeer."""
        return _tell(self.call, messages.LeaseTakenBack, **attempt_arguments(attempt))


@implementer(IWorkerPeer)
@frozen
class WorkerPeer:
    """A worker, as the scheduler sees it through its link."""

    call: Call

    def assign(self, order: AssignOrder) -> Deferred[bool]:
        """See IWorkerPeer."""

        def read(box: dict[str, Any]) -> bool:
            return bool(box["present"])

        answer = calling(
            self.call,
            messages.AssignJob,
            **attempt_arguments(order.attempt),
            token=order.token,
            toolchain=order.toolchain,
            bytes=order.expected_bytes,
        )
        return answer.addCallback(read)

    def cancel(self, attempt: Try, *, unclaimed: bool = False) -> Deferred[None]:
        """See IWorkerPeer."""
        arguments = {**attempt_arguments(attempt), "unclaimed": unclaimed or None}
        return calling(self.call, messages.CancelJob, **arguments).addCallback(_nothing)

    def drain(self) -> Deferred[None]:
        """See IWorkerPeer."""
        return calling(self.call, messages.Drain).addCallback(_nothing)


def _tell(call: Call, command: type[messages.Tell], **arguments: Any) -> Deferred[None]:
    """Send a message without an answer: AMP gives None for it, and raises when it can't be sent."""

    def send(command: type[messages.Tell], **arguments: Any) -> Deferred[dict[str, Any]]:
        call(command, **arguments)
        return succeed({})

    return calling(send, command, **arguments).addCallback(_nothing)
