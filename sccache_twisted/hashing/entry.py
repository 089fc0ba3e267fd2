"""A stored compilation: every output by its role, and the compiler's words.

Outputs are known by their place among the declared ones and by their kind, never by a path: who takes an entry writes
them where their own command says.
"""

from __future__ import annotations

from attrs import field, frozen

from sccache_twisted.hashing.envelope import Damaged, open_sealed, seal
from sccache_twisted.model import OutputKind

_KIND = b"e"
VERSION = 1


@frozen
class StoredOutput:
    """One output. ``role`` is its index among the compilation's declared outputs; ``mode`` holds permission bits."""

    role: int
    kind: OutputKind
    data: bytes = field(repr=False)
    mode: int = 0o644


@frozen
class Entry:
    """The result of a compilation that ended with status 0."""

    outputs: tuple[StoredOutput, ...]
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def silent(self) -> bool:
        """Whether the compiler said nothing."""
        return not self.stdout and not self.stderr


def pack(key: str, entry: Entry) -> bytes:
    """An entry as bytes to be stored under ``key``."""
    outputs = [(one.role, one.kind.value, one.mode, one.data) for one in entry.outputs]
    return seal(key, _KIND, VERSION, (outputs, entry.stdout, entry.stderr))


def unpack(key: str, stored: bytes) -> Entry:
    """The entry that was packed for ``key``; Damaged if these bytes are anything else."""
    content = open_sealed(key, _KIND, VERSION, stored)
    try:
        outputs, stdout, stderr = content
        return Entry(
            tuple(_output(role, kind, mode, data) for role, kind, mode, data in outputs),
            _bytes(stdout),
            _bytes(stderr),
        )
    except (TypeError, ValueError) as problem:
        raise Damaged(f"it does not hold what an entry holds ({problem})") from problem


def _output(role: object, kind: object, mode: object, data: object) -> StoredOutput:
    if not isinstance(role, int) or not isinstance(mode, int) or role < 0:
        raise TypeError("a role or a mode is no number")
    return StoredOutput(role, OutputKind(kind), _bytes(data), mode & 0o777)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} where bytes belong")
    return value
