"""memcached: the contract against a real server, its bound on values, and its way of logging in."""

from __future__ import annotations

import itertools
import os

import pytest
import pytest_twisted
from contracts.cache_store import CacheStoreContract, key_of
from support.store_servers import MemcachedServer

from sccache_twisted.errors import EntryTooLarge, StorageError
from sccache_twisted.storage.dialing import Server
from sccache_twisted.storage.memcached import MemcachedLogin, MemcachedStore

MIB = 1 << 20

NOBODY = MemcachedLogin()


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    with MemcachedServer(tmp_path_factory.mktemp("memcached"), "-I", "8m") as running:
        yield running


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    with MemcachedServer(tmp_path_factory.mktemp("memcached")) as running:
        yield running


def store_at(reactor, port, login=NOBODY, prefix="", expiration=0.0):
    return MemcachedStore(
        reactor, Server(f"memcached at localhost:{port}", "localhost", port), login, prefix, expiration, 5.0
    )


class TestMemcached(CacheStoreContract):
    @pytest.fixture
    def open_store(self, roomy, reactor):
        # Nothing is emptied between tests: the contract's keys don't meet but for the absent, which is deleted.
        return lambda: store_at(reactor, roomy.port, prefix="contract/")


@pytest.fixture
def opened(reactor):
    stores = []

    def open_one(*arguments, **named):
        stores.append(store_at(reactor, *arguments, **named))
        return stores[-1]

    yield open_one
    for store in stores:
        pytest_twisted.blockon(store.close())


@pytest_twisted.ensureDeferred
async def test_what_is_too_large_is_told_apart(usual, opened):
    """A server's usual bound is a mebibyte: what is near is stored, what is over is EntryTooLarge, and calls go on."""
    store = opened(usual.port)
    for size in (MIB - 1024, MIB - 513):
        entry = os.urandom(size)
        await store.put(key_of("near"), entry)
        assert await store.get(key_of("near")) == entry
    for _ in range(2):
        with pytest.raises(EntryTooLarge, match="at most 1048064 bytes"):
            await store.put(key_of("over"), bytes(MIB))
    assert await store.get(key_of("over")) is None
    assert await store.get(key_of("near")) == entry


@pytest_twisted.ensureDeferred
async def test_prefixes_keep_stores_apart(usual, opened):
    """Two prefixes on one server share nothing."""
    await opened(usual.port, prefix="one/").put(key_of("x"), b"one")
    assert await opened(usual.port, prefix="other/").get(key_of("x")) is None
    assert await opened(usual.port, prefix="one/").get(key_of("x")) == b"one"


@pytest_twisted.ensureDeferred
async def test_entries_expire_by_the_second(usual, opened, reactor):
    """With an expiration of a second the entry ends by itself; the server's clock says when."""
    store = opened(usual.port, prefix="t/", expiration=0.4)
    await store.put(key_of("short"), b"x")
    await opened(usual.port, prefix="t/").put(key_of("long"), b"x")
    began = reactor.seconds()
    while await store.get(key_of("short")) is not None:
        assert reactor.seconds() - began < 4
    assert await store.get(key_of("long")) == b"x"


@pytest_twisted.ensureDeferred
async def test_a_login_is_made_or_refused(tmp_path, opened):
    """A server with an auth file lets its users in and nobody else, and the refusal holds no password."""
    (tmp_path / "users").write_text("alice:wonder\n", encoding="ascii")
    with MemcachedServer(tmp_path, "-Y", str(tmp_path / "users")) as server:
        store = opened(server.port, MemcachedLogin("alice", "wonder"))
        await store.put(key_of("x"), b"x")
        assert await store.get(key_of("x")) == b"x"
        for login in (MemcachedLogin("alice", "wrong"), MemcachedLogin()):
            with pytest.raises(StorageError, match=r"refuses: CLIENT_ERROR") as caught:
                await opened(server.port, login).get(key_of("x"))
            assert "wrong" not in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_a_cancelled_call_takes_its_answer_with_it(usual, opened):
    """After a get is cancelled under way, the next one gets its own entry, not the other's late answer."""
    store = opened(usual.port)
    keys = [key_of(f"cancelled {number}") for number in range(8)]
    for key in keys:
        await store.put(key, key.encode())
    for key, other in itertools.pairwise(keys):
        given_up = store.get(key)
        given_up.addErrback(lambda _: None)
        given_up.cancel()
        assert await store.get(other) == other.encode()
