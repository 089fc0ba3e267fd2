"""Redis: the contract against a real server, and everything that a server may do in the middle."""

from __future__ import annotations

import itertools
import socket

import hiredis
import pytest
import pytest_twisted
from contracts.cache_store import CacheStoreContract, key_of
from support.store_servers import RedisServer, SelfSigned

from sccache_twisted.errors import StorageError
from sccache_twisted.security.contexts import authority_peer
from sccache_twisted.storage.dialing import Server
from sccache_twisted.storage.redis import RedisLogin, RedisStore

USUAL = RedisLogin(password="secret")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    options = ("--requirepass", "secret", "--user", "alice", "on", ">wonder", "~shared/*", "+@all")
    with RedisServer(tmp_path_factory.mktemp("redis"), *options) as running:
        yield running


def store_at(reactor, port, login=USUAL, prefix="", ttl=0.0, tls=None, seconds=5.0):
    return RedisStore(
        reactor, Server(f"Redis at localhost:{port}", "localhost", port, tls), login, prefix, ttl, seconds
    )


def ask(port, *words):
    """What the server itself says, past the store."""
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(hiredis.pack_command(("AUTH", "secret")) + hiredis.pack_command(words))
        replies = []
        while len(replies) < 2:
            reader.feed(line.recv(65536))
            while (reply := reader.gets()) is not False:
                replies.append(reply)
    return replies[1]


class TestRedis(CacheStoreContract):
    @pytest.fixture
    def open_store(self, server, reactor):
        assert ask(server.port, "FLUSHALL") == b"OK"
        return lambda: store_at(reactor, server.port)


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
async def test_user_prefix_and_database_are_used(server, opened):
    """A named user with a right to one prefix stores there, in the database that was asked for."""
    store = opened(server.port, RedisLogin("alice", "wonder", 3), "shared/")
    await store.put(key_of("mine"), b"here")
    assert await store.get(key_of("mine")) == b"here"
    reader = opened(server.port, RedisLogin(password="secret", db=3), "shared/")
    assert await reader.get(key_of("mine")) == b"here"
    assert await opened(server.port, RedisLogin(password="secret", db=2), "shared/").get(key_of("mine")) is None
    with pytest.raises(StorageError, match="NOPERM"):
        await opened(server.port, RedisLogin("alice", "wonder"), "elsewhere/").put(key_of("mine"), b"x")


@pytest_twisted.ensureDeferred
async def test_entries_expire(server, opened):
    """With an expiration the server knows when an entry ends, to the millisecond; without, it lasts."""
    key = key_of("short")
    await opened(server.port, prefix="t/", ttl=100.5).put(key, b"x")
    assert 99_000 < ask(server.port, "PTTL", f"t/{key}") <= 100_500
    await opened(server.port, prefix="t/").put(key, b"x")
    assert ask(server.port, "PTTL", f"t/{key}") == -1


@pytest.mark.parametrize(
    ("login", "words"),
    [(RedisLogin(password="wrong"), "WRONGPASS"), (RedisLogin("bob", "x"), "WRONGPASS"), (RedisLogin(), "NOAUTH")],
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_login_is_a_sentence(server, opened, login, words):
    """A wrong password, an unknown user and none at all fail with the server's own word, and nobody's password."""
    with pytest.raises(StorageError, match=words) as caught:
        await opened(server.port, login).get(key_of("x"))
    assert "localhost" in str(caught.value)
    assert "wrong" not in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_a_cancelled_call_takes_its_answer_with_it(server, opened):
    """After a get is cancelled under way, the next one gets its own entry, not the other's late answer."""
    store = opened(server.port)
    keys = [key_of(f"cancelled {number}") for number in range(8)]
    for key in keys:
        await store.put(key, key.encode())
    for key, other in itertools.pairwise(keys):
        given_up = store.get(key)
        given_up.addErrback(lambda _: None)
        given_up.cancel()
        assert await store.get(other) == other.encode()


@pytest_twisted.ensureDeferred
async def test_tls_is_judged_by_the_ca(tmp_path, opened):
    """A server with a certificate of its own is believed by its CA file alone, and under its own name alone."""
    signed = SelfSigned(tmp_path)
    with RedisServer(tmp_path, tls=signed) as server:
        trusted = authority_peer("localhost", str(signed.certificate))
        store = opened(server.port, RedisLogin(), tls=trusted)
        await store.put(key_of("secret"), b"x" * 100_000)
        assert await store.get(key_of("secret")) == b"x" * 100_000
        with pytest.raises(StorageError, match="no trusted CA"):
            await opened(server.port, RedisLogin(), tls=authority_peer("localhost", "")).get(key_of("secret"))
        other = authority_peer("elsewhere.example", str(signed.certificate))
        with pytest.raises(StorageError, match="another name"):
            await opened(server.port, RedisLogin(), tls=other).get(key_of("secret"))
        with pytest.raises(StorageError):
            await opened(server.port, RedisLogin()).get(key_of("secret"))


@pytest_twisted.ensureDeferred
async def test_nobody_there_is_a_sentence(tmp_path, opened, reactor):
    """A refused connection and a name that doesn't exist say so."""
    server = RedisServer(tmp_path)
    with pytest.raises(StorageError, match="cannot be reached: Connection refused"):
        await opened(server.port).get(key_of("x"))
    nowhere = RedisStore(reactor, Server("Redis at x.invalid:1", "x.invalid", 1), RedisLogin(), "", 0.0, 5.0)
    with pytest.raises(StorageError, match="cannot be found: Name or service not known"):
        await nowhere.get(key_of("x"))
    await nowhere.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_says_nothing_is_given_up(tmp_path, opened):
    """A server that takes connections and never answers a login is an error within the bound on connecting."""
    with RedisServer(tmp_path) as server:
        server.freeze()
        with pytest.raises(StorageError, match=r"did not let us in within 0\.3 s"):
            await opened(server.port, RedisLogin(db=1), seconds=0.3).get(key_of("x"))
