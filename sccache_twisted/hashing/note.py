"""A note about one look-up in the cache: what was keyed, how it ended. What ``why`` compares.

Holds what a key was made of, so that a person can be told what differs. Refuses to know where notes are kept. Facts are
taken from :class:`~sccache_twisted.hashing.keys.CommandFacts` by name, so a fact that is added there is told without a
change here.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgpack
import zstandard
from attrs import field, fields, frozen

from sccache_twisted.hashing.digests import digest_of
from sccache_twisted.hashing.keys import CommandFacts

MOST_WORD_BYTES = 4096
"""Of longer values only the beginning and a digest are kept."""

MOST_BYTES_OF_WORDS = 128 << 10
"""Of a longer list of words only the first ones are kept, and a digest of the others."""

_MOST_BYTES = 8 << 20


class State(str, Enum):
    """How a call met the cache."""

    HIT = "hit"
    TEXT_HIT = "text_hit"
    MISS = "miss"
    REFUSED = "not_cached"


class Look(str, Enum):
    """Where a look-up that found nothing ended."""

    NOTHING = ""
    RECACHE = "recache"
    NO_MANIFEST = "no_manifest"
    NO_SET = "no_set"
    NO_ENTRY = "no_entry"
    DAMAGED = "damaged"
    UNFIT = "unfit"


@frozen
class Note:
    """One call. Paths are absolute and normalised; ``key`` is the manifest's, ``keys`` those of the result.

    ``reason``: why nothing was looked for, or why the result was not stored, a word of the documented set or a
    sentence. ``troubles``: what the store said instead of an answer. ``known_ns``: when this key last had a result.
    ``base`` and ``own_key``: what conditions in the manifest are relative to, and bound to.
    """

    state: State
    source: bytes
    time_ns: int
    output: bytes = b""
    cwd: bytes = b""
    argv: tuple[bytes, ...] = ()
    version: str = ""
    facts: dict[str, Any] = field(factory=dict)
    source_digest: str = ""
    dirs: tuple[bytes, ...] = ()
    key: str = ""
    keys: tuple[str, ...] = ()
    look: Look = Look.NOTHING
    troubles: tuple[str, ...] = ()
    stored: bool = False
    reason: str = ""
    known_ns: int = 0
    base: bytes = b""
    own_key: str = ""

    @property
    def command(self) -> str:
        """A digest of everything but the source's content and the moment: one configuration of one source."""
        return digest_of(msgpack.packb(sorted(self.facts.items()), use_bin_type=True))


def told(facts: CommandFacts) -> dict[str, Any]:
    """The facts by their names, as plain values."""
    return {one.name: _bounded(getattr(facts, one.name)) for one in fields(CommandFacts)}


def pack(note: Note) -> bytes:
    """A note as bytes."""
    values = [getattr(note, one.name) for one in fields(Note)]
    plain = [value.value if isinstance(value, Enum) else value for value in values]
    return zstandard.ZstdCompressor(level=1).compress(msgpack.packb(plain, use_bin_type=True))


def unpack(packed: bytes) -> Note | None:
    """The note in these bytes; None for what another version wrote."""
    try:
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_MOST_BYTES)
        values = msgpack.unpackb(plain, use_list=False, strict_map_key=False)
        named = dict(zip((one.name for one in fields(Note)), values, strict=True))
        return Note(**{**named, "state": State(named["state"]), "look": Look(named["look"])})
    except (ValueError, TypeError, KeyError, msgpack.UnpackException, zstandard.ZstdError):
        return None


def bounded_words(words: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Words for a note: not too many, none too long."""
    kept: list[bytes] = []
    size = 0
    for number, word in enumerate(words):
        kept.append(_bounded(word))
        size += len(kept[-1])
        if size > MOST_BYTES_OF_WORDS:
            rest = words[number + 1 :]
            digest = digest_of(msgpack.packb(rest, use_bin_type=True))[:16]
            return (*kept, b"... (%d more, blake3 %b)" % (len(rest), digest.encode()))
    return tuple(kept)


def _bounded(value: Any) -> Any:
    if isinstance(value, bytes) and len(value) > MOST_WORD_BYTES:
        return value[:64] + b"... (%d bytes, blake3 %b)" % (len(value), digest_of(value)[:16].encode())
    if isinstance(value, tuple):
        return bounded_words(value) if all(isinstance(item, bytes) for item in value) else tuple(map(_bounded, value))
    return value
