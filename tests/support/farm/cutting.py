"""A TCP proxy in front of a worker that breaks a connection at a boundary between TLS records.

It reads no more of TLS than the header of a record: its type, and how long it is. Each write of Twisted's is a record
of its own, or several, so between records lies every boundary between the frames of an answer, and some within them.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from enum import Enum

from attrs import define, field, frozen
from typing_extensions import Self

from support.farm.network import Host

APPLICATION_DATA = 23
CONNECT_SECONDS = 10.0

_HEADER = struct.Struct(">BHH")
_NO_LINGER = struct.pack("ii", 1, 0)


class Way(Enum):
    """Which way a record goes."""

    UP = "to the worker"
    DOWN = "to the client"


@frozen
class Cut:
    """Where to break: behind the ``after``-th record that goes this way, or, if ``next``, where another would follow.

    With ``next`` the worker has had something more to send, and the client does not get it.
    """

    way: Way
    after: int
    next: bool = False


@define(eq=False)
class _Armed:
    """A cut that waits for its moment."""

    cut: Cut
    strike: Callable[[], object]
    done: threading.Event = field(factory=threading.Event)


@define(eq=False)
class _Line:
    """A client's connection and the one behind it. Closed by the thread that serves it, when nobody reads any more."""

    client: socket.socket
    worker: socket.socket
    broken: bool = False

    def ends(self, way: Way) -> tuple[socket.socket, socket.socket]:
        """Where records come from, and where they go."""
        return (self.client, self.worker) if way is Way.UP else (self.worker, self.client)

    def reset(self) -> None:
        """Wake whoever reads; then both sides are closed, by a reset."""
        self.broken = True
        for end in (self.client, self.worker):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                end.shutdown(socket.SHUT_RD)


class CuttingProxy:
    """A context manager: listens on ``host`` and passes everything on to ``target``, a "HOST:PORT"."""

    def __init__(self, host: Host, port: int, target: str) -> None:
        self.address = f"{host.address}:{port}"
        self._host = host
        self._target = target
        self._listener = host.there(lambda: socket.create_server((host.address, port)))
        self._lock = threading.Lock()
        self._lines: set[_Line] = set()
        self._threads: list[threading.Thread] = []
        self._armed: _Armed | None = None
        self._passed: list[tuple[Way, int]] = []

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would not wake the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        for thread in self._threads:
            thread.join(CONNECT_SECONDS)

    def watch(self) -> None:
        """Count anew from here; nothing is cut."""
        with self._lock:
            self._armed = None
            self._passed = []

    def passed(self, way: Way) -> list[int]:
        """How many bytes each record held that was passed on this way since it counts."""
        with self._lock:
            return [size for each, size in self._passed if each is way]

    def arm(self, cut: Cut, strike: Callable[[], object] = lambda: None) -> threading.Event:
        """Count anew from here; at the cut call ``strike`` and reset every connection, once. The event says when."""
        armed = _Armed(cut, strike)
        with self._lock:
            self._armed = armed
            self._passed = []
        return armed.done

    def reset(self) -> None:
        """Reset every connection on both sides."""
        with self._lock:
            lines = tuple(self._lines)
        for line in lines:
            line.reset()

    # --- its threads ---

    def _begin(self, work: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._begin(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                worker = self._host.connect(self._target, CONNECT_SECONDS)
            except OSError:
                return
            with worker:
                for end in (client, worker):
                    end.settimeout(None)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line = _Line(client, worker)
                with self._lock:
                    self._lines.add(line)
                upwards = self._begin(self._pass_on, line, Way.UP)
                self._pass_on(line, Way.DOWN)
                upwards.join()
                with self._lock:
                    self._lines.discard(line)

    def _pass_on(self, line: _Line, way: Way) -> None:
        source, sink = line.ends(way)
        with contextlib.suppress(OSError), source.makefile("rb") as stream:
            while len(header := stream.read(_HEADER.size)) == _HEADER.size:
                kind, _, size = _HEADER.unpack(header)
                counts = kind == APPLICATION_DATA
                if counts:
                    self._strike(way, arriving=True)
                record = stream.read(size)
                if line.broken:
                    return
                sink.sendall(header + record)
                if counts:
                    with self._lock:
                        self._passed.append((way, size))
                    self._strike(way, arriving=False)
        if not line.broken:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    def _strike(self, way: Way, *, arriving: bool) -> None:
        """Cut, if this is where."""
        with self._lock:
            armed = self._armed
            if armed is None or armed.cut.way is not way or armed.cut.next is not arriving:
                return
            if sum(each is way for each, _ in self._passed) != armed.cut.after:
                return
            self._armed = None
        armed.strike()
        self.reset()
        armed.done.set()
