from __future__ import annotations

import time

import pytest
from attrs import evolve
from scheduler_kit import CLIENT, Client, Scheduler, Worker, identity, job, request, result, server_id

from sccache_twisted.errors import (
    BadProof,
    ConnectionFailed,
    IdentityTaken,
    Malformed,
    ProtocolMismatch,
    Unauthorized,
)
from sccache_twisted.interfaces import PROTOCOL_VERSION, Hello, JobPhase, Role
from sccache_twisted.model import Address, Beat, ClientId
from sccache_twisted.scheduler.views import WorkerState
from sccache_twisted.security import TokenStore, WorkerIdentity


@pytest.fixture
def tokens(tmp_path):
    return TokenStore(tmp_path / "tokens.json")


def hello(role, token, name=CLIENT, version=PROTOCOL_VERSION):
    return Hello(version, role, token, name)


def test_a_token_opens_the_door_for_its_role(tokens):
    """A good token is welcomed with a fresh challenge; a wrong one, another role's or a revoked one is not."""
    token = tokens.create("laptop", Role.CLIENT, time.time())
    door = Scheduler(tokens).door
    first, second = (door.welcome(hello(Role.CLIENT, token), "192.0.2.1") for _ in range(2))
    assert len(first.challenge) == 32
    assert first.challenge != second.challenge
    with pytest.raises(Unauthorized):
        door.welcome(hello(Role.CLIENT, "nonsense"), "192.0.2.1")
    with pytest.raises(Unauthorized, match="client's, not a worker's"):
        door.welcome(hello(Role.WORKER, token), "192.0.2.1")
    tokens.revoke("laptop")
    with pytest.raises(Unauthorized):
        door.welcome(hello(Role.CLIENT, token), "192.0.2.1")


def test_versions_that_do_not_overlap_are_told_so():
    """Protocol N talks to N-1 on either side; anything farther is a mismatch that names both."""
    door = Scheduler().door
    assert door.welcome(hello(Role.CLIENT, "", version=PROTOCOL_VERSION + 1), "h").version == PROTOCOL_VERSION
    for version in (0, PROTOCOL_VERSION + 2):
        with pytest.raises(ProtocolMismatch, match=str(version)):
            door.welcome(hello(Role.CLIENT, "", version=version), "h")


def test_a_proof_of_another_key_or_challenge_is_refused():
    """A worker that does not hold its certificate's key, or replays an old proof, does not get in."""
    scheduler = Scheduler()
    worker = Worker(identity("a"))
    avatar, challenge = scheduler.link(worker)
    with pytest.raises(BadProof):
        avatar.register(worker.registration(b"an older challenge"))
    thief = Worker(WorkerIdentity.create(worker.server_id, time.time()))
    stolen = evolve(worker.registration(challenge), proof=thief.registration(challenge).proof)
    with pytest.raises(BadProof):
        avatar.register(stolen)
    assert scheduler.state(worker) is None
    avatar.register(worker.registration(challenge))
    assert scheduler.state(worker) is WorkerState.ALIVE


def test_a_live_name_is_taken():
    """Another key cannot register a live worker's server_id; once that worker is lost, it can."""
    scheduler = Scheduler()
    scheduler.join("a")
    impostor = Worker(WorkerIdentity.create(server_id("a"), time.time()))
    avatar, challenge = scheduler.link(impostor)
    with pytest.raises(IdentityTaken):
        avatar.register(impostor.registration(challenge))
    scheduler.clock.advance(16)
    avatar.register(impostor.registration(challenge))
    assert scheduler.core.workers.card(impostor.server_id).certificate == impostor.identity.certificate


def test_a_newer_link_of_the_same_worker_replaces_the_older():
    """With the same key a newer link takes over: the older is not heard any more and its end changes nothing."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    older = worker.avatar
    scheduler.client().allocate(request(1))
    worker.avatar.job_state(job(1), JobPhase.RUNNING)
    renewed = Worker(worker.identity.renew(time.time()), slots=1)
    scheduler.rejoin(renewed, [(job(1), JobPhase.RUNNING)])
    with pytest.raises(ConnectionFailed):
        older.heartbeat(Beat(0, 0.0, 0), (), ())
    older.link_lost()
    assert scheduler.state(renewed) is WorkerState.ALIVE
    assert scheduler.core.workers.card(renewed.server_id).certificate == renewed.identity.certificate
    assert scheduler.core.figures().running == 1
    scheduler.client().cancel(job(1))
    assert renewed.cancelled == [job(1)]
    assert worker.cancelled == []


def test_jobs_that_a_returning_worker_does_not_hold_are_forgotten():
    """What a worker lost while its link was down is not kept in its books."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    client = scheduler.client()
    client.allocate(request(1))
    worker.avatar.job_state(job(1), JobPhase.RUNNING)
    waiting = client.allocate(request(2))
    scheduler.rejoin(worker)
    assert result(waiting).server_id == worker.server_id


def test_an_unspecified_address_is_the_one_that_is_seen():
    """A worker that does not know how it is reached is dialled where the scheduler sees it; a gateway's name stays."""
    scheduler = Scheduler()
    for host, seen in (("", "192.0.2.7"), ("::", "192.0.2.7"), ("gateway.example", "gateway.example")):
        worker = Worker(identity("a" + host.strip(":").partition(".")[0]))
        avatar, challenge = scheduler.link(worker, host="192.0.2.7")
        avatar.register(worker.registration(challenge, address=Address(host, 10501)))
        assert scheduler.core.workers.card(worker.server_id).address == Address(seen, 10501)


def test_nobody_speaks_out_of_turn():
    """A worker must register first, once, under the name of its Hello; a client asks for itself only."""
    scheduler = Scheduler()
    worker = Worker(identity("a"))
    avatar, challenge = scheduler.link(worker)
    with pytest.raises(Malformed, match="register first"):
        avatar.heartbeat(Beat(0, 0.0, 0), (), ())
    with pytest.raises(Malformed, match="cannot register"):
        avatar.register(Worker(identity("b")).registration(challenge))
    avatar.register(worker.registration(challenge))
    with pytest.raises(Malformed, match="before"):
        avatar.register(worker.registration(challenge))
    with pytest.raises(Malformed, match="for itself"):
        scheduler.client().allocate(request(1, client=ClientId("somebody else")))
    with pytest.raises(Malformed):
        scheduler.door.client(hello(Role.CLIENT, ""), Client()) and scheduler.door.welcome(
            hello(Role.CLIENT, "", name=""), "h"
        )


def test_one_client_cannot_cancel_anothers_job():
    """CancelJob reaches the client's own attempts only."""
    scheduler = Scheduler()
    worker = scheduler.join("a")
    scheduler.client().allocate(request(1))
    scheduler.client(ClientId("client-2")).cancel(job(1))
    assert worker.cancelled == []
    assert scheduler.core.figures().running == 1
