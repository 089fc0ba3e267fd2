"""The TCP sockets of this process, as the kernel has them: what their options are, whoever opened them."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator


@contextlib.contextmanager
def ends(port: int) -> Iterator[list[socket.socket]]:
    """Copies of all connected sockets with a port on either side, those that were accepted and those that dialled."""
    with contextlib.ExitStack() as held:
        yield [held.enter_context(found) for found in _sockets() if _has(found, port)]


def _sockets() -> Iterator[socket.socket]:
    seen = set()
    for name in os.listdir("/proc/self/fd"):
        # The descriptor by which the directory was listed is closed, and its number perhaps that of a copy.
        with contextlib.suppress(OSError):
            found = os.fstat(int(name))
            if stat.S_ISSOCK(found.st_mode) and found.st_ino not in seen:
                seen.add(found.st_ino)
                yield socket.socket(fileno=os.dup(int(name)))


def _has(found: socket.socket, port: int) -> bool:
    if found.family in {socket.AF_INET, socket.AF_INET6}:
        # A listening one has no peer.
        with contextlib.suppress(OSError):
            if port in {found.getsockname()[1], found.getpeername()[1]}:
                return True
    found.close()
    return False


def without_delay(found: socket.socket) -> bool:
    """Whether small messages leave at once."""
    return found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
