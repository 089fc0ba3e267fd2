"""Who may come in: Hello is judged by token and version, Register by the worker's proof of its key.

The avatars behind the door translate what one link says into facts, and remember whose link it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import ConnectionFailed, IdentityTaken, Malformed, ProtocolMismatch
from sccache_twisted.interfaces import (
    OLDEST_PROTOCOL,
    PROTOCOL_VERSION,
    AttemptReport,
    Hello,
    IClientPeer,
    ISchedulerDoor,
    ISchedulerForClients,
    ISchedulerForWorkers,
    IWorkerPeer,
    JobPhase,
    Registration,
    Welcome,
)
from sccache_twisted.model import (
    Address,
    Allocation,
    AllocationRequest,
    Beat,
    ClientId,
    ClusterFigures,
    Digest,
    ServerId,
    Try,
    WorkerCard,
)
from sccache_twisted.model.identity import is_server_id
from sccache_twisted.scheduler.switchboard import Switchboard
from sccache_twisted.security.identity import verify_proof
from sccache_twisted.security.pins import same_pin, spki_pin
from sccache_twisted.security.tokens import TokenStore
from sccache_twisted.wire.scheduling import JOBS_PER_PAGE

_CHALLENGE_BYTES = 32
_ANYWHERE = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104 - compared with, not bound to


@implementer(ISchedulerDoor)
class SchedulerDoor:
    """Admits links. ``tokens`` is None in the insecure mode only: then everybody is believed."""

    def __init__(
        self,
        switchboard: Switchboard,
        tokens: TokenStore | None,
        timers: LinkTimers,
        scheduler_id: str,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._switchboard = switchboard
        self._tokens = tokens
        self._timers = timers
        self._scheduler_id = scheduler_id
        self._entropy = entropy

    def welcome(self, hello: Hello, host: str) -> Welcome:  # noqa: ARG002 - the brake in front of this door counts hosts
        """See ISchedulerDoor."""
        # A newer peer may still talk to us: that is what its own OLDEST_PROTOCOL says.
        if not OLDEST_PROTOCOL <= hello.version <= PROTOCOL_VERSION + 1:
            raise ProtocolMismatch(
                f"The {hello.role.value} speaks protocol {hello.version}, this scheduler {OLDEST_PROTOCOL} to "
                f"{PROTOCOL_VERSION}."
            )
        if not hello.name:
            raise Malformed("Hello carries no name.")
        if self._tokens is not None:
            self._tokens.check(hello.role, hello.token)
        return Welcome(
            version=min(hello.version, PROTOCOL_VERSION),
            scheduler_id=self._scheduler_id,
            challenge=self._entropy(_CHALLENGE_BYTES),
            ping_seconds=self._timers.ping_seconds,
            peer_lost_seconds=self._timers.peer_lost_seconds,
        )

    def client(self, hello: Hello, peer: IClientPeer) -> ISchedulerForClients:
        """See ISchedulerDoor."""
        return ClientAvatar(self._switchboard, ClientId(hello.name), peer)

    def worker(self, hello: Hello, welcome: Welcome, peer: IWorkerPeer, host: str) -> ISchedulerForWorkers:
        """See ISchedulerDoor."""
        if not is_server_id(hello.name):
            raise Malformed(f"{hello.name[:80]!r} is not a server_id.")
        return WorkerAvatar(self._switchboard, ServerId(hello.name), welcome.challenge, peer, host)


@implementer(ISchedulerForClients)
class ClientAvatar:
    """One client's link."""

    def __init__(self, switchboard: Switchboard, client_id: ClientId, peer: IClientPeer) -> None:
        self._switchboard = switchboard
        self._clients = switchboard.core.clients
        self._client_id = client_id
        self._link = switchboard.new_link()
        switchboard.client_joined(self._link, peer)

    def allocate(self, request: AllocationRequest) -> Deferred[Allocation]:
        """See ISchedulerForClients."""
        if request.client_id != self._client_id:
            raise Malformed("A client can only ask for itself.")
        return self._switchboard.allocate(self._link, request)

    def report(self, report: AttemptReport) -> Deferred[None]:
        """See ISchedulerForClients."""
        now = self._switchboard.now()
        self._switchboard.metrics.reported(report)
        self._switchboard.perform(self._clients.attempt_reported(now, self._client_id, report))
        return succeed(None)

    def stayed_local(self, reason: str, count: int) -> Deferred[None]:
        """See ISchedulerForClients."""
        self._switchboard.metrics.stayed_local(reason, count)
        return succeed(None)

    def cancel(self, attempt: Try) -> Deferred[None]:
        """See ISchedulerForClients."""
        now = self._switchboard.now()
        self._switchboard.perform(self._clients.attempt_cancelled(now, self._client_id, attempt))
        return succeed(None)

    def cluster(self) -> Deferred[ClusterFigures]:
        """See ISchedulerForClients."""
        return succeed(self._switchboard.core.figures())

    def link_lost(self) -> None:
        """See ISchedulerForClients."""
        self._switchboard.client_left(self._link)


@implementer(ISchedulerForWorkers)
class WorkerAvatar:
    """One worker's link."""

    def __init__(
        self, switchboard: Switchboard, server_id: ServerId, challenge: bytes, peer: IWorkerPeer, host: str
    ) -> None:
        self._switchboard = switchboard
        self._workers = switchboard.core.workers
        self._server_id = server_id
        self._challenge = challenge
        self._peer = peer
        self._host = host
        self._link = switchboard.new_link()
        self._card: WorkerCard | None = None
        self._toolchains: set[Digest] = set()

    def register(self, registration: Registration) -> Deferred[None]:
        """See ISchedulerForWorkers."""
        card = registration.card
        if card.server_id != self._server_id:
            raise Malformed(f"The link of {self._server_id} cannot register {card.server_id}.")
        if self._card is not None:
            raise Malformed(f"Worker {self._server_id} has registered on this link before.")
        verify_proof(card.certificate, self._challenge, card.server_id, registration.proof)
        known = self._workers.card(self._server_id)
        if known is not None and not same_pin(spki_pin(known.certificate), spki_pin(card.certificate)):
            raise IdentityTaken(f"Worker {self._server_id} is registered with another key and still alive.")
        self._card = card = self._reachable(card)
        # An older link of the same worker is half-open or about to close: what it still says is not heard.
        self._switchboard.worker_joined(self._server_id, self._peer)
        self._switchboard.perform(
            self._workers.registered(
                self._switchboard.now(),
                self._link,
                card,
                registration.jobs,
                complete=len(registration.jobs) < JOBS_PER_PAGE,
            )
        )
        return succeed(None)

    def _reachable(self, card: WorkerCard) -> WorkerCard:
        if card.address.host not in _ANYWHERE:
            return card
        address = Address(self._host, card.address.port)
        return WorkerCard(card.server_id, address, card.certificate, card.slots, card.memory_bytes, card.arch)

    def heartbeat(self, beat: Beat, added: Sequence[Digest], dropped: Sequence[Digest]) -> Deferred[None]:
        """See ISchedulerForWorkers."""
        self._speaks()
        self._switchboard.metrics.heartbeat()
        self._toolchains.difference_update(dropped)
        self._toolchains.update(added)
        self._switchboard.perform(self._workers.beat(self._switchboard.now(), self._server_id, beat, added, dropped))
        return succeed(None)

    def job_state(self, attempt: Try, phase: JobPhase) -> Deferred[None]:
        """See ISchedulerForWorkers."""
        self._speaks()
        self._switchboard.perform(self._workers.job_moved(self._switchboard.now(), self._server_id, attempt, phase))
        return succeed(None)

    def draining(self) -> Deferred[None]:
        """See ISchedulerForWorkers."""
        self._speaks()
        self._switchboard.perform(self._workers.drained(self._switchboard.now(), self._server_id))
        return succeed(None)

    def link_lost(self) -> None:
        """See ISchedulerForWorkers."""
        self._switchboard.worker_left(self._server_id, self._peer)
        self._switchboard.perform(self._workers.unlinked(self._switchboard.now(), self._server_id, self._link))

    def _speaks(self) -> None:
        """Check that this is the worker's present link; take a worker back that was taken for lost."""
        if self._card is None:
            raise Malformed(f"Worker {self._server_id} must register first.")
        link = self._workers.link(self._server_id)
        if link == self._link:
            return
        if link is not None:
            raise ConnectionFailed(f"Worker {self._server_id} has a newer link.")
        # Silent for too long, then alive after all, on a link that held. Its jobs come back as it tells of them.
        now = self._switchboard.now()
        self._switchboard.worker_joined(self._server_id, self._peer)
        self._switchboard.perform(
            self._workers.registered(now, self._link, self._card, (), complete=False, toolchains=self._toolchains)
        )
