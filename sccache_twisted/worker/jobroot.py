"""Builds a planned root on disk, collects what a job wrote there, and removes it, whatever the job did to it.

Everything is reached through directory descriptors, one component at a time, no link ever followed. Blocks on
disk: call it in a thread. Refuses to know processes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from attrs import frozen

from sccache_twisted.errors import BadOutput, SandboxFailed, WorkerStorage
from sccache_twisted.model import FileInput, OutputFile
from sccache_twisted.worker.plan import Directory, Link, Mounted, Plan, PlannedOutput, ToolchainFile

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OUTPUT: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_PASSABLE: Final = 0o755
_MOST_UNDECLARED: Final = 1000

Copier = Callable[[FileInput, int, bytes], None]
"""Puts an input's content, with its time and mode, under a name in the directory of a descriptor."""


@frozen
class Owner:
    """Who a job runs as on this machine."""

    uid: int
    gid: int


def build(plan: Plan, root: bytes, copy: Copier, owner: Owner | None) -> None:
    """Make ``root`` as planned; writable directories belong to ``owner``. WorkerStorage, SandboxFailed."""
    with storage(root):
        os.mkdir(root)
        with _opened(root, None) as fd:
            _fill(plan.root, fd, copy, owner)


def _fill(directory: Directory, fd: int, copy: Copier, owner: Owner | None) -> None:
    # The modes are set by name and not by umask: a daemon's umask is 077, and the job's uid must pass.
    os.fchmod(fd, _PASSABLE)
    for name, node in directory.children.items():
        match node:
            case ToolchainFile(stored):
                os.link(stored, name, dst_dir_fd=fd, follow_symlinks=False)
            case FileInput():
                copy(node, fd, name)
            case Link(target):
                os.symlink(target, name, dir_fd=fd)
            case Mounted():
                os.mkdir(name, dir_fd=fd)
                os.chmod(name, _PASSABLE, dir_fd=fd)
            case Directory():
                os.mkdir(name, dir_fd=fd)
                with _opened(name, fd) as inside:
                    _fill(node, inside, copy, owner)
    if directory.writable and owner is not None:
        os.fchown(fd, owner.uid, owner.gid)


@contextmanager
def _opened(name: bytes, parent: int | None, flags: int = _DIRECTORY) -> Iterator[int]:
    fd = os.open(name, flags, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def storage(path: bytes) -> Iterator[None]:
    """Turn what the operating system refuses into the worker's own failure, which names ``path``."""
    try:
        yield
    except OSError as problem:
        where = os.fsdecode(path)
        if problem.errno in _FULL:
            raise WorkerStorage(f"the worker's disk is full below {where}") from problem
        if problem.errno == errno.EXDEV:
            raise SandboxFailed(f"toolchains and {where} must lie on one file system") from problem
        raise WorkerStorage(f"the worker cannot write below {where}: {problem.strerror}") from problem


# --- what the job wrote ---------------------------------------------------------------------------


def collect(root: bytes, outputs: Sequence[PlannedOutput], limit: int) -> tuple[OutputFile, ...]:
    """Read the declared outputs that exist. BadOutput for what is no regular file or over ``limit`` bytes together."""
    found = []
    for output in outputs:
        if output.place:
            with storage(root):
                one = _collect(root, output, limit)
            if one is not None:
                found.append(one)
                limit -= len(one.data)
    return tuple(found)


def _collect(root: bytes, output: PlannedOutput, limit: int) -> OutputFile | None:
    path = os.fsdecode(output.path)
    fd = os.open(root, _DIRECTORY)
    try:
        for index, part in enumerate(output.place):
            last = index == len(output.place) - 1
            inside = os.open(part, _OUTPUT if last else _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inside
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise BadOutput(f"the job left something other than a regular file as {path}")
        if about.st_size > limit:
            raise BadOutput(f"the job's outputs are over the limit: {path} has {about.st_size} bytes")
        data = _read(fd, about.st_size)
        return OutputFile(output.path, data, stat.S_IMODE(about.st_mode) & 0o777)
    except FileNotFoundError:
        return None
    except OSError as problem:
        if problem.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EACCES}:
            # A link, a link or file on the way, a socket, a file that its owner made unreadable.
            raise BadOutput(f"the job left something that cannot be read as {path}: {problem.strerror}") from problem
        raise
    finally:
        os.close(fd)


def _read(fd: int, size: int) -> bytes:
    pieces = []
    while size > 0:
        piece = os.read(fd, size)
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def undeclared(root: bytes, plan: Plan) -> tuple[bytes, ...]:
    """Files in writable directories that were neither planned nor declared; the first thousand of them."""
    declared = {b"/" + b"/".join(output.place) for output in plan.outputs}
    found: list[bytes] = []
    for top in plan.writable:
        node = plan.root
        for part in top.split(b"/"):
            child = node.children.get(part) if part else node
            node = child if isinstance(child, Directory) else Directory()
        _undeclared(root, b"" if top == b"/" else top, node, declared, found)
    return tuple(found)


def _undeclared(root: bytes, path: bytes, planned: Directory, declared: set[bytes], found: list[bytes]) -> None:
    try:
        with os.scandir(root + path) as entries:
            for entry in entries:
                place = path + b"/" + entry.name
                node = planned.children.get(entry.name)
                if node is None and place not in declared:
                    found.append(place)
                elif isinstance(node, Directory) and entry.is_dir(follow_symlinks=False):
                    _undeclared(root, place, node, declared, found)
                if len(found) >= _MOST_UNDECLARED:
                    return
    except OSError:
        return  # the job closed the directory to itself, so there is nothing that it could want back


# --- its end --------------------------------------------------------------------------------------


def remove(path: bytes) -> None:
    """Remove a tree that a hostile job may have shaped: closed directories, any depth, any names. OSError.

    Nothing that lives may still write there. Directories are moved up to the top before they are emptied, so neither
    the length of a path nor the number of descriptors grows with the depth.
    """
    with suppress(FileNotFoundError):
        parent = os.open(os.path.dirname(path) or b".", _DIRECTORY)
        try:
            _remove(parent, os.path.basename(path))
        finally:
            os.close(parent)


def _remove(parent: int, name: bytes) -> None:
    pending = [name]
    count = 0
    while pending:
        here = pending.pop()
        with suppress(PermissionError):
            os.chmod(here, 0o700, dir_fd=parent)
        with _opened(here, parent) as fd:
            with os.scandir(fd) as entries:
                # Names by descriptor come as text, undecodable bytes as surrogates.
                names = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
            deep = []
            for inside, is_directory in names:
                if not is_directory:
                    os.unlink(inside, dir_fd=fd)
                    continue
                try:
                    os.rmdir(inside, dir_fd=fd)
                except OSError:
                    deep.append(inside)
            for inside in deep:
                count += 1
                moved = b"%s.%d" % (name[:200], count)
                os.chmod(inside, 0o700, dir_fd=fd)
                os.rename(inside, moved, src_dir_fd=fd, dst_dir_fd=parent)
                pending.append(moved)
        os.rmdir(here, dir_fd=parent)
