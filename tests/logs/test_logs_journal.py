"""The journal of events about jobs, and what must be in it."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, globalLogPublisher

import sccache_twisted
from sccache_twisted.logs import EventLog, Journal, emit, events, set_journal, set_least_level
from sccache_twisted.model import JobId, ServerId, Try

ATTEMPT = Try(JobId("018c0000-0000-7000-8000-000000000000"), 2)
SERVER = ServerId("a-0123456789abcdef")
ABOUT_A_JOB = {
    name
    for name in events.VOCABULARY
    if name.startswith(("job_", "lease_", "blobs_"))
    or name in {"worker_asked", "worker_refused", "worker_accepted", "toolchain_sent"}
}


@pytest.fixture
def clock():
    clock = Clock()
    clock.advance(1000.0)
    return clock


@pytest.fixture
def make(tmp_path, clock):
    made = []

    def make(size=1 << 20, path=None):
        journal = Journal(str(path or tmp_path / "d" / "jobs"), size, "client", clock, clock.seconds)
        made.append(journal)
        return journal

    yield make
    for journal in made:
        journal.close()
    set_journal(None)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_events_about_jobs_are_kept_below_the_level_too(make, tmp_path):
    """What the log leaves out is in the journal if it has an attempt, and only then; loggers and observers get none."""
    logged = []
    globalLogPublisher.addObserver(logged.append)
    journal = make()
    set_journal(journal.write)
    set_least_level("warn")
    try:
        emit(Logger(namespace="x"), events.WORKER_ASKED, attempt=ATTEMPT, server_id=SERVER)
        EventLog.of("x", server_id=SERVER).emit(events.BLOBS_SENT, attempt=ATTEMPT, count=1, bytes=2)
        EventLog.of("x").emit(events.LINK_RETRY, peer="p", wait=1.0, reason="r")
        EventLog.of("x").emit(events.LEASE_EXPIRED, attempt=ATTEMPT, claim_seconds=15.0)
    finally:
        globalLogPublisher.removeObserver(logged.append)
        set_least_level("info")
    journal.close()
    ids = {"epoch": 1000.0, "role": "client", "job_id": ATTEMPT.job_id, "attempt": 2}
    assert lines(tmp_path / "d" / "jobs") == [
        {**ids, "event": "worker_asked", "server_id": SERVER},
        {**ids, "event": "blobs_sent", "server_id": SERVER, "count": 1, "bytes": 2},
        {**ids, "event": "lease_expired", "claim_seconds": 15.0},
    ]
    assert [each["event"] for each in logged] == ["lease_expired"]


def test_writes_happen_at_most_once_a_second(make, clock, tmp_path):
    """The first event is written at once, the next ones together a second later."""
    path = tmp_path / "d" / "jobs"
    journal = make()
    for number in range(5):
        journal.write({"n": number})
    assert [each["n"] for each in lines(path)] == [0]
    clock.advance(1.0)
    assert [each["n"] for each in lines(path)] == [0, 1, 2, 3, 4]
    clock.advance(1.0)
    assert clock.getDelayedCalls() == []


def test_a_journal_turns_over_at_its_size(make, tmp_path):
    """A file that would grow past its size becomes the older part; one older part is kept."""
    path = tmp_path / "d" / "jobs"
    journal = make(size=200)
    for number in range(20):
        journal.write({"n": number})
        journal.flush()
    older = path.with_name("jobs.1")
    assert max(path.stat().st_size, older.stat().st_size) <= 200
    kept = [each["n"] for each in lines(older) + lines(path)]
    assert kept == list(range(20))[-len(kept) :]
    assert sorted(os.listdir(path.parent)) == ["jobs", "jobs.1"]


def test_processes_share_a_file(make, tmp_path):
    """When one process turns the file over, or somebody removes it, the others go on in the new one."""
    path = tmp_path / "d" / "jobs"
    one, other = make(size=150), make(size=150)
    one.write({"n": 1})
    other.write({"n": 2})
    assert [each["n"] for each in lines(path)] == [1, 2]
    for number in (3, 4):
        one.write({"n": number})
        one.flush()
    other.write({"n": 5})
    other.flush()
    assert lines(path)[-1]["n"] == 5
    path.unlink()
    other.write({"n": 6})
    other.flush()
    assert [each["n"] for each in lines(path)] == [6]


def test_a_journal_that_cannot_be_written_says_so_once(make, tmp_path):
    """No job suffers from a journal that can't be written; the log has one warning."""
    (tmp_path / "file").write_text("")
    logged = []
    globalLogPublisher.addObserver(logged.append)
    try:
        journal = make(path=tmp_path / "file" / "jobs")
        for number in range(3):
            journal.write({"n": number})
            journal.flush()
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert [each["event"] for each in logged] == ["journal_lost"]


@pytest.mark.parametrize("value", [b"caf\xff", "caf\udcff", {b"a": b"\xff"}, {1}, "two\nlines"])
def test_any_field_is_one_line(make, tmp_path, value):
    """Whatever a field holds, a record is one line of JSON."""
    make().write({"field": value})
    assert len(lines(tmp_path / "d" / "jobs")) == 1


def _emissions():
    """Every place that emits or notes an event, as (place, event's name, whether an attempt comes with it)."""
    package = Path(sccache_twisted.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            named = [
                (place, each.attr)
                for place, each in enumerate(node.args)
                if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "events"
            ]
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for place, name in named:
                after = node.args[place + 1 :]
                given = [word.value for word in node.keywords if word.arg == "attempt"]
                given += after[:1] if function == "Note" else []
                has = any(not (isinstance(each, ast.Constant) and each.value is None) for each in given)
                yield f"{path.relative_to(package)}:{node.lineno}", getattr(events, name).name, function, has


def test_no_event_about_a_job_lacks_its_attempt():
    """Wherever an event about a job is emitted, its attempt is given."""
    found = [each for each in _emissions() if each[1] in ABOUT_A_JOB]
    # A client's jobs add their attempt in one place.
    lacking = [each for each in found if not each[3] and not (each[2] == "_emit" and "client/job.py" in each[0])]
    assert lacking == []
    assert {name for _, name, _, _ in found} == ABOUT_A_JOB
