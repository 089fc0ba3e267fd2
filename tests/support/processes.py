"""Other processes as facts in /proc: who runs below whom, and what a directory's tenants are."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

# What a driver starts to do the work; the driver itself is not among them.
COMPILERS = frozenset({"cc1", "cc1plus", "clang"})
_DEAD = frozenset({"Z", "X"})


@frozen
class Process:
    """One process that is not dead: its number, its parent's, and its name as the kernel keeps it."""

    pid: int
    parent: int
    name: str


def processes() -> dict[int, Process]:
    """All of this machine's live processes by pid."""
    return {found.pid: found for name in os.listdir("/proc") if name.isdigit() if (found := _read(int(name)))}


def below(ancestor: int, among: Mapping[int, Process] | None = None) -> list[Process]:
    """The live processes of which ``ancestor`` is a parent, or a parent's parent, and so on; of these, or of all."""
    known = processes() if among is None else among

    def descends(process: Process) -> bool:
        while process.parent in known and process.pid != process.parent:
            if process.parent == ancestor:
                return True
            process = known[process.parent]
        return False

    return [process for process in known.values() if descends(process)]


def compilers_below(ancestor: int) -> list[Process]:
    """The compilers proper that run on behalf of a process, a worker for instance."""
    return [process for process in below(ancestor) if process.name in COMPILERS]


def command_line(pid: int) -> tuple[bytes, ...]:
    """The words that a process was started with; none when it is gone."""
    return tuple(_content(f"/proc/{pid}/cmdline").split(b"\0")[:-1])


def with_words(*words: bytes) -> Iterator[int]:
    """The live processes whose command line holds all of these words."""
    return (pid for pid in processes() if set(words) <= set(command_line(pid)))


def with_variable(name: str, value: str) -> Iterator[int]:
    """The live processes that were started with an environment variable of that value."""
    wanted = f"{name}={value}".encode()
    return (pid for pid in processes() if wanted in _content(f"/proc/{pid}/environ").split(b"\0"))


def tenants(directory: Path) -> list[int]:
    """The live processes that work in a directory or below it."""
    inside = f"{directory.resolve()}/"
    found = []
    for pid in processes():
        try:
            where = os.readlink(f"/proc/{pid}/cwd")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if f"{where}/".startswith(inside):
            found.append(pid)
    return found


def _read(pid: int) -> Process | None:
    told = _content(f"/proc/{pid}/stat").decode("utf-8", "replace")
    if not told:
        return None
    name = told[told.index("(") + 1 : told.rindex(")")]
    state, parent = told[told.rindex(")") + 1 :].split()[:2]
    return None if state in _DEAD else Process(pid, int(parent), name)


def _content(path: str) -> bytes:
    """A file of /proc; empty when its process is gone, or is none of our business."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
