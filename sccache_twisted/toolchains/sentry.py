"""Whether anything may have changed about some files since the last look, answered by the kernel in one call.

A toolchain is some hundred files that hardly ever change, and every call of a compiler depends on all of them: a stat
for each costs as much as the rest of a cache hit. So the kernel is asked to tell (inotify(7)), of the files, of
every directory on the way to them, and of mounts. It has told by the time that a change is complete, so silence
means that what was true at the last look is true now. Where it can't be trusted to tell there is no sentry: on file
systems that others change as well, and where there are too many watches. What is written through a memory map that
outlives its file descriptor goes unseen.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import weakref
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import frozen

_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
_DONT_FOLLOW, _ONLY_DIRECTORIES = 0x02000000, 0x01000000
_OF_FILES: Final = _MODIFY | _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF | _DONT_FOLLOW
_OF_DIRECTORIES: Final = (
    _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _DONT_FOLLOW | _ONLY_DIRECTORIES
)
_OWN: Final = {b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"f2fs", b"bcachefs", b"zfs", b"tmpfs", b"overlay"}
"""File systems that nobody changes behind the kernel's back."""

_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")
_MOUNTS: Final = "/proc/self/mountinfo"


@frozen
class _Mount:
    """A mount: its number, which is its own while it lasts, its place, its device and the name of its file system."""

    number: int
    place: bytes
    device: int
    kind: bytes


class Sentry:
    """Watches ``paths``, absolute ones, whether they exist or not. OSError where nobody can watch them."""

    def __init__(self, paths: Iterable[bytes]) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._poll = select.poll()
        self._open: list[int] = []
        self.close = weakref.finalize(self, _close, self._open)
        """Watch no more; whoever is forgotten watches no more either. Calling it again is fine."""
        self._quiet = True
        self._directories: set[bytes] = set()
        try:
            self._watch(paths)
        except BaseException:
            self.close()
            raise

    def quiet(self) -> bool:
        """Whether nothing has happened since it was set up; once False, always False."""
        for descriptor, _ in self._poll.poll(0) if self._quiet else ():
            # Mounts come and go that concern nobody here.
            self._quiet = self._quiet and descriptor == self._mounts and self._above() == self._mounted_above
        return self._quiet

    def _watch(self, paths: Iterable[bytes]) -> None:
        # Mounts first: what is mounted over something while it is being watched must not be missed.
        self._mounts = os.open(_MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
        self._open.append(self._mounts)
        self._poll.register(self._mounts, select.POLLPRI)
        self._poll.poll(0)  # what happened before it was opened
        trusted = {mount.device for mount in _mounted(self._mounts) if mount.kind in _OWN}
        events = self._library.inotify_init1(_NONBLOCK | _CLOEXEC)
        if events < 0:
            raise _failure(b"inotify")
        self._open.append(events)
        self._poll.register(events, select.POLLIN)
        watched = tuple(dict.fromkeys(paths))
        for path in watched:
            _add_parents(path, self._directories)
        self._directories.update(watched)  # a file can be mounted over as well
        self._mounted_above = self._above()
        for path in watched:
            self._add(events, path, _OF_FILES, trusted)
        for directory in self._directories.difference(watched):
            self._add(events, directory, _OF_DIRECTORIES, trusted)

    def _above(self) -> frozenset[_Mount]:
        """The mounts that a watched path leads through."""
        return frozenset(mount for mount in _mounted(self._mounts) if mount.place in self._directories)

    def _add(self, events: int, path: bytes, mask: int, trusted: set[int]) -> None:
        """Watch what is there; of what isn't, the directory above tells when it comes."""
        try:
            device = os.lstat(path).st_dev
        except (FileNotFoundError, NotADirectoryError):
            return
        if device not in trusted:
            raise OSError(f"{os.fsdecode(path)} may change unseen")
        if self._library.inotify_add_watch(events, ctypes.c_char_p(path), ctypes.c_uint32(mask)) < 0:
            problem = _failure(path)
            if not isinstance(problem, FileNotFoundError | NotADirectoryError):
                raise problem


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _add_parents(path: bytes, directories: set[bytes]) -> None:
    while path != b"/":
        path = os.path.dirname(path)
        if path in directories:
            return
        directories.add(path)


def _mounted(descriptor: int) -> Iterator[_Mount]:
    """Every mount of this process's world (proc(5))."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = b""
    while block := os.read(descriptor, 1 << 16):
        text += block
    for line in text.splitlines():
        before, _, after = line.partition(b" - ")
        number, _, device, _, place = before.split()[:5]
        major, _, minor = device.partition(b":")
        place = _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), place)
        yield _Mount(int(number), place, os.makedev(int(major), int(minor)), after.split()[0])


def _failure(path: bytes) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), os.fsdecode(path))
