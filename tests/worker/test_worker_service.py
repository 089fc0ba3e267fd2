"""A whole worker over real TLS sockets: jobs, uploads and hang-ups by the real client's connections."""

import os
import ssl
import subprocess

import attrs
import pytest
import pytest_twisted
import zstandard
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.threads import deferToThread
from worker_confinement_kit import body, processes, until
from worker_kit import ENV, action_of, digest_of, program_in
from worker_service_kit import Client, Phases, send_tiny_toolchain

from sccache_twisted.errors import (
    AttemptRunning,
    BadArchive,
    ConnectionFailed,
    DigestMismatch,
    IdentityTaken,
    JobKilled,
    Malformed,
    SccacheTwistedError,
    TooLarge,
    ToolchainAbsent,
    UnknownAttempt,
    WorkerFull,
)
from sccache_twisted.interfaces import JobPhase, Welcome
from sccache_twisted.model import Try
from sccache_twisted.security.pins import spki_pin
from sccache_twisted.toolchains.archive import END

pytestmark = pytest.mark.root


@pytest.fixture
def c_job(packaged, tmp_path, shop):
    """A small C compilation: its toolchain, action, and the object that a local run gives."""
    toolchain = packaged("gcc")
    (tmp_path / "a.c").write_text("int f(void) { return 1; }\n")
    argv = ["gcc", "-g", "-O2", "-c", "a.c", "-o", "a.o"]
    action = action_of(toolchain.digest, argv, tmp_path, ["a.o"], shop.blobs)
    subprocess.run(argv, cwd=tmp_path, env=dict(ENV), check=True)
    return toolchain, action, (tmp_path / "a.o").read_bytes()


@pytest_twisted.ensureDeferred
async def test_upload_then_run_then_run_again(served, c_job, shop):
    """A job without its toolchain is told so; after the upload it runs, and the next job needs neither again."""
    toolchain, action, local = c_job
    async with served() as client:
        first = client.lease(toolchain.digest)
        assert not first.toolchain_present
        with pytest.raises(ToolchainAbsent):
            await client.run(first, action, shop.blobs)
        await client.connections.upload_toolchain(first, toolchain.digest, os.fsdecode(toolchain.path))
        phases = Phases()
        result = await client.run(first, action, shop.blobs, phases)
        assert result.outputs[0].data == local
        assert JobPhase.RUNNING.value in phases
        second = client.lease(toolchain.digest)
        assert second.toolchain_present
        assert (await client.run(second, action, shop.blobs)).outputs[0].data == local


@pytest_twisted.ensureDeferred
async def test_one_uploads_and_others_wait(served, c_job, shop):
    """Of four who lack the same toolchain one sends it; the others' jobs wait for it and then run."""
    toolchain, action, local = c_job
    async with served(slots=4) as client:

        async def compile_once(phases):
            lease = client.lease(toolchain.digest)
            await client.connections.upload_toolchain(lease, toolchain.digest, os.fsdecode(toolchain.path))
            return await client.run(lease, action, shop.blobs, phases)

        seen = [Phases() for _ in range(4)]
        results = await gatherResults([Deferred.fromCoroutine(compile_once(phases)) for phases in seen])
        assert [result.outputs[0].data for result in results] == [local] * 4
        assert sum("waiting_toolchain" in phases for phases in seen) == 3


@pytest_twisted.ensureDeferred
async def test_a_token_opens_one_attempt_only(served, c_job, shop):
    """Another job's token, a token of an attempt that has ended, and no attempt at all: all are unknown."""
    toolchain, action, _ = c_job
    async with served() as client:
        one, other = client.lease(toolchain.digest), client.lease(toolchain.digest)
        for wrong in (
            attrs.evolve(one, token=other.token),
            attrs.evolve(one, attempt=Try(one.attempt.job_id, 2)),
            attrs.evolve(one, token="\u00e9"),
        ):
            with pytest.raises(UnknownAttempt):
                await client.run(wrong, action, shop.blobs)
            with pytest.raises(UnknownAttempt):
                await client.connections.upload_toolchain(wrong, toolchain.digest, os.fsdecode(toolchain.path))
        client.worker.jobs.cancel(one.attempt)
        with pytest.raises(UnknownAttempt):
            await client.run(one, action, shop.blobs)


@pytest_twisted.ensureDeferred
async def test_wrong_uploads_leave_nothing(served, c_job, shop, directory):
    """A wrong digest, a damaged archive and a foreign digest are refused, and the turn is free again."""
    toolchain, _, _ = c_job
    async with served() as client:
        lease = client.lease(toolchain.digest)
        damaged = directory / "damaged"
        damaged.write_bytes(b"no archive at all" * 1000)
        with pytest.raises(BadArchive):
            await client.connections.upload_toolchain(lease, toolchain.digest, str(damaged))
        damaged.write_bytes(zstandard.ZstdCompressor().compress(END))
        with pytest.raises(DigestMismatch):
            await client.connections.upload_toolchain(lease, toolchain.digest, str(damaged))
        with pytest.raises(Malformed):
            await client.connections.upload_toolchain(lease, digest_of(b""), str(damaged))
        assert os.listdir(directory / "worker" / "toolchains") == []
        await client.connections.upload_toolchain(lease, toolchain.digest, os.fsdecode(toolchain.path))
        assert client.worker.jobs.toolchains.get(toolchain.digest) is not None


@pytest.mark.alone
@pytest_twisted.ensureDeferred
async def test_hang_up_kills_and_frees(served, shop, reactor):
    """A client that hangs up has its job's processes killed and the slot freed, within a second."""
    action = program_in(shop, body("if (fork()) pause(); else for (;;) pause();"), name="hangup-probe")
    async with served(slots=1) as client:
        await send_tiny_toolchain(client, shop, action)
        running = client.run(client.lease(action.toolchain), action, shop.blobs)
        await until(reactor, lambda: len(processes(b"/bin/hangup-probe")) == 2)
        with pytest.raises(WorkerFull):
            client.lease(action.toolchain)
        before = reactor.seconds()
        running.cancel()
        with pytest.raises(CancelledError):
            await running
        await until(reactor, lambda: client.worker.jobs.slots.taken == 0)
        assert reactor.seconds() - before < 1
        assert processes(b"/bin/hangup-probe") == []


@pytest_twisted.ensureDeferred
async def test_a_schedulers_cancel_kills(served, shop, reactor):
    """CancelJob kills what runs; its client is told, and the slot is free."""
    action = program_in(shop, body("pause();"), name="cancelled-probe")
    async with served() as client:
        await send_tiny_toolchain(client, shop, action)
        lease = client.lease(action.toolchain)
        running = client.run(lease, action, shop.blobs)
        await until(reactor, lambda: processes(b"/bin/cancelled-probe"))
        client.worker.jobs.cancel(lease.attempt)
        with pytest.raises(SccacheTwistedError) as told:
            await running
        assert told.value.code == "cancelled"
        assert processes(b"/bin/cancelled-probe") == []
        assert client.worker.jobs.slots.taken == 0


@pytest_twisted.ensureDeferred
async def test_the_second_post_is_refused_while_the_first_lives(served, shop, reactor):
    """A second request for a running attempt is refused, and the first goes on."""
    action = program_in(shop, body("pause();"), name="twice-probe")
    async with served() as client:
        await send_tiny_toolchain(client, shop, action)
        lease = client.lease(action.toolchain)
        first = client.run(lease, action, shop.blobs)
        await until(reactor, lambda: processes(b"/bin/twice-probe"))
        with pytest.raises(AttemptRunning):
            await client.run(lease, action, shop.blobs)
        assert len(processes(b"/bin/twice-probe")) == 1
        first.cancel()
        with pytest.raises(CancelledError):
            await first


@pytest_twisted.ensureDeferred
async def test_an_unclaimed_lease_ends(served, c_job, reactor):
    """A lease that nobody claims is free again after claim_seconds."""
    toolchain, _, _ = c_job
    async with served(slots=1, claim_seconds=0.2) as client:
        client.lease(toolchain.digest)
        await until(reactor, lambda: client.worker.jobs.slots.taken == 0)
        client.lease(toolchain.digest)


class SlowScheduler:
    """A scheduler whose answer to Register takes its time; what it hears, in order."""

    def __init__(self):
        self.heard = []
        self.answer = Deferred()

    def register(self, registration):
        self.heard.append(("register", *registration.jobs))
        return self.answer

    def job_state(self, attempt, phase):
        self.heard.append((attempt, phase))
        return succeed(None)

    def heartbeat(self, *_):
        return succeed(None)


@pytest_twisted.ensureDeferred
async def test_a_job_that_ends_while_its_worker_registers_is_told(served, c_job):
    """A scheduler that was told of a job in a registration hears of its end, though its answer is still on the way."""
    toolchain, _, _ = c_job
    async with served() as client:
        lease = client.lease(toolchain.digest)
        scheduler = SlowScheduler()
        welcome = Welcome(1, "scheduler-0", b"challenge", 5.0, 15.0)
        registering = Deferred.fromCoroutine(client.worker._register(scheduler, welcome, []))
        client.worker.jobs.cancel(lease.attempt)
        assert client.worker.jobs.slots.taken == 0
        ended = (lease.attempt, JobPhase.ENDED)
        assert scheduler.heard == [("register", (lease.attempt, JobPhase.LEASED)), ended]
        scheduler.answer.callback(None)
        await registering


@pytest_twisted.ensureDeferred
async def test_a_scheduler_that_refuses_a_worker_is_told_nothing_more(served, c_job):
    """What happens after a refused registration concerns the refuser no more."""
    toolchain, _, _ = c_job
    async with served() as client:
        scheduler = SlowScheduler()
        welcome = Welcome(1, "scheduler-0", b"challenge", 5.0, 15.0)
        registering = Deferred.fromCoroutine(client.worker._register(scheduler, welcome, []))
        scheduler.answer.errback(IdentityTaken("taken"))
        with pytest.raises(IdentityTaken):
            await registering
        client.worker.jobs.cancel(client.lease(toolchain.digest).attempt)
        assert scheduler.heard == [("register",)]


@pytest_twisted.ensureDeferred
async def test_limits_reach_the_client(served, shop):
    """A job over its time is reported as killed, with the sentence that says why."""
    action = program_in(shop, body("pause();"), name="late-probe")
    async with served(run_seconds=0.5) as client:
        await send_tiny_toolchain(client, shop, action)
        with pytest.raises(JobKilled, match="ran for more than"):
            await client.run(client.lease(action.toolchain), action, shop.blobs)
        assert client.worker.jobs.slots.taken == 0


@pytest_twisted.ensureDeferred
async def test_oversize_jobs_are_refused(served, shop):
    """A job over the limit is refused before it is read, and the connection serves the next."""
    action = program_in(shop, body("return 0;"), name="large-probe")
    async with served(max_job_bytes=100_000) as client:
        await send_tiny_toolchain(client, shop, action)
        with pytest.raises(TooLarge):
            await client.run(client.lease(action.toolchain), action, shop.blobs)


@pytest_twisted.ensureDeferred
async def test_stop_kills_everything(served, shop, reactor):
    """A worker that is stopped leaves no process, no file and no uid behind."""
    action = program_in(shop, body("pause();"), name="stopped-probe")
    async with served() as client:
        await send_tiny_toolchain(client, shop, action)
        running = client.run(client.lease(action.toolchain), action, shop.blobs)
        await until(reactor, lambda: processes(b"/bin/stopped-probe"))
        await client.worker.stopService()
        assert processes(b"/bin/stopped-probe") == []
        with pytest.raises((SccacheTwistedError, ConnectionFailed)):
            await running


@pytest_twisted.ensureDeferred
async def test_blobs_that_the_worker_lost_are_asked_for(served, c_job, shop):
    """Blobs that were dropped since the client sent them are asked for again and sent again."""
    toolchain, action, local = c_job
    async with served() as client:
        lease = client.lease(toolchain.digest)
        await client.connections.upload_toolchain(lease, toolchain.digest, os.fsdecode(toolchain.path))
        await client.run(lease, action, shop.blobs)
        for entry in action.inputs:
            if hasattr(entry, "digest"):
                client.worker.jobs._blobs.drop(entry.digest)
        result = await client.run(client.lease(toolchain.digest), action, shop.blobs)
        assert result.outputs[0].data == local


@pytest_twisted.ensureDeferred
async def test_a_renewed_certificate_breaks_nothing(served, shop, reactor):
    """Renewed under way, the certificate is another for the same key: old connections and new ones both serve jobs.

    Whoever was handed the first certificate, and no newer one, is right with it: its key is what counts.
    """
    action = program_in(shop, body("return 0;"), name="renewal-probe")
    async with served(renew_seconds=0.05) as client:
        first = client.worker._identity.certificate
        await send_tiny_toolchain(client, shop, action)
        kept = attrs.evolve(client.lease(action.toolchain), certificate=first)
        assert (await client.run(kept, action, shop.blobs)).exit_code == 0
        await until(reactor, lambda: client.worker._identity.certificate != first)
        shown = await deferToThread(ssl.get_server_certificate, ("127.0.0.1", client.worker.port))
        shown = ssl.PEM_cert_to_DER_cert(shown)
        assert shown != first
        assert spki_pin(shown) == spki_pin(first)
        pooled = attrs.evolve(client.lease(action.toolchain), certificate=first)
        assert (await client.run(pooled, action, shop.blobs)).exit_code == 0
        stranger = Client(reactor, client.worker)
        try:
            fresh = attrs.evolve(client.lease(action.toolchain), certificate=first)
            assert (await stranger.run(fresh, action, shop.blobs)).exit_code == 0
        finally:
            await stranger.connections.close()
