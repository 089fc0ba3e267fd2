"""Workers by the thousand and some clients in one process, on real TLS sockets, light enough to leave the rest alone.

They speak AMP as bytes and not through Twisted, since what is to be measured is the scheduler: with real façades this
side would need more of the machine than that one. What they say is what a worker and a client say in a job's life:
AllocateJob, AssignJob, two JobStates, ReportJob, and heartbeats.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import ssl
import struct
import time
from collections.abc import Callable
from itertools import count
from typing import Final

from attrs import define, field, frozen

from sccache_twisted.model import Address, Digest, ServerId
from sccache_twisted.model.identity import mint_job_id
from sccache_twisted.security.identity import WorkerIdentity

TOOLCHAIN: Final = Digest("ab" * 32)
ARCH: Final = "x86_64"
_READ: Final = 1 << 16
_MEMORY: Final = 64 << 30

Box = dict[bytes, bytes]


@frozen
class Door:
    """Where the scheduler listens, and what is shown there."""

    address: Address
    client_token: str
    worker_token: str


def packed(box: Box) -> bytes:
    """A box as AMP has it."""
    parts = []
    for key, value in box.items():
        parts += [struct.pack(">H", len(key)), key, struct.pack(">H", len(value)), value]
    return b"".join([*parts, b"\0\0"])


def unpacked(data: bytes) -> tuple[list[Box], bytes]:
    """The whole boxes of a stream, and what is left of it."""
    boxes: list[Box] = []
    begin = at = 0
    box: Box = {}
    while at + 2 <= len(data):
        length = (data[at] << 8) + data[at + 1]
        if not length:
            boxes.append(box)
            box, begin, at = {}, at + 2, at + 2
            continue
        end = at + 2 + length
        if end + 2 > len(data):
            break
        value_end = end + 2 + (data[end] << 8) + data[end + 1]
        if value_end > len(data):
            break
        box[data[at + 2 : end]] = data[end + 2 : value_end]
        at = value_end
    return boxes, data[begin:]


class Line:
    """One link. ``hear`` is given every box that is no answer; answers go to whoever asked."""

    def __init__(self, door: Door, context: ssl.SSLContext, hear: Callable[[Line, Box], None]) -> None:
        plain = socket.create_connection((door.address.host, door.address.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain)
        self._hear = hear
        self._answers: dict[bytes, Callable[[Box], None]] = {}
        self._numbers = count(1)
        self._rest = b""

    def ask(self, command: bytes, told: Callable[[Box], None], **arguments: bytes) -> None:
        """Send a message and give its answer to ``told``."""
        number = b"%x" % next(self._numbers)
        self._answers[number] = told
        box = {b"_ask": number, b"_command": command}
        self.send({**box, **{name.encode(): value for name, value in arguments.items()}})

    def tell(self, command: bytes, **arguments: bytes) -> None:
        """Send a message that has no answer."""
        self.send({b"_command": command, **{name.encode(): value for name, value in arguments.items()}})

    def send(self, box: Box) -> None:
        """Write a box; the kernel's buffer holds more than is ever under way."""
        data = packed(box)
        while True:
            try:
                self.socket.sendall(data)
            except ssl.SSLWantWriteError:
                continue
            return

    def read(self) -> None:
        """Take what has come."""
        while True:
            try:
                data = self.socket.recv(_READ)
            except ssl.SSLWantReadError:
                return
            if not data:
                raise ConnectionError("the scheduler closed a link")
            boxes, self._rest = unpacked(self._rest + data)
            for box in boxes:
                self._one(box)
            if not self.socket.pending():
                return

    def wait(self, command: bytes, **arguments: bytes) -> Box:
        """Ask and wait, before the loop runs."""
        answers: list[Box] = []
        self.ask(command, answers.append, **arguments)
        while not answers:
            self.read()
        return answers[0]

    def _one(self, box: Box) -> None:
        if b"_answer" in box:
            self._answers.pop(box[b"_answer"])(box)
        elif b"_error" in box:
            raise ConnectionError(f"the scheduler refused: {box}")
        elif box[b"_command"] == b"Ping":
            self.send({b"_answer": box[b"_ask"]})
        else:
            self._hear(self, box)


@define
class Measured:
    """What came out: seconds from asking to being answered, and how many jobs ended."""

    latencies: list[float] = field(factory=list)
    ended: int = 0


class Swarm:
    """``workers`` workers of ``slots`` slots and ``clients`` clients. ``seconds`` is what a job takes."""

    def __init__(self, door: Door, workers: int, slots: int, clients: int, seconds: float) -> None:
        self._seconds = seconds
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()
        self._wait = selectors.EpollSelector()
        self.measured = Measured()
        self.more: Callable[[], None] = lambda: None
        """Called whenever a job has ended."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is the scheduler that is measured
        self._clients = [self._client(door, context, number) for number in range(clients)]
        self._workers = [self._worker(door, context, number, slots) for number in range(workers)]
        for line in (*self._clients, *self._workers):
            line.socket.setblocking(False)
            self._wait.register(line.socket, selectors.EVENT_READ, line)
        for number, line in enumerate(self._workers):
            self.later(number / max(1, workers), lambda line=line: self._beat(line))

    def _client(self, door: Door, context: ssl.SSLContext, number: int) -> Line:
        line = Line(door, context, lambda *_: None)
        name = b"swarm-%d" % number
        line.wait(b"Hello", version=b"1", role=b"client", token=door.client_token.encode(), name=name)
        return line

    def _worker(self, door: Door, context: ssl.SSLContext, number: int, slots: int) -> Line:
        server_id = ServerId(f"w{number}-{number:016x}")
        identity = WorkerIdentity.create(server_id, time.time())
        line = Line(door, context, self._assigned)
        name = server_id.encode()
        welcome = line.wait(b"Hello", version=b"1", role=b"worker", token=door.worker_token.encode(), name=name)
        line.wait(
            b"Register",
            server=server_id.encode(),
            address=b"127.0.0.1:%d" % (20000 + number),
            certificate=identity.certificate,
            proof=identity.prove(welcome[b"challenge"]),
            slots=b"%d" % slots,
            memory=b"%d" % _MEMORY,
            arch=ARCH.encode(),
            jobs=b"\x90",
        )
        line.wait(b"Heartbeat", **_beat(bytes.fromhex(TOOLCHAIN)))
        return line

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something after a time."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._serial), work))

    def run(self, seconds: float) -> None:
        """Live for a time."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
            due = min(until, self._timers[0][0] if self._timers else until)
            for key, _ in self._wait.select(max(0.0, due - time.monotonic())):
                key.data.read()

    def begin_job(self, number: int) -> None:
        """Have a client compile something."""
        line = self._clients[number % len(self._clients)]
        began = time.monotonic()
        job = mint_job_id(int(time.time() * 1000), struct.pack(">QH", number, 7)).encode()

        def allocated(box: Box) -> None:
            self.measured.latencies.append(time.monotonic() - began)
            self.later(self._seconds, lambda: self._report(line, job, box[b"server"]))

        line.ask(
            b"AllocateJob",
            allocated,
            job=job,
            attempt=b"1",
            toolchain=TOOLCHAIN.encode(),
            arch=ARCH.encode(),
            avoid=b"",
            label=b"src/some/where/unit-%d.cc" % (number % 500),
            seconds=b"2.5",
            bytes=b"%d" % (512 << 20),
            age=b"0.0",
            patience=b"30.0",
        )

    def _report(self, line: Line, job: bytes, server: bytes) -> None:
        zeros = dict.fromkeys(("peak", "toolchain", "sent", "received"), b"0")
        times = dict.fromkeys(("seconds", "upload", "download"), b"0.1")
        line.tell(b"ReportJob", job=job, attempt=b"1", outcome=b"done", server=server, reason=b"", **zeros, **times)
        self.measured.ended += 1
        self.more()

    def _assigned(self, line: Line, box: Box) -> None:
        if box[b"_command"] != b"AssignJob":
            raise ConnectionError(f"not expected: {box}")
        line.send({b"_answer": box[b"_ask"], b"present": b"True"})
        job, attempt = box[b"job"], box[b"attempt"]
        line.tell(b"JobState", job=job, attempt=attempt, phase=b"running")
        self.later(self._seconds, lambda: line.tell(b"JobState", job=job, attempt=attempt, phase=b"ended"))

    def _beat(self, line: Line) -> None:
        line.ask(b"Heartbeat", lambda _: None, **_beat(b""))
        self.later(1.0, lambda: self._beat(line))

    def close(self) -> None:
        """Hang up."""
        for line in (*self._clients, *self._workers):
            line.socket.close()
        self._wait.close()


def _beat(added: bytes) -> dict[str, bytes]:
    return {
        "running": b"0",
        "load": b"0.5",
        "free": b"%d" % _MEMORY,
        "pressure": b"0.0",
        "added": added,
        "dropped": b"",
    }
