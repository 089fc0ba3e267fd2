"""A tree that lies beside what is tested and that nobody may touch: not a byte, not a mode, not a look into a file.

The kernel itself tells of every opening, reading, linking and changing (inotify(7)); a picture of content, modes, times
and inodes stands behind it.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

SECRET = b"what nobody may read"
_ALL_EVENTS = 0xFFF
_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Sentinel:
    """Files, directories, links, a FIFO and a socket below ``place``, and what the kernel heard of them."""

    def __init__(self, place: bytes) -> None:
        self.place = place
        os.makedirs(place + b"/d/e", 0o755)
        os.mkdir(place + b"/closed", 0o700)
        for name, mode in ((b"secret", 0o600), (b"public", 0o666), (b"d/a.o", 0o644), (b"d/e/x", 0o755)):
            with open(place + b"/" + name, "wb") as stream:
                stream.write(SECRET)
            os.chmod(place + b"/" + name, mode)
        os.chmod(place, 0o777)
        os.symlink(b"secret", place + b"/link")
        os.symlink(b"../d", place + b"/d/loop")
        os.mkfifo(place + b"/fifo", 0o666)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(place + b"/socket")
        self._before = self._picture()
        self._watch = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._watch >= 0
        self._names: dict[int, bytes] = {}
        for path in [place, *self._paths()]:
            if not os.path.islink(path):
                number = _libc.inotify_add_watch(self._watch, path, _ALL_EVENTS)
                assert number >= 0, path
                self._names[number] = path

    def heard(self) -> list[str]:
        """What was done with anything of it since the last time, one line a deed."""
        told = []
        try:
            data = os.read(self._watch, 1 << 16)
        except BlockingIOError:
            return []
        while data:
            number, mask, _, size = _EVENT.unpack_from(data)
            name = data[_EVENT.size : _EVENT.size + size].rstrip(b"\0")
            data = data[_EVENT.size + size :]
            assert mask & _OVERFLOW == 0
            told.append(f"{mask:#x} {os.fsdecode(self._names[number])} {os.fsdecode(name)}")
        return told

    def untouched(self) -> None:
        """AssertionError unless nothing was done with it, and all is as it was."""
        assert self.heard() == []
        assert self._picture() == self._before
        self.heard()  # the picture's own looks

    def close(self) -> None:
        """Stop to watch."""
        os.close(self._watch)

    def _paths(self) -> Iterator[bytes]:
        for here, directories, files in os.walk(self.place):
            for name in sorted([*directories, *files]):
                yield os.path.join(here, name)

    def _picture(self) -> dict[bytes, object]:
        found: dict[bytes, object] = {}
        for path in [self.place, *self._paths()]:
            about = os.lstat(path)
            content: object = None
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as stream:
                    content = stream.read()
            key = (about.st_ino, about.st_mode, about.st_uid, about.st_gid, about.st_nlink, about.st_size)
            found[path] = (key, about.st_mtime_ns, about.st_ctime_ns, content)
        return found


@contextmanager
def sentinel(place: bytes) -> Iterator[Sentinel]:
    """Such a tree, watched for as long as the block lasts."""
    made = Sentinel(place)
    try:
        yield made
    finally:
        made.close()
