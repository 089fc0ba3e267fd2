"""Slots that are asked for while their jobs are still being prepared: by the dispatcher, and by the pipeline."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cache_kit import CountedBench, Store, write
from client_world import Bench as PipelineBench
from client_world import World
from dispatcher_kit import ACTION, GOOD, TOOLCHAIN, Bench, Scheduler, Workers, server
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from sccache_twisted.errors import ConnectionFailed, JobCancelled, NoWorkers, SchedulerUnavailable, UnknownAttempt
from sccache_twisted.model import Address, Allocation, Digest, Try


def reserve(bench: Bench, toolchain: Digest = TOOLCHAIN) -> Any:
    return bench.dispatcher.reserve(toolchain, "x86_64", "/src/a.c")


def run(bench: Bench, reservation: Any, seconds: float = 60.0) -> Any:
    """What a job that had this slot comes to."""
    found: list[Any] = []
    job = bench.dispatcher.dispatch(ACTION, "x86_64", lambda: __file__, None, "/src/a.c", None, reservation)  # type: ignore[arg-type]
    job.addCallbacks(found.append, lambda failure: found.append(failure.value))
    for _ in range(int(seconds * 10)):
        if found:
            break
        bench.clock.advance(0.1)
    return found[0] if found else None


def quiet(bench: Bench) -> bool:
    """Whether nothing was counted as an error, and nothing blamed."""
    failed = [report for report in bench.scheduler.reports if report.reason]
    return not failed and bench.statistics.dist_errors == bench.statistics.dist_retries == 0


def test_a_prepared_job_finds_its_slot_waiting() -> None:
    """What was asked for ahead is what the job runs on, under the same name, and nothing more is asked."""
    bench = Bench(Scheduler(server(1)), Workers(GOOD))
    reservation = reserve(bench)
    (asked,) = bench.scheduler.asked
    assert asked.ahead
    figures = run(bench, reservation).figures
    assert (figures.server_id, figures.attempts) == (server(1), 1)
    assert figures.job_id == asked.attempt.job_id
    assert len(bench.scheduler.asked) == 1


def test_a_job_that_is_ready_says_so() -> None:
    """While its slot has not come, a job asks for the same attempt again, as old as the first ask, and not ahead."""
    early: Deferred[Any] = Deferred()
    late: Deferred[Any] = Deferred()
    bench = Bench(Scheduler(early, late), Workers(GOOD))
    reservation = reserve(bench)
    bench.clock.advance(3.0)
    assert run(bench, reservation, seconds=0.1) is None
    first, second = bench.scheduler.asked
    assert (second.attempt, second.ahead, second.age) == (first.attempt, False, 3.0)
    late.callback(Allocation(first.attempt, server(2), Address("h", 1), b"", "token", toolchain_present=True))
    assert [ran for ran, _ in bench.workers.ran] == [server(2)]


def test_whichever_answer_comes_first_is_taken() -> None:
    """A slot that was on its way when the job was ready is used at once."""
    early: Deferred[Any] = Deferred()
    bench = Bench(Scheduler(early, Deferred()), Workers(GOOD))
    reservation = reserve(bench)
    run(bench, reservation, seconds=0.1)
    attempt = bench.scheduler.asked[0].attempt
    early.callback(Allocation(attempt, server(1), Address("h", 1), b"", "token", toolchain_present=True))
    assert [ran for ran, _ in bench.workers.ran] == [server(1)]


def test_what_is_not_needed_is_given_back() -> None:
    """A released slot is cancelled at once; released again, or used, it is nobody's to give back."""
    bench = Bench(Scheduler(server(1)), Workers(GOOD))
    reservation = reserve(bench)
    reservation.release("it was a hit")
    reservation.release("it was a hit")
    assert bench.scheduler.cancelled == [bench.scheduler.asked[0].attempt]
    used = reserve(bench)
    run(bench, used)
    used.release("too late")
    assert len(bench.scheduler.cancelled) == 1


def test_only_a_few() -> None:
    """No more than dist.ahead are asked for or held at once; nought is none."""
    bench = Bench(Scheduler(server(1)), Workers(GOOD), ahead=2)
    held = [reserve(bench) for _ in range(3)]
    assert [one is None for one in held] == [False, False, True]
    held[0].release("")
    assert reserve(bench) is not None
    assert reserve(Bench(Scheduler(server(1)), Workers(GOOD), ahead=0)) is None


def test_nobody_asks_behind_his_own() -> None:
    """While a job that is ready waits, an ask ahead could only come after it."""
    bench = Bench(Scheduler(Deferred()), Workers(GOOD))
    waiting = bench.dispatch()
    waiting.addErrback(lambda _: None)
    assert reserve(bench) is None
    waiting.cancel()
    assert reserve(bench) is not None


def test_without_a_scheduler_nothing_is_asked() -> None:
    """In an outage nobody waits for a slot that he does not need yet."""
    scheduler = Scheduler(server(1))
    scheduler.outage = SchedulerUnavailable()
    assert reserve(Bench(scheduler, Workers(GOOD))) is None


def test_a_slot_taken_back_is_asked_for_again_quietly() -> None:
    """A job whose slot went to somebody who was ready asks as any other, under the next attempt; nothing failed."""
    bench = Bench(Scheduler(server(1), server(2)), Workers(GOOD))
    reservation = reserve(bench)
    first = bench.scheduler.asked[0].attempt
    bench.dispatcher.lease_taken_back(first)
    assert run(bench, reservation).figures.server_id == server(2)
    second = bench.scheduler.asked[1]
    assert (second.attempt, second.ahead, second.avoid) == (Try(first.job_id, 2), False, frozenset())
    assert quiet(bench)


@pytest.mark.parametrize("word", [UnknownAttempt(), JobCancelled("taken back")])
def test_a_claim_that_comes_too_late_is_no_failure(word: Exception) -> None:
    """A worker that has just given the slot away says so: the job asks again, and nobody is blamed or avoided."""
    bench = Bench(Scheduler(server(1), server(2)), Workers(word, GOOD, running=False))
    assert run(bench, reserve(bench)).figures.server_id == server(2)
    assert bench.scheduler.asked[1].avoid == frozenset()
    assert quiet(bench)


def test_only_the_first_claim_can_be_too_late() -> None:
    """From the second attempt on a worker that knows nothing of it is judged as ever."""
    bench = Bench(Scheduler(server(1)), Workers(UnknownAttempt(), UnknownAttempt(), GOOD, running=False))
    assert run(bench, reserve(bench)).figures.attempts == 2
    assert bench.statistics.dist_retries == 1


def test_a_lost_worker_takes_what_was_held_there_with_it() -> None:
    """A job whose worker was lost while it was prepared asks again; what is held elsewhere stays."""
    bench = Bench(Scheduler(server(1), server(2), server(3)), Workers(GOOD))
    lost, kept = reserve(bench), reserve(bench)
    bench.dispatcher.worker_lost(server(1))
    assert run(bench, kept).figures.server_id == server(2)
    assert run(bench, lost).figures.server_id == server(3)
    assert quiet(bench)


def test_a_worker_that_dies_under_the_job_is_avoided() -> None:
    """With its slot used, a job is like any other: a lost worker is a failed attempt."""
    bench = Bench(Scheduler(server(1), server(2)), Workers(ConnectionFailed(), GOOD))
    assert run(bench, reserve(bench)).figures.server_id == server(2)
    assert bench.scheduler.asked[1].avoid == {server(1)}
    assert bench.statistics.dist_errors == 1


def test_an_answer_without_a_slot_is_no_answer_to_the_job() -> None:
    """That there was no worker yet is forgotten: the job asks under the same name when it is ready."""
    bench = Bench(Scheduler(NoWorkers(), server(1)), Workers(GOOD))
    figures = run(bench, reserve(bench)).figures
    assert (figures.server_id, figures.attempts) == (server(1), 1)
    assert not bench.scheduler.asked[1].ahead


def test_another_compiler_needs_another_slot() -> None:
    """A slot for a toolchain that the job does not have is given back."""
    bench = Bench(Scheduler(server(1)), Workers(GOOD))
    reservation = reserve(bench, Digest("8" * 64))
    run(bench, reservation)
    assert bench.scheduler.cancelled == [bench.scheduler.asked[0].attempt]
    assert bench.scheduler.asked[1].attempt.job_id == bench.scheduler.asked[0].attempt.job_id or quiet(bench)


def test_a_cancelled_job_leaves_no_slot() -> None:
    """Cancelled while it claims, or before its turn has come, a job's slot is cancelled with it."""
    bench = Bench(Scheduler(server(1)), Workers(Deferred()), max_jobs=1)
    failures: list[Any] = []
    one, other = reserve(bench), None
    job = bench.dispatcher.dispatch(ACTION, "x86_64", lambda: __file__, None, "/src/a.c", None, one)  # type: ignore[arg-type]
    job.addErrback(lambda failure: failures.append(failure.value))
    job.cancel()
    assert isinstance(failures[0], CancelledError)
    assert bench.scheduler.cancelled == [bench.scheduler.asked[0].attempt]
    other = reserve(bench)
    bench.dispatch().addErrback(lambda _: None)
    waiting = bench.dispatcher.dispatch(ACTION, "x86_64", lambda: __file__, None, "/src/a.c", None, other)  # type: ignore[arg-type]
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    assert bench.scheduler.asked[1].attempt in bench.scheduler.cancelled


# --- the pipeline ---------------------------------------------------------------------------------

with_tools = pytest.mark.skipif(
    shutil.which("gcc") is None or shutil.which("bwrap") is None, reason="needs gcc and bubblewrap"
)


@pytest.fixture(scope="module")
def toolchains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory of packaged toolchains for all tests here."""
    return tmp_path_factory.mktemp("toolchains")


def source(root: Path, text: str) -> Path:
    write(root, a_c=text)
    return root


@with_tools
@pytest_twisted.ensureDeferred
async def test_the_pipeline_asks_while_it_prepares(tmp_path: Path, toolchains: Path) -> None:
    """Without a cache too: the slot is asked for with the compiler's digest before the preprocessor ends, and used."""
    world = World()
    bench = PipelineBench(reactor, toolchains, world)
    try:
        await bench.call(["gcc", "-c", "a.c"], source(tmp_path, "int a;\n"))  # the compiler is packaged by this one
        await bench.call(["gcc", "-c", "a.c"], source(tmp_path, "int b;\n"))
    finally:
        bench.close()
    last = world.reservations[-1]
    assert last.used
    assert last.wish == (world.actions[-1].toolchain, platform.machine())


@with_tools
@pytest_twisted.ensureDeferred
async def test_a_hit_gives_its_slot_back(tmp_path: Path, toolchains: Path) -> None:
    """A direct hit asks for nothing; one that the preprocessed text finds gives back what it asked for."""
    world = World()
    bench = CountedBench(toolchains, world, Store())
    try:
        place = source(tmp_path, "int a; // one\n")
        await bench.call(["gcc", "-c", "a.c"], place)
        await bench.stored()
        assert [one.used for one in world.reservations] == [True]
        await bench.call(["gcc", "-c", "a.c"], place)
        assert (bench.hits, len(world.reservations)) == (1, 1)
        await bench.call(["gcc", "-c", "a.c"], source(tmp_path, "int a; // other\n"))
        assert (bench.hits, len(world.actions)) == (2, 1)
        assert world.reservations[1].released
    finally:
        bench.close()


@with_tools
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_sent_gives_its_slot_back(tmp_path: Path, toolchains: Path) -> None:
    """A preprocessor's error and a date in the text keep a compilation here, and its slot goes to others."""
    world = World()
    bench = CountedBench(toolchains, world, Store())
    try:
        for text in ("#error no\n", "char *when = __TIME__;\n"):
            await bench.call(["gcc", "-c", "a.c"], source(tmp_path, text))
            assert world.reservations[-1].released, text
        assert not world.actions
        assert len(world.reservations) == 2
    finally:
        bench.close()


@with_tools
@pytest_twisted.ensureDeferred
async def test_a_cancelled_call_gives_its_slot_back(tmp_path: Path, toolchains: Path) -> None:
    """Whoever goes away while the preprocessor runs leaves no slot behind."""
    world = World()
    bench = CountedBench(toolchains, world, Store())
    try:
        await bench.call(["gcc", "-c", "a.c"], source(tmp_path, "int a;\n"))
        runs = bench.runner.run
        stuck: Deferred[Any] = Deferred()
        began: Deferred[None] = Deferred()

        def never(*args: Any, **kwargs: Any) -> Deferred[Any]:
            reactor.callLater(0, began.callback, None)  # type: ignore[attr-defined]  # when it is waited for
            return stuck

        bench.runner.run = never  # type: ignore[method-assign]
        call = Deferred.fromCoroutine(bench.decide(["gcc", "-O1", "-c", "a.c"], tmp_path))
        await began
        bench.runner.run = runs  # type: ignore[method-assign]
        assert not world.reservations[-1].released
        call.cancel()
        with pytest.raises(CancelledError):
            await call
        assert world.reservations[-1].released
    finally:
        bench.close()
