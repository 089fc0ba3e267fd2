"""A scheduler behind real TLS sockets, with a scripted worker and a scripted client."""

from __future__ import annotations

import os
import time

import pytest
import pytest_twisted
from scheduler_kit import CLIENT, GCC, Worker, identity, job, request
from support.sockets import ends, without_delay
from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred
from zope.interface import implementer

from sccache_twisted.config import LinkTimers, SchedulerSettings
from sccache_twisted.errors import ConnectionFailed
from sccache_twisted.interfaces import PROTOCOL_VERSION, Hello, IClientPeer, Role
from sccache_twisted.model import Beat
from sccache_twisted.net.addresses import SchedulerAddress
from sccache_twisted.net.links import SchedulerLink
from sccache_twisted.scheduler.service import SchedulerService
from sccache_twisted.security import SchedulerIdentity, TokenStore
from sccache_twisted.security.contexts import ServerTLS
from sccache_twisted.wire.facades import SchedulerForClients, SchedulerForWorkers
from sccache_twisted.wire.locators import ClientLocator, WorkerLocator


@implementer(IClientPeer)
class Told:
    def __init__(self):
        self.lost = Deferred()

    def worker_lost(self, server_id):
        self.lost.callback(server_id)
        done = Deferred()
        done.callback(None)
        return done

    def lease_taken_back(self, attempt):
        raise AssertionError(f"nothing was held ahead of {attempt}")


class Dialled:
    """A link of either role over real sockets; ``up`` fires with the façade and the Welcome."""

    def __init__(self, address, role, token, name, locator, facade):
        self.up = Deferred()
        self.down = Deferred()

        def on_up(scheduler, welcome):
            done = Deferred()
            done.callback(None)
            self.up.callback((scheduler, welcome))
            return done

        self.link = SchedulerLink(
            reactor,
            lambda to: endpoints.HostnameEndpoint(reactor, to.host, to.port),
            address,
            "",
            lambda: Hello(PROTOCOL_VERSION, role, token, name),
            locator,
            facade,
            on_up,
            lambda: reactor.callLater(0, self._is_down),
            LinkTimers(),
            lambda: 0.99,
        )
        self.link.startService()

    def _is_down(self):
        if not self.down.called:
            self.down.callback(None)


@pytest.fixture
def place(tmp_path):
    """A running scheduler, its address, its tokens, and a way to dial it; all of it is ended afterwards."""
    tokens = TokenStore(tmp_path / "tokens.json")
    good = {role: tokens.create(role.value, role, time.time()) for role in Role}
    shown = SchedulerIdentity.load_or_create(str(tmp_path), ["localhost"], time.time())
    settings = SchedulerSettings(listen="tcp:0:interface=127.0.0.1", settle_seconds=0.0)
    service = SchedulerService(reactor, settings, tokens, ServerTLS(shown), os.urandom)
    service.startService()
    dialled = []

    class Place:
        scheduler = service
        token_store = tokens

        def dial(self, role, name, locator, facade):
            address = SchedulerAddress.parse(f"tls://127.0.0.1:{service.port}?pin={shown.pin}")
            dialled.append(Dialled(address, role, good[role], name, locator, facade))
            return dialled[-1]

        def client(self, told=None):
            return self.dial(Role.CLIENT, CLIENT, lambda: ClientLocator(told or Told()), SchedulerForClients)

        def worker(self, worker):
            return self.dial(Role.WORKER, worker.server_id, lambda: WorkerLocator(worker), SchedulerForWorkers)

    yield Place()
    for each in dialled:
        pytest_twisted.blockon(each.link.stopService())
    pytest_twisted.blockon(service.stopService())


@pytest_twisted.ensureDeferred
async def test_both_ends_of_a_link_send_at_once(place):
    """A message that wants no answer holds up no call behind it: neither a client's, a worker's nor the scheduler's."""
    for dialled in (place.client(), place.worker(Worker(identity("a")))):
        await dialled.up
    with ends(place.scheduler.port) as sockets:
        assert [without_delay(one) for one in sockets] == [True] * 4


@pytest_twisted.ensureDeferred
async def test_a_job_is_placed_over_real_links(place):
    """Register, heartbeat, AllocateJob, AssignJob and the answer pass through TLS; the worker's end reaches clients."""
    worker = Worker(identity("a"))
    worker_link = place.worker(worker)
    scheduler, welcome = await worker_link.up
    await scheduler.register(worker.registration(welcome.challenge))
    await scheduler.heartbeat(Beat(0, 0.1, 1 << 30), [GCC], [])
    told = Told()
    client_link = place.client(told)
    scheduler_for_client, _ = await client_link.up
    allocation = await scheduler_for_client.allocate(request(1, expected_bytes=1 << 20))
    assert allocation.server_id == worker.server_id
    assert allocation.certificate == worker.identity.certificate
    assert allocation.token == worker.orders[0].token
    figures = await scheduler_for_client.cluster()
    assert (figures.workers, figures.slots, figures.running, figures.queued) == (1, 2, 1, 0)
    await scheduler_for_client.cancel(job(1))
    assert await worker.was_cancelled == job(1)
    await scheduler.draining()
    await worker_link.link.stopService()
    # It said that it leaves, but its slot was never freed: it is given a moment, then it is lost.
    assert place.scheduler.figures().slots == 0


@pytest_twisted.ensureDeferred
async def test_a_revoked_token_ends_its_links(place):
    """Revoking a token ends the links that came in by it, within seconds, and no others."""
    worker_link = place.worker(Worker(identity("c")))
    await worker_link.up
    client_link = place.client()
    await client_link.up
    place.token_store.revoke("client")
    await client_link.down
    assert worker_link.link.up is not None


@pytest_twisted.ensureDeferred
async def test_stopping_ends_links_and_requests(place):
    """A scheduler that stops ends its links; whoever waits for a slot is told by it."""
    worker = Worker(identity("b"), answer=None)
    scheduler, welcome = await place.worker(worker).up
    await scheduler.register(worker.registration(welcome.challenge))
    scheduler_for_client, _ = await place.client().up
    waiting = scheduler_for_client.allocate(request(1))
    await scheduler_for_client.cluster()
    await place.scheduler.stopService()
    with pytest.raises(ConnectionFailed):
        await waiting
    assert place.scheduler._listener.links == 0
