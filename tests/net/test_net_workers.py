"""Jobs and toolchains to a worker over real HTTPS, and what a client makes of every answer."""

from __future__ import annotations

import os

import pytest
import pytest_twisted
from attrs import evolve
from links_help import A, B, allocation, identity
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.protocol import Protocol
from worker_help import (
    RESULT,
    TOOLCHAIN,
    Blobs,
    Client,
    Phases,
    Worker,
    action,
    digest,
    frames,
    nothing,
    says,
)

from sccache_twisted.client.fallback import InputChanged
from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import (
    CompilerNotPackageable,
    ConnectionFailed,
    DigestMismatch,
    JobKilled,
    Malformed,
    MissingInputs,
    NoLocalFallback,
    NoWorkers,
    PinMismatch,
    SchedulerUnavailable,
    Silence,
    StillQueued,
    TooLarge,
    ToolchainAbsent,
    UnknownAttempt,
    WorkerStorage,
)
from sccache_twisted.model import ActionResult, OutputFile
from sccache_twisted.wire.frames import encode_frame
from sccache_twisted.wire.http import error_body
from sccache_twisted.wire.jobs import encode_failure, encode_missing, encode_progress, encode_result

ONE = {digest(1): b"int a;\n", digest(2): b"int b;\n"}
DONE = encode_result(RESULT, 1)


def run(client, worker, blobs=None, *, phases=None, source=None):
    blobs = ONE if blobs is None else blobs
    return client.workers.run(
        allocation(worker.identity, worker.address), action(blobs), source or Blobs(blobs), phases or Phases()
    )


@pytest_twisted.ensureDeferred
async def test_job_and_result():
    """A job carries its inputs and token; progress is told, the result comes back as it is; the connection is kept."""
    worker = Worker(identity(A), frames(encode_progress("running"), DONE), frames(DONE))
    client = Client()
    phases = Phases()
    assert await run(client, worker, phases=phases) == RESULT
    assert phases.phases == ["running"]
    (request,) = worker.requests
    assert request.job == action(ONE)
    assert dict(request.blobs) == ONE
    assert request.getHeader("authorization") == "Bearer token-of-attempt"
    assert request.getHeader("x-job") == "018c0000-0000-7000-8000-000000000000/1"
    assert request.getHeader("host") == f"{A}.worker.sccache-twisted"
    await run(client, worker)
    assert worker.connections == 1
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_only_what_is_unknown_travels():
    """After the first job of a worker only changed inputs are sent to it; a lost worker is known nothing of."""
    worker = Worker(identity(A), frames(DONE), frames(DONE), frames(DONE))
    client = Client()
    await run(client, worker)
    more = {**ONE, digest(3): b"int c;\n"}
    source = Blobs(more)
    await run(client, worker, more, source=source)
    assert dict(worker.requests[1].blobs) == {digest(3): b"int c;\n"}
    assert source.read_digests == [digest(3)]
    client.workers.worker_lost(A)
    await run(client, worker, more)
    assert dict(worker.requests[2].blobs) == more
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_missing_blobs_are_sent_twice_at_most():
    """What the worker says is missing is sent; if it still says so after two rounds, that is its fault."""
    lacks = frames(encode_missing([digest(2)]))
    worker = Worker(identity(A), frames(DONE), lacks, frames(DONE), lacks, lacks, lacks)
    client = Client()
    await run(client, worker)
    assert await run(client, worker) == RESULT
    assert [sorted(dict(request.blobs)) for request in worker.requests[1:]] == [[], [digest(2)]]
    with pytest.raises(MissingInputs):
        await run(client, worker)
    assert [sorted(dict(request.blobs)) for request in worker.requests[3:]] == [[], [digest(2)], [digest(2)]]
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_large_job_and_large_result():
    """A job and a result of many megabytes arrive whole."""
    blobs = {digest(n): os.urandom(3 << 20) for n in range(5)}
    result = ActionResult(1, b"", b"", (OutputFile(b"/w/a.o", os.urandom(9 << 20)),))
    worker = Worker(identity(A), frames(encode_result(result, 1)))
    client = Client()
    assert await run(client, worker, blobs) == result
    assert dict(worker.requests[0].blobs) == blobs
    await client.stop()
    await worker.stop()


LIES = [
    (frames(encode_result(ActionResult(0, b"", b"", (OutputFile(b"/etc/passwd", b"x"),)), 1)), Malformed, "no output"),
    (frames(encode_result(ActionResult(0, b"", b"", (OutputFile(b"/w/a.o", b"x"),) * 2), 1)), Malformed, "twice"),
    (frames(encode_result(ActionResult(999, b"", b"", ()), 1)), Malformed, "exit status 999"),
    (frames(DONE, DONE), Malformed, "goes on after"),
    (frames(DONE, b"x"), Malformed, "before its end"),
    (frames(), Malformed, "before its end"),
    (frames(DONE[:-1]), Malformed, "before its end"),
    (frames(encode_progress("running")), Malformed, "before its end"),
    (frames(b"\xff\xff\xff\xff"), TooLarge, "limit"),
    (frames(b"\0\0\0\0"), Malformed, "empty"),
    (frames(encode_frame(b"?", b"")), Malformed, "unknown kind"),
    (frames(encode_frame(b"r", b"zzz")), Malformed, "zstd"),
    (frames(encode_frame(b"p", b"\xc1"), DONE), Malformed, "msgpack"),
    (frames(encode_missing([digest(99)])), Malformed, "no inputs of the job"),
    (frames(encode_missing([])), Malformed, "no inputs of the job"),
    (says(200, b"<html>"), (Malformed, TooLarge), "."),
    (says(404, error_body(UnknownAttempt())), UnknownAttempt, "unknown"),
    (says(507, error_body(WorkerStorage("full"))), WorkerStorage, "full"),
    (says(502, b"<html>Bad gateway"), Exception, "answered HTTP 502"),
    (says(500, bytes(1 << 20)), TooLarge, "longer than"),
    (says(302, b""), Exception, "answered HTTP 302"),
    (frames(encode_failure(ToolchainAbsent())), ToolchainAbsent, "."),
    (frames(encode_failure(JobKilled("out of memory"))), JobKilled, "out of memory"),
    (frames(encode_failure(NoLocalFallback("go home"))), Malformed, "go home"),
    (frames(encode_failure(NoWorkers())), Malformed, "answered: No living worker"),
    (frames(encode_failure(SchedulerUnavailable())), Malformed, "answered: No scheduler"),
    (frames(encode_failure(StillQueued())), Malformed, "answered: No slot"),
    (says(400, error_body(StillQueued())), Malformed, "answered: No slot"),
    (says(400, error_body(NoLocalFallback("go home"))), Malformed, "go home"),
]


@pytest.mark.parametrize(("answer", "error", "text"), LIES)
@pytest_twisted.ensureDeferred
async def test_every_answer_is_a_result_or_an_error_of_the_table(answer, error, text):
    """Whatever a worker answers, it is believed only if it is what may be answered; the next job is unharmed."""
    worker = Worker(identity(A), answer, frames(DONE))
    client = Client()
    with pytest.raises(error, match=text) as refused:
        await run(client, worker)
    if isinstance(refused.value, Malformed | TooLarge):
        assert refused.value.sentence.startswith(f"Worker {A}")
    assert await run(client, worker) == RESULT
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_cut_connection():
    """A worker that vanishes in the middle of its answer is ConnectionFailed, and names itself."""

    def cut(request):
        request.write(encode_progress("running"))
        reactor.callLater(0, request.transport.abortConnection)

    worker = Worker(identity(A), cut, lambda request: request.transport.abortConnection())
    client = Client()
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match=f"Worker {A} at {worker.address}"):
            await run(client, worker)
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_silence():
    """A worker that says nothing is given up after silence_seconds; one that shows progress is not."""

    def slowly(request):
        def again(left):
            if left:
                request.write(encode_progress("running"))
                reactor.callLater(0.1, again, left - 1)
            else:
                frames(DONE)(request)

        again(8)

    worker = Worker(identity(A), nothing, slowly)
    client = Client(silence=0.4)
    with pytest.raises(Silence, match="moved no byte"):
        await run(client, worker)
    await worker.requests[0].hung_up
    assert await run(client, worker) == RESULT
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_progress_without_end():
    """A worker that shows progress is given up too, after answer_seconds; an answer in time leaves no timer behind."""

    def for_ever(request):
        if not request.hung_up.called:
            request.write(encode_progress("running"))
            reactor.callLater(0.05, for_ever, request)

    worker = Worker(identity(A), for_ever, frames(DONE))
    client = Client(answer=0.5)
    with pytest.raises(Silence, match=r"has had the job for 0\.5 s and shows progress, but no result"):
        await run(client, worker)
    await worker.requests[0].hung_up
    assert await run(client, worker) == RESULT
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_cancelling_hangs_up():
    """Cancelling a run cuts its connection, by which the worker kills the job; another run goes on."""
    worker = Worker(identity(A), nothing, nothing)
    client = Client()
    arrived = worker.request()
    cancelled = run(client, worker)
    request = await arrived
    arrived = worker.request()
    other = run(client, worker)
    await arrived
    cancelled.cancel()
    with pytest.raises(CancelledError):
        await cancelled
    await request.hung_up
    frames(DONE)(worker.requests[1])
    assert await other == RESULT
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_lost_worker():
    """When the scheduler says that a worker is lost, what runs there fails at once; other workers' jobs don't."""
    worker, other = Worker(identity(A), nothing), Worker(identity(B), nothing)
    client = Client()
    arrived = gatherResults([worker.request(), other.request()])
    running, elsewhere = run(client, worker), run(client, other)
    await arrived
    client.workers.worker_lost(A)
    with pytest.raises(ConnectionFailed, match=f"Worker {A} is lost"):
        await running
    await worker.requests[0].hung_up
    frames(DONE)(other.requests[0])
    assert await elsewhere == RESULT
    await client.stop()
    await gatherResults([Deferred.fromCoroutine(each.stop()) for each in (worker, other)])


@pytest_twisted.ensureDeferred
async def test_successor_at_the_same_address():
    """A worker that follows another on one address can neither be taken for it nor be served by its connections."""
    first = Worker(identity(A), frames(DONE))
    client = Client()
    assert await run(client, first) == RESULT
    port = first.address.port
    await first.stop()
    for channel in list(client.agent._pool._connections.values()):
        assert len(channel) == 1, "the connection to the first is still pooled"
    second = Worker(identity(B), frames(DONE), port=port)
    assert await run(client, second) == RESULT
    assert second.connections == 1
    client.workers.worker_lost(A)
    with pytest.raises(PinMismatch, match=f"Worker {A} at 127.0.0.1:{port} shows another key"):
        await run(client, first)
    assert len(second.requests) == 1, "and the second was sent nothing of it"
    await client.stop()
    await second.stop()


@pytest_twisted.ensureDeferred
async def test_new_key_of_a_server_gets_a_new_connection():
    """A connection made for one key of a server_id never serves another key of it."""
    old, new = identity(A), identity(A)
    worker = Worker(old, frames(DONE), frames(DONE))
    client = Client()
    await run(client, worker)
    await worker.stop()
    successor = Worker(new, frames(DONE), port=worker.address.port)
    assert await run(client, successor) == RESULT
    assert len(worker.requests) == 1
    assert len(successor.requests) == 1
    await client.stop()
    await successor.stop()


@pytest_twisted.ensureDeferred
async def test_pin_is_refreshed_once():
    """After a mismatch the present certificate is asked for once; if that is no other, the worker is to blame."""
    shown, promised = identity(A), identity(A)
    asked = []

    def refresh(server_id):
        asked.append(server_id)
        return succeed(answers.pop(0))

    answers = [shown.certificate, promised.certificate, None]
    worker = Worker(promised, frames(DONE), shows=shown)
    client = Client(refresh=refresh)
    assert await run(client, worker) == RESULT
    for _ in range(2):
        client.workers.worker_lost(A)
        with pytest.raises(PinMismatch):
            await run(client, worker)
    assert asked == [A, A, A]
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_worker_without_certificate():
    """A worker without a certificate is spoken to in the insecure mode only."""
    worker = Worker(identity(A), frames(DONE), tls=False)
    plain = evolve(allocation(worker.identity, worker.address), certificate=b"")
    for client, allowed in [(Client(), False), (Client(insecure=True), True)]:
        running = client.workers.run(plain, action(ONE), Blobs(ONE), Phases())
        if allowed:
            assert await running == RESULT
        else:
            with pytest.raises(PinMismatch, match="No certificate"):
                await running
        await client.stop()
    await worker.stop()


class Talkative(Protocol):
    """Answers whatever it hears in plain HTTP."""

    def dataReceived(self, data):
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest_twisted.ensureDeferred
async def test_worker_that_is_not_there():
    """A port that never says a word, one that speaks no TLS and a refused connection are noticed soon and told so."""
    worker = Worker(identity(A), tls=False)
    # Not the HTTP of a Leaf: in some ClientHellos the random bytes hold the end of a line, which that answers.
    worker.site.buildProtocol = lambda _: Protocol()
    client = Client(timers=LinkTimers(connect_seconds=0.3))
    with pytest.raises(ConnectionFailed, match=r"did not answer within 0\.3 s"):
        await run(client, worker)
    worker.site.buildProtocol = lambda _: Talkative()
    with pytest.raises(ConnectionFailed, match=r"The TLS handshake with worker .* failed: wrong version number"):
        await run(client, worker)
    await worker.stop()
    with pytest.raises(ConnectionFailed, match="Connection refused"):
        await run(client, worker)
    await client.stop()


@pytest.mark.parametrize(
    ("error", "seen"), [(InputChanged("a.h changed."), InputChanged), (FileNotFoundError(2, "gone"), InputChanged)]
)
@pytest_twisted.ensureDeferred
async def test_input_that_changed(error, seen):
    """An input that is not what it was sends nothing, and is no worker's fault."""

    class Changed:
        def read(self, wanted):
            raise error

    worker = Worker(identity(A))
    client = Client()
    for blobs in (ONE, {digest(1): bytes(1 << 20)}):
        with pytest.raises(seen):
            await run(client, worker, blobs, source=Changed())
    assert worker.requests == []
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_sixty_four_at_once():
    """Sixty-four jobs at once on one worker; afterwards their connections serve the next sixty-four."""
    worker = Worker(identity(A), *[frames(DONE)] * 128)
    client = Client()
    for _ in range(2):
        results = await gatherResults([run(client, worker) for _ in range(64)])
        assert results == [RESULT] * 64
    assert worker.connections <= 64
    await client.stop()
    await worker.stop()


# --- toolchains -----------------------------------------------------------------------------------


def turn(word):
    return says(200, b'{"turn": "%s"}' % word)


def upload(client, worker, archive):
    return client.workers.upload_toolchain(allocation(worker.identity, worker.address), TOOLCHAIN, str(archive))


@pytest_twisted.ensureDeferred
async def test_toolchain_is_sent_by_who_has_the_turn(tmp_path):
    """Only the holder of the turn sends; for the others, and when it is there already, nothing is read or sent."""
    archive = tmp_path / "toolchain"
    archive.write_bytes(os.urandom(5 << 20))
    worker = Worker(identity(A), turn(b"yours"), says(201, b""), turn(b"present"), turn(b"wait"))
    client = Client()
    assert await upload(client, worker, archive) == 5 << 20
    asked, sent = worker.requests
    assert (asked.method, sent.method) == (b"POST", b"PUT")
    assert sent.path == f"/v1/toolchains/{TOOLCHAIN}".encode()
    assert sent.body == archive.read_bytes()
    assert sent.getHeader("authorization") == "Bearer token-of-attempt"
    for _ in range(2):
        assert await upload(client, worker, tmp_path / "absent") == 0
    await client.stop()
    await worker.stop()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ([says(200, b"{}")], Malformed),
        ([says(200, b"[")], Malformed),
        ([turn(b"mine")], Malformed),
        ([says(404, error_body(UnknownAttempt()))], UnknownAttempt),
        ([turn(b"yours"), says(400, error_body(DigestMismatch()))], DigestMismatch),
        ([turn(b"yours"), says(507, error_body(WorkerStorage()))], WorkerStorage),
        ([turn(b"yours"), lambda request: request.transport.abortConnection()], ConnectionFailed),
    ],
)
@pytest_twisted.ensureDeferred
async def test_upload_that_fails(tmp_path, script, error):
    """A failed upload is the worker's own error."""
    archive = tmp_path / "toolchain"
    archive.write_bytes(b"x" * 100)
    worker = Worker(identity(A), *script)
    client = Client()
    with pytest.raises(error):
        await upload(client, worker, archive)
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_archive_that_is_gone(tmp_path):
    """An archive that can't be read is the client's trouble, not the worker's."""
    worker = Worker(identity(A), turn(b"yours"))
    client = Client()
    with pytest.raises(CompilerNotPackageable, match="No such file"):
        await upload(client, worker, tmp_path / "absent")
    await client.stop()
    await worker.stop()


@pytest_twisted.ensureDeferred
async def test_worker_may_take_its_time_to_unpack(tmp_path):
    """When all of a toolchain was sent, the worker may be silent for longer while it checks and unpacks."""
    archive = tmp_path / "toolchain"
    archive.write_bytes(b"x" * 100)
    worker = Worker(identity(A), turn(b"yours"), lambda request: reactor.callLater(0.6, says(201, b""), request))
    client = Client(silence=0.2)
    await upload(client, worker, archive)
    await client.stop()
    await worker.stop()
