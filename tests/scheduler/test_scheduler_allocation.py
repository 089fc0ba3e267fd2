from __future__ import annotations

import pytest
from scheduler_kit import CLIENT, GCC, Client, Scheduler, identity, job, request, result

from sccache_twisted.errors import (
    JobCancelled,
    NoWorkers,
    SandboxFailed,
    SchedulerUnavailable,
    StillQueued,
    TooManyRequests,
    WorkerDraining,
    WorkerFull,
)
from sccache_twisted.interfaces import AttemptReport, JobPhase, Outcome
from sccache_twisted.model import Allocation, ClientId
from sccache_twisted.scheduler.views import WorkerState


def test_an_accepted_job_is_answered_with_where_to_go():
    """The answer names the worker, its address and certificate, the token it was told, and whether it is equipped."""
    scheduler = Scheduler()
    worker = scheduler.join("a", answer=False)
    answer = result(scheduler.client().allocate(request(1)))
    assert isinstance(answer, Allocation)
    assert answer.server_id == worker.server_id
    assert answer.certificate == worker.identity.certificate
    assert answer.token == worker.orders[0].token
    assert len(answer.token) >= 43
    assert answer.toolchain_present is False
    assert worker.orders[0].toolchain == GCC


def test_every_attempt_has_its_own_token():
    """No two attempts share a token."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=8)
    client = scheduler.client()
    for number in range(8):
        client.allocate(request(number))
    assert len({order.token for order in worker.orders}) == 8


@pytest.mark.parametrize("refusal", [WorkerFull(), WorkerDraining(), SandboxFailed()])
def test_a_refused_job_falls_to_the_next_best(refusal):
    """On a refusal or a fault the next best worker is asked, until one accepts."""
    scheduler = Scheduler()
    first, second = scheduler.join("a", answer=refusal), scheduler.join("b")
    scheduler.beat(first, [GCC])
    answer = scheduler.client().allocate(request(1))
    scheduler.turn()
    assert [len(first.orders), len(second.orders)] == [1, 1]
    assert result(answer).server_id == second.server_id


def test_a_defect_in_asking_loses_no_request(nothing_unhandled):
    """Whatever goes wrong while a worker is asked, it is logged and the next one is asked."""
    scheduler = Scheduler()
    scheduler.beat(scheduler.join("a", answer=RuntimeError("a defect")), [GCC])
    second = scheduler.join("b")
    answer = scheduler.client().allocate(request(1))
    scheduler.turn()
    assert result(answer).server_id == second.server_id
    assert [event["log_failure"].getErrorMessage() for event in nothing_unhandled] == ["a defect"]
    nothing_unhandled.clear()


def test_silence_makes_a_worker_suspect():
    """A worker that does not answer AssignJob in time is passed over, cancelled, and suspect until heard from."""
    scheduler = Scheduler()
    silent, other = scheduler.join("a", answer=None), scheduler.join("b", slots=8)
    scheduler.beat(silent, [GCC])
    client = scheduler.client()
    answer = client.allocate(request(1))
    scheduler.clock.advance(1.9)
    assert result(answer) is None
    scheduler.clock.advance(0.2)
    scheduler.turn()
    assert result(answer).server_id == other.server_id
    assert scheduler.state(silent) is WorkerState.SUSPECT
    assert silent.cancelled == [job(1)], "its late acceptance would hold a slot"
    client.allocate(request(2))
    assert [len(silent.orders), len(other.orders)] == [1, 2]
    scheduler.beat(silent)
    assert scheduler.state(silent) is WorkerState.ALIVE


def test_a_thousand_refusals_do_not_nest():
    """However many workers refuse at once, each is asked once and the request waits in the queue."""
    scheduler = Scheduler()
    workers = [scheduler.join(f"w{number}", answer=WorkerFull()) for number in range(300)]
    answer = scheduler.client().allocate(request(1))
    for _ in range(300):
        scheduler.turn()
    assert [len(worker.orders) for worker in workers] == [1] * 300
    assert result(answer) is None
    assert scheduler.core.figures().queued == 1


def test_a_full_cluster_queues_and_serves_at_once():
    """When every slot is taken a request waits, counted as demand, and is served the moment a slot frees."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    client = scheduler.client()
    client.allocate(request(1))
    waiting = client.allocate(request(2))
    assert scheduler.core.figures().demand == 2
    [view] = scheduler.core.queued_views(scheduler.clock.seconds(), 0, 10)
    assert view.job_id == job(2).job_id
    worker.avatar.job_state(job(1), JobPhase.RUNNING)
    worker.avatar.job_state(job(1), JobPhase.ENDED)
    assert result(waiting).server_id == worker.server_id


def test_a_worker_that_joins_takes_from_the_queue():
    """A new worker is given waiting requests as it registers."""
    scheduler = Scheduler(scale_from_zero_seconds=60.0)
    waiting = scheduler.client().allocate(request(1))
    worker = scheduler.join("a")
    assert result(waiting).server_id == worker.server_id


def test_still_queued_keeps_its_place():
    """After allocate_seconds the client is told to ask again; by its age it is served before younger requests."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    client = scheduler.client()
    client.allocate(request(1))
    worker.avatar.job_state(job(1), JobPhase.RUNNING)
    old = client.allocate(request(2))
    scheduler.pass_time(31, worker)
    assert isinstance(result(old), StillQueued)
    young = client.allocate(request(3))
    again = client.allocate(request(2, age=31.0))
    worker.avatar.job_state(job(1), JobPhase.ENDED)
    assert result(again).server_id == worker.server_id
    assert result(young) is None


def test_a_client_is_answered_before_it_loses_patience():
    """A scheduler that keeps requests for minutes tells a client that waits for seconds in time to ask again."""
    scheduler = Scheduler(allocate_seconds=300.0)
    worker = scheduler.join("a", slots=1)
    client = scheduler.client()
    client.allocate(request(1))
    worker.avatar.job_state(job(1), JobPhase.RUNNING)
    waiting = client.allocate(request(2, patience=20.0))
    scheduler.pass_time(19, worker)
    assert result(waiting) is None
    scheduler.pass_time(1.5, worker)
    assert isinstance(result(waiting), StillQueued)


def test_clients_take_turns():
    """A client with many requests does not keep another from its first slot."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=2)
    many, few = scheduler.client(), scheduler.client(ClientId("client-2"))
    for number in range(10):
        many.allocate(request(number))
    late = few.allocate(request(77, client=ClientId("client-2")))
    worker.avatar.job_state(job(0), JobPhase.ENDED)
    assert result(late) is not None


def test_asking_twice_is_asking_once():
    """AllocateJob is idempotent by client, job and attempt: waiting or leased, the same slot answers."""
    scheduler = Scheduler()
    worker = scheduler.join("a", answer=None)
    client = scheduler.client()
    answers = [client.allocate(request(1)), client.allocate(request(1))]
    worker.unanswered[0].callback(True)
    answers.append(client.allocate(request(1)))
    allocations = [result(answer) for answer in answers]
    assert allocations[0] == allocations[1] == allocations[2]
    assert len(worker.orders) == 1


def test_no_worker_is_told_at_once():
    """With no living worker of the architecture a request is refused at once, and says which it was."""
    scheduler = Scheduler()
    scheduler.join("a")
    error = result(scheduler.client().allocate(_arm(request(1))))
    assert isinstance(error, NoWorkers)
    assert "aarch64" in error.sentence


def _arm(asked):
    from attrs import evolve

    return evolve(asked, arch="aarch64")


def test_a_restarted_scheduler_waits_for_its_workers():
    """Nobody is told that there are no workers before settle_seconds have passed."""
    scheduler = Scheduler(settle_seconds=10.0)
    answer = scheduler.client().allocate(request(1))
    scheduler.clock.advance(9.9)
    assert result(answer) is None
    scheduler.clock.advance(0.2)
    assert isinstance(result(scheduler.client().allocate(request(2))), NoWorkers)


def test_scale_from_zero_queues():
    """With scale_from_zero_seconds requests wait for workers to be started before they are refused."""
    scheduler = Scheduler(scale_from_zero_seconds=25.0)
    client = scheduler.client()
    early = client.allocate(request(1))
    scheduler.clock.advance(24.0)
    assert scheduler.core.figures().demand == 1
    scheduler.clock.advance(2.0)
    assert isinstance(result(early), NoWorkers)


def test_losing_the_last_worker_is_told_to_all_who_wait():
    """When the last worker is lost those who wait learn it, and clients forget its certificate."""
    peer = Client()
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    client = scheduler.client(peer=peer)
    client.allocate(request(1))
    worker.avatar.job_state(job(1), JobPhase.RUNNING)
    waiting = client.allocate(request(2))
    worker.avatar.link_lost()
    assert scheduler.state(worker) is WorkerState.SUSPECT
    scheduler.clock.advance(7.1)
    assert isinstance(result(waiting), NoWorkers)
    assert peer.lost == [worker.server_id]
    assert scheduler.core.figures().demand == 0


def test_a_worker_silent_for_three_beats_loses_its_jobs_to_others():
    """A worker that is silent for worker_lost_seconds is lost, though its link still stands."""
    scheduler = Scheduler()
    worker = scheduler.join("a")
    scheduler.clock.advance(14.9)
    assert scheduler.state(worker) is WorkerState.ALIVE
    scheduler.clock.advance(0.2)
    assert scheduler.state(worker) is None


def test_a_lost_worker_that_speaks_again_is_taken_back():
    """Stopped for a minute and then continued on a link that held, a worker is asked again, with its toolchains."""
    scheduler = Scheduler()
    worker = scheduler.join("a")
    scheduler.beat(worker, [GCC])
    scheduler.clock.advance(20.0)
    assert scheduler.state(worker) is None
    scheduler.beat(worker)
    assert scheduler.state(worker) is WorkerState.ALIVE
    [view] = scheduler.core.worker_views(scheduler.clock.seconds())
    assert view.toolchains == 1
    assert result(scheduler.client().allocate(request(1))).server_id == worker.server_id


def test_a_draining_worker_gets_nothing_more():
    """A draining worker is not asked, keeps what it runs, and is forgotten when it leaves.

    Clients are not told of a loss, which would make them give up a result that is on its way.
    """
    scheduler = Scheduler()
    leaving = scheduler.join("a")
    peer = Client()
    client = scheduler.client(peer=peer)
    client.allocate(request(1))
    leaving.avatar.draining()
    assert scheduler.state(leaving) is WorkerState.DRAINING
    assert isinstance(result(client.allocate(request(2))), NoWorkers)
    assert len(leaving.orders) == 1
    leaving.avatar.job_state(job(1), JobPhase.ENDED)
    leaving.avatar.link_lost()
    assert scheduler.state(leaving) is None
    assert peer.lost == []


def test_a_worker_that_is_told_to_leave_is_not_asked_from_then_on(events):
    """The order counts before the worker answers it; it is told, and keeps what it runs."""
    scheduler = Scheduler()
    leaving = scheduler.join("a")
    client = scheduler.client()
    client.allocate(request(1))
    scheduler.switchboard.drain(leaving.server_id)
    assert scheduler.state(leaving) is WorkerState.DRAINING
    assert leaving.drains == 1
    assert isinstance(result(client.allocate(request(2))), NoWorkers)
    assert leaving.orders[0].attempt == job(1)
    assert leaving.cancelled == []
    assert scheduler.core.figures().running == 1
    scheduler.switchboard.drain(identity("nobody").server_id)
    told = [event["server_id"] for event in events if event["event"] == "drain_ordered"]
    assert told == [leaving.server_id]


def test_an_order_outlives_the_link_it_was_given_over():
    """A worker that never heard it is told again when it comes back, given up or not; once it answers, no more."""
    scheduler = Scheduler()
    leaving = scheduler.join("a", slots=1)
    scheduler.switchboard.drain(leaving.server_id)
    leaving.avatar.link_lost()
    assert scheduler.state(leaving) is None
    scheduler.rejoin(leaving)
    assert leaving.drains == 2
    assert isinstance(result(scheduler.client().allocate(request(1))), NoWorkers)
    leaving.avatar.draining()
    scheduler.rejoin(leaving)
    assert leaving.drains == 2
    assert scheduler.state(leaving) is WorkerState.DRAINING


def test_a_silent_worker_that_drains_gets_nothing():
    """The word by which a silent worker says that it leaves is no reason to ask it first."""
    scheduler = Scheduler()
    worker = scheduler.join("a", answer=None)
    waiting = scheduler.client().allocate(request(1))
    scheduler.clock.advance(2.1)
    scheduler.turn()
    assert scheduler.core.figures().queued == 1
    worker.avatar.draining()
    assert len(worker.orders) == 1
    assert isinstance(result(waiting), NoWorkers)


def test_a_restart_of_the_scheduler_loses_no_slot():
    """A new scheduler knows from Register which slots are taken."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    scheduler.client().allocate(request(1))
    restarted = Scheduler()
    restarted.rejoin(worker, [(job(1), JobPhase.RUNNING)])
    waiting = restarted.client().allocate(request(2))
    assert result(waiting) is None
    assert restarted.core.figures().running == 1
    worker.avatar.job_state(job(1), JobPhase.ENDED)
    assert result(waiting).server_id == worker.server_id


def test_a_client_may_report_and_cancel_what_an_older_scheduler_placed():
    """After a restart a client's cancel still reaches the worker that holds its attempt."""
    scheduler = Scheduler()
    worker = scheduler.join("a")
    scheduler.rejoin(worker, [(job(1), JobPhase.RUNNING)])
    scheduler.client().cancel(job(1))
    assert worker.cancelled == [job(1)]


def test_a_lease_that_nobody_claims_ends():
    """A lease unclaimed for claim_seconds is struck from the books and cancelled at its worker; a claimed one stays."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=2)
    client = scheduler.client()
    client.allocate(request(1))
    client.allocate(request(2))
    worker.avatar.job_state(job(2), JobPhase.UPLOADING)
    scheduler.pass_time(18, worker)
    assert worker.cancelled == [job(1)]
    assert scheduler.core.figures().running == 1


def test_a_late_acceptance_is_cancelled():
    """When a worker accepts for a client that has gone, the lease is cancelled."""
    scheduler = Scheduler()
    worker = scheduler.join("a", answer=None)
    client = scheduler.client()
    waiting = client.allocate(request(1))
    client.link_lost()
    assert isinstance(result(waiting), JobCancelled)
    worker.unanswered[0].callback(True)
    assert worker.cancelled == [job(1)]
    assert scheduler.core.figures().demand == 0


def test_cancelling_at_any_moment_frees_the_slot():
    """Queued, being offered or running, a cancelled attempt is answered and gives its place back."""
    scheduler = Scheduler()
    worker = scheduler.join("a", answer=None, slots=1)
    client = scheduler.client()
    offered, queued = client.allocate(request(1)), client.allocate(request(2))
    client.cancel(job(2))
    client.cancel(job(1))
    assert isinstance(result(queued), JobCancelled)
    assert isinstance(result(offered), JobCancelled)
    worker.unanswered[0].callback(True)
    worker.answer = True
    running = client.allocate(request(3))
    assert result(running) is not None
    client.cancel(job(3))
    assert worker.cancelled == [job(1), job(3)]
    assert isinstance(result(client.allocate(request(3))), Exception), "an ended attempt is not started again"


def test_a_client_that_vanishes_leaves_the_queue():
    """What a vanished client was waiting for is no demand any more."""
    scheduler = Scheduler()
    scheduler.join("a", slots=1)
    client = scheduler.client()
    client.allocate(request(1))
    waiting = client.allocate(request(2))
    client.link_lost()
    assert isinstance(result(waiting), JobCancelled), "what waited for the answer is let go with the link"
    assert scheduler.core.figures().queued == 0
    assert scheduler.core.figures().running == 1, "its daemon may be back in a moment and go on"


def test_a_lease_of_a_vanished_client_ends_soon():
    """What a vanished client had not claimed is free in two seconds; what it had claimed is left to the worker."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=2)
    client = scheduler.client()
    client.allocate(request(1))
    client.allocate(request(2))
    worker.avatar.job_state(job(2), JobPhase.RUNNING)
    client.link_lost()
    assert worker.cancelled == []
    scheduler.pass_time(2, worker)
    assert worker.cancelled == [job(1)]
    assert scheduler.core.figures().running == 1


def test_a_lease_that_is_sent_back_to_a_vanished_client_ends_soon():
    """A worker that waits for the client again, for blobs or after an upload, does not wait for one that is gone."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=2)
    gone, there = scheduler.client("gone"), scheduler.client("there")
    gone.allocate(request(1, "gone"))
    there.allocate(request(2, "there"))
    for number in (1, 2):
        worker.avatar.job_state(job(number), JobPhase.UPLOADING)
    gone.link_lost()
    for number in (1, 2):
        worker.avatar.job_state(job(number), JobPhase.LEASED)
    scheduler.pass_time(2, worker)
    assert worker.cancelled == [job(1)]
    assert scheduler.core.figures().running == 1


def test_a_lease_asked_for_over_two_links_outlives_one():
    """A client that came back and asked again keeps its lease when its older link is found to be gone."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=1)
    older, newer = scheduler.client(), scheduler.client()
    older.allocate(request(1))
    newer.allocate(request(1))
    older.link_lost()
    scheduler.pass_time(4, worker)
    assert worker.cancelled == []
    newer.link_lost()
    scheduler.pass_time(2, worker)
    assert worker.cancelled == [job(1)]


def test_reports_change_whom_the_next_job_goes_to():
    """A worker that a client lost is suspect for the others too, though its heartbeats go on."""
    scheduler = Scheduler()
    unreachable, other = scheduler.join("a", slots=8), scheduler.join("b", slots=8)
    scheduler.beat(unreachable, [GCC])
    client = scheduler.client()
    assert result(client.allocate(request(1))).server_id == unreachable.server_id
    client.report(AttemptReport(job(1), Outcome.FAILED, unreachable.server_id, "connection_failed"))
    assert unreachable.cancelled == [job(1)]
    scheduler.beat(unreachable)
    assert scheduler.state(unreachable) is WorkerState.SUSPECT
    assert result(client.allocate(request(2))).server_id == other.server_id
    client.report(AttemptReport(job(9), Outcome.DONE, unreachable.server_id))
    assert scheduler.state(unreachable) is WorkerState.ALIVE


def test_a_big_job_is_not_starved_by_small_ones():
    """A job that needs more memory than ever comes free at once has a worker kept free for it after a while."""
    scheduler = Scheduler()
    worker = scheduler.join("a", slots=4, memory=4 << 30)
    client = scheduler.client()
    for number in range(3):
        client.allocate(request(number, expected_bytes=1 << 30))
        worker.avatar.job_state(job(number), JobPhase.RUNNING)
    big = client.allocate(request(50, expected_bytes=64 << 30))
    assert result(big) is None
    scheduler.pass_time(11, worker)
    small = client.allocate(request(51, expected_bytes=1 << 30))
    for number in range(3):
        assert result(big) is None
        worker.avatar.job_state(job(number), JobPhase.ENDED)
    assert result(big).server_id == worker.server_id
    assert worker.orders[-1].expected_bytes == 4 << 30
    assert result(small) is None


def test_the_queue_is_bounded():
    """A request over the queue's bound is refused with a sentence."""
    scheduler = Scheduler(max_queue=3)
    scheduler.join("a", slots=1)
    client = scheduler.client()
    answers = [client.allocate(request(number)) for number in range(5)]
    assert isinstance(result(answers[-1]), TooManyRequests)


def test_stopping_answers_everybody():
    """A scheduler that stops answers whoever waits and ends its offers."""
    scheduler = Scheduler()
    worker = scheduler.join("a", answer=None, slots=1)
    client = scheduler.client()
    answers = [client.allocate(request(number)) for number in range(2)]
    stopped = scheduler.switchboard.stop()
    assert stopped.called
    assert [type(result(answer)) for answer in answers] == [SchedulerUnavailable] * 2
    assert scheduler.clock.getDelayedCalls() == []
    assert worker.cancelled == []


def test_every_event_of_a_job_names_it(events):
    """From queued to accepted each event carries job_id and attempt, and server_id once there is one."""
    scheduler = Scheduler()
    client = scheduler.client()
    scheduler.join("a", answer=WorkerFull(), slots=1)
    scheduler.join("b")
    for number in range(4):
        client.allocate(request(number, label="src/a.c"))
    scheduler.turn()
    scheduler.turn()
    of_jobs = [event for event in events if event["event"].startswith(("job_", "worker_a", "worker_refused"))]
    assert {event["event"] for event in of_jobs} >= {"job_queued", "worker_asked", "worker_accepted", "worker_refused"}
    for event in of_jobs:
        assert event["job_id"]
        assert event["attempt"] == 1
        assert event["event"] == "job_queued" or event["server_id"]
    joined = [event for event in events if event["event"] == "worker_registered"]
    assert {event["server_id"] for event in joined} == {identity("a").server_id, identity("b").server_id}
    assert CLIENT
