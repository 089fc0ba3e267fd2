"""A job's life at its client: the failure table acted out against a scheduler and workers in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from dispatcher_kit import GOOD, Bench, Scheduler, Workers, server
from twisted.internet.defer import CancelledError, Deferred, succeed

from sccache_twisted.client.fallback import FellBack, Found, InputChanged
from sccache_twisted.config import ClientSettings
from sccache_twisted.errors import (
    ConnectionFailed,
    JobCancelled,
    JobKilled,
    NoLocalFallback,
    NoWorkers,
    SandboxFailed,
    SchedulerUnavailable,
    StillQueued,
    ToolchainAbsent,
    UnknownAttempt,
    WorkerFull,
)
from sccache_twisted.interfaces import (
    Outcome,
)
from sccache_twisted.model import (
    Address,
    Allocation,
    Transfers,
    Try,
)


def test_good_day() -> None:
    """A job on a good day: allocated, run, reported with its figures, expected to need as much next time."""
    bench = Bench(Scheduler(server(1)), Workers(GOOD))
    run = bench.outcome()
    assert run.result == GOOD
    assert (run.figures.attempts, run.figures.server_id) == (1, server(1))
    (report,) = bench.scheduler.reports
    assert (report.outcome, report.server_id, report.peak_memory_bytes) == (Outcome.DONE, server(1), 900 << 20)
    assert bench.scheduler.asked[0].expected_bytes == ClientSettings().first_guess_bytes
    bench.outcome()
    assert bench.scheduler.asked[1].expected_bytes == 900 << 20
    assert bench.scheduler.asked[1].expected_seconds == 2.0
    assert bench.workers.ran[1][1].memory_bytes == 900 << 20


def test_upload_first() -> None:
    """A worker that lacks the toolchain gets it before the job."""
    bench = Bench(Scheduler((server(1), False)), Workers(GOOD))
    assert bench.outcome().result == GOOD
    assert bench.workers.uploads == [server(1)]


def test_what_moved_is_reported() -> None:
    """Each attempt's report tells the bytes of its toolchain, inputs and result; a failed one's as far as it came."""
    bench = Bench(Scheduler((server(1), False), server(2)), Workers(ConnectionFailed(), GOOD))
    run = bench.outcome()
    failed, done = bench.scheduler.reports
    assert failed.transfers == Transfers(toolchain_bytes=5000, sent_bytes=100)
    assert done.transfers == Transfers(sent_bytes=100, received_bytes=30, download_seconds=0.25)
    assert (run.figures.sent_bytes, run.figures.received_bytes) == (100, 30)


def test_what_stays_local_is_told_when_somebody_hears_it() -> None:
    """In an outage the counts are kept, and told with the next one; none is told twice."""
    bench = Bench(Scheduler(server(1)), Workers(GOOD))
    bench.scheduler.outage = SchedulerUnavailable()
    for reason in ("time_macros", "no_scheduler", "no_scheduler"):
        bench.dispatcher.stayed_local(reason)
    assert not bench.scheduler.local
    bench.scheduler.outage = None
    bench.dispatcher.stayed_local("time_macros")
    assert bench.scheduler.local == {"time_macros": 2, "no_scheduler": 2}
    bench.dispatcher.stayed_local("killed")
    assert bench.scheduler.local == {"time_macros": 2, "no_scheduler": 2, "killed": 1}


def test_toolchain_evicted() -> None:
    """A toolchain that was evicted since the answer is sent, and the same attempt goes on."""
    bench = Bench(Scheduler(server(1)), Workers(ToolchainAbsent(), GOOD))
    assert bench.outcome().figures.attempts == 1
    assert bench.workers.uploads == [server(1)]
    assert bench.statistics.dist_retries == 0


def test_toolchain_never_kept() -> None:
    """A worker that still lacks what it was sent is at fault, and the job goes elsewhere."""
    bench = Bench(Scheduler(server(1), server(2)), Workers(ToolchainAbsent(), ToolchainAbsent(), GOOD))
    assert bench.outcome().figures.server_id == server(2)
    assert bench.scheduler.asked[1].avoid == {server(1)}


def test_transport() -> None:
    """A lost worker costs an attempt and no count: the job runs on the next one, avoiding this one."""
    bench = Bench(Scheduler(server(1), server(2)), Workers(ConnectionFailed(), GOOD))
    run = bench.outcome()
    assert (run.figures.server_id, run.figures.attempts) == (server(2), 2)
    assert bench.scheduler.asked[1].avoid == {server(1)}
    assert bench.scheduler.asked[1].attempt == Try(run.figures.job_id, 2)
    assert bench.scheduler.reports[0].reason == "connection_failed"
    assert bench.statistics.dist_retries == 1


def test_transport_is_never_counted() -> None:
    """However often workers are lost before they run the job, it goes on to the next one."""
    outcomes = [ConnectionFailed() for _ in range(40)]
    bench = Bench(Scheduler(*(server(n) for n in range(41))), Workers(*outcomes, GOOD, running=False))
    assert bench.outcome().figures.attempts == 41


def test_worker_lost_limit() -> None:
    """A job that took ten workers with it, each while running it, compiles locally."""
    bench = Bench(Scheduler(*(server(n) for n in range(20))), Workers(ConnectionFailed()))
    failed = bench.outcome()
    assert isinstance(failed, FellBack)
    assert failed.local.reason == "worker_lost_limit"
    assert len(bench.workers.ran) == 10


def test_refusals() -> None:
    """A refusal blames nobody and is not counted, and one after the other slows the asking down."""
    refusals = [WorkerFull() if n % 2 else UnknownAttempt() for n in range(30)]
    bench = Bench(Scheduler(server(1)), Workers(*refusals, GOOD))
    assert bench.outcome().figures.attempts == 31
    assert bench.scheduler.asked[1].avoid == frozenset()
    assert bench.scheduler.asked[-1].avoid == {server(1)}
    assert 20 < bench.clock.seconds() < 30 * 5


def test_lease_taken_back() -> None:
    """A lease that the other side takes back is a refusal: the job is still wanted, and runs on a worker."""
    bench = Bench(Scheduler(server(1)), Workers(*[JobCancelled("the scheduler said so")] * 7, GOOD))
    assert bench.outcome().figures.attempts == 8
    assert bench.scheduler.asked[1].avoid == frozenset()
    assert bench.scheduler.asked[-1].avoid == {server(1)}


def test_retry_limit() -> None:
    """After five counted failures the job compiles locally."""
    bench = Bench(Scheduler(*(server(n) for n in range(9))), Workers(SandboxFailed("no namespaces")))
    failed = bench.outcome()
    assert isinstance(failed, FellBack)
    assert failed.local.reason == "retry_limit"
    assert "no namespaces" in failed.local.sentence
    assert len(bench.workers.ran) == 5
    assert bench.statistics.dist_errors == 5


def test_output_that_is_absent() -> None:
    """A worker that sends a success without its object is avoided; when a second one says the same, it is believed."""
    without = evolve(GOOD, outputs=())
    bench = Bench(Scheduler(server(1), server(2)), Workers(without, GOOD))
    assert bench.outcome().result == GOOD
    assert bench.scheduler.asked[1].avoid == {server(1)}
    assert [(report.outcome, report.reason) for report in bench.scheduler.reports] == [
        (Outcome.FAILED, "malformed"),
        (Outcome.DONE, ""),
    ]
    bench = Bench(Scheduler(server(1), server(2)), Workers(without))
    assert bench.outcome().result == without
    assert len(bench.scheduler.asked) == 2
    failed = evolve(without, exit_code=1)
    bench = Bench(Scheduler(server(1)), Workers(failed))
    assert bench.outcome().result == failed
    assert len(bench.scheduler.asked) == 1


def test_killed() -> None:
    """A killed job asks for twice the memory once; killed again it compiles locally."""
    bench = Bench(Scheduler(server(1), server(2)), Workers(JobKilled("out of memory")))
    failed = bench.outcome()
    assert failed.local.reason == "killed"
    first, second = bench.scheduler.asked
    assert second.expected_bytes == 2 * first.expected_bytes
    assert bench.workers.ran[1][1].memory_bytes == 2 * bench.workers.ran[0][1].memory_bytes


def test_still_queued() -> None:
    """A queued job asks again under the same attempt with its age, and never falls back for a full cluster."""
    bench = Bench(Scheduler(*[StillQueued() for _ in range(50)], server(1)), Workers(GOOD))
    run = bench.outcome()
    assert run.figures.attempts == 1
    assert {request.attempt.attempt for request in bench.scheduler.asked} == {1}
    ages = [request.age for request in bench.scheduler.asked]
    assert ages == sorted(ages)
    assert ages[-1] > 4
    assert bench.statistics.dist_errors == bench.statistics.dist_retries == 0


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda scheduler: setattr(scheduler, "answers", [NoWorkers()]), "no_workers"),
        (lambda scheduler: setattr(scheduler, "outage", SchedulerUnavailable("tls://h:1 refused")), "no_scheduler"),
    ],
)
def test_nobody(prepare: Callable[[Scheduler], None], reason: str) -> None:
    """With no worker or no scheduler the job compiles locally, and the reason is told."""
    scheduler = Scheduler(server(1))
    prepare(scheduler)
    failed = Bench(scheduler, Workers(GOOD)).outcome()
    assert isinstance(failed, FellBack)
    assert failed.local.reason == reason


def test_never_local() -> None:
    """With fallback = "never" that is an error with a sentence instead."""
    failed = Bench(Scheduler(NoWorkers("no worker for x86_64")), Workers(GOOD), fallback="never").outcome()
    assert isinstance(failed, NoLocalFallback)
    assert "no worker for x86_64" in failed.sentence


def test_silent_scheduler() -> None:
    """A scheduler that does not answer within its bound and a margin is asked anew, and the attempt cancelled."""
    bench = Bench(Scheduler(Deferred(), server(1)), Workers(GOOD))
    run = bench.outcome()
    assert run.figures.attempts == 2
    assert 40 <= bench.clock.seconds() < 45
    assert bench.scheduler.cancelled == [Try(run.figures.job_id, 1)]


def test_link_lost_while_allocating() -> None:
    """A link that is lost while a job waits makes it ask again on the next link."""
    waiting: Deferred[Any] = Deferred()
    bench = Bench(Scheduler(waiting, server(1)), Workers(GOOD))
    found: list[Any] = []
    bench.dispatch().addCallback(found.append)
    waiting.errback(ConnectionFailed("the link is down"))
    bench.clock.advance(5)
    assert found[0].figures.server_id == server(1)


def test_cancel_while_running() -> None:
    """A cancelled job hangs up on its worker, tells the scheduler, and is not tried again."""
    hung_up: list[bool] = []
    running: Deferred[Any] = Deferred(lambda _: hung_up.append(True))
    bench = Bench(Scheduler(server(1)), Workers(running))
    failures: list[Any] = []
    job = bench.dispatch()
    job.addErrback(lambda failure: failures.append(failure.value))
    job.cancel()
    bench.clock.advance(60)
    assert hung_up == [True]
    assert isinstance(failures[0], CancelledError)
    assert len(bench.scheduler.cancelled) == 1
    assert len(bench.workers.ran) == 1


def test_cancel_that_looks_like_a_lost_connection() -> None:
    """A cancelled run that ends as a lost connection is not taken for one."""
    running: Deferred[Any] = Deferred(lambda waiting: waiting.errback(ConnectionFailed("hung up")))
    bench = Bench(Scheduler(server(1)), Workers(running, GOOD))
    job = bench.dispatch()
    failures: list[Any] = []
    job.addErrback(lambda failure: failures.append(failure.value))
    job.cancel()
    bench.clock.advance(60)
    assert isinstance(failures[0], CancelledError)
    assert len(bench.workers.ran) == 1


def test_cancel_while_queued() -> None:
    """A job that is cancelled in the queue leaves it."""
    bench = Bench(Scheduler(Deferred()), Workers(GOOD))
    job = bench.dispatch()
    job.addErrback(lambda _: None)
    job.cancel()
    assert len(bench.scheduler.cancelled) == 1


def test_changed_input() -> None:
    """A source that changed under our hands is nobody's fault and ends the job."""
    failed = Bench(Scheduler(server(1)), Workers(InputChanged("a.c changed"))).outcome()
    assert isinstance(failed, InputChanged)


def test_max_jobs() -> None:
    """No more than max_jobs jobs are with the scheduler at once."""
    bench = Bench(Scheduler(Deferred()), Workers(GOOD), max_jobs=3)
    jobs = [bench.dispatch() for _ in range(5)]
    assert len(bench.scheduler.asked) == 3
    jobs[0].addErrback(lambda _: None)
    jobs[0].cancel()
    assert len(bench.scheduler.asked) == 4
    for job in jobs[1:]:
        job.addErrback(lambda _: None)
        job.cancel()


def test_stop() -> None:
    """A dispatcher that stops cancels its jobs everywhere and waits until the scheduler knows."""
    bench = Bench(Scheduler(Deferred()), Workers(GOOD))
    failures: list[Any] = []
    bench.dispatch().addErrback(lambda failure: failures.append(failure.value))
    stopped: list[bool] = []
    Deferred.fromCoroutine(bench.dispatcher.stop()).addCallback(lambda _: stopped.append(True))
    assert isinstance(failures[0], CancelledError)
    assert len(bench.scheduler.cancelled) == 1
    assert stopped == [True]


@pytest.mark.parametrize("queued", [0, 20])
def test_after_a_wait_the_shared_store_is_asked_again(queued: int) -> None:
    """Only who waited in the queue asks for the result once more; what is found ends the job, and its lease is back."""
    bench = Bench(Scheduler(*[StillQueued() for _ in range(queued)], server(1)), Workers(GOOD))
    answers = [None, None, "found"]
    asked = []

    def again() -> Deferred[object]:
        asked.append(bench.clock.seconds())
        return succeed(answers.pop(0))

    outcome: list[Any] = []
    job = bench.dispatch(again=again)
    job.addBoth(outcome.append)
    for _ in range(100):
        bench.clock.advance(0.1)
    (came,) = outcome
    if not queued:
        assert came.result == GOOD
        assert asked == []
        return
    assert isinstance(came.value, Found)
    assert came.value.answer == "found"
    assert asked[0] >= ClientSettings().ask_again_seconds
    assert len(asked) == 3
    assert bench.workers.ran == []
    assert [attempt.attempt for attempt in bench.scheduler.cancelled] == [1]


def test_a_lease_that_came_after_a_wait_is_given_back_for_a_hit() -> None:
    """A worker that became free after a wait is not kept when the result is there by then."""
    lease: Deferred[Allocation] = Deferred()
    bench = Bench(Scheduler(lease), Workers(GOOD))
    outcome: list[Any] = []
    job = bench.dispatch(again=lambda: succeed("found"))
    job.addBoth(outcome.append)
    bench.clock.advance(5)
    assert not outcome
    lease.callback(Allocation(bench.scheduler.asked[0].attempt, server(1), Address("h", 1), b"", "token", True))
    assert isinstance(outcome[0].value, Found)
    assert bench.workers.ran == []
    assert [attempt.attempt for attempt in bench.scheduler.cancelled] == [1]
