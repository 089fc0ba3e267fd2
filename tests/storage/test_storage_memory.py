"""The store in memory: the contract, and who goes when it is full."""

from __future__ import annotations

import pytest
import pytest_twisted
from contracts.cache_store import CacheStoreContract, key_of

from sccache_twisted.errors import StorageError
from sccache_twisted.storage.memory import MemoryStore


class TestMemory(CacheStoreContract):
    lasting = False

    @pytest.fixture
    def open_store(self):
        return lambda: MemoryStore(self.capacity)


@pytest_twisted.ensureDeferred
async def test_the_longest_unused_entry_goes_first() -> None:
    """A full store makes room by use, not by age; replacing an entry counts its bytes once."""
    store = MemoryStore(100)
    for name in ("a", "b", "c"):
        await store.put(key_of(name), name.encode() * 30)
    assert await store.get(key_of("a")) == b"a" * 30
    await store.put(key_of("c"), b"c" * 30)
    await store.put(key_of("d"), b"d" * 30)
    assert [await store.get(key_of(name)) is not None for name in "abcd"] == [True, False, True, True]
    assert store.size == 90


@pytest_twisted.ensureDeferred
async def test_an_entry_larger_than_the_store_is_refused_and_displaces_nothing() -> None:
    """What can never fit throws nobody out."""
    store = MemoryStore(100)
    await store.put(key_of("a"), b"a" * 60)
    with pytest.raises(StorageError, match="101 bytes"):
        await store.put(key_of("b"), b"b" * 101)
    assert await store.get(key_of("a")) == b"a" * 60
