"""The data plane as a client sees it: jobs and toolchains to workers, results back.

A connection is chosen by server_id and judged by the key that the allocation promised. What a worker says is checked
before anybody believes it: only declared outputs, each once, under the limits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.web.http_headers import Headers
from zope.interface import implementer

from sccache_twisted.client.conversation import Conversation, FrameBody, WholeBody, blamed, spoken
from sccache_twisted.client.fallback import InputChanged
from sccache_twisted.client.known import KnownBlobs
from sccache_twisted.errors import (
    CompilerNotPackageable,
    ConnectionFailed,
    Malformed,
    MissingInputs,
    PinMismatch,
    SccacheTwistedError,
)
from sccache_twisted.interfaces import IBlobSource, IProgress, IWorkerConnection, JobPhase
from sccache_twisted.logs import EventLog, events
from sccache_twisted.model import Action, ActionResult, Allocation, Digest, FileInput, ServerId
from sccache_twisted.net.agent import WorkerAgent
from sccache_twisted.net.transfer import PiecewiseBody
from sccache_twisted.security.book import CertificateBook
from sccache_twisted.wire.http import (
    ALIVE_HEADER,
    JOB_HEADER,
    JOB_TYPE,
    TOOLCHAIN_TYPE,
    alive_header,
    job_header,
    job_path,
    toolchain_path,
)
from sccache_twisted.wire.jobs import FAILURE, PROGRESS, Missing, Progress, decode_answer, encode_job

Result = TypeVar("Result")
Refresh = Callable[[ServerId], "Deferred[bytes | None]"]

IN_THREAD_BYTES = 32 << 10
"""From this size on it is cheaper to hand work to a thread than to do it between two events."""

MISSING_ROUNDS = 2
_SIGNS = 4
_LONGEST_BETWEEN_SIGNS = 60.0
STORE_SECONDS = 60.0
"""How long a worker may be silent while it checks and unpacks a toolchain that it has received."""

MAX_RESULT_BYTES = (1 << 30) + (192 << 20)
"""Most bytes of one result, compressed or not: a worker's own default bounds, and some room for names."""


@implementer(IWorkerConnection)
class WorkerConnections:
    """Runs jobs on workers. ``refresh`` asks a scheduler for a server's present certificate, once per mismatch."""

    def __init__(
        self,
        reactor: Any,
        threads: ThreadPool,
        agent: WorkerAgent,
        book: CertificateBook,
        *,
        silence_seconds: float,
        answer_seconds: float,
        compression_level: int,
        refresh: Refresh | None = None,
    ) -> None:
        self._reactor = reactor
        self._threads = threads
        self._agent = agent
        self._book = book
        self._silence_seconds = silence_seconds
        self._answer_seconds = answer_seconds
        self._alive_seconds = min(silence_seconds / _SIGNS, _LONGEST_BETWEEN_SIGNS)
        self._level = compression_level
        self._refresh = refresh
        self._known = KnownBlobs()
        self._running: dict[ServerId, set[_Work[Any]]] = {}
        self._log = EventLog.of("sccache_twisted.client", role="client")

    def run(
        self, allocation: Allocation, action: Action, blobs: IBlobSource, progress: IProgress
    ) -> Deferred[ActionResult]:
        """See IWorkerConnection. ``blobs`` is read in a thread when much is to be sent."""
        return self._owned(allocation, self._run(allocation, action, blobs, progress))

    def upload_toolchain(self, allocation: Allocation, digest: Digest, archive: str) -> Deferred[int]:
        """See IWorkerConnection.

        The worker gives the turn to one of all who ask; for the others this returns at once, and the answer to their
        job shows progress until the toolchain is there. So a process never sends it to one worker twice.
        """
        return self._owned(allocation, self._upload(allocation, digest, archive))

    def worker_lost(self, server_id: ServerId) -> None:
        """See IWorkerConnection."""
        self._book.drop(server_id)
        self._known.forget(server_id)
        for work in tuple(self._running.get(server_id, ())):
            work.give_up(ConnectionFailed(f"Worker {server_id} is lost: the scheduler says so."))

    def close(self) -> Deferred[None]:
        """Hang up on every worker."""
        for server_id in tuple(self._running):
            for work in tuple(self._running[server_id]):
                work.give_up(ConnectionFailed("This client stops."))
        return self._agent.close()

    def _owned(self, allocation: Allocation, work: Coroutine[Deferred[Any], Any, Result]) -> Deferred[Result]:
        running = self._running.setdefault(allocation.server_id, set())
        owned = _Work(work)
        running.add(owned)

        def ended(result: Result | Failure) -> Result | Failure:
            running.discard(owned)
            if not running and self._running.get(allocation.server_id) is running:
                del self._running[allocation.server_id]
            if owned.why is not None and isinstance(result, Failure) and result.check(CancelledError):
                return Failure(owned.why)
            return result

        return owned.deferred.addBoth(ended)

    # --- jobs ---------------------------------------------------------------------------------------

    async def _run(
        self, allocation: Allocation, action: Action, blobs: IBlobSource, progress: IProgress
    ) -> ActionResult:
        server_id = allocation.server_id
        sizes = {each.digest: each.size for each in action.inputs if isinstance(each, FileInput)}
        send = self._known.lacking(server_id, sizes)
        for _ in range(MISSING_ROUNDS + 1):
            answer = await self._judged_by_newest_key(allocation, self._post_job, action, send, sizes, blobs, progress)
            if isinstance(answer, ActionResult):
                self._known.learn(server_id, sizes)
                return answer
            unknown = [digest for digest in answer.digests if digest not in sizes]
            if unknown or not answer.digests:
                raise Malformed(f"Worker {server_id} asks for blobs that are no inputs of the job.")
            self._log.emit(
                events.BLOBS_MISSING, attempt=allocation.attempt, server_id=server_id, count=len(answer.digests)
            )
            self._known.unlearn(server_id, answer.digests)
            self._known.learn(server_id, sizes.keys() - set(answer.digests))
            send = list(answer.digests)
        raise MissingInputs(f"Worker {server_id} still lacks inputs that it was sent {MISSING_ROUNDS} times.")

    async def _post_job(
        self,
        allocation: Allocation,
        action: Action,
        send: Sequence[Digest],
        sizes: dict[Digest, int],
        blobs: IBlobSource,
        progress: IProgress,
    ) -> Missing | ActionResult:
        body = await self._encode(action, send, sum(sizes[digest] for digest in send), blobs)
        if send:
            self._log.emit(
                events.BLOBS_SENT,
                attempt=allocation.attempt,
                server_id=allocation.server_id,
                count=len(send),
                bytes=len(body),
            )
        progress.sent(len(body))
        talk = self._conversation(allocation)

        def between(kind: bytes, payload: bytes) -> bool:
            if kind != PROGRESS:
                return False
            told = decode_answer(kind, payload, MAX_RESULT_BYTES)
            if isinstance(told, Progress):
                if told.phase == JobPhase.RUNNING.value:
                    # It has all it needs: what others want of the same need not be sent to it again meanwhile.
                    self._known.learn(allocation.server_id, sizes)
                progress.phase_changed(told.phase)
            return True

        frames = FrameBody(MAX_RESULT_BYTES, between, self._reactor.seconds)
        headers = self._headers(allocation, JOB_TYPE)
        headers.setRawHeaders(ALIVE_HEADER, [alive_header(self._alive_seconds)])
        producer = PiecewiseBody.of_bytes(body, talk.moved)
        talk.show_life(self._alive_seconds, producer)
        talk.answer_within(self._answer_seconds)
        await talk.ask("POST", job_path(allocation.attempt), headers, producer, frames)
        progress.received(frames.size, frames.seconds)
        kind, payload = frames.last or (b"", b"")
        try:
            answer = await self._in_thread_if(len(payload), decode_answer, kind, payload, MAX_RESULT_BYTES)
        except SccacheTwistedError as error:
            judged = (spoken if kind == FAILURE else blamed)(error, _who(allocation))
            raise judged from None
        if isinstance(answer, Progress):
            raise Malformed(f"Worker {allocation.server_id} ended its answer with progress.")
        if isinstance(answer, ActionResult):
            _check(action, answer, allocation.server_id)
        return answer

    async def _encode(self, action: Action, send: Sequence[Digest], size: int, blobs: IBlobSource) -> bytes:
        def encode() -> bytes:
            try:
                return encode_job(action, [(digest, blobs.read(digest)) for digest in send], self._level)
            except OSError as error:
                raise InputChanged(f"An input can no longer be read: {error.strerror}.") from error

        # A path, a digest and numbers: some hundred bytes for each input.
        return await self._in_thread_if(size + 100 * len(action.inputs), encode)

    # --- toolchains ---------------------------------------------------------------------------------

    async def _upload(self, allocation: Allocation, digest: Digest, archive: str) -> int:
        turn = await self._judged_by_newest_key(allocation, self._ask_turn, digest)
        if turn != "yours":
            return 0
        began = self._reactor.seconds()
        talk = self._conversation(allocation)
        try:
            body = PiecewiseBody.of_file(archive, talk.moved, lambda: talk.be_patient(STORE_SECONDS))
        except OSError as error:
            talk.abandon()
            why = f"The packaged compiler {archive} cannot be read: {error.strerror}."
            raise CompilerNotPackageable(why) from error
        headers = self._headers(allocation, TOOLCHAIN_TYPE)
        await talk.ask("PUT", toolchain_path(digest), headers, body, WholeBody())
        self._log.emit(
            events.TOOLCHAIN_SENT,
            attempt=allocation.attempt,
            server_id=allocation.server_id,
            toolchain=digest,
            bytes=body.length,
            seconds=self._reactor.seconds() - began,
        )
        return body.length

    async def _ask_turn(self, allocation: Allocation, digest: Digest) -> str:
        answer = WholeBody()
        headers = self._headers(allocation, b"application/json")
        await self._conversation(allocation).ask("POST", toolchain_path(digest), headers, None, answer)
        try:
            turn = json.loads(answer.data)["turn"]
        except (ValueError, KeyError, TypeError):
            turn = None
        if turn not in {"present", "yours", "wait"}:
            raise Malformed(f"Worker {allocation.server_id} did not say whose turn it is to send the toolchain.")
        return str(turn)

    # --- below both ---------------------------------------------------------------------------------

    async def _judged_by_newest_key(
        self, allocation: Allocation, ask: Callable[..., Coroutine[Any, Any, Result]], *arguments: Any
    ) -> Result:
        """Ask; when the peer shows another key than the allocation promised, and the promise was old, ask once more.

        Nothing was sent before the key was judged, so asking again repeats nothing.
        """
        server_id = allocation.server_id
        promised = self._book.put(server_id, allocation.certificate).pin if allocation.certificate else ""
        try:
            return await ask(allocation, *arguments)
        except PinMismatch:
            newest = None if self._refresh is None else await self._refresh(server_id)
            if not newest or self._book.put(server_id, newest).pin == promised:
                raise
        return await ask(allocation, *arguments)

    def _conversation(self, allocation: Allocation) -> Conversation:
        exchange = self._agent.exchange(allocation.server_id, allocation.address)
        return Conversation(self._reactor, exchange, self._silence_seconds, _who(allocation))

    def _headers(self, allocation: Allocation, content_type: bytes) -> Headers:
        return Headers(
            {
                b"Authorization": [b"Bearer " + allocation.token.encode("ascii", "replace")],
                JOB_HEADER: [job_header(allocation.attempt)],
                b"Content-Type": [content_type],
            }
        )

    async def _in_thread_if(self, size: int, work: Callable[..., Result], *arguments: Any) -> Result:
        if size <= IN_THREAD_BYTES:
            return work(*arguments)
        return await deferToThreadPool(self._reactor, self._threads, work, *arguments)


class _Work(Generic[Result]):
    """Something under way with one worker, which can be given up for a reason."""

    def __init__(self, work: Coroutine[Deferred[Any], Any, Result]) -> None:
        self.why: SccacheTwistedError | None = None
        self.deferred: Deferred[Result] = Deferred.fromCoroutine(work)

    def give_up(self, why: SccacheTwistedError) -> None:
        """Hang up; whoever waits fails with ``why``."""
        self.why = why
        self.deferred.cancel()


def _who(allocation: Allocation) -> str:
    return f"Worker {allocation.server_id} at {allocation.address}"


def _check(action: Action, result: ActionResult, server_id: ServerId) -> None:
    """Believe a result only if it holds nothing but declared outputs, each once; raises Malformed."""
    paths = [output.path for output in result.outputs]
    if len(set(paths)) != len(paths):
        raise Malformed(f"Worker {server_id} sent an output twice.")
    undeclared = set(paths) - set(action.outputs)
    if undeclared:
        name = min(undeclared).decode("utf-8", "backslashreplace")
        raise Malformed(f"Worker {server_id} sent {name}, which is no output of the job.")
    if not 0 <= result.exit_code <= 255:
        raise Malformed(f"Worker {server_id} sent the impossible exit status {result.exit_code}.")
