"""The launcher's conversation with its daemon, as values and as frames.

Knows how requests and answers are spelled; refuses to know what becomes of them. ``launcher/main.py`` spells
the same by itself, with the standard library only; one contract test holds both together.
"""

from __future__ import annotations

import struct

from attrs import frozen

from sccache_twisted.errors import Malformed
from sccache_twisted.wire.frames import encode_frame

VERSION = b"1"
MAX_FRAME = 256 << 20

_COUNT = struct.Struct(">I")


@frozen
class LaunchRequest:
    """A compiler call as it was made. ``env`` holds ``NAME=value`` entries; ``argv[0]`` names the compiler."""

    cwd: bytes
    umask: int
    stderr_is_tty: bool
    argv: tuple[bytes, ...]
    env: tuple[bytes, ...]


@frozen
class Done:
    """The call is answered: write these bytes, exit with this status."""

    status: int
    stdout: bytes
    stderr: bytes


@frozen
class RunYourself:
    """Execute the compiler in the launcher's place. ``note`` is shown on stderr first, if there is one."""

    executable: bytes
    argv: tuple[bytes, ...]
    reason: str
    note: bytes = b""


@frozen
class RunInSlot:
    """Run it as your child in local slot ``slot`` and send what it printed as :class:`Completed`."""

    slot: int
    executable: bytes
    argv: tuple[bytes, ...]


@frozen
class Completed:
    """A local compilation has ended."""

    status: int
    stdout: bytes
    stderr: bytes


@frozen
class Query:
    """A command for the daemon itself."""

    name: str
    args: tuple[str, ...] = ()


@frozen
class Answer:
    """The JSON text that answers a query."""

    text: str


@frozen
class Refused:
    """Why a query cannot be answered."""

    sentence: str


Message = LaunchRequest | Done | RunYourself | RunInSlot | Completed | Query | Answer | Refused


def _field(value: bytes) -> bytes:
    return _COUNT.pack(len(value)) + value


def _list(values: tuple[bytes, ...]) -> bytes:
    return _COUNT.pack(len(values)) + b"".join(map(_field, values))


def _number(value: int) -> bytes:
    return _field(b"%d" % value)


class _Reader:
    """Reads fields from a payload; every short read is Malformed."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def count(self) -> int:
        try:
            (value,) = _COUNT.unpack_from(self._payload, self._at)
        except struct.error:
            raise Malformed("A launcher frame ends in the middle of a field.") from None
        self._at += _COUNT.size
        return int(value)

    def field(self) -> bytes:
        length = self.count()
        value = self._payload[self._at : self._at + length]
        if len(value) != length:
            raise Malformed("A launcher frame ends in the middle of a field.")
        self._at += length
        return value

    def number(self) -> int:
        text = self.field()
        if not text.isdigit() or len(text) > 10:
            raise Malformed(f"A launcher frame has {text[:20]!r} where a number belongs.")
        return int(text)

    def list(self) -> tuple[bytes, ...]:
        # Every field takes at least its own length prefix, so a huge count can't make us allocate.
        count = self.count()
        if count * _COUNT.size > len(self._payload) - self._at:
            raise Malformed("A launcher frame announces more fields than it holds.")
        return tuple(self.field() for _ in range(count))

    def end(self) -> None:
        if self._at != len(self._payload):
            raise Malformed("A launcher frame has bytes behind its last field.")


def encode(message: Message) -> bytes:
    """A message as one whole frame."""
    match message:
        case LaunchRequest(cwd, umask, tty, argv, env):
            flag = _field(b"1" if tty else b"0")
            return encode_frame(b"R", _field(VERSION) + _field(cwd) + _number(umask) + flag + _list(argv) + _list(env))
        case Done(status, stdout, stderr):
            return encode_frame(b"D", _number(status) + _field(stdout) + _field(stderr))
        case RunYourself(executable, argv, reason, note):
            return encode_frame(b"X", _field(executable) + _list(argv) + _field(reason.encode()) + _field(note))
        case RunInSlot(slot, executable, argv):
            return encode_frame(b"S", _number(slot) + _field(executable) + _list(argv))
        case Completed(status, stdout, stderr):
            return encode_frame(b"C", _number(status) + _field(stdout) + _field(stderr))
        case Query(name, args):
            return encode_frame(b"Q", _field(name.encode()) + _list(tuple(arg.encode() for arg in args)))
        case Answer(text):
            return encode_frame(b"A", _field(text.encode()))
        case Refused(sentence):
            return encode_frame(b"E", _field(sentence.encode()))


def decode(kind: bytes, payload: bytes) -> Message:
    """The message in a frame; raises Malformed."""
    reader = _Reader(payload)
    try:
        message = _decode(kind, reader)
    except UnicodeDecodeError:
        raise Malformed("A launcher frame holds text that is not UTF-8.") from None
    reader.end()
    return message


def _decode(kind: bytes, reader: _Reader) -> Message:
    match kind:
        case b"R":
            version = reader.field()
            if version != VERSION:
                raise Malformed(
                    f"The launcher speaks version {version[:10]!r} of the protocol, this daemon {VERSION!r}: "
                    'run "sccache-twisted --stop-server".'
                )
            return LaunchRequest(
                cwd=reader.field(),
                umask=reader.number() & 0o777,
                stderr_is_tty=reader.field() == b"1",
                argv=reader.list(),
                env=reader.list(),
            )
        case b"D":
            return Done(reader.number(), reader.field(), reader.field())
        case b"X":
            return RunYourself(reader.field(), reader.list(), reader.field().decode(), reader.field())
        case b"S":
            return RunInSlot(reader.number(), reader.field(), reader.list())
        case b"C":
            return Completed(reader.number(), reader.field(), reader.field())
        case b"Q":
            return Query(reader.field().decode(), tuple(arg.decode() for arg in reader.list()))
        case b"A":
            return Answer(reader.field().decode())
        case b"E":
            return Refused(reader.field().decode())
        case _:
            raise Malformed(f"A launcher frame is of unknown kind {kind!r}.")
