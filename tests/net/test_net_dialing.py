"""Dialling over real TLS: the key decides, and nothing else does."""

from __future__ import annotations

import time

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import Encoding
from links_help import A, B, identity
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol

from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import ConnectionFailed, PinMismatch
from sccache_twisted.model import Address
from sccache_twisted.net.dialing import dial, tcp
from sccache_twisted.net.ports import ListeningService
from sccache_twisted.security import CertificateBook, SchedulerIdentity
from sccache_twisted.security.contexts import PinnedPeer, ServerTLS, authority_peer, worker_peer

TIMERS = LinkTimers(connect_seconds=5.0)


class Talk(Protocol):
    def __init__(self, log):
        self.log = log
        self.first = Deferred()
        self.gone = Deferred()

    def dataReceived(self, data):
        self.log.append(data)
        if not self.first.called:
            self.first.callback(data)

    def connectionLost(self, reason):
        self.gone.callback(reason.value)


class Server:
    """A TLS server that notes what it is sent and shows which SNI it was asked for."""

    def __init__(self, tls):
        self.received = []
        self.talks = []
        self.spoken_to = Deferred()
        self.service = ListeningService(
            reactor, "tcp:0:interface=127.0.0.1", Factory.forProtocol(self.talk), tls, "worker"
        )
        self.service.startService()
        self.address = Address("127.0.0.1", self.service.port)

    def talk(self):
        talk = Talk(self.received)
        self.talks.append(talk)
        if len(self.talks) == 1:
            talk.first.addCallback(self._spoken, talk)
        return talk

    def _spoken(self, data, talk):
        self.spoken_to.callback(talk)
        return data

    async def stop(self):
        for talk in self.talks:
            if talk.transport is not None and not talk.gone.called:
                talk.transport.abortConnection()
                await talk.gone
        await self.service.stopService()


def call(server, peer, timers=TIMERS, who="Worker x"):
    return dial(reactor, tcp(reactor, timers)(server.address), peer, Factory.forProtocol(lambda: Talk([])), timers, who)


@pytest.mark.parametrize("years", [-30, -0.0003, 0, 0.0003, 30])
@pytest_twisted.ensureDeferred
async def test_clocks_do_not_matter(years):
    """A worker whose clock is two hours or thirty years off is believed by its key."""
    worker = identity(A, years=years)
    server = Server(ServerTLS(worker))
    entry = CertificateBook().put(A, worker.certificate)
    talk = await call(server, worker_peer(entry, server.address))
    talk.transport.write(b"hello")
    talk2 = server.talks[0]
    assert await talk2.first == b"hello"
    assert talk2.transport.getHandle().get_servername() == b"a-0123456789abcdef.worker.sccache-twisted"
    assert talk.transport.getHandle().get_protocol_version_name() == "TLSv1.3"
    assert not talk.transport.negotiatedProtocol
    talk.transport.loseConnection()
    await talk.gone
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_another_worker_at_the_address_is_not_believed():
    """C at A's address is a PinMismatch that names server_id and address, and C is sent not one byte of a request."""
    server = Server(ServerTLS(identity(B)))
    entry = CertificateBook().put(A, identity(A).certificate)
    with pytest.raises(PinMismatch, match=f"Worker {A} at {server.address} shows another key"):
        await call(server, worker_peer(entry, server.address))
    assert server.received == []
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_renewed_certificate_is_shown_while_running():
    """A server that renews its certificate shows the new one to new connections, and old pins still hold."""
    worker = identity(A)
    tls = ServerTLS(worker)
    server = Server(tls)
    entry = CertificateBook().put(A, worker.certificate)
    renewed = worker.renew(4e9)
    first = await call(server, worker_peer(entry, server.address))
    tls.show(renewed)
    second = await call(server, worker_peer(entry, server.address))
    shown = [
        talk.transport.getPeerCertificate().to_cryptography().public_bytes(Encoding.DER) for talk in (first, second)
    ]
    assert shown == [worker.certificate, renewed.certificate]
    for talk in (first, second):
        talk.transport.loseConnection()
        await talk.gone
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_no_session_is_resumed():
    """A session that a server would resume shows no certificate; there is none to resume."""
    worker = identity(A)
    server = Server(ServerTLS(worker))
    pin = CertificateBook().put(A, worker.certificate).pin
    for _ in range(3):
        talk = await call(server, PinnedPeer("localhost", pin, "x"))
        talk.transport.write(b"x")
        await server.talks[-1].first
        assert not SSL._lib.SSL_session_reused(talk.transport.getHandle()._ssl)
        talk.transport.loseConnection()
        await talk.gone
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_authority_and_host_name(tmp_path):
    """Without a pin a CA and the host name decide."""
    for names, ours, says in [
        (["localhost", "127.0.0.1"], True, None),
        (["elsewhere"], True, "another name"),
        (["localhost", "127.0.0.1"], False, "no trusted CA"),
    ]:
        scheduler = SchedulerIdentity.load_or_create(str(tmp_path / f"{names[0]}{ours}"), names, time.time())
        other = SchedulerIdentity.load_or_create(str(tmp_path / "other"), ["localhost"], time.time())
        ca = tmp_path / "ca.pem"
        ca.write_bytes((scheduler if ours else other).chain[0].public_bytes(Encoding.PEM))
        server = Server(ServerTLS(scheduler))
        calling = call(server, authority_peer("127.0.0.1", str(ca)), who="The scheduler")
        if says is None:
            talk = await calling
            talk.transport.loseConnection()
            await talk.gone
        else:
            with pytest.raises(PinMismatch, match=f"The scheduler shows a certificate .*{says}"):
                await calling
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_handshake_that_never_ends_is_bounded():
    """A port that accepts and says nothing fails the dialling in time, and the connection is gone."""
    server = Server(None)
    timers = LinkTimers(connect_seconds=0.2)
    entry = CertificateBook().put(A, identity(A).certificate)
    with pytest.raises(ConnectionFailed, match=r"Worker x did not answer within 0\.2 s"):
        await call(server, worker_peer(entry, server.address), timers)
    await server.talks[0].gone
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_cancelled_dialling_leaves_nothing():
    """Cancelling in the middle of a handshake cuts the connection."""
    server = Server(None)
    entry = CertificateBook().put(A, identity(A).certificate)
    calling = call(server, worker_peer(entry, server.address))
    talk = await server.spoken_to
    calling.cancel()
    with pytest.raises(CancelledError):
        await calling
    await talk.gone
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_who_speaks_no_tls_and_who_is_not_there():
    """A peer that answers in plain text, and one that is not there, are ConnectionFailed with a reason."""
    server = Server(None)
    entry = CertificateBook().put(A, identity(A).certificate)
    calling = call(server, worker_peer(entry, server.address))
    talk = await server.spoken_to
    talk.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ConnectionFailed, match="TLS handshake with worker x failed"):
        await calling
    await server.stop()
    with pytest.raises(ConnectionFailed, match="Worker x cannot be reached: Connection refused"):
        await call(server, worker_peer(entry, server.address))
