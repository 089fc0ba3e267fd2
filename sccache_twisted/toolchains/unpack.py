"""Makes on disk what an archive says, below one directory, without ever following what it made.

Every directory is reached from the root one component at a time with O_NOFOLLOW, every file is created with
O_EXCL, and no link is opened. Bits that give privileges are dropped. Not to be shared between threads.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import blake3
from attrs import frozen

from sccache_twisted.errors import WorkerStorage
from sccache_twisted.toolchains.tree import Entry, EntryKind

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PASSABLE = 0o755
"""The mode of every directory on the way to a toolchain's files: jobs run as other uids."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@frozen
class Seal:
    """By what a stored file is known: its content's blake3, and the inode and time that it was verified under."""

    digest: str
    inode: int
    mtime_ns: int


@frozen
class Made:
    """An entry as unpacked; ``seal`` only of files. Its ``stored`` path is relative to the root."""

    entry: Entry
    seal: Seal | None = None


class Unpacker:
    """An :class:`~sccache_twisted.toolchains.archive.ArchiveSink` that writes below ``root``, which must be empty.

    ``reserve`` is told the size of each member before it is written, and may refuse.
    WorkerStorage when the disk refuses.
    """

    def __init__(self, root: bytes, reserve: Callable[[int], None]) -> None:
        self.made: list[Made] = []
        self._reserve = reserve
        self._root = os.open(root, _DIRECTORY)
        self._parent = (b"", os.dup(self._root))
        self._file = -1
        self._entry: Entry | None = None
        self._hash = blake3.blake3()

    def directory(self, path: bytes) -> None:
        """Make a directory."""
        self._reserve(0)
        with _disk(path):
            parent, name = self._place(path)
            os.mkdir(name, PASSABLE, dir_fd=parent)
            os.chmod(name, PASSABLE, dir_fd=parent)  # whatever the umask is
        self.made.append(Made(Entry(b"/" + path, EntryKind.DIRECTORY)))

    def link(self, path: bytes, target: bytes) -> None:
        """Make a symbolic link."""
        self._reserve(0)
        with _disk(path):
            parent, name = self._place(path)
            os.symlink(target, name, dir_fd=parent)
        self.made.append(Made(Entry(b"/" + path, EntryKind.LINK, 0o777, target=target)))

    def begin_file(self, path: bytes, mode: int, size: int) -> None:
        """Create a file."""
        self._reserve(size)
        with _disk(path):
            parent, name = self._place(path)
            self._file = os.open(name, _CREATE, 0o600, dir_fd=parent)
        self._hash = blake3.blake3()
        self._entry = Entry(b"/" + path, EntryKind.FILE, mode, size=size, stored=path)

    def content(self, piece: memoryview) -> None:
        """Write the next piece."""
        self._hash.update(piece)
        with _disk(self._entry.path if self._entry else b""):
            while piece:
                piece = piece[os.write(self._file, piece) :]

    def end_file(self) -> None:
        """Give the file its mode and remember what it is known by."""
        entry = self._entry
        if entry is None:
            return
        with _disk(entry.path):
            os.fchmod(self._file, entry.mode)
            found = os.fstat(self._file)
            os.close(self._file)
        self._file, self._entry = -1, None
        self.made.append(Made(entry, Seal(self._hash.hexdigest(), found.st_ino, found.st_mtime_ns)))

    def close(self) -> None:
        """Let go of all descriptors; may be called again."""
        for descriptor in (self._file, self._parent[1], self._root):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._root = -1
        self._parent = (b"", -1)

    def _place(self, path: bytes) -> tuple[int, bytes]:
        """The descriptor of a member's directory, and the member's last name."""
        parent, _, name = path.rpartition(b"/")
        if parent != self._parent[0]:
            here = os.dup(self._root)
            for part in parent.split(b"/") if parent else ():
                try:
                    inside = os.open(part, _DIRECTORY, dir_fd=here)
                finally:
                    os.close(here)
                here = inside
            os.close(self._parent[1])
            self._parent = (parent, here)
        return self._parent[1], name


class _disk:  # noqa: N801  reads as a statement: with _disk(path)
    """Turns what the operating system refuses into the worker's own failure."""

    def __init__(self, path: bytes) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, OSError):
            raise storage_failure(self._path, problem) from problem


def storage_failure(path: bytes, problem: OSError) -> WorkerStorage:
    """The worker's failure to write or read a file of its stores, as a sentence."""
    what = "the disk is full" if problem.errno in _FULL else problem.strerror or str(problem)
    return WorkerStorage(f"{os.fsdecode(path)} cannot be stored: {what}.")
