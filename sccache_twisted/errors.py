"""Everything that can go wrong, once: its class, its wire code, its sentence, what happens next.

A class's docstring is the sentence shown when nothing more exact is known; ``hint`` says what to do
next. ``code`` is what travels: in AMP as the error code, over HTTPS in a ``failure`` frame or an error
body. ``kind`` sorts it into the failure table :data:`FAILURES`, by which a client decides what to do
with the job. Blame is the base class: :class:`UserError`, :class:`PeerError`, :class:`StorageError`,
:class:`InternalError`.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

from attrs import frozen


class FailureKind(str, Enum):
    """What a failure says about the job, the worker and the way between them."""

    TRANSPORT = "transport"
    REFUSAL = "refusal"
    TOOLCHAIN_ABSENT = "toolchain_absent"
    MISSING_INPUT = "missing_input"
    WORKER_FAULT = "worker_fault"
    KILLED = "killed"
    COMPILER_ERROR = "compiler_error"
    CANCELLED = "cancelled"
    USER = "user"


@frozen
class Consequence:
    """What follows from a kind of failure: does it count, is the worker avoided, is it suspected or blamed?"""

    again: bool
    counted: bool = False
    avoid: bool = False
    suspect: bool = False
    blame: bool = False


FAILURES: dict[FailureKind, Consequence] = {
    FailureKind.TRANSPORT: Consequence(again=True, avoid=True, suspect=True),
    FailureKind.REFUSAL: Consequence(again=True),
    FailureKind.TOOLCHAIN_ABSENT: Consequence(again=True),
    FailureKind.MISSING_INPUT: Consequence(again=True),
    FailureKind.WORKER_FAULT: Consequence(again=True, counted=True, avoid=True, blame=True),
    FailureKind.KILLED: Consequence(again=True, counted=True, avoid=True),
    FailureKind.COMPILER_ERROR: Consequence(again=False),
    FailureKind.CANCELLED: Consequence(again=False),
    FailureKind.USER: Consequence(again=False),
}


class SccacheTwistedError(Exception):
    """Something failed."""

    code: ClassVar[str] = "error"
    kind: ClassVar[FailureKind] = FailureKind.WORKER_FAULT
    hint: ClassVar[str] = ""

    def __init__(self, sentence: str = "") -> None:
        super().__init__(sentence or (type(self).__doc__ or "").strip().splitlines()[0])

    @property
    def sentence(self) -> str:
        """What happened, for a person."""
        return str(self)

    def explained(self) -> str:
        """The sentence and, where there is one, what to do next."""
        return f"{self.sentence} {self.hint}".rstrip()


class UserError(SccacheTwistedError):
    """The command or configuration is wrong."""

    code = "user"
    kind = FailureKind.USER


class PeerError(SccacheTwistedError):
    """The other side of a connection misbehaved."""

    code = "peer"
    kind = FailureKind.TRANSPORT


class StorageError(SccacheTwistedError):
    """A disk or a store failed."""

    code = "storage"


class StorageTimeout(StorageError):
    """A store did not answer in time."""

    code = "storage_timeout"


class EntryTooLarge(StorageError):
    """An entry is larger than a store takes."""

    code = "entry_too_large"


class InternalError(SccacheTwistedError):
    """A defect in sccache-twisted."""

    code = "internal"
    hint = "Please report it with the log lines of this job_id."


# --- the user's -----------------------------------------------------------------------------------


class ConfigError(UserError):
    """A configuration file or variable is wrong."""

    code = "config"


class NoLocalFallback(UserError):
    """The job could not be run on a worker, and fallback = "never" forbids to run it here."""

    code = "no_local_fallback"
    hint = 'See "sccache-twisted --dist-status", or set dist.fallback = "allow".'


class CompilerNotPackageable(UserError):
    """The compiler cannot be sent to a worker."""

    code = "compiler_not_packageable"
    hint = "It compiles locally; name the real compiler instead of a wrapper to distribute it."


# --- identity and permission ----------------------------------------------------------------------


class Unauthorized(PeerError):
    """The token is wrong, revoked, or not for this role."""

    code = "unauthorized"
    kind = FailureKind.REFUSAL
    hint = 'Ask the operator for a new line of "sccache-twisted invite".'


class ProtocolMismatch(PeerError):
    """The two sides speak versions of the protocol that do not overlap."""

    code = "protocol_mismatch"
    hint = "Upgrade the older side."


class PinMismatch(PeerError):
    """The peer holds another key than the one that was promised."""

    code = "pin_mismatch"


class IdentityTaken(PeerError):
    """A live worker is registered under this server_id with another key."""

    code = "identity_taken"


class BadProof(PeerError):
    """The worker did not prove that it holds its certificate's key."""

    code = "bad_proof"


# --- conversation ---------------------------------------------------------------------------------


class Malformed(PeerError):
    """A message could not be understood."""

    code = "malformed"
    kind = FailureKind.WORKER_FAULT


class TooLarge(PeerError):
    """A message or file is over its limit."""

    code = "too_large"
    kind = FailureKind.WORKER_FAULT


class ConnectionFailed(PeerError):
    """The peer could not be reached or the connection was lost."""

    code = "connection_failed"


class Silence(PeerError):
    """The peer has been silent for too long."""

    code = "silence"


class TooManyRequests(PeerError):
    """Too many requests are open, or too many wrong tokens were tried."""

    code = "too_many_requests"
    kind = FailureKind.REFUSAL


# --- allocation -----------------------------------------------------------------------------------


class WorkerFull(PeerError):
    """Every slot of the worker is leased."""

    code = "worker_full"
    kind = FailureKind.REFUSAL


class WorkerDraining(PeerError):
    """The worker is about to leave and takes no new jobs."""

    code = "worker_draining"
    kind = FailureKind.REFUSAL


class StillQueued(PeerError):
    """No slot was free in time; the job keeps its place when it asks again."""

    code = "still_queued"
    kind = FailureKind.REFUSAL


class NoWorkers(PeerError):
    """No living worker can run this toolchain."""

    code = "no_workers"
    kind = FailureKind.REFUSAL


class SchedulerUnavailable(PeerError):
    """No scheduler can be reached."""

    code = "no_scheduler"


# --- the job on the worker ------------------------------------------------------------------------


class UnknownAttempt(PeerError):
    """The attempt is unknown, has expired, or the token is another job's."""

    code = "unknown_attempt"
    kind = FailureKind.REFUSAL


class AttemptRunning(PeerError):
    """The attempt is already running for an open connection."""

    code = "attempt_running"
    kind = FailureKind.REFUSAL


class ToolchainAbsent(PeerError):
    """The worker does not hold the toolchain."""

    code = "toolchain_absent"
    kind = FailureKind.TOOLCHAIN_ABSENT


class MissingInputs(PeerError):
    """The worker lacks some input blobs."""

    code = "missing_inputs"
    kind = FailureKind.MISSING_INPUT


class DigestMismatch(PeerError):
    """Content does not have the digest that it was announced with."""

    code = "digest_mismatch"
    kind = FailureKind.WORKER_FAULT


class BadArchive(PeerError):
    """A toolchain archive holds something other than directories, files and links in their own place."""

    code = "bad_archive"
    kind = FailureKind.WORKER_FAULT


class BadAction(PeerError):
    """A job asks for something that cannot be rebuilt in a sandbox."""

    code = "bad_action"
    kind = FailureKind.WORKER_FAULT


class SandboxFailed(PeerError):
    """The worker could not build or start the sandbox."""

    code = "sandbox_failed"
    kind = FailureKind.WORKER_FAULT


class WorkerStorage(PeerError):
    """The worker's disk is full or failing."""

    code = "worker_storage"
    kind = FailureKind.WORKER_FAULT


class BadOutput(PeerError):
    """The job left something other than a regular file of reasonable size as an output."""

    code = "bad_output"
    kind = FailureKind.WORKER_FAULT


class JobKilled(PeerError):
    """The compiler was killed: out of memory, a signal, or its time limit."""

    code = "killed"
    kind = FailureKind.KILLED


class JobCancelled(PeerError):
    """The job was cancelled."""

    code = "cancelled"
    kind = FailureKind.CANCELLED


class WorkerFault(PeerError):
    """The worker failed at something that is not the job's fault."""

    code = "worker_fault"
    kind = FailureKind.WORKER_FAULT


def _tree(root: type[SccacheTwistedError]) -> dict[str, type[SccacheTwistedError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


BY_CODE: dict[str, type[SccacheTwistedError]] = _tree(SccacheTwistedError)
"""Every error by its wire code."""


def from_wire(code: str, sentence: str) -> SccacheTwistedError:
    """The error that a peer reported; an unknown code is a malformed message."""
    found = BY_CODE.get(code)
    return found(sentence) if found is not None else Malformed(f"unknown error code {code!r}: {sentence}")
