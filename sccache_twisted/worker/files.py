"""Files by descriptor, one component at a time, no link ever followed; and the removal of trees that lie in wait."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sccache_twisted.errors import SandboxFailed, WorkerStorage

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_OPENAT2: Final = 437
_NO_SYMLINKS: Final = struct.pack("QQQ", DIRECTORY, 0, 0x04)  # struct open_how with RESOLVE_NO_SYMLINKS
_UNKNOWN: Final = {errno.ENOSYS, errno.EPERM}
_libc: Final = ctypes.CDLL(None, use_errno=True)


@contextmanager
def opened(name: bytes, parent: int | None, flags: int = DIRECTORY) -> Iterator[int]:
    """A descriptor of ``name`` in the directory open as ``parent``, closed at the end."""
    fd = os.open(name, flags, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def open_below(path: bytes, base: int) -> int:
    """A descriptor of the directory at a relative path, no link followed on the way to it either; OSError.

    For directories that somebody may move while we look. Before Linux 5.6 only the last name is safe.
    """
    fd = int(_libc.syscall(_OPENAT2, base, path, _NO_SYMLINKS, len(_NO_SYMLINKS)))
    if fd >= 0:
        return fd
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return os.open(path, DIRECTORY, dir_fd=base)
    raise OSError(number, os.strerror(number), path)


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


def remove(path: bytes) -> None:
    """Remove a tree that a hostile job may have shaped: closed directories, any depth, any names. OSError.

    Nothing that lives may still write there. Directories are moved up to the top before they are emptied, so neither
    the length of a path nor the number of descriptors grows with the depth.
    """
    with suppress(FileNotFoundError):
        parent = os.open(os.path.dirname(path) or b".", DIRECTORY)
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
        with opened(here, parent) as fd:
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
