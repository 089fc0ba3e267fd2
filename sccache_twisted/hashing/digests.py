"""The digest that names content everywhere: blake3, as hexadecimal digits."""

from __future__ import annotations

import os

from blake3 import blake3

from sccache_twisted.model import Digest

CHUNK_BYTES = 1 << 20
"""How much of a large file is held at once."""


def digest_of(data: bytes | bytearray | memoryview) -> Digest:
    """The digest of some bytes."""
    return Digest(blake3(data).hexdigest())


def read_open_file(fd: int, size: int) -> bytes:
    """The rest of an open regular file whose ``fstat`` said ``size`` bytes; OSError from the read.

    One right-sized read where nothing changes meanwhile (asking for a megabyte to get a kilobyte is six
    times slower); a file that has grown is read to its end all the same.
    """
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while part := os.read(fd, CHUNK_BYTES):
        parts.append(part)
    return b"".join(parts)


def digest_open_file(fd: int, size: int) -> tuple[Digest, int]:
    """The digest and the true length of the rest of an open regular file that is ``size`` bytes long by ``fstat``.

    Holds at most :data:`CHUNK_BYTES` of it. OSError from the read.
    """
    if size < CHUNK_BYTES:
        data = read_open_file(fd, size)
        return digest_of(data), len(data)
    hasher = blake3()
    length = 0
    while part := os.read(fd, CHUNK_BYTES):
        hasher.update(part)
        length += len(part)
    return Digest(hasher.hexdigest()), length
