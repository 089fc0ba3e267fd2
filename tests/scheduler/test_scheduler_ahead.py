"""Slots that are asked for and held ahead of a job: they serve whoever is ready first."""

from __future__ import annotations

from scheduler_kit import Client, Scheduler, job, request, result

from sccache_twisted.errors import UnknownAttempt, WorkerFull
from sccache_twisted.interfaces import JobPhase
from sccache_twisted.model import ClientId

OTHER = ClientId("client-2")


def ahead(number, **more):
    return request(number, ahead=True, **more)


def two_clients(scheduler):
    """Two clients' links, and the first one's ear."""
    ear = Client()
    return scheduler.client(peer=ear), scheduler.client(OTHER), ear


def test_who_asks_ahead_is_given_what_nobody_else_waits_for():
    """A free slot is leased ahead as any other, and counted; claimed, it is not ahead any more."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    held = scheduler.client().allocate(ahead(1))
    assert result(held).server_id == worker.server_id
    figures = scheduler.core.figures()
    assert (figures.running, figures.ahead) == (1, 1)
    worker.avatar.job_state(job(1), JobPhase.RUNNING)
    figures = scheduler.core.figures()
    assert (figures.running, figures.ahead) == (1, 0)


def test_whoever_is_ready_goes_first():
    """In the queue an ask ahead waits behind every ready one, however much older it is, and is demand all the same."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    first, second, _ = two_clients(scheduler)
    first.allocate(request(1))
    worker.avatar.job_state(job(1), JobPhase.RUNNING)
    early = first.allocate(ahead(2, age=50.0))
    ready = second.allocate(request(3, OTHER))
    assert scheduler.core.figures().demand == 3
    worker.avatar.job_state(job(1), JobPhase.ENDED)
    assert (result(early), result(ready).server_id) == (None, worker.server_id)
    worker.avatar.job_state(job(3), JobPhase.ENDED)
    assert result(early).server_id == worker.server_id


def test_an_ask_that_turns_ready_has_its_age():
    """A job asked for again without the flag stands among the ready ones, at the place of its first asking."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    client = scheduler.client()
    client.allocate(request(1))
    worker.avatar.job_state(job(1), JobPhase.RUNNING)
    early = client.allocate(ahead(2))
    scheduler.pass_time(1, worker)
    younger = client.allocate(request(3))
    now_ready = client.allocate(request(2, age=1.0))
    worker.avatar.job_state(job(1), JobPhase.ENDED)
    assert result(early) == result(now_ready) != None  # noqa: E711 - both are answered, alike
    assert result(younger) is None


def test_a_lease_held_ahead_is_taken_back_for_who_is_ready():
    """Its worker frees the slot, its client is told, and the slot serves the one who waits."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    first, second, ear = two_clients(scheduler)
    first.allocate(ahead(1))
    ready = second.allocate(request(2, OTHER))
    assert worker.taken_back == [job(1)]
    assert ear.taken_back == [job(1)]
    assert result(ready) is None, "the slot is the worker's until it says that it is free"
    worker.avatar.job_state(job(1), JobPhase.ENDED)
    assert result(ready).server_id == worker.server_id
    assert worker.cancelled == []
    assert scheduler.core.figures().running == 1


def test_a_client_that_claims_at_that_moment_keeps_its_slot():
    """The slot was claimed when its worker was told: that job runs, the ready one waits, nothing is counted twice."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    first, second, _ = two_clients(scheduler)
    first.allocate(ahead(1))
    ready = second.allocate(request(2, OTHER))
    worker.avatar.job_state(job(1), JobPhase.RUNNING)
    scheduler.pass_time(20, worker)
    assert result(ready) is None
    assert worker.cancelled == []
    assert [order.attempt for order in worker.orders] == [job(1)]
    worker.avatar.job_state(job(1), JobPhase.ENDED)
    assert result(ready).server_id == worker.server_id


def test_one_slot_is_taken_back_for_each_who_waits():
    """Two are held ahead, one waits: one is taken back, the latest; the claim of another's makes up for it."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=3)
    first, second, _ = two_clients(scheduler)
    for number in (1, 2, 3):
        first.allocate(ahead(number))
    second.allocate(request(4, OTHER))
    assert worker.taken_back == [job(3)]
    worker.avatar.job_state(job(3), JobPhase.RUNNING)
    assert worker.taken_back == [job(3), job(2)]


def test_a_slot_leased_ahead_too_late_serves_who_is_ready():
    """While a worker is asked ahead somebody turns up who is ready: he gets that slot, and the other waits on."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1, answer=None)
    first, second, ear = two_clients(scheduler)
    early = first.allocate(ahead(1))
    ready = second.allocate(request(2, OTHER))
    worker.answer = True
    worker.unanswered[0].callback(True)
    assert result(ready).server_id == worker.server_id
    assert result(early) is None
    assert worker.cancelled == [job(1)]
    assert ear.taken_back == [], "it had not been given anything"
    worker.avatar.job_state(job(1), JobPhase.ENDED)
    worker.avatar.job_state(job(2), JobPhase.ENDED)
    assert result(early).server_id == worker.server_id


def test_whoever_said_that_it_is_ready_keeps_its_lease():
    """A lease whose client has asked again without the flag is like any other."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    first, second, _ = two_clients(scheduler)
    held = first.allocate(ahead(1))
    assert result(first.allocate(request(1))) == result(held)
    second.allocate(request(2, OTHER))
    assert worker.taken_back == []


def test_what_was_taken_back_is_not_given_again():
    """Its client asks under the next attempt; one that asks for the old attempt hears that it has ended."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    first, second, _ = two_clients(scheduler)
    first.allocate(ahead(1))
    second.allocate(request(2, OTHER))
    assert isinstance(result(first.allocate(request(1))), UnknownAttempt)
    worker.avatar.job_state(job(1), JobPhase.ENDED)
    worker.avatar.job_state(job(2), JobPhase.ENDED)
    assert scheduler.core.figures().demand == 0


def test_a_job_that_takes_long_loses_its_lease_without_blame(events):
    """Before its worker would say that nobody came, the slot is taken back; that is no lease that expired."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    client, _, ear = two_clients(scheduler)
    client.allocate(ahead(1))
    scheduler.pass_time(14, worker)
    assert worker.taken_back == ear.taken_back == [job(1)]
    scheduler.pass_time(3, worker)
    assert scheduler.core.figures().demand == 0, "the worker need not answer"
    assert "lease_taken_back" in {event["event"] for event in events}
    assert "lease_expired" not in {event["event"] for event in events}


def test_a_lease_that_is_given_back_serves_the_next_at_once():
    """A client that cancels what it holds ahead frees the slot."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    first, second, ear = two_clients(scheduler)
    first.allocate(ahead(1))
    early = second.allocate(ahead(2, client=OTHER))
    first.cancel(job(1))
    assert worker.cancelled == [job(1)]
    worker.avatar.job_state(job(1), JobPhase.ENDED)
    assert result(early).server_id == worker.server_id
    assert ear.taken_back == []


def test_a_worker_that_comes_back_is_told_again():
    """An order to free a slot that was lost with its link is given over the next one."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    first, second, _ = two_clients(scheduler)
    first.allocate(ahead(1))
    second.allocate(request(2, OTHER))
    scheduler.rejoin(worker, [(job(1), JobPhase.LEASED)])
    assert worker.taken_back == [job(1), job(1)]


def test_a_job_that_avoids_a_worker_takes_nothing_there():
    """A slot is taken back only for somebody who could have it."""
    scheduler = Scheduler()
    one, other = scheduler.join("a", slots=1), scheduler.join("b", slots=1)
    first, second, _ = two_clients(scheduler)
    held = result(first.allocate(ahead(1)))
    holder, free = (one, other) if held.server_id == one.server_id else (other, one)
    second.allocate(request(2, OTHER))
    free.avatar.job_state(job(2), JobPhase.RUNNING)
    second.allocate(request(3, OTHER, avoid=frozenset({holder.server_id})))
    assert holder.taken_back == []
    second.allocate(request(4, OTHER))
    assert holder.taken_back == [job(1)]


def test_a_refused_ask_ahead_looks_further():
    """A worker that refuses an ask ahead is followed by the next best, as for any job."""
    scheduler = Scheduler()
    full, good = scheduler.join("a", answer=WorkerFull(), slots=4), scheduler.join("b", slots=1)
    held = scheduler.client().allocate(ahead(1))
    scheduler.turn()
    assert result(held).server_id == good.server_id
    assert len(full.orders) <= 1
