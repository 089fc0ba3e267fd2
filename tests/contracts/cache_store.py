"""The contract of ICacheStore. A room of stores makes its own test class of it:

    class TestMemory(CacheStoreContract):
        @pytest.fixture
        def open_store(self):
            return lambda: MemoryStore(self.capacity)

``open_store()`` gives a new store over the same backing each time where the backing outlives a store (``lasting``);
every store that is opened is closed by the contract.
"""

from __future__ import annotations

import hashlib
import os

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from sccache_twisted.errors import StorageError
from sccache_twisted.interfaces import ICacheStore

MIB = 1 << 20


def key_of(text: str) -> str:
    """A key like those of the cache."""
    return hashlib.sha256(text.encode()).hexdigest()


class CacheStoreContract:
    """Subclass it with a fixture ``open_store``; the attributes say what this kind of store can."""

    capacity = 8 * MIB
    """What the fixture's store must have room for."""
    large = 3 * MIB
    """An entry of this size must fit."""
    lasting = True
    """Whether another store over the same backing finds what this one put."""

    @pytest.fixture
    def open_store(self):
        raise NotImplementedError

    @pytest.fixture
    def opened(self, open_store):
        """``open_store``, whose stores are closed in the end."""
        stores = []

        def open_one():
            stores.append(open_store())
            return stores[-1]

        yield open_one
        pytest_twisted.blockon(gatherResults([store.close() for store in stores]))

    @pytest.fixture
    def store(self, opened):
        return opened()

    def test_it_provides_the_interface(self, store) -> None:
        """Every method is there, with its arguments."""
        assert verifyObject(ICacheStore, store)

    @pytest_twisted.ensureDeferred
    async def test_what_was_never_put_is_absent(self, store) -> None:
        """A miss is None, no failure, and deleting what isn't there is fine."""
        assert await store.get(key_of("absent")) is None
        await store.delete(key_of("absent"))
        assert await store.get(key_of("absent")) is None

    @pytest_twisted.ensureDeferred
    async def test_any_bytes_come_back_as_they_went_in(self, store) -> None:
        """Protocol separators, NULs, every byte, none at all, and much: an entry is bytes."""
        entries = {
            key_of("empty"): b"",
            key_of("separators"): b"\r\nEND\r\n\0$-1\r\n",
            key_of("every byte"): bytes(range(256)) * 3,
            key_of("large"): os.urandom(self.large),
        }
        for key, entry in entries.items():
            await store.put(key, entry)
        for key, entry in entries.items():
            assert await store.get(key) == entry

    @pytest_twisted.ensureDeferred
    async def test_a_later_entry_replaces_an_earlier_one(self, store) -> None:
        """The last one put is the one that is there, longer or shorter."""
        key = key_of("again")
        for entry in (b"first", b"the second, which is longer", b"3"):
            await store.put(key, entry)
            assert await store.get(key) == entry

    @pytest_twisted.ensureDeferred
    async def test_a_deleted_entry_is_gone_alone(self, store) -> None:
        """Deleting touches one key, and a key can be put again afterwards."""
        one, other = key_of("one"), key_of("other")
        await store.put(one, b"1")
        await store.put(other, b"2")
        await store.delete(one)
        assert await store.get(one) is None
        assert await store.get(other) == b"2"
        await store.put(one, b"back")
        assert await store.get(one) == b"back"

    @pytest_twisted.ensureDeferred
    async def test_simultaneous_calls_do_not_mix(self, store) -> None:
        """Many keys at once get their own entries; one key written by many at once holds one of theirs, whole."""
        many = {key_of(f"many {number}"): bytes([number]) * (1 + 997 * number) for number in range(40)}
        await gatherResults([store.put(key, entry) for key, entry in many.items()])
        found = await gatherResults([store.get(key) for key in many])
        assert found == list(many.values())
        contested = key_of("contested")
        candidates = [bytes([number]) * 50_000 for number in range(10)]
        await gatherResults([store.put(contested, entry) for entry in candidates])
        assert await store.get(contested) in candidates

    @pytest_twisted.ensureDeferred
    async def test_only_keys_are_taken_for_keys(self, store) -> None:
        """Whatever could mean something to a file system or a server is refused, and nothing is stored."""
        for wrong in ("", "a" * 63, "A" * 64, "a" * 65, "../" + "a" * 61, "a" * 63 + "\n", "é" * 64):
            with pytest.raises(StorageError):
                await store.get(wrong)
            with pytest.raises(StorageError):
                await store.put(wrong, b"x")
            with pytest.raises(StorageError):
                await store.delete(wrong)

    @pytest_twisted.ensureDeferred
    async def test_a_closed_store_fails_and_closes_again(self, opened) -> None:
        """After closing every call fails as a store fails; closing twice is fine."""
        store = opened()
        await store.put(key_of("closed"), b"x")
        await store.close()
        await store.close()
        for call in (store.get(key_of("closed")), store.put(key_of("closed"), b"y"), store.delete(key_of("closed"))):
            with pytest.raises(StorageError):
                await call

    @pytest_twisted.ensureDeferred
    async def test_entries_outlive_their_store(self, opened) -> None:
        """What one store put, another one over the same backing finds, and sees it deleted."""
        first = opened()
        await first.put(key_of("shared"), b"for all")
        second = opened()
        assert await second.get(key_of("shared")) == (b"for all" if self.lasting else None)
        await first.delete(key_of("shared"))
        assert await second.get(key_of("shared")) is None
