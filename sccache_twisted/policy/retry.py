"""What a client does after a failure: the failure table of :mod:`sccache_twisted.errors` with a memory.

One :class:`JobHistory` accompanies a job for its whole life::

    history = JobHistory(RetryLimits(counted=settings.retry_limit, worker_lost=settings.worker_lost_limit))
    history, step = history.after(failure, allocation.server_id, was_running=True)

and ``step`` is what to do now. Knows no clock: a wait is given as a bound, for the caller to draw from.
"""

from __future__ import annotations

from enum import Enum

from attrs import evolve, frozen

from sccache_twisted.errors import (
    FAILURES,
    FailureKind,
    NoWorkers,
    SccacheTwistedError,
    SchedulerUnavailable,
    StillQueued,
)
from sccache_twisted.model import ServerId
from sccache_twisted.policy.backoff import Backoff

_AVOIDED = Backoff(0.2, 2.0, 5.0)


class LocalReason(str, Enum):
    """Why a job that was meant for a worker compiles on the client."""

    CONFIRM_ERROR = "confirm_error"
    KILLED = "killed"
    NO_SCHEDULER = "no_scheduler"
    NO_WORKERS = "no_workers"
    RETRY_LIMIT = "retry_limit"
    WORKER_LOST_LIMIT = "worker_lost_limit"


@frozen
class RetryLimits:
    """When to stop, and how to slow down before that.

    ``counted``: failures that say something about the job; ``worker_lost``: different server_ids that died while
    running it; ``killed``: times it was killed. ``avoided`` bounds the wait before a worker that is avoided is asked
    again, ``refused`` the wait after refusals in a row.
    """

    counted: int = 5
    worker_lost: int = 10
    killed: int = 2
    avoided: Backoff = _AVOIDED
    refused: Backoff = _AVOIDED


@frozen
class Again:
    """Allocate again under the next attempt number, ranking ``avoid`` last.

    ``wait_bound``: draw a wait between 0 and this many seconds first (0.0: at once). ``memory_factor``: multiply the
    job's expected memory by this (1, then 2 after it was killed). ``keeps_place``: nothing failed, the request is
    still queued; ask again under the *same* attempt number, with its age.
    """

    avoid: frozenset[ServerId]
    wait_bound: float = 0.0
    memory_factor: int = 1
    keeps_place: bool = False


@frozen
class UploadToolchain:
    """Send the toolchain to the worker that lacks it and go on with the same attempt."""


@frozen
class CompileLocally:
    """No worker will run this job: compile it here, in a local slot."""

    reason: LocalReason


@frozen
class GiveUp:
    """The job has ended: it was cancelled, or what failed is for the user to mend."""

    failure: SccacheTwistedError


NextStep = Again | UploadToolchain | CompileLocally | GiveUp


@frozen
class JobHistory:
    """What a job has been through. Start with ``JobHistory(limits)``."""

    limits: RetryLimits = RetryLimits()
    counted: int = 0
    kills: int = 0
    refusals: int = 0
    repeats: int = 0
    avoid: frozenset[ServerId] = frozenset()
    lost_on: frozenset[ServerId] = frozenset()
    uploaded_to: frozenset[ServerId] = frozenset()
    refused_by: frozenset[ServerId] = frozenset()

    @property
    def memory_factor(self) -> int:
        """By how much the expected memory is to be multiplied: 2 for each time the job was killed."""
        return 1 << self.kills

    def after(
        self, failure: SccacheTwistedError, server_id: ServerId | None, was_running: bool
    ) -> tuple[JobHistory, NextStep]:
        """The history with this failure in it, and what to do now.

        ``server_id``: who failed; None when the scheduler did. ``was_running``: the worker had begun to run the
        compiler, so its death may be the job's doing.
        """
        if isinstance(failure, NoWorkers):
            return self, CompileLocally(LocalReason.NO_WORKERS)
        if isinstance(failure, SchedulerUnavailable):
            return self, CompileLocally(LocalReason.NO_SCHEDULER)
        if isinstance(failure, StillQueued):
            return self, Again(self.avoid, memory_factor=self.memory_factor, keeps_place=True)
        kind = failure.kind
        if kind is FailureKind.COMPILER_ERROR:
            return self, CompileLocally(LocalReason.CONFIRM_ERROR)
        if not FAILURES[kind].again:
            return self, GiveUp(failure)
        if kind is FailureKind.TOOLCHAIN_ABSENT and server_id is not None and server_id not in self.uploaded_to:
            return evolve(self, uploaded_to=self.uploaded_to | {server_id}), UploadToolchain()
        if kind in {FailureKind.TOOLCHAIN_ABSENT, FailureKind.MISSING_INPUT}:
            # It was sent and is still said to be absent: the worker cannot keep what it is given.
            kind = FailureKind.WORKER_FAULT
        history = self._noted(kind, server_id, was_running=was_running)
        return history, history._step(kind)  # noqa: SLF001 - another value of this very class

    def _noted(self, kind: FailureKind, server_id: ServerId | None, *, was_running: bool) -> JobHistory:
        means = FAILURES[kind]
        lost = kind is FailureKind.TRANSPORT and was_running and server_id is not None
        refused = kind is FailureKind.REFUSAL and server_id is not None
        # Who twice accepts a job and then knows nothing of it would get it again and again, being idle.
        avoided = means.avoid or (refused and server_id in self.refused_by)
        return evolve(
            self,
            counted=self.counted + means.counted,
            kills=self.kills + (kind is FailureKind.KILLED),
            refusals=self.refusals + 1 if kind is FailureKind.REFUSAL else 0,
            # To be given a worker that was already avoided means that nobody else is left: only then slow down.
            repeats=self.repeats + (means.avoid and (server_id is None or server_id in self.avoid)),
            avoid=self.avoid | {server_id} if avoided and server_id is not None else self.avoid,
            refused_by=self.refused_by | {server_id} if refused and server_id is not None else self.refused_by,
            lost_on=self.lost_on | {server_id} if lost and server_id is not None else self.lost_on,
        )

    def _step(self, kind: FailureKind) -> NextStep:
        if self.kills >= self.limits.killed:
            return CompileLocally(LocalReason.KILLED)
        if self.counted >= self.limits.counted:
            return CompileLocally(LocalReason.RETRY_LIMIT)
        if len(self.lost_on) >= self.limits.worker_lost:
            return CompileLocally(LocalReason.WORKER_LOST_LIMIT)
        if kind is FailureKind.REFUSAL:
            # The first refusal is a race with somebody else's job and is no reason to wait.
            wait_bound = self.limits.refused.bound(self.refusals - 1)
        elif FAILURES[kind].avoid:
            wait_bound = self.limits.avoided.bound(self.repeats)
        else:
            wait_bound = 0.0
        return Again(self.avoid, wait_bound, self.memory_factor)
