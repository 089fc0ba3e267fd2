"""Paths as they are inside a root, walked by the kernel: openat2(2) with RESOLVE_IN_ROOT, as after a chroot(2)."""

import ctypes
import os
import struct

_OPENAT2 = 437
_IN_ROOT = 0x10
_libc = ctypes.CDLL(None, use_errno=True)


def open_inside(root: bytes, path: bytes, flags: int) -> int:
    """A descriptor of what ``path`` names to a process with that root; OSError as such a process would get it."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _IN_ROOT)
        fd = int(_libc.syscall(_OPENAT2, top, path, how, len(how)))
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fsdecode(path))
        return fd
    finally:
        os.close(top)


def content_inside(root: bytes, path: bytes) -> bytes:
    """A file's content."""
    with os.fdopen(open_inside(root, path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
        return stream.read()


def target_inside(root: bytes, path: bytes) -> bytes:
    """Where the symbolic link at a path's end leads."""
    fd = open_inside(root, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.readlink(b"", dir_fd=fd)
    finally:
        os.close(fd)


def is_directory_inside(root: bytes, path: bytes) -> bool:
    """Whether a path leads to a directory."""
    try:
        os.close(open_inside(root, path, os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True
