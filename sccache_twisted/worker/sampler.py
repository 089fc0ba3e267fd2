"""Looks at running jobs several times a second and stops those that are over a bound.

One look serves all jobs, and jobs that end within one interval are never looked at. Owned by the executor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sccache_twisted.worker.limits import JobLimits, Usage, disk_usage, exceeded, measure
from sccache_twisted.worker.threads import Threads

INTERVAL_SECONDS: Final = 0.25

_log = Logger(namespace="sccache_twisted.worker")


@frozen(eq=False)
class Watch:
    """A job to look at: the root of its process tree, where it can write, and who stops it."""

    pid: int
    directories: Sequence[bytes]
    over: Callable[[str], None]


class Sampler:
    """Watches jobs between :meth:`add` and :meth:`discard`; at rest while there are none."""

    def __init__(self, clock: Any, threads: Threads, limits: JobLimits) -> None:
        self._clock = clock
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
            self._looking = self._threads.defer(_usages, watched).addCallbacks(self._judge, self._failed)
            self._looking.addCallback(self._looked)
        else:
            self._go_on()

    def _looked(self, _: None) -> None:
        self._looking = None
        self._go_on()

    def _failed(self, failure: Failure) -> None:
        _log.failure("looking at running jobs failed", failure)

    def _judge(self, usages: list[tuple[Watch, Usage]]) -> None:
        for watch, usage in usages:
            sentence = exceeded(self._limits, usage)
            if sentence and watch in self._old:
                watch.over(sentence)


def _usages(watched: Sequence[Watch]) -> list[tuple[Watch, Usage]]:
    trees = measure([watch.pid for watch in watched])
    found = []
    for watch in watched:
        tree = trees[watch.pid]
        found.append((watch, evolve(tree, disk_bytes=tree.disk_bytes + disk_usage(watch.directories))))
    return found
