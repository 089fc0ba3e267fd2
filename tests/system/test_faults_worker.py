"""Workers with something wrong in them: their disk, their sandbox, what they keep, their clock, their memory.

Whatever it is, nothing compiles on the client, nothing fails, and every object is the compiler's own. Each test proves
from the logs that the fault was met by jobs of the build, and that a worker that was mended serves again.
"""

import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from bad_input_kit import tiny_disk
from support import jobs
from support.cluster import wait_for
from support.farm import Farm
from support.farm.builds import Yard, seeds, standing_still

pytestmark = pytest.mark.root

UNITS = 16
SPINS = 100_000
LARGE_HEADER = "/* More than a worker keeps in memory. */\n" * 2500
HUNGRY_HEADER = """\
struct Table {
    unsigned held[600000];
    constexpr Table() : held() { for (unsigned i = 0; i < 600000; i++) held[i] = i; }
};
constexpr unsigned last() {
    Table table;
    for (unsigned i = 0; i < 200000; i++) table.held[i % 7] += i;
    return table.held[599999];
}
constexpr unsigned hungry = last();
"""
"""Takes the compiler some 150 MB, and keeps them for as long as somebody needs who looks four times a second."""


@pytest.fixture(scope="module")
def farm():
    """A scheduler, a client, and a worker that is well."""
    with Farm() as started:
        started.workers("well")
        started.client("c1")
        yield started


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    """A tree that every test leaves as it was."""
    return Yard(tmp_path_factory.mktemp("yard"), UNITS, SPINS)


@contextmanager
def serving(farm, name, tables=None):
    """A worker of this name with two slots, until the end of the block."""
    worker = farm.worker(name, tables=tables)
    farm.registered(worker)
    try:
        yield worker
    finally:
        farm.free()
        worker.finish()


def failed_at(build, server_id):
    """The attempts that failed on a worker."""
    failed = jobs.attempts(build.events(), "job_failed")
    return {attempt: event for attempt, event in failed.items() if event["server_id"] == server_id}


def done_at(build, server_id):
    """The jobs that were done on a worker."""
    return {event["job_id"] for event in build.events("job_done") if event["server_id"] == server_id}


# --- what makes a worker fail at jobs until it is mended ---------------------------------------------


@contextmanager
def full_disk(farm):
    """A worker whose store is a small file system; a file fills it up."""
    name = "small-disk"
    store = farm.worker(name, start=False).home / "store"
    filler = store / "filler"

    def strike():
        with filler.open("wb") as out:
            size = 0
            for step in (64 << 20, 1 << 20, 4096):
                with suppress(OSError):
                    while True:
                        os.posix_fallocate(out.fileno(), size, step)
                        size += step

    with tiny_disk(store, "600m"), serving(farm, name) as victim:
        yield victim, strike, filler.unlink


@contextmanager
def broken_sandbox(farm):
    """A worker that starts bubblewrap through a script, which is replaced by one that fails."""
    script = farm.directory / "bwrap"

    def say(line):
        fresh = script.with_suffix(".new")
        fresh.write_text(f"#!/bin/sh\n{line}\n", encoding="ascii")
        fresh.chmod(0o755)
        fresh.replace(script)

    def mend():
        say(f'exec {shutil.which("bwrap")} "$@"')

    mend()
    with serving(farm, "no-sandbox", {"worker": {"bwrap": str(script)}}) as victim:
        yield victim, lambda: say("echo no namespaces today >&2; exit 1"), mend


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize(
    ("fault", "code"), [(full_disk, "worker_storage"), (broken_sandbox, "sandbox_failed")], ids=["disk", "sandbox"]
)
def test_a_worker_that_fails_at_every_job(farm, yard, tmp_path, fault, code, seed):
    """Its jobs are done elsewhere; once it is mended it serves again."""
    client = farm.client("c1")
    with fault(farm) as (victim, strike, mend):
        server_id = victim.server_id
        with yard.build(client, parallel=6) as build:
            build.wait_for_done(seed % 4)
            # Nobody gets on meanwhile, so that most of the build is still to come.
            with standing_still(farm.workers("well", victim.name)):
                strike()
            build.wait_for(lambda: failed_at(build, server_id), "a job has failed by it")
            mend()
            done = build.finish(tmp_path / "ours")
        failed = failed_at(build, server_id)
        assert {event["code"] for event in failed.values()} == {code}
        assert all(done[job_id]["attempt"] > attempt for job_id, attempt in failed)
        assert {done[job_id]["server_id"] for job_id, _ in failed} != {server_id}
        assert build.events("job_failed") == list(failed.values())
        with yard.build(client, parallel=6) as another:
            another.finish(tmp_path / "mended")
            assert done_at(another, server_id)
            assert another.events("job_failed") == []


# --- what a worker notices by itself, and has sent again ---------------------------------------------


def replace_compiler(victim):
    """Put another file in the place of cc1plus, with one byte changed; where it lies and what it held."""
    (compiler,) = (victim.home / "store" / "toolchains").rglob("cc1plus")
    sound = compiler.read_bytes()
    fresh = compiler.with_name("fresh")
    shutil.copy2(compiler, fresh)
    damage(fresh)
    fresh.replace(compiler)
    return compiler, sound


def damage(path):
    """Change a byte in the middle of a file."""
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        (byte,) = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 0xFF]))


def damage_header(victim):
    """Change a byte of the large header in what the worker keeps of inputs; where it lies and what it held."""
    size = len(LARGE_HEADER)
    (blob,) = (path for path in (victim.home / "store" / "blobs").glob("??/*") if path.stat().st_size == size)
    sound = blob.read_bytes()
    damage(blob)
    return blob, sound


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Two trees at different places with the same large header."""
    place = tmp_path_factory.mktemp("twins")
    return [Yard(place / name, 10, SPINS, LARGE_HEADER) for name in ("one", "other")]


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize(
    ("harm", "noticed", "asked_again"),
    [
        pytest.param(replace_compiler, "toolchain_dropped", "toolchain_stored", id="toolchain"),
        pytest.param(damage_header, "blob_corrupt", "blobs_missing", id="blob"),
    ],
)
def test_what_a_worker_keeps_is_damaged(farm, twins, tmp_path, harm, noticed, asked_again, seed):
    """It says so, has it sent again, and runs the job: no attempt fails by it.

    A second client builds what the first one does not, so that nothing of the first one's jobs can serve for it.
    Another job may miss what was dropped, and say so, before the reactor hears from the thread that dropped it.
    """
    first, second = farm.client("c1"), farm.client("c2")
    one, other = twins
    with serving(farm, f"damaged-{noticed[0]}") as victim, one.build(first, parallel=4) as build:
        server_id = victim.server_id
        build.wait_for_done(seed % 3)
        build.wait_for(lambda: build.running(server_id), "a job runs there")
        earlier = victim.mark()
        kept, sound = harm(victim)
        with other.build(second, parallel=4) as another:
            finished = another.finish(tmp_path / "other")
        finished |= build.finish(tmp_path / "one")
        assert build.events("job_failed") == another.events("job_failed") == []
        told = victim.events(since=earlier)
        assert [event.get("event") for event in told].count(noticed) == 1
        assert kept.read_bytes() == sound, "what was damaged was not sent again"
        again = [event for event in told if event.get("event") == asked_again]
        done = {event["job_id"] for event in finished.values() if event["server_id"] == server_id}
        assert done & {event["job_id"] for event in again}


# --- what must not matter ----------------------------------------------------------------------------


def faketime(hours):
    """The environment in which a program's clock is wrong; the program faketime itself would be another pid."""
    library, *_ = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{hours:+}h"}


def faketime_for_users(hours):
    """The same as words before a command whose children become other users.

    The library names a semaphore in /dev/shm after its process, and one that is killed leaves it there. Where the pid
    comes back to a process of another user, that one ends at its start: this command has a /dev/shm of its own.
    """
    private = 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec env "$@"'
    clock = (f"{name}={value}" for name, value in faketime(hours).items())
    return ("unshare", "--mount", "sh", "-c", private, "sh", *clock)


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize(
    ("here", "there"),
    [(0, 2), (0, -2), pytest.param(-2, 2, marks=pytest.mark.full)],
    ids=["fast", "slow", "apart"],
)
def test_a_clock_is_two_hours_off(farm, yard, tmp_path, here, there, seed):
    """Nothing that is decided depends on what time another machine believes it is."""
    client = farm.client(f"client-{here % 24}", start=False)
    client.env |= faketime(here)
    worker = farm.worker(f"worker-{there % 24}", start=False)
    worker.wrap = faketime_for_users(there)
    farm.client(client.name)
    with serving(farm, worker.name), yard.build(client, parallel=5 + seed % 3) as build:
        build.finish(tmp_path / "ours")
        assert build.events("job_failed") == []
        assert done_at(build, worker.server_id)
        theirs, ours = worker.events("job_running")[-1]["epoch"], farm.scheduler.events("worker_accepted")[-1]["epoch"]
        assert round((theirs - ours) / 3600) == there, "its clock was right"
    client.finish()


@pytest.mark.parametrize("seed", seeds())
def test_certificates_are_renewed_during_a_build(farm, yard, tmp_path, seed):
    """What runs meanwhile is not disturbed, and clients that come later find the worker under its new certificate."""
    tables = {"timers": {"renew_seconds": 1.0}}
    with serving(farm, "renewing", tables) as worker:
        server_id = worker.server_id
        with yard.build(farm.client("c1"), parallel=5 + seed % 3) as build:
            with standing_still([worker]):
                build.wait_for(lambda: len(build.running(server_id)) == worker.slots, "the client knows that they run")
                held, renewals = build.running(server_id), len(worker.events("certificate_renewed"))
                wait_for(lambda: len(worker.events("certificate_renewed")) > renewals, "a certificate is renewed")
            done = build.finish(tmp_path / "ours")
        with yard.build(farm.client("late"), parallel=6) as later:
            later.finish(tmp_path / "later")
        assert {(job_id, done[job_id]["attempt"]) for job_id, _ in held} == held.keys()
        assert build.events("job_failed") == later.events("job_failed") == []
        assert done_at(later, server_id)


# --- what is too much for one worker -----------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds())
def test_a_job_is_killed_for_memory(farm, tmp_path, seed):
    """Where a unit needs more memory than one worker allows, it is done on another, at its second attempt."""
    hungry = Yard(tmp_path / "hungry", 3, 1000 + seed, HUNGRY_HEADER)
    with serving(farm, "small", {"limits": {"job_memory": 96 << 20}}) as victim:
        with hungry.build(farm.client("c1"), parallel=3) as build:
            done = build.finish(tmp_path / "ours")
        killed = failed_at(build, victim.server_id)
        assert killed
        assert {event["code"] for event in killed.values()} == {"killed"}
        assert {event["attempt"] for event in done.values()} <= {1, 2}
        assert not done_at(build, victim.server_id)
