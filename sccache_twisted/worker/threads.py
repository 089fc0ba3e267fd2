"""Blocking work beside the reactor, whose end is always waited for.

A Deferred of Twisted's pool fires at once when it is cancelled, while its thread goes on; whoever then removes what
the thread is writing loses. So here a cancelled wait ends when the work has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from typing_extensions import ParamSpec

P = ParamSpec("P")
T = TypeVar("T")


async def settled(work: Deferred[T]) -> T:
    """What ``work`` gives; when cancelled, CancelledError as soon as the work has ended in whatever way."""
    outcome: list[T | Failure] = []
    waiters: list[Deferred[None]] = []

    def keep(result: T | Failure) -> None:
        outcome.append(result)
        for waiter in waiters:
            waiter.callback(None)

    work.addBoth(keep)
    cancelled = False
    while not outcome:
        waiter: Deferred[None] = Deferred(waiters.remove)
        waiters.append(waiter)
        try:
            await waiter
        except CancelledError:
            cancelled = True
    if cancelled:
        raise CancelledError
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result


class Threads:
    """A pool of at most ``size`` threads, between :meth:`start` and :meth:`stop`."""

    def __init__(self, reactor: Any, size: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=size, name="worker")

    def start(self) -> None:
        """Begin to work."""
        self._pool.start()

    def stop(self) -> None:
        """Wait for what is being done, and end the threads."""
        self._pool.stop()

    def defer(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Do ``work`` in a thread. Cancelling the Deferred does not end the work: prefer :meth:`run`."""
        return deferToThreadPool(self._reactor, self._pool, work, *args, **kwargs)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do ``work`` in a thread and wait for its end, even when cancelled."""
        return await settled(self.defer(work, *args, **kwargs))

    async def both(self, first: Callable[[], T], second: Callable[[], object]) -> T:
        """Do two things at once, wait for the end of both, and give what the first gave."""
        works: list[Deferred[Any]] = [self.defer(first), self.defer(second)]
        outcomes = await settled(DeferredList(works, consumeErrors=True))
        for succeeded, result in outcomes:
            if not succeeded:
                result.raiseException()
        given: T = outcomes[0][1]
        return given
