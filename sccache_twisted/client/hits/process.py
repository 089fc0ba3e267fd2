"""A hit server: takes callers from the daemon's socket, answers hits, hands everything else to the daemon.

One thread, one caller at a time, no reactor: it never waits for anybody but its disk. A request is looked at and left
in the socket until it is answered, so that what is handed over is whole. Ends when the daemon does, or says so.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
import sys

from sccache_twisted import __version__
from sccache_twisted.client.cache.quick import Hit
from sccache_twisted.client.callers import World
from sccache_twisted.client.hits.answering import Answering, served
from sccache_twisted.errors import SccacheTwistedError
from sccache_twisted.wire import hits as messages
from sccache_twisted.wire import launcher
from sccache_twisted.wire.frames import FrameDecoder

_LENGTH = struct.Struct(">I")
_REQUEST = b"R"
_MOST_REQUEST = 192 << 10
"""Of what doesn't fit into a socket's buffer, only the beginning could be seen."""

_MOST_ANSWER = 64 << 10
"""What a new socket takes at once: nobody waits here for a launcher that reads slowly."""

_PATIENCE_MS = 50
_PR_SET_PDEATHSIG = 1
_PIECE = 1 << 16
_FEW = 8
"""Callers that are taken before the daemon is listened to again."""


class _Over(Exception):
    """The daemon has gone, or wants us to."""


class HitServer:
    """Serves ``listener``; ``link`` leads to the daemon. Both become its own."""

    def __init__(self, listener: socket.socket, link: socket.socket) -> None:
        self._listener = listener
        self._link = link
        self._decoder = FrameDecoder(messages.MAX_FRAME)
        self._answering: Answering | None = None
        self._world = World.of("self")
        self._request = bytearray(_MOST_REQUEST)

    def run(self) -> None:
        """Serve until the daemon has gone, or wants us to."""
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        try:
            while self._answering is None:
                poll.poll()
                self._listen()
            poll.register(self._listener, select.POLLIN)
            self._say(messages.Ready())
            while True:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if self._link.fileno() in ready:
                    self._listen()
                if self._listener.fileno() in ready:
                    self._take_some(self._answering)
        except _Over:
            return

    def _listen(self) -> None:
        """Hear what the daemon has to say."""
        try:
            data = self._link.recv(_PIECE)
        except OSError as problem:
            raise _Over from problem
        if not data:
            raise _Over
        for kind, payload in self._decoder.feed(data):
            match messages.decode(kind, payload):
                case messages.Terms() as terms:
                    if terms.version != __version__:
                        raise SystemExit(f"The daemon is version {terms.version}, what is installed is {__version__}.")
                    _end_with(terms.parent)
                    self._answering = Answering(terms)
                case messages.Compilers() as compilers if self._answering is not None:
                    self._answering.learn(compilers)
                case messages.Ping():
                    self._say(messages.Pong())

    def _say(self, message: messages.Message) -> None:
        try:
            self._link.sendall(messages.encode(message))
        except OSError as problem:
            raise _Over from problem

    def _take_some(self, answering: Answering) -> None:
        for _ in range(_FEW):
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return  # another process was faster, or the caller has gone
            with connection:
                self._serve(answering, connection)

    def _serve(self, answering: Answering, connection: socket.socket) -> None:
        trouble = ""
        try:
            size = self._look(connection)
            found = self._found(answering, size) if size else None
        except SccacheTwistedError:
            found = None  # what is wrong with it, the daemon will say
        except Exception as problem:  # noqa: BLE001 - the daemon tells of it, and decides the call
            found, trouble = None, f"{type(problem).__name__}: {problem}"
        if found is None:
            self._hand_over(connection, trouble)
            return
        hit, answer = found
        self._say(served(hit))
        try:
            # Closing with something unread would take our answer away from its reader.
            connection.recv(size)
            connection.send(answer, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return  # the launcher has gone; what it asked for is done

    def _look(self, connection: socket.socket) -> int:
        """How long the request is that has come, whole and alone; 0 for anything else."""
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        if not poll.poll(_PATIENCE_MS) or self._world is None or self._world.stranger(connection):
            return 0
        size = connection.recv_into(self._request, 0, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        whole = size > _LENGTH.size and size == _LENGTH.size + _LENGTH.unpack_from(self._request)[0]
        return size if whole and self._request[_LENGTH.size : _LENGTH.size + 1] == _REQUEST else 0

    def _found(self, answering: Answering, size: int) -> tuple[Hit, bytes] | None:
        message = launcher.decode(_REQUEST, bytes(memoryview(self._request)[_LENGTH.size + 1 : size]))
        if not isinstance(message, launcher.LaunchRequest):
            return None
        hit = answering.hit(message)
        if hit is None:
            return None
        answer = launcher.encode(launcher.Done(0, hit.entry.stdout, hit.entry.stderr))
        return (hit, answer) if len(answer) <= _MOST_ANSWER else None

    def _hand_over(self, connection: socket.socket, trouble: str) -> None:
        frame = messages.encode(messages.HandedOver(trouble[:1000]))
        try:
            sent = socket.send_fds(self._link, [frame], [connection.fileno()])
            if sent < len(frame):
                self._link.sendall(frame[sent:])
        except OSError as problem:
            raise _Over from problem


def _end_with(parent: int) -> None:
    """Have the kernel end us with the daemon, also while we are stopped."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise _Over


def main(listener: str, link: str) -> None:
    """Entry of the process, with the numbers of its descriptors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        HitServer(socket.socket(fileno=int(listener)), socket.socket(fileno=int(link))).run()
    except SccacheTwistedError as problem:
        sys.exit(problem.explained())
