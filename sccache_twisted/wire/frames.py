"""Length-prefixed frames: u32 big-endian length of what follows, one kind byte, payload.

Shared by the launcher's conversation and the stream that answers a job. Knows no kind and no payload.
"""

from __future__ import annotations

import struct

from sccache_twisted.errors import Malformed, TooLarge

_LENGTH = struct.Struct(">I")


def encode_frame(kind: bytes, payload: bytes) -> bytes:
    """One frame as bytes; ``kind`` is one byte."""
    return b"".join((_LENGTH.pack(len(payload) + 1), kind, payload))


class FrameDecoder:
    """Cuts a byte stream into frames; holds at most one incomplete frame of ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Take bytes as they came and give the (kind, payload) frames they complete; raises TooLarge or Malformed."""
        self._buffer += data
        frames: list[tuple[bytes, bytes]] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > self._max:
                raise TooLarge(f"A frame of {length} bytes is over the limit of {self._max}.")
            if length == 0:
                raise Malformed("A frame is empty.")
            body = start + _LENGTH.size
            if len(self._buffer) - body < length:
                break
            frames.append((bytes(self._buffer[body : body + 1]), bytes(self._buffer[body + 1 : body + length])))
            start = body + length
        if start:
            del self._buffer[:start]
        return frames
