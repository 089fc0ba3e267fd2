"""Work that may hang hangs alone: name servers that don't answer, and addresses that lead nowhere."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace

import pytest
import pytest_twisted
from contracts.cache_store import key_of
from support.store_servers import RedisServer
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from sccache_twisted.errors import StorageError, StorageTimeout
from sccache_twisted.storage.aside import HostName
from sccache_twisted.storage.deadline import Deadline
from sccache_twisted.storage.dialing import Server
from sccache_twisted.storage.redis import RedisLogin, RedisStore


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def names(monkeypatch):
    """The machine's resolver: ``addresses`` by name; a name in ``stuck`` isn't answered until its event is set."""
    told = SimpleNamespace(addresses={}, stuck={}, asked=[])

    def resolve(host, *words, **named):
        told.asked.append(host)
        if host in told.stuck:
            told.stuck[host].wait()
        if host not in told.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in told.addresses[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return told


@pytest.fixture
def opened(reactor):
    stores = []

    def open_one(host, port, seconds=5.0):
        store = RedisStore(reactor, Server(f"Redis at {host}:{port}", host, port), RedisLogin(), "", 0.0, seconds)
        stores.append(Deadline(store, reactor, "Redis", 0.25, 5.0))
        return stores[-1]

    yield open_one
    for store in stores:
        pytest_twisted.blockon(store.close())


@pytest_twisted.ensureDeferred
async def test_a_name_server_that_does_not_answer_takes_no_thread_of_the_builds(redis, names, opened):
    """Look-ups that wait for a name end at their deadline and hold one thread; once it is answered they hit."""
    names.stuck["cache.example"] = answered = threading.Event()
    names.addresses["cache.example"] = ["127.0.0.1"]
    store = opened("cache.example", redis.port)
    before = threading.active_count()
    calls = [store.get(key_of(f"stuck {number}")) for number in range(40)]
    assert threading.active_count() == before + 1
    for call in calls:
        with pytest.raises(StorageTimeout):
            await call
    assert names.asked == ["cache.example"]
    # The reactor's pool, where the build's own work is done, is all there.
    assert await gatherResults([deferToThread(lambda: "done") for _ in range(20)]) == ["done"] * 20
    answered.set()
    await store.put(key_of("x"), b"x")
    assert await store.get(key_of("x")) == b"x"
    assert names.asked == ["cache.example"]


@pytest_twisted.ensureDeferred
async def test_the_next_address_is_tried(redis, names, opened):
    """A host with several addresses is reached by the one that answers; one with none that does, by none."""
    names.addresses["cache.example"] = ["127.0.0.2", "127.0.0.1"]
    store = opened("cache.example", redis.port)
    await store.put(key_of("x"), b"x")
    assert await store.get(key_of("x")) == b"x"
    names.addresses["gone.example"] = ["127.0.0.2", "127.0.0.3"]
    with pytest.raises(StorageError, match="cannot be reached: Connection refused"):
        await opened("gone.example", redis.port).get(key_of("x"))


@pytest_twisted.ensureDeferred
async def test_a_name_is_asked_for_again_when_it_led_nowhere(redis, names, opened):
    """A server that moved is found at its new address by the call after the one that failed."""
    names.addresses["cache.example"] = ["127.0.0.2"]
    store = opened("cache.example", redis.port)
    with pytest.raises(StorageError):
        await store.get(key_of("y"))
    names.addresses["cache.example"] = ["127.0.0.1"]
    assert await store.get(key_of("y")) is None


@pytest_twisted.ensureDeferred
async def test_addresses_are_not_looked_up_and_localhost_has_children(names, reactor):
    """An IP address, of either kind, is itself; bucket.localhost is localhost."""
    names.addresses["localhost"] = ["127.0.0.1", "127.0.0.1"]
    assert await HostName(reactor, "10.0.0.7").addresses() == ("10.0.0.7",)
    assert await HostName(reactor, "::1").addresses() == ("::1",)
    assert await HostName(reactor, "bucket.s3.localhost").addresses() == ("127.0.0.1",)
    assert names.asked == ["localhost"]
