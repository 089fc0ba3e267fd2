"""Bounds on a job's whole process tree: memory, processes, CPU, time and disk.

Kernel limits are set on the sandbox's first process (:func:`kernel_bounds`), memory is bounded by a cgroup where one
can be made (:mod:`sccache_twisted.worker.cgroups`). What the kernel can't bound for a tree is measured
from outside (:func:`measure`) several times a second, and whoever is over a bound is killed. Blocks on /proc and
directories: call :func:`measure` in a thread.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from attrs import frozen

from sccache_twisted.worker.files import open_below

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_OPEN_FILES: Final = 4096
_MOST_ENTRIES: Final = 100_000
_MOST_BASES: Final = 100
_LONG: Final = 1000
_TOO_MUCH: Final = 1 << 40
_ENOUGH: Final = 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@frozen
class JobLimits:
    """What one job may use, all its processes together, and what of the disk all jobs must leave. Bytes and seconds."""

    memory_bytes: int
    processes: int
    wall_seconds: float
    cpu_seconds: float
    disk_bytes: int
    free_bytes: int = 0


@frozen
class Usage:
    """What a process tree uses at one moment. ``memory_bytes`` is what belongs to its processes alone."""

    processes: int = 0
    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    disk_bytes: int = 0


def exceeded(limits: JobLimits, usage: Usage) -> str:
    """Which bound a tree is over, as a sentence; empty if none."""
    if usage.memory_bytes > limits.memory_bytes:
        return f"the job used {usage.memory_bytes >> 20} MiB of memory; {limits.memory_bytes >> 20} MiB are allowed"
    if usage.processes > limits.processes:
        return f"the job started more than the {limits.processes} processes that are allowed"
    if usage.cpu_seconds > limits.cpu_seconds:
        return f"the job used more than the {limits.cpu_seconds:.0f} CPU seconds that are allowed"
    if usage.disk_bytes > limits.disk_bytes:
        return f"the job wrote {usage.disk_bytes >> 20} MiB to disk; {limits.disk_bytes >> 20} MiB are allowed"
    return ""


def kernel_bounds(limits: JobLimits, *, own_uid: bool) -> list[bytes]:
    """Options of prlimit(1) for what the kernel can bound, none above what this process may use itself.

    They are set by a program in front of the sandbox, since root in a container often lacks CAP_SYS_RESOURCE and may
    not set them on a process of another uid. ``own_uid``: the job runs as a uid of its own, so that the kernel can
    count its processes.
    """
    wanted = {
        b"core": (resource.RLIMIT_CORE, 0),
        b"fsize": (resource.RLIMIT_FSIZE, limits.disk_bytes),
        b"nofile": (resource.RLIMIT_NOFILE, _OPEN_FILES),
        b"cpu": (resource.RLIMIT_CPU, max(1, int(limits.cpu_seconds) + 1)),
    }
    # The exact bound is the starter's, inside (worker/starter.py); this is for kernels and machines that have none.
    # Alone with its uid a job is counted with the sandbox's own processes. Where it shares the uid of a user and
    # all his jobs, the kernel holds a fork bomb within some thousands until the sampler sees and kills it.
    processes = limits.processes + 8 if own_uid else 2 * _tasks_of(os.getuid()) + 16 * limits.processes + 1024
    wanted[b"nproc"] = (resource.RLIMIT_NPROC, processes)
    options = []
    for name, (what, value) in wanted.items():
        _, hard = resource.getrlimit(what)
        options.append(b"--%s=%d" % (name, value if hard == resource.RLIM_INFINITY else min(value, hard)))
    return options


def _tasks_of(uid: int) -> int:
    """How many tasks a user has on this machine, as RLIMIT_NPROC counts them."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == uid:
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count


def measure(roots: Sequence[int]) -> dict[int, Usage]:
    """What the process trees below these pids use, of the disk only what has no name; one that is gone uses nothing.

    Where the kernel names children this costs what the trees are large, however many processes the machine has.
    """
    children = _named_children if os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children") else _searched()
    return {root: _sum(root, children) for root in roots}


def _read(path: str) -> bytes:
    """A file of /proc, whole; OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(fd, 1 << 16)]
        while parts[-1]:
            parts.append(os.read(fd, 1 << 16))
    finally:
        os.close(fd)
    return b"".join(parts)


def _stat(pid: int | str) -> list[bytes]:
    """The fields of a process's ``stat`` from its state on (proc(5)); OSError."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _named_children(pid: int) -> list[int]:
    """A process's children, by the kernel's list for each of its threads; one that ends meanwhile may hide others."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def _searched() -> Callable[[int], Sequence[int]]:
    """The same from every process's word for its parent, for kernels without such lists (CONFIG_PROC_CHILDREN)."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                children.setdefault(int(_stat(name)[1]), []).append(int(name))
    return lambda pid: children.get(pid, ())


def _process(pid: int) -> tuple[int, float]:
    """A process's own memory in bytes, and CPU seconds, its dead children's included (proc(5)); OSError."""
    _, resident, shared, *_ = _read(f"/proc/{pid}/statm").split()
    ticks = sum(map(int, _stat(pid)[11:15]))
    return (int(resident) - int(shared)) * _PAGE, ticks / _TICKS


def _sum(root: int, children: Callable[[int], Sequence[int]]) -> Usage:
    processes, memory, cpu = 0, 0, 0.0
    unnamed: dict[tuple[int, int], tuple[int, bool]] = {}
    seen: set[int] = set()
    pending = [root]
    while pending:
        pid = pending.pop()
        # What ends while we look may give its pid to somebody else.
        if pid in seen:
            continue
        seen.add(pid)
        with suppress(OSError, IndexError, ValueError):
            own, used = _process(pid)
            processes += 1
            memory += own
            cpu += used
            _find_unnamed(pid, unnamed)
        pending += children(pid)
    memory += sum(size for size, in_memory in unnamed.values() if in_memory)
    return Usage(processes, memory, cpu, sum(size for size, in_memory in unnamed.values() if not in_memory))


def _find_unnamed(pid: int, found: dict[tuple[int, int], tuple[int, bool]]) -> None:
    """Open files without a name, by device and inode: their bytes, and whether they are memory and not disk.

    No walk over directories sees them, and no process's own memory holds them.
    """
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                path = f"/proc/{pid}/fd/{name}"
                leads_to = os.readlink(path)
                if leads_to.endswith(" (deleted)"):
                    about = os.stat(path)
                    key = (about.st_dev, about.st_ino)
                    found[key] = (about.st_blocks * 512, leads_to.startswith("/memfd:"))


def disk_usage(directories: Iterable[bytes]) -> int:
    """Bytes of disk that files below these directories take; a tree too large or deep to be walked takes a terabyte."""
    total, seen = 0, 0
    bases: list[int] = []
    pending: list[tuple[int, bytes]] = []
    try:
        for directory in directories:
            with suppress(OSError):
                bases.append(os.open(directory, _DIRECTORY))
                pending.append((bases[-1], b"."))
        while pending:
            base, path = pending.pop()
            try:
                fd = open_below(path, base)
            except OSError:
                continue  # gone, closed by the job to itself, or no directory any more
            keep = len(path) > _LONG
            bases += [fd] if keep else []
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        seen += 1
                        with suppress(OSError):
                            total += entry.stat(follow_symlinks=False).st_blocks * 512
                            if entry.is_dir(follow_symlinks=False):
                                # Paths have an end, trees need not: go on from here where one becomes long.
                                name = os.fsencode(entry.name)
                                pending.append((fd, name) if keep else (base, path + b"/" + name))
            finally:
                if not keep:
                    os.close(fd)
            if seen > _MOST_ENTRIES or len(bases) > _MOST_BASES:
                return _TOO_MUCH
    finally:
        for fd in bases:
            os.close(fd)
    return total


def lacking(limits: JobLimits, place: bytes) -> int:
    """How many bytes too few are free on the disk of ``place``; OSError. Of a small disk a twentieth is enough."""
    disk = os.statvfs(place)
    wanted = min(limits.free_bytes, disk.f_blocks * disk.f_frsize // _ENOUGH)
    return max(0, wanted - disk.f_bavail * disk.f_frsize)


def machine_oom_kills() -> int:
    """How many processes the kernel has killed for memory since the machine started."""
    with suppress(OSError, ValueError), open("/proc/vmstat", "rb") as stream:
        for line in stream:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0
