"""Memory bounds by control groups, one for each slot, where this process may make them.

Version 2 needs the ``memory`` controller delegated to our own group; version 1 a writable memory hierarchy. Where
neither is, :func:`make_groups` answers None, and the sampler of :mod:`sccache_twisted.worker.limits` has to do.
Entering a group costs 6 ms of waiting, none of CPU: do it in a thread, while the job's root is being built.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import frozen

from sccache_twisted.worker.limits import JobLimits

_PREFIX: Final = "sccache-twisted-"
_LEFTOVER: Final = re.compile(r"sccache-twisted-(\d+)(?:-\d+)?\Z")


@frozen
class Group:
    """A slot's group. ``unified``: of version 2."""

    path: Path
    unified: bool

    def enter(self, pid: int) -> None:
        """Put a process, and so its descendants, under the group's bounds; OSError."""
        (self.path / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def oom_kills(self) -> int:
        """How many processes the kernel has killed here for memory, ever."""
        name = "memory.events" if self.unified else "memory.oom_control"
        with suppress(OSError):
            for line in (self.path / name).read_text(encoding="ascii").splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        return 0

    def remove(self) -> None:
        """Remove the group, if nothing lives in it."""
        with suppress(OSError):
            self.path.rmdir()


def make_groups(slots: int, limits: JobLimits, mounts: str = "/sys/fs/cgroup") -> list[Group] | None:
    """A group for each slot with the limits' bounds set, or None where groups can't be made."""
    own = _own_groups()
    for unified, parent in ((True, own.get("")), (False, own.get("memory"))):
        if parent is None:
            continue
        top = _place(Path(mounts), parent, unified=unified)
        if top is None:
            continue
        with suppress(OSError):
            if unified and not _delegate(top):
                continue
            _sweep(top)
            return [_make(top / f"{_PREFIX}{os.getpid()}-{slot}", limits, unified=unified) for slot in range(slots)]
    return None


def _own_groups() -> dict[str, str]:
    """Our own group by controller, "" for version 2 (cgroups(7))."""
    found = {}
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                found[controller] = path
    return found


def _place(mounts: Path, path: str, *, unified: bool) -> Path | None:
    hierarchy = mounts if unified else mounts / "memory"
    if not (hierarchy / ("cgroup.controllers" if unified else "memory.limit_in_bytes")).exists():
        return None
    own = hierarchy / path.lstrip("/")
    # In a container the path may be the host's, of which only the last part is mounted here.
    return own if own.is_dir() else hierarchy


def _delegate(top: Path) -> bool:
    """Have the memory controller in groups below ``top``; version 2 wants no process in ``top`` itself then."""
    if "memory" not in (top / "cgroup.controllers").read_text(encoding="ascii").split():
        return False
    if "memory" in (top / "cgroup.subtree_control").read_text(encoding="ascii").split():
        return True
    ours = str(os.getpid())
    if (top / "cgroup.procs").read_text(encoding="ascii").split() == [ours]:
        leaf = top / f"{_PREFIX}{ours}"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(ours, encoding="ascii")
    (top / "cgroup.subtree_control").write_text("+memory +pids", encoding="ascii")
    return True


def _make(path: Path, limits: JobLimits, *, unified: bool) -> Group:
    path.mkdir(exist_ok=True)
    if unified:
        (path / "memory.max").write_text(str(limits.memory_bytes), encoding="ascii")
        with suppress(OSError):
            (path / "pids.max").write_text(str(limits.processes + 2), encoding="ascii")
        with suppress(OSError):
            if (path / "memory.oom.group").exists():
                # All or none: whoever waits for a process that was killed would wait for ever.
                (path / "memory.oom.group").write_text("1", encoding="ascii")
    else:
        (path / "memory.limit_in_bytes").write_text(str(limits.memory_bytes), encoding="ascii")
    for swap in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
        with suppress(OSError):
            if (path / swap).exists():
                (path / swap).write_text("0" if unified else str(limits.memory_bytes), encoding="ascii")
    return Group(path, unified)


def _sweep(top: Path) -> None:
    """Remove groups of workers that were killed."""
    for path in top.glob(f"{_PREFIX}*"):
        owner = _LEFTOVER.match(path.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            with suppress(OSError):
                path.rmdir()
