"""A set of files at their own places, with every link that leads to them.

A path is walked component by component as the kernel walks it: each directory and each symbolic link on
the way becomes an entry at its physical place (``/lib`` is a link to ``usr/lib``, the library an entry
below ``/usr/lib``). So no entry ever lies below a link, and the tree can be rebuilt without following any.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from enum import Enum

from attrs import frozen

_MOST_LINKS = 40
_NOT_OURS = (b"/dev", b"/proc", b"/sys")
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG}


class EntryKind(str, Enum):
    """What an entry of a toolchain is."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"


@frozen
class Entry:
    """One member of a toolchain at its absolute path.

    ``mode`` holds permission bits: 0755 for a directory, 0555 or 0444 for a file. ``target`` is a link's as
    spelled. ``stored`` is where the content can be read: on the client the path itself, on a worker the file in
    its store; empty for what is no file.
    """

    path: bytes
    kind: EntryKind
    mode: int = 0o755
    target: bytes = b""
    size: int = 0
    stored: bytes = b""


def file_mode(mode: int) -> int:
    """A file's mode made independent of its owner's: readable by all, executable by all or none, no setuid."""
    return 0o555 if mode & 0o111 else 0o444


Signature = tuple[int, int, int, int, int]
"""(device, inode, size, mtime_ns, ctime_ns); all zero for what does not exist."""

ABSENT: Signature = (0, 0, 0, 0, 0)


def signature_of(found: os.stat_result) -> Signature:
    """What tells a changed file from an unchanged one."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def signature(path: bytes) -> Signature:
    """The signature of a path, links not followed, or :data:`ABSENT`."""
    try:
        found = os.lstat(path)
    except OSError:
        return ABSENT
    return signature_of(found)


def unchanged(directory: bytes, files: Iterable[tuple[bytes, Signature]]) -> bool:
    """Whether names in one directory still have their signatures. One descriptor makes each stat a third cheaper."""
    try:
        inside = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return all(known == ABSENT for _, known in files)
    try:
        for name, known in files:
            try:
                one = os.stat(name, dir_fd=inside, follow_symlinks=False)
            except OSError:
                if known != ABSENT:
                    return False
                continue
            if (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) != known:
                return False
    finally:
        os.close(inside)
    return True


class Collector:
    """Gathers the entries of a toolchain, and what must be watched to know that the gathering still holds.

    ``watched`` holds files, links, directories that were listed, and paths that were looked for and not there.
    Mere directories on the way are not watched: their contents change for reasons that concern nobody.
    Not to be shared between threads.
    """

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.watched: dict[bytes, Signature] = {}

    def add(self, path: bytes) -> bytes | None:
        """Add the file or directory at an absolute path, and all that leads there.

        Answers its physical path; None where there is none, or something that is neither (a device, a socket).
        """
        here, pending, links = b"", _parts(path), 0
        while pending:
            part = pending.pop()
            if part == b"..":
                here = here.rpartition(b"/")[0]
                continue
            place = here + b"/" + part
            entry = self._entry(place)
            if entry is None:
                self._watch_absent(path, place)
                return None
            if entry.kind is EntryKind.LINK:
                links += 1
                if links > _MOST_LINKS:
                    return None
                if entry.target.startswith(b"/"):
                    here = b""
                pending.extend(_parts(entry.target))
            elif entry.kind is EntryKind.FILE and pending:
                return None
            else:
                here = place
        return here or b"/"

    def add_all_in(self, directory: bytes) -> None:
        """Add a directory and every file in it and below it, if it is there."""
        for name in self.listing(directory):
            inside = directory + b"/" + name
            found = self.add(inside)
            if found is not None and self.entries[found].kind is EntryKind.DIRECTORY and not os.path.islink(inside):
                self.add_all_in(inside)

    def listing(self, directory: bytes) -> list[bytes]:
        """The names in a directory, sorted, empty if it is not there; from now on it is watched."""
        physical = self.add(directory)
        if physical is None:
            return []
        before = signature(physical)
        try:
            names = sorted(os.listdir(physical))
        except OSError:
            return []
        self.watched[physical] = before
        return names

    def watch(self, path: bytes) -> None:
        """Watch a file that was read for a decision but is no part of the toolchain."""
        self.watched[path] = signature(path)

    def _entry(self, place: bytes) -> Entry | None:
        known = self.entries.get(place)
        if known is not None:
            return known
        if place in _NOT_OURS:
            return None
        try:
            found = os.lstat(place)
            if stat.S_ISDIR(found.st_mode):
                entry = Entry(place, EntryKind.DIRECTORY)
            elif stat.S_ISLNK(found.st_mode):
                entry = Entry(place, EntryKind.LINK, 0o777, target=os.readlink(place))
            elif stat.S_ISREG(found.st_mode):
                entry = Entry(place, EntryKind.FILE, file_mode(found.st_mode), size=found.st_size, stored=place)
            else:
                return None
        except OSError as problem:
            if problem.errno in _ABSENT:
                return None
            raise
        self.entries[place] = entry
        if entry.kind is not EntryKind.DIRECTORY:
            self.watched[place] = signature_of(found)
        return entry

    def _watch_absent(self, path: bytes, place: bytes) -> None:
        # The first missing component is what would have to appear.
        if not path.startswith(_NOT_OURS):
            self.watched[place] = signature(place)


def _parts(path: bytes) -> list[bytes]:
    """A path's components, last one first, so that ``pop`` walks it."""
    return [part for part in reversed(path.split(b"/")) if part not in {b"", b"."}]
