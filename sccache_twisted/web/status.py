"""What ``/status`` says, as plain values ready for JSON.

``{"scheduler": {version, uptime, workers, slots, running, ahead, queued, demand}, "workers": [...], "queue": [...]}``:
every worker, and a page of those who wait. Times in seconds, memory in bytes.
"""

from __future__ import annotations

from typing import Any, Protocol

from sccache_twisted import __version__
from sccache_twisted.model import ClusterFigures
from sccache_twisted.scheduler.metrics import SchedulerMetrics
from sccache_twisted.scheduler.views import QueuedView, WorkerView


class Shown(Protocol):
    """What a page needs of a scheduler; ``SchedulerService`` is one."""

    @property
    def uptime(self) -> float:
        """Seconds since the start."""

    @property
    def metrics(self) -> SchedulerMetrics:
        """What has been counted since the start."""

    def figures(self) -> ClusterFigures:
        """The cluster in numbers."""

    def worker_views(self) -> list[WorkerView]:
        """Every worker."""

    def queued_views(self, offset: int, limit: int) -> list[QueuedView]:
        """A page of those who wait."""


def status(scheduler: Shown, offset: int, limit: int) -> dict[str, Any]:
    """The whole of ``/status``, with ``limit`` of the queue from ``offset`` on."""
    figures = scheduler.figures()
    return {
        "scheduler": {
            "version": __version__,
            "uptime": round(scheduler.uptime, 3),
            "workers": figures.workers,
            "slots": figures.slots,
            "running": figures.running,
            "ahead": figures.ahead,
            "queued": figures.queued,
            "demand": figures.demand,
        },
        "workers": [_worker(view) for view in scheduler.worker_views()],
        "queue": [_queued(view) for view in scheduler.queued_views(offset, limit)],
    }


def _worker(view: WorkerView) -> dict[str, Any]:
    return {
        "name": view.name,
        "server_id": view.server_id,
        "address": str(view.address),
        "arch": view.arch,
        "state": view.state.value,
        "slots": view.slots,
        "running": view.running,
        "load": round(view.load, 2),
        "memory": view.memory_bytes,
        "free_memory": view.free_memory_bytes,
        "toolchains": view.toolchains,
        "failures": view.failures,
    }


def _queued(view: QueuedView) -> dict[str, Any]:
    return {
        "job_id": view.job_id,
        "attempt": view.attempt,
        "client_id": view.client_id,
        "label": view.label,
        "waiting": round(view.waiting, 3),
    }
