"""Entries: what goes in comes out, and nothing else does."""

from __future__ import annotations

import msgpack
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sccache_twisted.hashing import envelope
from sccache_twisted.hashing.entry import Entry, StoredOutput, pack, unpack
from sccache_twisted.hashing.envelope import Damaged, open_sealed, seal
from sccache_twisted.model import OutputKind

KEY, OTHER = "0" * 64, "1" * 64
OUTPUTS = st.builds(
    StoredOutput, st.integers(0, 9), st.sampled_from(OutputKind), st.binary(max_size=200), st.integers(0, 0o777)
)
ENTRIES = st.builds(Entry, st.lists(OUTPUTS, max_size=4).map(tuple), st.binary(max_size=50), st.binary(max_size=50))


@given(ENTRIES)
def test_an_entry_comes_back_as_it_went_in(entry: Entry) -> None:
    """Every output with its role, kind and mode, and both streams."""
    assert unpack(KEY, pack(KEY, entry)) == entry


@given(ENTRIES, st.data())
@settings(max_examples=200)
def test_no_damage_goes_unnoticed(entry: Entry, data: st.DataObject) -> None:
    """A changed byte anywhere, a cut, an addition, or another entry's key: damaged, never another entry."""
    packed = pack(KEY, entry)
    at = data.draw(st.integers(0, len(packed) - 1))
    flipped = bytes([packed[at] ^ data.draw(st.integers(1, 255))])
    for wrong in (packed[:at] + flipped + packed[at + 1 :], packed[:at], packed + b"x"):
        with pytest.raises(Damaged):
            unpack(KEY, wrong)
    with pytest.raises(Damaged):
        unpack(OTHER, packed)


@given(st.binary(max_size=100))
def test_any_bytes_are_damaged(junk: bytes) -> None:
    """Whatever a store may answer with instead of an entry is an entry's damage and no other error."""
    with pytest.raises(Damaged):
        unpack(KEY, junk)


@pytest.mark.parametrize(
    "content", [None, 7, [], [[], b"", "text"], [[[0, "no kind", 1, b""]], b"", b""], [[[b""]], b"", b""]]
)
def test_a_sound_seal_around_something_else_is_damaged(content: object) -> None:
    """The checksum says that the bytes are ours; what they say is judged all the same."""
    with pytest.raises(Damaged):
        unpack(KEY, seal(KEY, b"e", 1, content))


def test_a_bomb_is_refused_by_what_it_announces() -> None:
    """The announced size is judged before anything is decompressed."""
    sealed = seal(KEY, b"e", 1, b"x")
    bomb = zstandard.ZstdCompressor().compress(msgpack.packb(b"\0" * (1 << 20)))
    assert len(bomb) < 1000
    head = sealed[:5]
    whole = head + envelope._checksum(KEY, head, bomb) + bomb
    assert open_sealed(KEY, b"e", 1, whole) == b"\0" * (1 << 20)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(envelope, "MAX_BODY_BYTES", 1 << 19)
        with pytest.raises(Damaged, match="announces"):
            open_sealed(KEY, b"e", 1, whole)
