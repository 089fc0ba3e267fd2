from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccache_twisted.errors import (
    BY_CODE,
    CompilerNotPackageable,
    ConnectionFailed,
    JobCancelled,
    JobKilled,
    MissingInputs,
    NoWorkers,
    SandboxFailed,
    SccacheTwistedError,
    SchedulerUnavailable,
    Silence,
    StillQueued,
    ToolchainAbsent,
    UnknownAttempt,
    WorkerFull,
)
from sccache_twisted.model import ServerId
from sccache_twisted.policy.backoff import Backoff
from sccache_twisted.policy.retry import (
    Again,
    CompileLocally,
    GiveUp,
    JobHistory,
    LocalReason,
    RetryLimits,
    UploadToolchain,
)


def server(number: int) -> ServerId:
    return ServerId(f"w{number}-{number:016x}")


A, B = server(1), server(2)


def test_transport_failure_avoids_the_worker_and_is_not_counted():
    """A worker that cannot be reached is avoided at once, without a wait, and says nothing about the job."""
    history, step = JobHistory().after(ConnectionFailed(), A, was_running=False)
    assert step == Again(frozenset({A}), 0.0)
    assert history.counted == 0


def test_an_avoided_worker_is_asked_again_after_a_growing_wait():
    """When nobody but an avoided worker is left, it is asked again after a back-off up to the longest bound."""
    history = JobHistory(RetryLimits(counted=99))
    bounds = []
    for _ in range(8):
        history, step = history.after(SandboxFailed(), A, was_running=False)
        assert isinstance(step, Again)
        bounds.append(step.wait_bound)
    assert bounds == pytest.approx([0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


def test_worker_faults_count_up_to_the_limit():
    """Counted failures end in a local compilation at retry_limit, wherever they happened."""
    history = JobHistory(RetryLimits(counted=3))
    steps = []
    for number in range(3):
        history, step = history.after(SandboxFailed(), server(number), was_running=True)
        steps.append(step)
    assert [type(step) for step in steps] == [Again, Again, CompileLocally]
    assert steps[-1] == CompileLocally(LocalReason.RETRY_LIMIT)


def test_ten_lost_workers_end_a_job():
    """A job whose worker died while running it on ten different server_ids compiles locally."""
    history = JobHistory()
    for number in range(9):
        history, step = history.after(Silence(), server(number), was_running=True)
        assert isinstance(step, Again)
        history, step = history.after(Silence(), server(number), was_running=True)
        assert isinstance(step, Again), "the same server_id counts once"
    for number in range(20, 40):
        history, step = history.after(ConnectionFailed(), server(number), was_running=False)
        assert isinstance(step, Again), "a worker that was not running the job does not count"
    _, step = history.after(Silence(), server(10), was_running=True)
    assert step == CompileLocally(LocalReason.WORKER_LOST_LIMIT)


def test_a_killed_job_gets_more_memory_once():
    """A killed job is tried once more with twice the memory and elsewhere; killed again, it compiles locally."""
    history, step = JobHistory().after(JobKilled(), A, was_running=True)
    assert step == Again(frozenset({A}), 0.0, memory_factor=2)
    _, step = history.after(JobKilled(), B, was_running=True)
    assert step == CompileLocally(LocalReason.KILLED)


def test_refusals_are_never_counted_but_slow_down():
    """A refusal is tried again at once, the next ones in a row after growing waits, and none is ever counted."""
    history = JobHistory(RetryLimits(counted=1))
    bounds = []
    for _ in range(4):
        history, step = history.after(UnknownAttempt(), A, was_running=False)
        assert isinstance(step, Again)
        bounds.append(step.wait_bound)
    assert bounds == pytest.approx([0.0, 0.2, 0.4, 0.8])
    history, step = history.after(ConnectionFailed(), A, was_running=False)
    history, step = history.after(WorkerFull(), A, was_running=False)
    assert step == Again(frozenset({A}), 0.0), "another kind of failure ends the row"


def test_who_refuses_a_job_twice_is_avoided():
    """A worker that keeps accepting a job and then knows nothing of it is ranked last for it, and nobody else is."""
    history = JobHistory()
    for failure, server_id in ((UnknownAttempt(), A), (WorkerFull(), B), (WorkerFull(), None), (WorkerFull(), None)):
        history, step = history.after(failure, server_id, was_running=False)
        assert isinstance(step, Again)
        assert step.avoid == frozenset()
    history, step = history.after(UnknownAttempt(), A, was_running=False)
    assert isinstance(step, Again)
    assert step.avoid == {A}
    assert history.counted == 0


def test_a_missing_toolchain_is_uploaded_once_per_worker():
    """An absent toolchain is uploaded; said to be absent again by the same worker, it is that worker's fault."""
    history, step = JobHistory().after(ToolchainAbsent(), A, was_running=False)
    assert step == UploadToolchain()
    history, step = history.after(ToolchainAbsent(), B, was_running=False)
    assert step == UploadToolchain()
    history, step = history.after(ToolchainAbsent(), A, was_running=False)
    assert step == Again(frozenset({A}), 0.0)
    assert history.counted == 1


def test_inputs_that_stay_missing_are_the_workers_fault():
    """The data plane sends missing inputs itself; when it gives up, the worker is avoided and the failure counted."""
    history, step = JobHistory().after(MissingInputs(), A, was_running=False)
    assert step == Again(frozenset({A}), 0.0)
    assert history.counted == 1


@pytest.mark.parametrize(
    ("failure", "step"),
    [
        (NoWorkers(), CompileLocally(LocalReason.NO_WORKERS)),
        (SchedulerUnavailable(), CompileLocally(LocalReason.NO_SCHEDULER)),
        (StillQueued(), Again(frozenset(), keeps_place=True)),
    ],
)
def test_what_the_scheduler_says(failure, step):
    """No worker and no scheduler mean here and now; a queued request is asked again and keeps its place."""
    history, found = JobHistory().after(failure, None, was_running=False)
    assert found == step
    assert history == JobHistory()


def test_cancelled_and_user_errors_end_the_job():
    """A cancelled job stops, and what only the user can mend is given to the user."""
    for failure in (JobCancelled(), CompilerNotPackageable()):
        assert JobHistory().after(failure, A, was_running=True)[1] == GiveUp(failure)


@given(
    failures=st.lists(
        st.tuples(st.sampled_from(sorted(BY_CODE)), st.integers(0, 30), st.booleans()), min_size=1, max_size=60
    )
)
def test_every_history_keeps_its_promises(failures):
    """Whatever happens, counted failures never pass the limit unnoticed and every wait is bounded."""
    history = JobHistory()
    for code, number, was_running in failures:
        history, step = history.after(BY_CODE[code](), server(number), was_running=was_running)
        if not isinstance(step, Again | UploadToolchain):
            assert isinstance(step, CompileLocally | GiveUp)
            return
        if isinstance(step, Again):
            assert 0.0 <= step.wait_bound <= 5.0
        assert history.counted < 5
        assert history.kills < 2
        assert len(history.lost_on) < 10


@given(
    failures=st.integers(0, 5000),
    draw=st.floats(0, 1, exclude_max=True),
    factor=st.floats(1.0, 10.0),
)
def test_backoff_stays_within_its_bounds(failures, draw, factor):
    """A wait lies between nothing and its bound; bounds never shrink and never pass the longest."""
    backoff = Backoff(0.1, factor, 2.0)
    assert 0.0 <= backoff.wait(failures, draw) <= backoff.bound(failures) <= 2.0
    assert backoff.bound(failures) <= backoff.bound(failures + 1)


def test_backoff_begins_at_first_and_after_no_failure_there_is_no_wait():
    """The first failure is followed by the first bound, none by no wait."""
    assert [Backoff(0.1, 1.5, 2.0).bound(count) for count in (0, 1, 2)] == pytest.approx([0.0, 0.1, 0.15])


def test_every_error_has_a_next_step():
    """No error of the table leaves a client without a decision."""
    for error in BY_CODE.values():
        failure: SccacheTwistedError = error()
        assert JobHistory().after(failure, A, was_running=True)[1] is not None
