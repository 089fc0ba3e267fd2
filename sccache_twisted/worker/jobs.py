"""Performs what the slots decide: pins, runs, kills, tells; between the schedulers' orders and the clients' requests.

Knows leases, stores and the runner. Refuses to know HTTP (a client's request is an :class:`ITalk`) and links (a
``tell`` function).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Final, Protocol

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from sccache_twisted.errors import (
    JobCancelled,
    Malformed,
    MissingInputs,
    SccacheTwistedError,
    ToolchainAbsent,
    WorkerFault,
)
from sccache_twisted.interfaces import AssignOrder, IJobRunner, JobPhase
from sccache_twisted.logs import EventLog, events
from sccache_twisted.model import Action, Digest, FileInput, Try
from sccache_twisted.storage.blobs import BlobStore
from sccache_twisted.toolchains import ToolchainStore
from sccache_twisted.wire.jobs import (
    decode_job,
    encode_failure,
    encode_missing,
    encode_progress,
    encode_result,
)
from sccache_twisted.worker.slots import (
    Awaiting,
    Connection,
    Effect,
    HangUp,
    Kill,
    Lease,
    Leased,
    Pin,
    Run,
    Slots,
    Tell,
    Unpin,
    Uploading,
)
from sccache_twisted.worker.threads import Threads
from sccache_twisted.worker.turns import Turns

WAITING_TOOLCHAIN: Final = "waiting_toolchain"
_IN_THREAD_BYTES: Final = 64 << 10
_RESULT_LEVEL: Final = 1

_log = Logger(namespace="sccache_twisted.worker")


class ITalk(Protocol):
    """A client's open request for an attempt."""

    def send(self, frame: bytes) -> None:
        """Send a frame, if the client is still there."""

    def end(self, frame: bytes) -> None:
        """Send the last frame."""

    def abort(self) -> None:
        """Hang up."""


@define
class _Conversation:
    talk: ITalk
    attempt: Try
    body: bytes
    phase: str


@define
class JobBounds:
    """What a job request may hold: bytes decompressed, inputs."""

    max_plain_bytes: int
    max_inputs: int


class Jobs:
    """All that goes on at a worker. ``changed`` is called when a slot was freed or leased."""

    def __init__(
        self,
        clock: Any,
        threads: Threads,
        slots: Slots,
        turns: Turns,
        runner: IJobRunner,
        toolchains: ToolchainStore,
        blobs: BlobStore,
        bounds: JobBounds,
        claim_seconds: float,
        tell: Callable[[Try, JobPhase], None],
        log: EventLog,
    ) -> None:
        self.slots = slots
        self.toolchains = toolchains
        self._clock = clock
        self._threads = threads
        self._turns = turns
        self._runner = runner
        self._blobs = blobs
        self._bounds = bounds
        self._claim_seconds = claim_seconds
        self._tell = tell
        self.log = log
        self._names = count(1)
        self._talks: dict[Connection, _Conversation] = {}
        self._runs: dict[Try, Deferred[None]] = {}
        self._pinned: set[tuple[Try, str]] = set()
        self._uploads: dict[Try, Callable[[], None]] = {}
        self._emptied: list[Deferred[None]] = []

    # --- the schedulers' ----------------------------------------------------------------------------

    def assign(self, order: AssignOrder) -> bool:
        """Lease a slot; True if the toolchain is here; raises WorkerFull or WorkerDraining."""
        self._perform(self.slots.assigned(self._now(), order))
        self.log.emit(events.LEASE_GRANTED, attempt=order.attempt, claim_seconds=self._claim_seconds)
        return self.toolchains.get(order.toolchain) is not None

    def cancel(self, attempt: Try) -> None:
        """Take an attempt back; what runs for it is killed."""
        if self.slots.lease(attempt) is not None:
            self.log.emit(events.JOB_CANCELLED, attempt=attempt, reason="a scheduler cancelled it")
        self._abort_upload(attempt)
        self._perform(self.slots.cancelled(attempt))

    def take_back(self, attempt: Try) -> None:
        """Take a slot back that nobody has claimed; what was claimed stays as it is."""
        effects = self.slots.taken_back(attempt)
        if effects:
            self.log.emit(events.LEASE_TAKEN_BACK, attempt=attempt, reason="the scheduler has another use for it")
        self._perform(effects)

    def drain(self) -> Deferred[None]:
        """Take nothing new from now on; fires when every lease has ended."""
        self.slots.drain()
        if not self.slots.taken:
            return succeed(None)
        emptied: Deferred[None] = Deferred(self._emptied.remove)
        self._emptied.append(emptied)
        return emptied

    def abandon_all(self) -> Deferred[None]:
        """End every lease and kill what runs; fires when nothing is left."""
        emptied = self.drain()
        for attempt, _ in self.slots.phases():
            self.cancel(attempt)
        return emptied

    # --- the clock's --------------------------------------------------------------------------------

    def time_passed(self) -> None:
        """End leases that nobody claimed, and turns that are too slow while others wait. Call it once a second."""
        now = self._now()
        for effect in self.slots.time_passed(now):
            if isinstance(effect, Unpin):
                self.log.emit(events.LEASE_EXPIRED, attempt=effect.order.attempt, claim_seconds=self._claim_seconds)
            self._perform([effect])
        for digest, holder in self._turns.lost(now):
            if self._awaiting(digest):
                self._take_turn(digest, holder)

    def show_progress(self) -> None:
        """Send a progress frame to every open conversation. Call it more often than clients are impatient."""
        for conversation in self._talks.values():
            conversation.talk.send(encode_progress(conversation.phase))

    # --- the clients' -------------------------------------------------------------------------------

    def admit(self, attempt: Try, token: str) -> Lease:
        """The lease that a token opens; raises UnknownAttempt."""
        return self.slots.admit(attempt, token)

    def turn(self, digest: Digest, attempt: Try) -> str:
        """Whose turn it is to upload a toolchain: ``present``, ``yours`` or ``wait``."""
        if self.toolchains.get(digest) is not None:
            self._perform(self.slots.renewed(self._now(), attempt))
            return "present"
        if attempt in self._uploads:
            return "wait"
        now = self._now()
        for lost, holder in self._turns.lost(now):
            if lost == digest and holder != attempt:
                self._take_turn(lost, holder)
        self._perform(self.slots.renewed(now, attempt))
        return "yours" if self._turns.ask(now, digest, attempt) else "wait"

    def upload_begins(self, digest: Digest, attempt: Try, abort: Callable[[], None]) -> bool:
        """An upload begins; ``abort`` ends it from this side. False when it is another's turn."""
        now = self._now()
        # Who comes without having asked has the turn if nobody else does.
        if not (self._turns.ask(now, digest, attempt) and self._turns.begin(now, digest, attempt)):
            return False
        self._uploads[attempt] = abort
        self._perform(self.slots.upload_started(attempt))
        return True

    def upload_moved(self, digest: Digest, attempt: Try, size: int) -> None:
        """Bytes of an upload have come."""
        self._turns.received(digest, attempt, size)

    def upload_ended(self, digest: Digest, attempt: Try, *, stored: bool, lost: bool) -> None:
        """An upload is over: whoever waited runs, or is told to send it himself.

        Whoever was cut off in the middle of it allocates again, so a ``lost`` client's lease ends with its upload.
        """
        self._uploads.pop(attempt, None)
        mine = self._turns.end(digest, attempt)
        if lost and isinstance(self.slots.lease(attempt), Leased | Uploading):
            self.log.emit(events.JOB_CANCELLED, attempt=attempt, reason="its client hung up")
            self._perform(self.slots.cancelled(attempt))
        else:
            self._perform(self.slots.renewed(self._now(), attempt))
        if stored:
            self._toolchain_came(digest)
        elif mine:
            self._toolchain_failed(digest)

    def claim(self, attempt: Try, token: str, body: bytes, talk: ITalk) -> Connection:
        """A client has sent its job; raises UnknownAttempt or AttemptRunning, else the talk goes on until its end."""
        lease = self.slots.admit(attempt, token)
        digest = lease.order.toolchain
        present = self.toolchains.get(digest) is not None
        connection = next(self._names)
        effects = self.slots.claimed(attempt, token, connection, toolchain=present)
        self._talks[connection] = _Conversation(talk, attempt, body, WAITING_TOOLCHAIN)
        self.log.emit(events.LEASE_CLAIMED, attempt=attempt)
        self._perform(effects)
        if not present and isinstance(self.slots.lease(attempt), Awaiting):
            if self._turns.holder(digest) is None:
                self._send_back(connection, encode_failure(ToolchainAbsent()))
            else:
                talk.send(encode_progress(WAITING_TOOLCHAIN))
        return connection

    def hung_up(self, connection: Connection) -> None:
        """A client's request is gone before its answer was complete."""
        conversation = self._talks.pop(connection, None)
        if conversation is not None:
            self.log.emit(events.JOB_CANCELLED, attempt=conversation.attempt, reason="its client hung up")
            self._perform(self.slots.hung_up(connection))

    # --- effects ------------------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Pin(order):
                    if self.toolchains.pin(order.toolchain):
                        self._pinned.add((order.attempt, order.token))
                case Unpin(order):
                    self._end_lease(order)
                case Tell(attempt, phase):
                    self._tell(attempt, phase)
                case Run(attempt, slot, connection):
                    self._start(attempt, slot, connection)
                case Kill(attempt):
                    self._runs[attempt].cancel()
                case HangUp(connection):
                    conversation = self._talks.pop(connection, None)
                    if conversation is not None:
                        conversation.talk.abort()
        if not self.slots.taken:
            while self._emptied:
                self._emptied.pop().callback(None)

    def _end_lease(self, order: AssignOrder) -> None:
        if (order.attempt, order.token) in self._pinned:
            self._pinned.discard((order.attempt, order.token))
            self.toolchains.unpin(order.toolchain)
        if self.slots.lease(order.attempt) is None and self._turns.holder(order.toolchain) == order.attempt:
            if order.attempt in self._uploads:
                self._abort_upload(order.attempt)
            else:
                self._turns.end(order.toolchain, order.attempt)
                self._toolchain_failed(order.toolchain)

    def _start(self, attempt: Try, slot: int, connection: Connection) -> None:
        run: Deferred[None] = Deferred.fromCoroutine(self._serve(attempt, slot, connection))
        self._runs[attempt] = run

        def ended(result: object) -> None:
            if isinstance(result, Failure):
                _log.failure("serving a job failed by a defect", result)
            if self._runs.get(attempt) is run:
                del self._runs[attempt]

        run.addBoth(ended)

    async def _serve(self, attempt: Try, slot: int, connection: Connection) -> None:
        """Run a claimed job and answer its client; the slot is freed whatever happens."""
        conversation = self._talks[connection]
        conversation.phase = JobPhase.RUNNING.value
        again = False
        try:
            frame, again = await self._answer(attempt, slot, conversation)
        except CancelledError:
            frame = encode_failure(JobCancelled())
        except SccacheTwistedError as problem:
            again = isinstance(problem, ToolchainAbsent | MissingInputs)
            frame = encode_failure(problem)
            if not isinstance(problem, JobCancelled):
                self.log.emit(events.JOB_FAILED, attempt=attempt, code=problem.code, sentence=problem.sentence)
        except Exception as problem:  # noqa: BLE001 - a defect in one job must not take its slot with it
            _log.failure("running a job failed by a defect")
            frame = encode_failure(WorkerFault(f"the worker failed by a defect ({type(problem).__name__})"))
        if self._talks.pop(connection, None) is not None:
            conversation.talk.end(frame)
        self._runs.pop(attempt, None)
        self._perform(self.slots.sent_back(self._now(), attempt) if again else self.slots.run_ended(attempt))

    async def _answer(self, attempt: Try, slot: int, conversation: _Conversation) -> tuple[bytes, bool]:
        """The last frame, and whether the client is expected to come again with what was missing."""
        lease = self.slots.lease(attempt)
        body, conversation.body = conversation.body, b""
        if len(body) > _IN_THREAD_BYTES:
            action, absent = await self._threads.run(self._unpack, body)
        else:
            action, absent = self._unpack(body)
        if lease is None or action.toolchain != lease.order.toolchain:
            raise Malformed("The job names another toolchain than its lease.")
        if absent:
            self.log.emit(events.BLOBS_MISSING, attempt=attempt, count=len(absent))
            return encode_missing(absent), True
        conversation.talk.send(encode_progress(conversation.phase))
        try:
            result = await self._runner.run(attempt, action, slot)
        except MissingInputs:
            # Evicted or found damaged since: the client sends it as if it had never come, unless another did by now.
            absent = self._missing(action)
            if absent:
                self.log.emit(events.BLOBS_MISSING, attempt=attempt, count=len(absent))
                return encode_missing(absent), True
            result = await self._runner.run(attempt, action, slot)
        size = sum(len(output.data) for output in result.outputs) + len(result.stdout) + len(result.stderr)
        if size > _IN_THREAD_BYTES:
            return await self._threads.run(encode_result, result, _RESULT_LEVEL), False
        return encode_result(result, _RESULT_LEVEL), False

    def _unpack(self, body: bytes) -> tuple[Action, list[Digest]]:
        """Decode a request, store its blobs, and say which inputs are still missing."""
        action, blobs = decode_job(body, max_plain=self._bounds.max_plain_bytes, max_inputs=self._bounds.max_inputs)
        for digest, data in blobs:
            self._blobs.put(digest, data)
        return action, self._missing(action)

    def _missing(self, action: Action) -> list[Digest]:
        return self._blobs.missing(dict.fromkeys(each.digest for each in action.inputs if isinstance(each, FileInput)))

    # --- toolchains ---------------------------------------------------------------------------------

    def _awaiting(self, digest: Digest) -> list[Awaiting]:
        leases = (self.slots.lease(attempt) for attempt, _ in self.slots.phases())
        return [lease for lease in leases if isinstance(lease, Awaiting) and lease.order.toolchain == digest]

    def _toolchain_came(self, digest: Digest) -> None:
        for attempt, _ in self.slots.phases():
            lease = self.slots.lease(attempt)
            if lease is not None and lease.order.toolchain == digest:
                self._perform([Pin(lease.order)] if (attempt, lease.order.token) not in self._pinned else [])
                self._perform(self.slots.toolchain_came(attempt))

    def _toolchain_failed(self, digest: Digest) -> None:
        for lease in self._awaiting(digest):
            self._send_back(lease.connection, encode_failure(ToolchainAbsent()))

    def _send_back(self, connection: Connection, frame: bytes) -> None:
        """Answer a waiting job with what its client must do first; its lease waits for it."""
        conversation = self._talks.pop(connection)
        self._perform(self.slots.sent_back(self._now(), conversation.attempt))
        conversation.talk.end(frame)

    def _take_turn(self, digest: Digest, holder: Try) -> None:
        """Somebody else is to upload: the holder's upload is too slow, or did not begin."""
        if holder in self._uploads:
            self._abort_upload(holder)
        self._turns.end(digest, holder)
        self._toolchain_failed(digest)

    def _abort_upload(self, attempt: Try) -> None:
        abort = self._uploads.pop(attempt, None)
        if abort is not None:
            abort()

    def _now(self) -> float:
        now: float = self._clock.seconds()
        return now
