"""The vocabulary, and the lines that events become."""

from __future__ import annotations

import io
import json
import string

import pytest
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from sccache_twisted.logs import EventLog, emit, events, json_line, observer, set_least_level, text_line
from sccache_twisted.model import JobId, ServerId, Try

ATTEMPT = Try(JobId("018c0000-0000-7000-8000-000000000000"), 2)
SERVER = ServerId("a-0123456789abcdef")
IDS = {"server_id", "job_id", "attempt", "role"}


@pytest.fixture
def logged():
    found = []
    globalLogPublisher.addObserver(found.append)
    set_least_level("debug")
    yield found
    set_least_level("info")
    globalLogPublisher.removeObserver(found.append)


@pytest.mark.parametrize("event", events.VOCABULARY.values(), ids=lambda event: event.name)
def test_sentences_speak_of_declared_fields(event):
    """Every sentence needs only the event's declared fields and the ids."""
    named = {field for _, field, _, _ in string.Formatter().parse(event.sentence) if field}
    assert named <= set(event.fields) | IDS


def test_every_event_about_a_job_carries_its_ids(logged):
    """An event has its ids and fields in the JSON line, whichever logger it came through."""
    emit(Logger(namespace="x"), events.JOB_FAILED, attempt=ATTEMPT, server_id=SERVER, code="silence", sentence="Quiet.")
    EventLog.of("x", role="client").bind(server_id=SERVER).emit(
        events.JOB_FAILED, attempt=ATTEMPT, code="silence", sentence="Quiet."
    )
    one, other = (json.loads(json_line(event)) for event in logged)
    assert one["message"] == other["message"] == "attempt failed (silence): Quiet."
    for line in (one, other):
        assert (line["event"], line["job_id"], line["attempt"], line["server_id"], line["code"]) == (
            "job_failed",
            ATTEMPT.job_id,
            2,
            SERVER,
            "silence",
        )
    assert other["role"] == "client"
    assert one["time"].endswith("+00:00")
    assert isinstance(one["epoch"], float)


def test_silent_events_are_not_made(logged):
    """An event below the least level does not even reach the observers."""
    set_least_level("warn")
    emit(Logger(namespace="x"), events.JOB_QUEUED, label="a", ahead=1)
    EventLog.of("x").emit(events.JOB_LOCAL, reason="x", sentence="y")
    emit(Logger(namespace="x"), events.WORKER_LOST, server_id=SERVER, reason="gone")
    assert [event["event"] for event in logged] == ["worker_lost"]


@pytest.mark.parametrize(
    "value", [b"caf\xff", "caf\udcff", "\ud800", {"a": b"\xff"}, [b"\n"], {1, 2}, Try(JobId("j"), 1), "two\nlines"]
)
def test_any_field_is_one_line(logged, value):
    """Whatever a field holds, names that are no UTF-8 for instance, the line can be written and read."""
    emit(Logger(namespace="x"), events.JOB_LOCAL, attempt=ATTEMPT, reason="r", sentence=value, extra=value)
    line = json_line(logged[0])
    assert line.count("\n") == 1
    assert json.loads(line.encode())["event"] == "job_local"
    text = text_line(logged[0]).encode()
    assert ATTEMPT.job_id.encode() in text
    assert not any(part and not part.startswith(b"\t") for part in text.split(b"\n")[1:])


def test_undecodable_bytes_are_shown_as_escapes(logged):
    """Bytes, and names decoded with surrogates, show their values."""
    emit(Logger(namespace="x"), events.JOB_LOCAL, reason="caf\udcff", sentence=b"b\xfe")
    line = json.loads(json_line(logged[0]))
    assert (line["reason"], line["sentence"]) == ("caf\\xff", "b\\xfe")


def test_failures_keep_their_traceback(logged):
    """A logged failure has its traceback in both forms."""
    Logger(namespace="x").failure("it failed", Failure(RuntimeError("broken")))
    line = json.loads(json_line(logged[0]))
    assert "RuntimeError: broken" in line["traceback"]
    assert line["level"] == "critical"
    assert "builtins.RuntimeError: broken\n" in text_line(logged[0])


@pytest.mark.parametrize("form", ["text", "json"])
def test_observer_writes_what_is_severe_enough(form):
    """The observer writes lines of its form and level, of our events and of any other's."""
    out = io.StringIO()
    watching = observer(out, form, "warn")
    globalLogPublisher.addObserver(watching)
    try:
        log = Logger(namespace="x")
        emit(log, events.WORKER_LEFT, server_id=SERVER)
        log.info("not this")
        emit(log, events.WORKER_LOST, server_id=SERVER, reason="gone")
        log.warn("but this")  # noqa: G010 twisted.logger's, not logging's
    finally:
        globalLogPublisher.removeObserver(watching)
        set_least_level("info")
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    if form == "json":
        assert [json.loads(line)["message"] for line in lines] == [f"{SERVER} is lost: gone", "but this"]
    else:
        assert f"warn x server_id={SERVER} worker_lost: {SERVER} is lost: gone" in lines[0]
