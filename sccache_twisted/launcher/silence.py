"""A daemon that says nothing: one that compiles, or one that is stopped?

Knows how to tell them apart: whoever runs answers a question on a connection of its own, hangs up or refuses; one that
is stopped (SIGSTOP, a debugger, a frozen container) does none of these, while its socket takes callers as before.
Refuses to know what is waited for. A daemon found to be stopped is noted beside its socket: the next callers ask at
once, and a build does not wait its whole patience once a file.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import select
import time
from collections.abc import Iterator

from sccache_twisted.launcher import main

PING = b"\0\0\0\x0dQ\0\0\0\x04ping\0\0\0\0"
READABLE, WRITABLE = select.POLLIN, select.POLLOUT
SENTENCE = "the daemon is silent, as one that is stopped"


def outlast(connection: _socket.socket, event: int) -> None:
    """Wait until the daemon says or takes more, as long as it runs; Lost when it is found to be stopped."""
    path = os.fsencode(connection.getpeername())
    half = main.patience() / 2
    poll = select.poll()
    poll.register(connection.fileno(), event)
    while True:
        noted = os.path.exists(path + b".stuck")
        if poll.poll(0 if noted else half * 1000):
            return
        if not runs(path, min(half, main.FIRST_SECONDS) if noted else half):
            # What came meanwhile counts more.
            if poll.poll(0):
                return
            note(path)
            raise main.Lost(SENTENCE)
        with contextlib.suppress(OSError):
            os.unlink(path + b".stuck")


def connect(connection: _socket.socket, path: bytes) -> None:
    """Connect to a daemon whose queue of callers is full; Lost when it takes none out of it."""
    deadline = time.monotonic() + main.patience() - main.FIRST_SECONDS
    while time.monotonic() < deadline and not os.path.exists(path + b".stuck"):
        with contextlib.suppress(BlockingIOError):
            connection.connect(path)
            return
    note(path)
    raise main.Lost(SENTENCE)


def runs(path: bytes, seconds: float) -> bool:
    """Whether the daemon answers a question, hangs up or refuses within so long a time."""
    try:
        with closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)) as connection:
            main.bound(connection, seconds)
            connection.connect(path)
            connection.send(PING, _socket.MSG_NOSIGNAL)
            connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def closing(connection: _socket.socket) -> Iterator[_socket.socket]:
    """The socket, closed at the end of the block."""
    try:
        yield connection
    finally:
        connection.close()


def note(path: bytes) -> None:
    """Tell the next callers."""
    with contextlib.suppress(OSError):
        os.close(os.open(path + b".stuck", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
