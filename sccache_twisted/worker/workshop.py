"""Opens what a worker works with: directories, stores, uids, control groups, the sandbox's programs.

Blocks on disk for as long as a start takes. What cannot be had is said with a sentence and ends the start; leftovers
of a worker that was killed are removed.
"""

from __future__ import annotations

import fcntl
import os
import platform
from contextlib import ExitStack

from attrs import frozen

from sccache_twisted.config import WorkerSettings
from sccache_twisted.config.files import state_directory
from sccache_twisted.errors import ConfigError, SandboxFailed
from sccache_twisted.storage.blobs import BlobStore
from sccache_twisted.toolchains import ArchiveLimits, ToolchainStore
from sccache_twisted.worker.bubblewrap import Bubblewrap
from sccache_twisted.worker.cgroups import Group, make_groups
from sccache_twisted.worker.executor import Workshop
from sccache_twisted.worker.files import remove, storage
from sccache_twisted.worker.limits import JobLimits
from sccache_twisted.worker.owners import ClaimedUids, parse_uids
from sccache_twisted.worker.starter import starter_program

_PASSABLE = 0o711


def slots_of(settings: WorkerSettings) -> int:
    """How many jobs run at once."""
    return settings.slots or len(os.sched_getaffinity(0))


def machine_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def limits_of(settings: WorkerSettings) -> JobLimits:
    """The bounds on one job."""
    return JobLimits(
        memory_bytes=settings.job_memory_bytes or machine_memory(),
        processes=settings.job_processes,
        wall_seconds=settings.run_seconds,
        # A compiler has one thread, or a few for a moment: who uses twice as much CPU as time does something else.
        cpu_seconds=settings.run_seconds * 2,
        disk_bytes=settings.job_disk_bytes,
        free_bytes=settings.free_space_bytes,
    )


@frozen
class OpenWorkshop:
    """A workshop, and what is to be given back when the worker stops."""

    workshop: Workshop
    held: ExitStack
    bounded: bool

    def groups(self, slots: int) -> list[Group]:
        """A control group for each slot, or none; they are named after this process, so it must be the final one.

        Entering one takes 6 ms. Where a job may use all of the machine's memory that buys nothing.
        """
        made = (make_groups(slots, self.workshop.limits) or []) if self.bounded else []
        for group in made:
            self.held.callback(group.remove)
        return made

    def close(self) -> None:
        """Give back uids, control groups and the directory."""
        self.held.close()


def open_workshop(settings: WorkerSettings) -> OpenWorkshop:
    """Open everything; raises ConfigError, SandboxFailed or WorkerStorage."""
    if settings.builder != "bubblewrap":
        raise ConfigError(
            f"worker.builder = {settings.builder!r} is not available yet: jobs are confined by bubblewrap only."
        )
    slots = slots_of(settings)
    limits = limits_of(settings)
    place = state_directory("worker", settings.directory, os.environ, os.getuid())
    directory = os.path.abspath(os.fsencode(place))
    bubblewrap = Bubblewrap.find(settings.bwrap)
    with ExitStack() as held:
        uids = ClaimedUids([])
        if os.getuid() == 0:
            uids = ClaimedUids.claim(slots, parse_uids(settings.slot_uids))
            held.callback(uids.release)
        jobs = _prepare(directory, held, others=bool(uids.owners))
        trouble = bubblewrap.probe(uids.owners[0] if uids.owners else None)
        if trouble:
            raise SandboxFailed(trouble)
        archives = ArchiveLimits(settings.max_toolchain_bytes, settings.max_toolchain_members)
        workshop = Workshop(
            toolchains=ToolchainStore(directory + b"/toolchains", settings.toolchain_cache_size, archives),
            blobs=BlobStore(directory + b"/blobs", settings.blob_cache_size),
            jobs=jobs,
            bubblewrap=bubblewrap,
            owners=tuple(uids.owners),
            starter=_starter(directory, limits.processes),
            limits=limits,
            max_stream_bytes=settings.max_stream_bytes,
            max_output_bytes=settings.max_output_bytes,
        )
        return OpenWorkshop(workshop, held.pop_all(), bounded=settings.job_memory_bytes > 0)


def _prepare(directory: bytes, held: ExitStack, *, others: bool) -> bytes:
    """Make the worker's directory, take it for this process alone, and empty the place of job roots.

    ``others``: jobs run as other uids, which must be able to reach it.
    """
    jobs = directory + b"/jobs"
    with storage(directory):
        os.makedirs(jobs, exist_ok=True)
        for place in (directory, jobs):
            os.chmod(place, _PASSABLE)
        lock = os.open(directory + b"/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        held.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another worker uses {os.fsdecode(directory)}: set worker.directory.") from None
        for name in os.listdir(jobs):
            remove(jobs + b"/" + name)
    place = os.path.realpath(directory)
    while others and place != b"/":
        place = os.path.dirname(place)
        if not os.stat(place).st_mode & 0o001:
            raise ConfigError(
                f"the uids of jobs cannot enter {os.fsdecode(place)}, where {os.fsdecode(directory)} lies: "
                f'choose another worker.directory, or "chmod o+x" it.'
            )
    return jobs


def _starter(directory: bytes, processes: int) -> bytes:
    """Write the starter program; empty where there is none for this machine."""
    program = starter_program(platform.machine(), processes, platform.release())
    if program is None:
        return b""
    path = directory + b"/starter"
    with storage(path):
        with open(path + b".new", "wb") as out:
            out.write(program)
            os.fchmod(out.fileno(), 0o555)
        os.replace(path + b".new", path)
    return path
