"""What the parts promise one another, whichever wire, store or sandbox lies between them.

The same interface stands at both ends of a conversation: a façade in ``wire`` provides it to the caller and
turns it into messages; the service that provides the business implements it, and a locator in ``wire`` turns
messages back into calls. So client, scheduler and worker can be tested against one another without any wire,
and none of them sees AMP.

Every method that returns a Deferred fails with errors of :mod:`sccache_twisted.errors` only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from attrs import field, frozen
from zope.interface import Attribute, Interface

from sccache_twisted.model import Transfers

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from sccache_twisted.model import (
        Action,
        ActionResult,
        Allocation,
        AllocationRequest,
        Beat,
        ClientId,
        ClusterFigures,
        Digest,
        JobFigures,
        ServerId,
        Try,
        WorkerCard,
    )

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL = 1


class Role(str, Enum):
    """Who says Hello; a token is good for one role."""

    CLIENT = "client"
    WORKER = "worker"


class Outcome(str, Enum):
    """How an attempt ended, as the client reports it."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobPhase(str, Enum):
    """How far an attempt is on its worker."""

    LEASED = "leased"
    UPLOADING = "uploading"
    RUNNING = "running"
    ENDED = "ended"


@frozen
class Hello:
    """The first words on a link. ``name`` is a ClientId, or the worker's server_id."""

    version: int
    role: Role
    token: str
    name: str


@frozen
class Welcome:
    """The scheduler's answer to Hello. ``challenge`` (32 bytes) is what a worker signs in Register."""

    version: int
    scheduler_id: str
    challenge: bytes
    ping_seconds: float
    peer_lost_seconds: float


@frozen
class AttemptReport:
    """What became of an attempt: ``reason`` is an error code of errors.py, or empty."""

    attempt: Try
    outcome: Outcome
    server_id: ServerId
    reason: str = ""
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    transfers: Transfers = field(factory=Transfers)


@frozen
class AssignOrder:
    """The scheduler asks a worker to lease a slot. ``token`` admits one client request for this attempt."""

    attempt: Try
    token: str
    toolchain: Digest
    expected_bytes: int


@frozen
class Registration:
    r"""A worker announces itself: its card, proof of its key, the attempts that it already holds.

    ``proof``: ECDSA-SHA256 over ``b"sccache-twisted register\0" + challenge + server_id`` with the key of the
    card's certificate. ``jobs``: (attempt, phase) pairs. Toolchains follow in heartbeats, paged.
    """

    card: WorkerCard
    proof: bytes
    jobs: tuple[tuple[Try, JobPhase], ...] = ()


class IClientPeer(Interface):
    """What a scheduler tells a client."""

    def worker_lost(server_id: ServerId) -> Deferred[None]:
        """The worker is gone: its attempts will not answer, its certificate is void."""

    def lease_taken_back(attempt: Try) -> Deferred[None]:
        """A slot that was leased ahead of its job went to another one, unless it was claimed first."""


class ISchedulerForClients(Interface):
    """What a client asks of a scheduler."""

    def allocate(request: AllocationRequest) -> Deferred[Allocation]:
        """Lease a slot; fails with StillQueued (ask again with your age) or NoWorkers."""

    def report(report: AttemptReport) -> Deferred[None]:
        """Tell how an attempt ended."""

    def stayed_local(reason: str, count: int) -> Deferred[None]:
        """Tell how many compilations were not distributed, for one reason of the documented set."""

    def cancel(attempt: Try) -> Deferred[None]:
        """Give up an attempt, wherever it is."""

    def cluster() -> Deferred[ClusterFigures]:
        """How large the cluster is, and how busy."""

    def link_lost() -> None:
        """The link is gone: what this client was waiting for is cancelled. Called by the locator's side only."""


class IWorkerPeer(Interface):
    """What a scheduler asks of a worker."""

    def assign(order: AssignOrder) -> Deferred[bool]:
        """Lease a slot: True if the toolchain is present; fails with WorkerFull or WorkerDraining."""

    def cancel(attempt: Try, *, unclaimed: bool = False) -> Deferred[None]:
        """End the attempt's lease; kill what runs for it. ``unclaimed``: unless its client has come by now."""

    def drain() -> Deferred[None]:
        """Take no new jobs, finish the running ones, leave."""


class ISchedulerForWorkers(Interface):
    """What a worker tells a scheduler."""

    def register(registration: Registration) -> Deferred[None]:
        """Join; fails with BadProof, IdentityTaken or Malformed."""

    def heartbeat(beat: Beat, added: Sequence[Digest], dropped: Sequence[Digest]) -> Deferred[None]:
        """Tell load, and the toolchains gained and lost since the last beat."""

    def job_state(attempt: Try, phase: JobPhase) -> Deferred[None]:
        """Tell how far an attempt is; ENDED frees its slot in the scheduler's books."""

    def draining() -> Deferred[None]:
        """Announce that this worker takes no new jobs."""

    def link_lost() -> None:
        """The link is gone. Called by the locator's side only."""


class ISchedulerDoor(Interface):
    """Where links come in: judges a Hello, and gives the business that the link may talk to."""

    def welcome(hello: Hello, host: str) -> Welcome:
        """Judge the first words of a link from ``host``; raises Unauthorized or ProtocolMismatch."""

    def client(hello: Hello, peer: IClientPeer) -> ISchedulerForClients:
        """The business of a welcomed client."""

    def worker(hello: Hello, welcome: Welcome, peer: IWorkerPeer, host: str) -> ISchedulerForWorkers:
        """The business of a welcomed worker."""


class ISchedulerLink(Interface):
    """A client's lasting connection to its scheduler, or to the best of several."""

    client_id: ClientId = Attribute("The name under which the link says Hello.")

    def scheduler() -> Deferred[ISchedulerForClients]:
        """Wait for an open link; fails with SchedulerUnavailable when the present outage has lasted its grace."""

    def refused() -> Exception | None:
        """Why the last Hello was refused, if it was: Unauthorized, ProtocolMismatch or PinMismatch."""


class IProgress(Interface):
    """Somebody who is told how a remote run goes on."""

    def phase_changed(phase: str) -> None:
        """The attempt is now in ``phase``: a JobPhase's value, or ``waiting_toolchain``."""

    def sent(size: int) -> None:
        """A request of ``size`` bytes, the action and its inputs, is on its way."""

    def received(size: int, seconds: float) -> None:
        """An answer of ``size`` bytes is complete; ``seconds`` from its last frame's first byte to the last."""


class IWorkerConnection(Interface):
    """The data plane as a client sees it."""

    def run(allocation: Allocation, action: Action, blobs: IBlobSource, progress: IProgress) -> Deferred[ActionResult]:
        """Run an action on the leased slot. Cancelling the Deferred hangs up, which kills the job.

        Sends missing blobs by itself, for at most two rounds. Fails with ToolchainAbsent, JobKilled, Silence,
        ConnectionFailed, PinMismatch, and the other errors of the failure table.
        """

    def upload_toolchain(allocation: Allocation, digest: Digest, archive: str) -> Deferred[int]:
        """Send the packaged toolchain at path ``archive``; the bytes sent, 0 if another sends it or it is there."""

    def worker_lost(server_id: ServerId) -> None:
        """Forget its certificate, connections and known blobs; fail what runs there with ConnectionFailed."""


class IBlobSource(Interface):
    """Where the content of inputs comes from."""

    def read(digest: Digest) -> bytes:
        """The content; raises OSError, or DigestMismatch when the file has changed since it was listed."""


@frozen
class RemoteRun:
    """A compilation that ran on a worker, and how it got there."""

    result: ActionResult
    figures: JobFigures


class IReservation(Interface):
    """A slot that was asked for before its job was ready for it; given to ``dispatch``, or released."""

    def release(reason: str) -> None:
        """Give it back, unless it was used, or is gone. Releasing twice is fine."""


class IDispatcher(Interface):
    """Runs an action on whichever worker."""

    def reserve(toolchain: Digest, arch: str, label: str) -> IReservation | None:
        """Ask for a slot for a job that is being prepared; None where that is of no use now. Fails in no way."""

    def dispatch(
        action: Action,
        arch: str,
        archive: Callable[[], str],
        blobs: IBlobSource,
        label: str,
        again: Callable[[], Deferred[object]] | None = None,
        reservation: IReservation | None = None,
    ) -> Deferred[RemoteRun]:
        """Run it: allocate, upload, run, and try again on others as the failure table says.

        ``reservation`` is the job's own, and its slot the first that is tried.
        ``archive`` gives the packaged toolchain's path when it is needed. ``again`` is asked, after the job has waited
        in the queue, whether somebody else has its result by now: with anything but None the job is given up, and the
        Deferred fails with Found (client room). Fails with FellBack (client room)
        when the job is to be compiled locally. Cancelling the Deferred cancels the job everywhere.
        """

    def stayed_local(reason: str) -> None:
        """A compilation runs on the client's machine after all, or was never to be distributed: for the figures."""


class ICacheStore(Interface):
    """A store of compile results, under one contract: ``tests/contracts/cache_store.py``.

    Keys are 64 lower-case hexadecimal digits, which is all that a store may make of them; entries are bytes up to a
    bound of the store's own. An entry is there whole or not at all. A store may lose any entry at any time, and never
    answers with another one. Every Deferred fails with StorageError only. Cancelling a get ends the wait.
    """

    def get(key: str) -> Deferred[bytes | None]:
        """The entry, or None where there is none; fails when that can't be told."""

    def put(key: str, entry: bytes) -> Deferred[None]:
        """Store an entry in the place of any earlier one; fails when it could not be stored, or is too large."""

    def delete(key: str) -> Deferred[None]:
        """Remove an entry; one that isn't there is fine."""

    def close() -> Deferred[None]:
        """End what was begun and let go of everything; every later call fails. Closing twice is fine."""


@frozen
class Survey:
    """What a store holds. Times are of last uses, in nanoseconds; None where there is no entry, or no time is kept."""

    entries: int = 0
    size: int = 0
    oldest_ns: int | None = None
    newest_ns: int | None = None


@frozen
class Removed:
    """What was removed of a store: entries, and the bytes that they took."""

    entries: int = 0
    size: int = 0


class IKeptHere(Interface):
    """A store that is this machine's own, so that it may be counted and emptied. Deferreds fail with StorageError."""

    def survey() -> Deferred[Survey]:
        """Look at every entry."""

    def evict(before_ns: int | None) -> Deferred[Removed]:
        """Remove entries that were last used before then, or all; fails where no times are kept and one is given."""


class IReadAtOnce(Interface):
    """A store whose entries are at hand, for those who are in a thread already."""

    def read(key: str) -> bytes | None:
        """The entry under a key, as ICacheStore.get has it; may be called in any thread. StorageError."""


@frozen
class Finished:
    """An ended process. ``status`` is the shell's: 128+n for signal n."""

    status: int
    stdout: bytes
    stderr: bytes


class IProcessRunner(Interface):
    """Starts processes without blocking or forking the reactor's memory."""

    def run(
        argv: Sequence[bytes], *, executable: bytes, cwd: bytes, env: Mapping[bytes, bytes], umask: int, limit: int
    ) -> Deferred[Finished]:
        """Run to the end with stdin at /dev/null; more than ``limit`` bytes of output is TooLarge.

        Cancelling kills the process group.
        """


class IJobRunner(Interface):
    """A worker's way to run an action in a sandbox."""

    def run(attempt: Try, action: Action, slot: int) -> Deferred[ActionResult]:
        """Rebuild the action's world, run it, collect its outputs, take the world down again.

        Fails with JobKilled, SandboxFailed, BadOutput, BadAction, MissingInputs, WorkerStorage. Cancelling kills
        the job's whole process tree; the Deferred fires only when nothing of it is left.
        """
