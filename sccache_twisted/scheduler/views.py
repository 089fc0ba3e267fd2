"""What pages show of the scheduler: frozen pictures of its books at one moment. No secrets are in them."""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from sccache_twisted.model import Address, ClientId, ClusterFigures, JobId, ServerId, worker_name
from sccache_twisted.policy.standing import Grade
from sccache_twisted.scheduler.jobs import Job
from sccache_twisted.scheduler.registry import Registry, Worker
from sccache_twisted.scheduler.table import Table


class WorkerState(str, Enum):
    """What a person wants to know of a worker first."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DRAINING = "draining"


@frozen
class WorkerView:
    """One worker. ``memory_bytes`` is its total, ``failures`` those not yet forgiven."""

    name: str
    server_id: ServerId
    address: Address
    arch: str
    state: WorkerState
    slots: int
    running: int
    load: float
    memory_bytes: int
    free_memory_bytes: int
    toolchains: int
    failures: float


@frozen
class QueuedView:
    """One request that waits. ``waiting`` in seconds."""

    job_id: JobId
    attempt: int
    client_id: ClientId
    label: str
    waiting: float


def figures(registry: Registry, table: Table) -> ClusterFigures:
    """The cluster in numbers. Draining workers are not counted; a job that a worker is asked for counts as running.

    So does one whose slot is held ahead, and what asks ahead and waits counts as queued: all of them are jobs that want
    a slot within moments, which is what an autoscaler is to know.
    """
    taking = [worker for worker in registry if not worker.draining]
    slots = sum(worker.card.slots for worker in taking)
    return ClusterFigures(len(taking), slots, len(table) - table.queued, table.queued, table.ahead)


def worker_view(worker: Worker, now: float) -> WorkerView:
    """One worker as it is now."""
    state = WorkerState.ALIVE if worker.grade(now) is Grade.TRUSTED else WorkerState.SUSPECT
    return WorkerView(
        name=worker_name(worker.server_id),
        server_id=worker.server_id,
        address=worker.card.address,
        arch=worker.card.arch,
        state=WorkerState.DRAINING if worker.draining else state,
        slots=worker.card.slots,
        running=len(worker.booked),
        load=worker.beat.load,
        memory_bytes=worker.card.memory_bytes,
        free_memory_bytes=worker.beat.free_memory_bytes,
        toolchains=len(worker.toolchains),
        failures=round(worker.standing.recent_faults(now), 2),
    )


def queued_view(job: Job, now: float) -> QueuedView:
    """One request that waits."""
    waiting = max(0.0, now - job.since)
    return QueuedView(job.attempt.job_id, job.attempt.attempt, job.request.client_id, job.request.label, waiting)
