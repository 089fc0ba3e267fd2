"""What every cache store asks of a key and of an entry before it takes them.

Knows their shape. Refuses to know what is in an entry: that is :mod:`sccache_twisted.hashing.entry`'s.
"""

from __future__ import annotations

import re

from sccache_twisted.errors import StorageError

MAX_ENTRY_BYTES = 1 << 30
"""Largest entry that any store takes or gives; a store may have a smaller bound."""

_KEY = re.compile(r"[0-9a-f]{64}\Z")


def check_key(key: str) -> None:
    """StorageError unless a key is 64 lower-case hexadecimal digits."""
    if not _KEY.match(key):
        raise StorageError(f"{key[:80]!r} is not a key of the cache: a key is 64 lower-case hexadecimal digits.")


def check_size(entry: bytes, bound: int = MAX_ENTRY_BYTES) -> None:
    """StorageError for an entry of more than ``bound`` bytes."""
    if len(entry) > bound:
        raise StorageError(f"An entry of {len(entry)} bytes is larger than the store takes ({bound}).")
