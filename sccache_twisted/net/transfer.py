"""Bodies that are sent piece by piece, and the watch that notices silence.

Silence means that no byte moved in either direction. The kernel may hold megabytes that a slow line still carries
away when all has been written, so the watch also looks at what the peer has not acknowledged yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, IReactorTime
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

PIECE = 256 << 10
_LOOKS = 4


class SilenceWatch:
    """Calls ``silent`` once when nothing has moved for ``seconds``. ``unsent`` tells the bytes still on their way out.

    Looks ``_LOOKS`` times in that time, so a silence is noticed at most a quarter late; a move costs one assignment.
    """

    def __init__(
        self, clock: IReactorTime, seconds: float, unsent: Callable[[], int], silent: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._unsent = unsent
        self._silent = silent
        self._last = clock.seconds()
        self._held = 0
        self._timer: IDelayedCall | None = clock.callLater(seconds / _LOOKS, self._look)

    def moved(self) -> None:
        """A byte moved."""
        self._last = self._clock.seconds()

    def stop(self) -> None:
        """Watch no more."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def allow(self, seconds: float) -> None:
        """From now on tolerate this much silence."""
        self._seconds = seconds
        self.moved()

    def _look(self) -> None:
        held = self._unsent()
        if held != self._held:
            self._held = held
            self.moved()
        now = self._clock.seconds()
        if now - self._last >= self._seconds:
            self._timer = None
            self._silent()
            return
        # At the due moment, if that comes first: then a silence is noticed on time.
        left = self._last + self._seconds - now
        self._timer = self._clock.callLater(min(left, self._seconds / _LOOKS), self._look)


@implementer(IBodyProducer, IPushProducer)
class PiecewiseBody:
    """A request body of known length, written as fast as the connection takes it.

    ``read`` gives the next bytes (at most as many as asked for), ``moved`` is called whenever some were taken,
    ``close`` once when the body is done with.
    """

    def __init__(
        self, length: int, read: Callable[[int], bytes], moved: Callable[[], None], close: Callable[[], None]
    ) -> None:
        self.length = length
        self.sent = 0
        self._read = read
        self._moved = moved
        self._close = close
        self._consumer: IConsumer | None = None
        self._paused = False
        self._done: Deferred[None] = Deferred(lambda _: self.stopProducing())

    @classmethod
    def of_bytes(cls, data: bytes, moved: Callable[[], None]) -> PiecewiseBody:
        """A body in memory."""
        left = memoryview(data)

        def read(size: int) -> bytes:
            nonlocal left
            piece, left = bytes(left[:size]), left[size:]
            return piece

        return cls(len(data), (lambda _: data) if len(data) <= PIECE else read, moved, lambda: None)

    @classmethod
    def of_file(cls, path: str, moved: Callable[[], None], ended: Callable[[], None]) -> PiecewiseBody:
        """A body in a file; raises OSError. ``ended`` is called when its last byte was written, or it was given up."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

        def close() -> None:
            os.close(descriptor)
            ended()

        return cls(os.fstat(descriptor).st_size, lambda size: os.read(descriptor, size), moved, close)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Called by Twisted; fires when every byte was written."""
        self._consumer = consumer
        self._write()
        return self._done

    def pauseProducing(self) -> None:
        """Called by Twisted: the connection takes no more for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Called by Twisted: what was written has left."""
        self._moved()
        self._paused = False
        self._write()

    def stopProducing(self) -> None:
        """Called by Twisted: the connection is gone."""
        if self._consumer is not None:
            self._consumer = None
            self._close()

    def _write(self) -> None:
        while self._consumer is not None and not self._paused:
            left = self.length - self.sent
            if left == 0:
                self.stopProducing()
                self._done.callback(None)
                return
            try:
                piece = self._read(min(PIECE, left))
            except OSError:
                self.stopProducing()
                self._done.errback()
                return
            if not piece:
                self.stopProducing()
                self._done.errback(OSError("the file became shorter while it was sent"))
                return
            self.sent += len(piece)
            self._moved()
            self._consumer.write(piece)
