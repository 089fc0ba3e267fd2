"""Room on the worker's disk and in its memory: no job takes it from the others, and none that lost a part goes on."""

import os
import subprocess
import time

import attrs
import pytest
import pytest_twisted
from worker_confinement_kit import body, find_process, processes, until
from worker_kit import LIMITS, TRY, Shop, program_in

from sccache_twisted.errors import JobKilled, WorkerStorage
from sccache_twisted.model import DirectoryInput, JobId, Try
from sccache_twisted.worker.cgroups import make_groups
from sccache_twisted.worker.limits import lacking

# Bounds on time are judged, so nothing else may run.
pytestmark = [pytest.mark.root, pytest.mark.alone]

MIB = 1 << 20
DISK = 160
"""MiB; a twentieth of it is to stay free."""
ROOMY = attrs.evolve(LIMITS, disk_bytes=1 << 30, free_bytes=1 << 30)
WRITE = r"""static char b[1 << 20] = {1}; int f = open("/out/a.o", O_WRONLY | O_CREAT, 0644);
for (int i = 0; i < atoi(argv[1]); i++) if (write(f, b, sizeof b) < 0) return 9;
if (argc > 2) for (;;) pause();
struct statvfs disk;
do { usleep(10000); } while (statvfs("/out", &disk) || disk.f_bavail * disk.f_frsize < 60 << 20);"""
"""Writes so many MiB, and stays: for ever, or until the disk has room again."""
PARENT = r"""if (fork() == 0) for (;;) { char *p = malloc(1 << 20); memset(p, 1, 1 << 20); usleep(100); }
for (;;) pause();"""


@pytest.fixture
def small_disk(reactor, directory, claimed):
    """A shop on a disk of its own, and that disk's place."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=711", "tmpfs", directory], check=True)
    shop = Shop(reactor, directory, claimed, limits=ROOMY, max_output_bytes=64 * MIB)
    yield shop
    shop.close()
    subprocess.run(["umount", directory], check=True)


def writes(shop, mib, *more):
    source = "#include <sys/statvfs.h>\n" + body(WRITE)
    action = program_in(shop, source, outputs=[b"/out/a.o"], argv=(b"%d" % mib, *more), name="writer")
    return attrs.evolve(action, inputs=(*action.inputs, DirectoryInput(b"/out")))


def fill(shop, left):
    """A file that leaves so many bytes of a shop's disk."""
    path = shop.directory / "filler"
    disk = os.statvfs(shop.directory)
    with open(path, "wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, disk.f_bavail * disk.f_frsize - left)
    return path


@pytest_twisted.ensureDeferred
async def test_who_writes_most_goes_before_the_disk_is_full(small_disk, reactor):
    """On a disk that gets short the job that wrote most is stopped, without blame; the other one's result is whole."""
    shop = small_disk
    large = shop.executor.run(TRY, writes(shop, 110, b"stay"), 0)
    await until(reactor, lambda: find_process(b"/bin/writer"))
    small = shop.executor.run(Try(JobId("2"), 1), writes(shop, 40), 1)
    with pytest.raises(WorkerStorage, match=r"had written most: 1[01]\d MiB"):
        await large
    assert len(processes(b"/bin/writer")) <= 1
    result = await small
    assert [len(output.data) for output in result.outputs] == [40 * MIB]
    await shop.executor.clear()
    assert lacking(ROOMY, shop.executor.workshop.jobs) == 0


@pytest_twisted.ensureDeferred
async def test_on_a_full_disk_no_job_is_begun(small_disk):
    """While the disk has too little room every job is refused as the worker's trouble; with room again they run."""
    shop = small_disk
    filler = fill(shop, 6 * MIB)
    with pytest.raises(WorkerStorage, match="almost full, so it runs no job"):
        await shop.executor.run(TRY, writes(shop, 1), 0)
    filler.unlink()
    result = await shop.executor.run(TRY, writes(shop, 1), 0)
    assert [len(output.data) for output in result.outputs] == [MIB]
    await shop.executor.clear()


def test_of_a_small_disk_a_twentieth_is_enough(small_disk):
    """A bound that the whole disk could not keep is none: so a worker on a small disk works all the same."""
    place = os.fsencode(small_disk.directory)
    assert lacking(ROOMY, place) == 0
    assert lacking(LIMITS, place) == 0
    fill(small_disk, MIB)
    assert 0 < lacking(ROOMY, place) <= DISK * MIB // 20
    assert lacking(attrs.evolve(ROOMY, free_bytes=MIB // 2), place) == 0
    assert lacking(LIMITS, place) == 0


@pytest_twisted.ensureDeferred
async def test_who_lost_a_process_to_the_bound_on_memory_is_over(open_shop):
    """When one process of a job is killed for memory, the others do not keep its slot till its time is up."""
    limits = attrs.evolve(LIMITS, memory_bytes=100 * MIB)
    groups = make_groups(4, limits) or ()
    shop = open_shop(limits=limits, groups=groups)
    try:
        began = time.monotonic()
        with pytest.raises(JobKilled, match="memory"):
            await shop.executor.run(TRY, program_in(shop, body(PARENT), name="parent-probe"), 0)
        assert time.monotonic() - began < limits.wall_seconds / 4
        assert find_process(b"/bin/parent-probe") is None
    finally:
        for group in groups:
            group.remove()
            assert not group.path.exists()
