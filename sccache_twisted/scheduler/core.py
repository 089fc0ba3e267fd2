"""The scheduler's mind: facts come in with the time they happened at, effects go out.

It promises that no job is lost and no ask answered twice, that no worker is booked above its slots, that a draining or
lost worker is never asked and an avoided one only last. Its state is soft: workers bring it back when they register.
"""

from __future__ import annotations

from sccache_twisted.logs import events
from sccache_twisted.model import ClusterFigures
from sccache_twisted.scheduler import views
from sccache_twisted.scheduler.alarms import Forgiven, Impatient, JobDue
from sccache_twisted.scheduler.clients import ClientFacts
from sccache_twisted.scheduler.effects import CancelAt, Effect, JobKey, Note
from sccache_twisted.scheduler.jobs import Ending, Leased, Queued, TakenBack
from sccache_twisted.scheduler.placing import CoreLimits, Desk
from sccache_twisted.scheduler.views import QueuedView, WorkerView
from sccache_twisted.scheduler.workers import WorkerFacts


class SchedulerCore:
    """All that is known of clients' jobs and workers' slots, told through ``clients``, ``workers`` and the time.

    ``now`` is any clock in seconds that only goes forward.
    """

    def __init__(self, limits: CoreLimits, started: float) -> None:
        self._desk = Desk(limits, started)
        self.clients = ClientFacts(self._desk)
        self.workers = WorkerFacts(self._desk)

    def figures(self) -> ClusterFigures:
        """The cluster in numbers."""
        return views.figures(self._desk.registry, self._desk.table)

    def worker_views(self, now: float) -> list[WorkerView]:
        """Every worker that has registered and is not lost."""
        return [views.worker_view(worker, now) for worker in self._desk.registry]

    def queued_views(self, now: float, offset: int, limit: int) -> list[QueuedView]:
        """A page of those who wait, the oldest first."""
        return [views.queued_view(job, now) for job in self._desk.table.page(offset, limit)]

    def next_deadline(self) -> float | None:
        """When ``time_passed`` is to be called at the latest."""
        return self._desk.alarms.next()

    def time_passed(self, now: float) -> list[Effect]:
        """Do what is due."""
        out: list[Effect] = []
        for alarm in self._desk.alarms.due(now):
            if isinstance(alarm, JobDue):
                self._job_due(now, alarm.key, out)
            elif isinstance(alarm, Impatient):
                job = self._desk.table.get(alarm.key)
                if job is not None:
                    self._desk.keep_free(now, job, out)
            else:
                worker = self._desk.registry.get(alarm.server_id)
                if worker is None:
                    continue
                if isinstance(alarm, Forgiven):
                    self._desk.registry.refresh(worker, now)
                elif alarm.at == worker.watch:
                    self.workers.due(now, worker, out)
        return out

    def _job_due(self, now: float, key: JobKey, out: list[Effect]) -> None:
        job = self._desk.table.get(key)
        if job is None:
            return
        if isinstance(job.state, Queued):
            self._desk.judge_waiting(now, job, out)
        elif isinstance(job.state, Leased) and job.state.until <= now and job.ahead and job.state.links:
            self._desk.take_back(now, job, "its job takes long to be prepared", out)
        elif isinstance(job.state, Leased | TakenBack | Ending) and job.state.until <= now:
            if isinstance(job.state, Leased) and not job.state.links:
                fields: dict[str, object] = {"reason": "its client is gone"}
                out.append(Note(events.JOB_CANCELLED, job.attempt, job.state.server_id, fields))
            elif isinstance(job.state, Leased):
                fields = {"claim_seconds": self._desk.limits.claim_seconds}
                out.append(Note(events.LEASE_EXPIRED, job.attempt, job.state.server_id, fields))
            out.append(CancelAt(job.state.server_id, job.attempt))
            self._desk.free(now, job, out)
