"""What a daemon and its hit servers say to each other, over a pair of sockets, in frames.

The daemon speaks first: :class:`Terms`, then the :class:`Compilers` that it knows; later :class:`Ping`, and whatever
compilers it has met. A hit server says :class:`Ready`, :class:`Pong`, :class:`Served` for each call that it is about to
answer, and :class:`HandedOver` with a launcher's connection, whose descriptor travels with the frame. The daemon's end
of the conversation is an order to go. Both are of one version of this program: another one's hit server ends at once.
"""

from __future__ import annotations

from typing import Any

import msgpack
from attrs import astuple, frozen

from sccache_twisted.errors import Malformed
from sccache_twisted.model import Compiler, CompilerFamily
from sccache_twisted.wire.frames import encode_frame

MAX_FRAME = 16 << 20

FileSignature = tuple[int, int, int, int, int]


@frozen
class Terms:
    """What a hit server works with: the daemon's version and pid, where results and toolchains are, base directories.

    ``capacity`` is that of the store in ``objects``, in bytes.
    """

    version: str
    parent: int
    objects: bytes
    capacity: int
    toolchains: bytes
    bases: tuple[bytes, ...]


@frozen
class Compilers:
    """Every compiler that the daemon has identified, with the signature of its file."""

    known: tuple[tuple[Compiler, FileSignature], ...]


@frozen
class Ping:
    """Are you there?"""


@frozen
class Ready:
    """The hit server takes callers from now on."""


@frozen
class Pong:
    """I am."""


@frozen
class Served:
    """A hit that was found and written, and is about to be answered. ``note`` is its packed note, of ``time_ns``."""

    program: bytes
    directory: bytes
    language: str
    family: str
    read_seconds: tuple[float, ...]
    write_seconds: float
    source: bytes
    output: bytes
    key: str
    time_ns: int
    note: bytes


@frozen
class HandedOver:
    """A call that is the daemon's. ``trouble``: what went wrong, if it should not have been."""

    trouble: str = ""


Message = Terms | Compilers | Ping | Ready | Pong | Served | HandedOver

_KINDS: dict[bytes, type[Any]] = {
    b"T": Terms,
    b"i": Ping,
    b"R": Ready,
    b"o": Pong,
    b"S": Served,
    b"H": HandedOver,
}
_COMPILERS = b"C"
_BY_TYPE = {kind: letter for letter, kind in _KINDS.items()}


def encode(message: Message) -> bytes:
    """A message as one whole frame."""
    if isinstance(message, Compilers):
        plain: Any = [[*_spelled(compiler), list(signature)] for compiler, signature in message.known]
        return encode_frame(_COMPILERS, msgpack.packb(plain, use_bin_type=True))
    return encode_frame(_BY_TYPE[type(message)], msgpack.packb(astuple(message, recurse=False), use_bin_type=True))


def decode(kind: bytes, payload: bytes) -> Message:
    """The message in a frame; raises Malformed."""
    try:
        values = msgpack.unpackb(payload, use_list=False)
        if kind == _COMPILERS:
            return Compilers(tuple((_compiler(*one[:-1]), one[-1]) for one in values))
        message: Message = _KINDS[kind](*values)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as problem:
        raise Malformed(f"What a hit server and its daemon say makes no sense: {problem}.") from problem
    return message


def _spelled(compiler: Compiler) -> tuple[Any, ...]:
    one = compiler
    return (one.executable, one.argv0, one.family.value, one.version, one.arch, one.cplusplus)


def _compiler(executable: bytes, argv0: bytes, family: str, version: str, arch: str, cplusplus: bool) -> Compiler:
    return Compiler(executable, argv0, CompilerFamily(family), version, arch, cplusplus)
