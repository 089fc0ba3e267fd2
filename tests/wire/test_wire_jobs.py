"""Conversation 4 and the launcher's: values to bytes and back, and what is not a value."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import msgpack
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sccache_twisted.errors import Malformed, TooLarge, UnknownAttempt
from sccache_twisted.model import (
    Action,
    ActionResult,
    Digest,
    DirectoryInput,
    FileInput,
    LinkInput,
    OutputFile,
    RunFigures,
)
from sccache_twisted.wire import jobs, launcher
from sccache_twisted.wire.frames import FrameDecoder, encode_frame
from sccache_twisted.wire.http import (
    alive_header,
    error_body,
    error_from_response,
    job_path,
    parse_alive,
    parse_attempt,
    parse_digest,
    status_of,
)

paths = st.binary(min_size=1, max_size=40)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: Digest(raw.hex()))
sizes = st.integers(0, 2**40)
inputs = st.one_of(
    st.builds(FileInput, paths, digests, sizes, st.integers(-(2**62), 2**62), st.booleans()),
    st.builds(LinkInput, paths, paths),
    st.builds(DirectoryInput, paths),
)
argvs = st.lists(st.binary(max_size=20), max_size=6).map(tuple)
actions = st.builds(
    Action,
    toolchain=digests,
    executable=paths,
    argv=argvs,
    cwd=paths,
    env=st.lists(st.tuples(paths, st.binary(max_size=20)), max_size=4).map(tuple),
    inputs=st.lists(inputs, max_size=8).map(tuple),
    outputs=argvs,
    umask=st.integers(0, 0o777),
    memory_bytes=sizes,
    then=st.lists(st.tuples(paths, argvs), max_size=2).map(tuple),
)
results = st.builds(
    ActionResult,
    exit_code=st.integers(0, 255),
    stdout=st.binary(max_size=50),
    stderr=st.binary(max_size=50),
    outputs=st.lists(st.builds(OutputFile, paths, st.binary(max_size=50), st.integers(0, 0o777)), max_size=3).map(
        tuple
    ),
    figures=st.builds(RunFigures, st.floats(0, 9), st.floats(0, 9), st.floats(0, 9), sizes),
    undeclared=argvs,
)
ACTION = Action(Digest("a" * 64), b"/usr/bin/gcc", (b"gcc",), b"/", (), (), ())


@given(actions, st.lists(st.tuples(digests, st.binary(max_size=60)), max_size=4))
def test_a_job_arrives_as_it_was_sent(action, blobs):
    """Every field of an action and every blob survives the way."""
    body = jobs.encode_job(action, blobs, 1)
    assert jobs.decode_job(body, max_plain=1 << 20, max_inputs=8) == (action, tuple(blobs))


@given(results, st.lists(st.integers(1, 30), min_size=1))
def test_a_result_arrives_as_it_was_sent_however_the_stream_is_cut(result, cuts):
    """Frames survive any fragmentation."""
    stream = jobs.encode_progress("running") + jobs.encode_missing([Digest("c" * 64)]) + jobs.encode_result(result, 1)
    decoder, frames, at = FrameDecoder(1 << 20), [], 0
    while at < len(stream):
        step = cuts[at % len(cuts)]
        frames += decoder.feed(stream[at : at + step])
        at += step
    answers = [jobs.decode_answer(kind, payload, 1 << 20) for kind, payload in frames]
    assert answers == [jobs.Progress("running"), jobs.Missing((Digest("c" * 64),)), result]
    assert decoder.pending == 0


def test_a_failure_frame_raises_the_workers_error():
    """The error keeps its class and sentence."""
    [(kind, payload)] = FrameDecoder(1 << 16).feed(jobs.encode_failure(UnknownAttempt("too late")))
    with pytest.raises(UnknownAttempt, match="too late"):
        jobs.decode_answer(kind, payload, 1 << 16)


@given(st.binary(max_size=200))
def test_garbage_is_refused_as_such(data):
    """Bytes that are no job, answer or launcher message raise Malformed or TooLarge, nothing else."""
    compressed = zstandard.ZstdCompressor().compress(data)
    for attempt in (
        lambda: jobs.decode_job(data, max_plain=1 << 16, max_inputs=8),
        lambda: jobs.decode_job(compressed, max_plain=1 << 16, max_inputs=8),
        *(lambda kind=kind: jobs.decode_answer(kind, data, 1 << 16) for kind in (b"p", b"m", b"e", b"r", b"?")),
        lambda: jobs.decode_answer(b"r", compressed, 1 << 16),
        *(lambda kind=kind: launcher.decode(kind, data) for kind in (b"R", b"D", b"X", b"S", b"C", b"Q", b"A", b"E")),
        lambda: FrameDecoder(64).feed(data),
    ):
        with contextlib.suppress(Malformed, TooLarge):
            attempt()


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_truncated_job_is_refused(cut):
    """A body that ends early is Malformed, wherever it ends."""
    body = jobs.encode_job(ACTION, [(Digest("b" * 64), b"x" * 100)], 1)
    with pytest.raises(Malformed):
        jobs.decode_job(body[:-cut], max_plain=1 << 20, max_inputs=8)


def test_a_bomb_is_refused_by_its_announced_size():
    """A small body that would expand over the limit costs nothing but its sentence."""
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    assert len(bomb) < 1 << 14
    with pytest.raises(TooLarge, match="67108864"):
        jobs.decode_job(bomb, max_plain=1 << 20, max_inputs=8)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    with pytest.raises(Malformed, match="how large"):
        jobs.decode_job(unsized, max_plain=1 << 20, max_inputs=8)


EMPTIES = {"lists": b"\x90", "maps": b"\x80"}


@pytest.mark.parametrize("kind", EMPTIES)
def test_many_values_in_few_bytes_are_refused(kind):
    """A value may take a byte and become sixty: values are counted while they are made, and soon there are too many."""
    inner = b"\xdc" + struct.pack(">H", 1000) + EMPTIES[kind] * 1000
    plain = b"\xdd" + struct.pack(">I", 8000) + inner * 8000
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match=f"more than {jobs.MAX_ITEMS} values"):
            jobs.decode_answer(jobs.RESULT, zstandard.ZstdCompressor().compress(plain), 1 << 30)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    body = zstandard.ZstdCompressor().compress(struct.pack(">I", len(plain)) + plain)
    with pytest.raises(TooLarge, match="values"):
        jobs.decode_job(body, max_plain=1 << 30, max_inputs=8)


def test_too_many_inputs_and_unannounced_bytes_are_refused():
    """Limits on inputs hold, and a body ends where its last blob does."""
    many = Action(Digest("a" * 64), b"g", (), b"/", (), tuple(DirectoryInput(b"/%d" % n) for n in range(9)), ())
    with pytest.raises(TooLarge, match="9 inputs"):
        jobs.decode_job(jobs.encode_job(many, [], 1), max_plain=1 << 20, max_inputs=8)
    plain = zstandard.ZstdDecompressor().decompress(jobs.encode_job(ACTION, [], 1))
    with pytest.raises(Malformed, match="behind its last blob"):
        jobs.decode_job(zstandard.ZstdCompressor().compress(plain + b"x"), max_plain=1 << 20, max_inputs=8)
    with pytest.raises(Malformed, match="whole zstd frame"):
        jobs.decode_job(zstandard.ZstdCompressor().compress(plain) + b"x", max_plain=1 << 20, max_inputs=8)


def test_a_header_of_the_wrong_types_is_refused_by_field():
    """Each missing or wrong field is named."""
    header = msgpack.packb({"toolchain": b"\0" * 32, "executable": "text", "inputs": []})
    body = zstandard.ZstdCompressor().compress(struct.pack(">I", len(header)) + header)
    with pytest.raises(Malformed, match="executable"):
        jobs.decode_job(body, max_plain=1 << 20, max_inputs=8)


def test_a_frame_over_its_limit_is_refused_before_it_is_held():
    """The announced length is enough to refuse."""
    with pytest.raises(TooLarge):
        FrameDecoder(100).feed(struct.pack(">I", 101))
    with pytest.raises(Malformed):
        FrameDecoder(100).feed(struct.pack(">I", 0))


words = st.binary(max_size=30)
lists = st.lists(words, max_size=5).map(tuple)
texts = st.text(max_size=20)
messages = st.one_of(
    st.builds(launcher.LaunchRequest, words, st.integers(0, 0o777), st.booleans(), lists, lists),
    st.builds(launcher.Done, st.integers(0, 255), words, words),
    st.builds(launcher.RunYourself, words, lists, texts, words),
    st.builds(launcher.RunInSlot, st.integers(0, 999), words, lists),
    st.builds(launcher.Completed, st.integers(0, 255), words, words),
    st.builds(launcher.Query, texts, st.lists(texts, max_size=3).map(tuple)),
    st.builds(launcher.Answer, texts),
    st.builds(launcher.Refused, texts),
)


@given(messages)
def test_a_launcher_message_arrives_as_it_was_sent(message):
    """Every message of the unix socket survives the way."""
    [(kind, payload)] = FrameDecoder(1 << 20).feed(launcher.encode(message))
    assert launcher.decode(kind, payload) == message


def test_errors_travel_as_http():
    """A worker's error keeps its class; what is no worker's answer says so."""
    error = UnknownAttempt("expired")
    found = error_from_response(status_of(error), error_body(error))
    assert (type(found), found.sentence, status_of(error)) == (UnknownAttempt, "expired", 404)
    assert "HTTP 502" in error_from_response(502, b"<html>bad gateway").sentence
    assert "HTTP 200" in error_from_response(200, encode_frame(b"x", b"")).sentence


@pytest.mark.parametrize("text", ["", "x", "A" * 64, "g" * 64, "a" * 63, "a" * 65, "../" + "a" * 61])
def test_only_digests_are_digests(text):
    """A digest in a path is 64 lower-case hexadecimal digits, so no path can be smuggled in."""
    with pytest.raises(Malformed):
        parse_digest(text)


def test_an_attempt_in_a_path_is_read_back():
    """``/v1/jobs/<job_id>/<attempt>`` names the attempt and nothing else does."""
    attempt = parse_attempt("01890a5d-ac96-774b-bcce-b302099a8057/3")
    assert job_path(attempt) == "/v1/jobs/01890a5d-ac96-774b-bcce-b302099a8057/3"
    for wrong in ("01890a5d/1", "01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8057/-1"):
        with pytest.raises(Malformed):
            parse_attempt(wrong)


def test_the_sign_of_life_that_is_promised():
    """X-Alive is a short decimal number of seconds; without it nothing is promised, and all else is malformed."""
    assert parse_alive(alive_header(2.5)) == 2.5
    assert parse_alive(None) == 0.0
    for wrong in (b"soon", b"-1", b"1e9", b"nan", b"12345", b"1\n", b" 1"):
        with pytest.raises(Malformed):
            parse_alive(wrong)
