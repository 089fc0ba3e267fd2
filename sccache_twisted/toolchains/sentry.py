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
import stat
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import define, field, frozen

_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
_DONT_FOLLOW, _MASK_ADD = 0x02000000, 0x20000000
_ALWAYS: Final = _DELETE_SELF | _MOVE_SELF | _DONT_FOLLOW | _MASK_ADD
_OF_FILES: Final = _MODIFY | _ATTRIB | _CLOSE_WRITE | _ALWAYS
_OF_DIRECTORIES: Final = _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ALWAYS
_OWN: Final = {b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"f2fs", b"bcachefs", b"zfs", b"tmpfs", b"overlay"}
"""File systems that nobody changes behind the kernel's back."""

_FIRST_REST_SECONDS: Final = 0.5
_LONGEST_REST_SECONDS: Final = 300.0
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")
_MOUNTS: Final = "/proc/self/mountinfo"


@frozen
class _Mount:
    """A mount: its number, which is its own while it lasts, its place, its device and the name of its file system."""

    number: int
    place: bytes
    device: int
    kind: bytes


@define
class Rest:
    """When to post a sentry: where things are busy it is of little use, so after each the next one waits for longer."""

    _posted: float = field(default=float("-inf"), init=False)
    _seconds: float = field(default=0.0, init=False)

    def is_over(self, now: float) -> bool:
        """Whether one may be posted, by a clock's seconds; that is taken to be done."""
        if now - self._posted < self._seconds:
            return False
        self._posted, self._seconds = now, min(max(_FIRST_REST_SECONDS, 2 * self._seconds), _LONGEST_REST_SECONDS)
        return True

    def stretch(self) -> None:
        """Nobody can watch there."""
        self._seconds = _LONGEST_REST_SECONDS


class Sentry:
    """Watches ``paths``, absolute ones, whether they exist or not. OSError where nobody can watch them.

    A directory among them is watched for its names, a link for where it leads. Of a path with links on its way each
    of these must be among the paths. May be asked in any thread.
    """

    def __init__(self, paths: Iterable[bytes]) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._poll = select.poll()
        self._lock = threading.Lock()
        self._open: list[int] = []
        self.close = weakref.finalize(self, _close, self._open)
        """Watch no more; whoever is forgotten watches no more either. Calling it again is fine."""
        self._quiet = True
        self._watched: set[bytes] = set()
        self._mounted_above: frozenset[_Mount] = frozenset()
        try:
            # Mounts first: what is mounted over something while it is being watched must not be missed.
            self._mounts = os.open(_MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
            self._open.append(self._mounts)
            self._poll.register(self._mounts, select.POLLPRI)
            self._poll.poll(0)  # what happened before it was opened
            self._events = self._told_events()
            self._open.append(self._events)
            self._poll.register(self._events, select.POLLIN)
            self.watch(paths)
        except BaseException:
            self.close()
            raise

    def quiet(self) -> bool:
        """Whether nothing has happened since it was set up; once False, always False."""
        with self._lock:
            for descriptor, _ in self._poll.poll(0) if self._quiet else ():
                # Mounts come and go that concern nobody here.
                self._quiet = self._quiet and descriptor == self._mounts and self._above() == self._mounted_above
            return self._quiet

    def watch(self, paths: Iterable[bytes]) -> None:
        """Watch more. OSError where nobody can: what is seen of these may be told then, or not."""
        new = set(paths).difference(self._watched)
        places = set(new)  # a file can be mounted over as well
        for path in new:
            _add_parents(path, places)
        places -= self._watched
        with self._lock:
            if self._above() != self._mounted_above:
                self._quiet = False
            mounts = list(_mounted(self._mounts))
            self._count_on(self._watched | places, mounts)
        trusted = {mount.device for mount in mounts if mount.kind in _OWN}
        try:
            for place in places:
                self._add(place, trusted)
        except BaseException:
            with self._lock:
                self._count_on(self._watched - places, mounts)
            raise

    def _count_on(self, places: set[bytes], mounts: Iterable[_Mount]) -> None:
        self._watched = places
        self._mounted_above = frozenset(mount for mount in mounts if mount.place in places)

    def _told_events(self) -> int:
        events: int = self._library.inotify_init1(_NONBLOCK | _CLOEXEC)
        if events < 0:
            raise _failure(b"inotify")
        return events

    def _above(self) -> frozenset[_Mount]:
        """The mounts that a watched path leads through."""
        return frozenset(mount for mount in _mounted(self._mounts) if mount.place in self._watched)

    def _add(self, path: bytes, trusted: set[int]) -> None:
        """Watch what is there; of what isn't, the directory above tells when it comes."""
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        if found.st_dev not in trusted:
            raise OSError(f"{os.fsdecode(path)} may change unseen")
        mask = _OF_DIRECTORIES if stat.S_ISDIR(found.st_mode) else _OF_FILES
        if self._library.inotify_add_watch(self._events, ctypes.c_char_p(path), ctypes.c_uint32(mask)) < 0:
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
    text = b""
    while block := os.pread(descriptor, 1 << 16, len(text)):
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
