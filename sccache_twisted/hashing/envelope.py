"""Bytes that go into a cache store and must come out the same, or be noticed.

A sealed body is ``magic, kind, version, blake3 over (key, kind, version, body)``, then the body: zstd of msgpack. The
key is part of the checksum, so an entry under another entry's key is as damaged as one with a flipped bit. A checksum
guards against accidents, not against an enemy who can write to the store.
"""

from __future__ import annotations

from typing import Any

import msgpack
import zstandard
from blake3 import blake3

_MAGIC = b"sct"
_HEAD = len(_MAGIC) + 2
_DIGEST = 32
MAX_BODY_BYTES = 1 << 30
"""Largest body that is decompressed."""


class Damaged(Exception):
    """The bytes are not what was sealed under this key; the sentence says how it shows."""


def seal(key: str, kind: bytes, version: int, content: object, level: int = 1) -> bytes:
    """``content`` (what msgpack can hold) as bytes for a store, under ``key``. ``kind`` is one byte."""
    body = zstandard.ZstdCompressor(level=level).compress(msgpack.packb(content, use_bin_type=True))
    head = _MAGIC + kind + bytes([version])
    return head + _checksum(key, head, body) + body


def open_sealed(key: str, kind: bytes, version: int, sealed: bytes) -> Any:
    """The content; Damaged when it is anything but what :func:`seal` made under this key, of this kind and version."""
    head, checksum, body = sealed[:_HEAD], sealed[_HEAD : _HEAD + _DIGEST], sealed[_HEAD + _DIGEST :]
    if head != _MAGIC + kind + bytes([version]):
        raise Damaged("it is of another kind or version")
    if checksum != _checksum(key, head, body):
        raise Damaged("its checksum is wrong")
    try:
        # An announced size is believed by the decoder, so it is judged first.
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= MAX_BODY_BYTES:
            raise Damaged(f"it announces {size} bytes")
        return msgpack.unpackb(zstandard.ZstdDecompressor().decompress(body), strict_map_key=False)
    except (zstandard.ZstdError, ValueError, msgpack.UnpackException) as problem:
        raise Damaged(f"it cannot be decoded ({problem})") from problem


def _checksum(key: str, head: bytes, body: bytes) -> bytes:
    return blake3(len(key).to_bytes(4, "big") + key.encode() + head).update(body).digest()
