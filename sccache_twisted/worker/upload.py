"""A toolchain on its way in: pieces are unpacked by a thread as they come, and the client waits when it is faster.

At most a few pieces are held. When the client hangs up, is too slow or sends something else, nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sccache_twisted.errors import SccacheTwistedError, TooManyRequests, WorkerFault
from sccache_twisted.logs import events
from sccache_twisted.model import Digest, Try
from sccache_twisted.toolchains import Intake
from sccache_twisted.worker.jobs import Jobs
from sccache_twisted.worker.threads import Threads

_MOST_HELD: Final = 4 << 20

_log = Logger(namespace="sccache_twisted.worker")


class UploadRequest(Protocol):
    """The HTTP request that an upload comes in with."""

    def pause(self, *, paused: bool) -> None:
        """Have the client wait, or go on."""

    def answer(self, status: int, content_type: bytes, body: bytes) -> None:
        """Answer at once."""

    def answer_error(self, error: SccacheTwistedError) -> None:
        """Answer with an error."""

    def abort(self) -> None:
        """Cut the connection."""


class Upload:
    """The sink of ``PUT /v1/toolchains/{digest}``."""

    def __init__(self, request: UploadRequest, jobs: Jobs, threads: Threads, digest: Digest, attempt: Try) -> None:
        self._request = request
        self._jobs = jobs
        self._threads = threads
        self._digest = digest
        self._attempt = attempt
        self._present = jobs.toolchains.get(digest) is not None
        self._mine = not self._present and jobs.upload_begins(digest, attempt, request.abort)
        self._intake: Intake | None = None
        self._held: list[bytes] = []
        self._held_size = 0
        self._paused = False
        self._working: Deferred[None] | None = None
        self._complete = False
        self._lost = False
        self._error: SccacheTwistedError | None = None
        self._ended = not self._mine

    def write(self, data: bytes) -> None:
        """See Sink."""
        if self._ended or self._error is not None:
            return
        self._held.append(data)
        self._held_size += len(data)
        self._jobs.upload_moved(self._digest, self._attempt, len(data))
        self._work()
        if self._held_size > _MOST_HELD and not self._paused:
            self._paused = True
            self._request.pause(paused=True)

    def complete(self) -> None:
        """See Sink."""
        self._complete = True
        if not self._ended:
            self._work()
        elif self._present:
            self._request.answer(200, b"application/json", b"{}")
        else:
            self._request.answer_error(self._error or TooManyRequests("Another client uploads this toolchain already."))

    def lost(self) -> None:
        """See Sink."""
        self._lost = True
        self._held = []
        self._work()

    def _work(self) -> None:
        """Have a thread do the next thing that is to be done, if none is at work."""
        if self._working is not None or self._ended:
            return
        if self._lost or self._error is not None:
            self._step(self._abort)
        elif self._held:
            piece, self._held, self._held_size = b"".join(self._held), [], 0
            self._step(lambda: self._unpack(piece))
            self._go_on()
        elif self._complete:
            self._step(self._finish)

    def _step(self, work: Callable[[], bool]) -> None:
        self._working = self._threads.defer(work).addCallbacks(self._stepped, self._failed)

    def _stepped(self, last: bool) -> None:
        self._working = None
        if last:
            self._end()
        else:
            self._work()

    def _failed(self, failure: Failure) -> None:
        self._working = None
        error = failure.value
        if not isinstance(error, SccacheTwistedError):
            _log.failure("an upload failed by a defect", failure)
            error = WorkerFault(f"the worker failed to store the toolchain ({type(error).__name__})")
        self._error = error
        self._held = []
        # Twisted answers behind the body, so its rest has to come, although nobody wants it.
        self._go_on()
        self._work()

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            self._request.pause(paused=False)

    # --- in a thread, one at a time -----------------------------------------------------------------

    def _unpack(self, piece: bytes) -> bool:
        if self._intake is None:
            self._intake = self._jobs.toolchains.begin(self._digest)
        self._intake.write(piece)
        return False

    def _finish(self) -> bool:
        if self._intake is None:
            self._intake = self._jobs.toolchains.begin(self._digest)
        self._intake.finish()
        return True

    def _abort(self) -> bool:
        if self._intake is not None:
            self._intake.abort()
        return True

    def _end(self) -> None:
        """Nothing more is to be done on disk: tell whoever waits, and answer if the client has sent everything."""
        self._ended = True
        toolchain = self._jobs.toolchains.get(self._digest) if self._error is None and not self._lost else None
        self._jobs.upload_ended(self._digest, self._attempt, stored=toolchain is not None, lost=self._lost)
        if toolchain is not None:
            self._jobs.log.emit(
                events.TOOLCHAIN_STORED, attempt=self._attempt, toolchain=self._digest, bytes=toolchain.size
            )
            self._request.answer(201, b"application/json", b"{}")
        elif not self._lost:
            error = self._error or WorkerFault("the toolchain was evicted as soon as it was stored")
            self._jobs.log.emit(
                events.TOOLCHAIN_REFUSED, attempt=self._attempt, toolchain=self._digest, sentence=error.sentence
            )
            if self._complete:
                self._request.answer_error(error)
