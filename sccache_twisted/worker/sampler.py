"""Looks at running jobs several times a second and stops those that are over a bound.

When the disk itself gets short the job that wrote most goes first: before the disk is full for all others. One look
serves all jobs, and jobs that end within one interval are never looked at. Owned by the executor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sccache_twisted.errors import JobKilled, WorkerStorage
from sccache_twisted.worker.limits import JobLimits, Usage, disk_usage, exceeded, lacking, measure
from sccache_twisted.worker.threads import Threads

INTERVAL_SECONDS: Final = 0.25
_WRITES_LITTLE: Final = 16 << 20

_log = Logger(namespace="sccache_twisted.worker")


@frozen(eq=False)
class Watch:
    """A job to look at: the root of its process tree, where it can write, and who stops it with what to say.

    ``lost``: whether the kernel has killed a process of it for memory. The rest may wait for that one for ever.
    """

    pid: int
    directories: Sequence[bytes]
    lost: Callable[[], bool]
    over: Callable[[JobKilled | WorkerStorage], None]


@frozen
class _Look:
    """What was seen of one job."""

    watch: Watch
    usage: Usage
    lost: bool


class Sampler:
    """Watches jobs between :meth:`add` and :meth:`discard`; at rest while there are none. ``place``: on their disk."""

    def __init__(self, clock: Any, threads: Threads, limits: JobLimits, place: bytes) -> None:
        self._clock = clock
        self._place = place
        self._threads = threads
        self._limits = limits
        self._fresh: set[Watch] = set()
        self._old: set[Watch] = set()
        self._timer: Any = None
        self._looking: Deferred[None] | None = None

    def add(self, watch: Watch) -> None:
        """Watch a job from now on."""
        self._fresh.add(watch)
        self._go_on()

    def discard(self, watch: Watch) -> None:
        """The job has ended, or never began."""
        self._fresh.discard(watch)
        self._old.discard(watch)
        if not self._fresh and not self._old and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        if (self._fresh or self._old) and self._timer is None and self._looking is None:
            self._timer = self._clock.callLater(INTERVAL_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        watched = list(self._old)
        self._old |= self._fresh
        self._fresh = set()
        if watched:
            self._looking = self._threads.defer(self._see, watched).addCallbacks(self._judge, self._failed)
            self._looking.addCallback(self._looked)
        else:
            self._go_on()

    def _looked(self, _: None) -> None:
        self._looking = None
        self._go_on()

    def _failed(self, failure: Failure) -> None:
        _log.failure("looking at running jobs failed", failure)

    def _judge(self, seen: tuple[list[_Look], int]) -> None:
        looks, short = seen
        looks = [look for look in looks if look.watch in self._old]
        stopped = False
        for look in looks:
            sentence = "the job ran out of memory" if look.lost else exceeded(self._limits, look.usage)
            if sentence:
                look.watch.over(JobKilled(sentence))
                stopped = True
        most = max(looks, key=lambda look: look.usage.disk_bytes, default=None)
        if short and most is not None and not stopped and most.usage.disk_bytes > _WRITES_LITTLE:
            wrote = most.usage.disk_bytes >> 20
            most.watch.over(
                WorkerStorage(f"the worker's disk was almost full, and this job had written most: {wrote} MiB")
            )

    # --- in a thread --------------------------------------------------------------------------------

    def _see(self, watched: Sequence[Watch]) -> tuple[list[_Look], int]:
        """What each job uses, and how many bytes too few are free on the disk."""
        trees = measure([watch.pid for watch in watched])
        looks = []
        for watch in watched:
            tree = trees[watch.pid]
            usage = evolve(tree, disk_bytes=tree.disk_bytes + disk_usage(watch.directories))
            looks.append(_Look(watch, usage, watch.lost()))
        return looks, lacking(self._limits, self._place)
