"""The clients' open connections, and how they end when the worker leaves.

What has been written is not yet on its way: a large result takes its time. Knows when a connection has nothing more to
deliver, and who only holds it. Refuses to know what was said on it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import HTTPChannel

from sccache_twisted.net.sockets import unsent_bytes
from sccache_twisted.net.transfer import SilenceWatch


class Connections:
    """All of one worker's. ``leaving``: it says farewell, and takes no new ones."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._open: dict[Any, SilenceWatch | None] = {}
        self._all_closed: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    @property
    def leaving(self) -> bool:
        """Whether the farewell has begun."""
        return self._all_closed is not None

    def opened(self, channel: HTTPChannel) -> None:
        """A client has connected."""
        self._open[channel] = None

    def closed(self, channel: HTTPChannel) -> None:
        """A connection has ended."""
        watch = self._open.pop(channel, None)
        if watch is not None:
            watch.stop()
        if self._all_closed is not None and not self._open and not self._all_closed.called:
            self._all_closed.callback(None)

    def farewell(self, seconds: float, patience: float) -> Deferred[None]:
        """Close every connection once what was answered is delivered; fires when none is left. Call it once.

        Cut are those on which nothing moves for ``patience`` seconds, and after ``seconds`` all.
        """
        closed: Deferred[None] = Deferred()
        self._all_closed = closed
        if not self._open:
            closed.callback(None)
            return closed
        for channel in tuple(self._open):
            self._open[channel] = self._watch(channel, patience)
            channel.loseConnection()
        timer = self._clock.callLater(seconds, self.cut)
        return closed.addCallback(lambda _: timer.cancel() if timer.active() else None)

    def _watch(self, channel: Any, patience: float) -> SilenceWatch:
        transport = channel.transport
        return SilenceWatch(self._clock, patience, lambda: unsent_bytes(transport), transport.abortConnection)

    def cut(self) -> None:
        """Cut every connection that is left."""
        for channel in tuple(self._open):
            channel.transport.abortConnection()
