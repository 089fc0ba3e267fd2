"""A remote store that is killed, stopped, or talks nonsense: nobody waits longer than the deadline, and hits return."""

from __future__ import annotations

import botocore.session
import pytest
import pytest_twisted
from contracts.cache_store import key_of
from support.store_servers import DavServer, MemcachedServer, RedisServer, S3Server, listen_nonsense
from twisted.internet.task import deferLater

from sccache_twisted.config import ClientSettings
from sccache_twisted.config.load import load
from sccache_twisted.errors import StorageError
from sccache_twisted.storage.configured import open_store

# Bounds on time are judged, so nothing else may run.
pytestmark = pytest.mark.alone

DEADLINE = 0.25
SLACK = 0.5
"""What a busy machine of two cores may add to a deadline."""
FAILURES = 3
KEYS = [key_of(f"entry {number}") for number in range(12)]
RULES = f"[cache]\nbreaker_failures = {FAILURES}\nbreaker_first = 0.1\nbreaker_longest = 0.2\n"


class Redis:
    words = b"*1\r\n$-7\r\nnonsense"

    def __init__(self, directory):
        self.server = RedisServer(directory)

    def config(self):
        return f'[cache.redis]\nendpoint = "redis://localhost:{self.server.port}"\ndb = 1\n'

    def prepare(self):
        """Nothing to prepare."""


class Memcached(Redis):
    words = b"VALUE what is\r\nthis\r\n"

    def __init__(self, directory):
        self.server = MemcachedServer(directory)

    def config(self):
        return f'[cache.memcached]\nendpoint = "tcp://localhost:{self.server.port}"\n'


class Dav(Redis):
    words = b"SSH-2.0-nonsense\r\n\r\n"

    def __init__(self, directory):
        self.server = DavServer(directory)

    def config(self):
        return f'[cache.webdav]\nendpoint = "http://localhost:{self.server.port}"\n'


class S3(Redis):
    words = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nnonsense"

    def __init__(self, directory):
        self.server = S3Server(directory)

    def config(self):
        return f'[cache.s3]\nendpoint = "http://localhost:{self.server.port}"\nbucket = "cache"\n'

    def prepare(self):
        client = botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=f"http://127.0.0.1:{self.server.port}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket="cache")


@pytest.fixture(params=[Redis, Memcached, Dav, S3], ids=lambda kind: kind.__name__.lower())
def back_end(request, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    made = request.param(tmp_path)
    with made.server:
        made.prepare()
        yield made


@pytest.fixture
def store(back_end, reactor):
    settings = load(ClientSettings, RULES + back_end.config(), "client.toml", {}).stores
    opened = open_store(settings, reactor, disk=None, disk_mode="", environ={}, draw=lambda: 1.0)
    yield opened
    pytest_twisted.blockon(opened.close())


async def timed(reactor, call):
    """What a call came to, and its seconds."""
    began = reactor.seconds()
    try:
        result = await call
    except StorageError as problem:
        result = problem
    return result, reactor.seconds() - began


async def nothing_slower(reactor, store):
    """Twelve look-ups, one after the other: at most the deadline each, and soon at once; what they came to."""
    results = []
    spent = 0.0
    for key in KEYS:
        result, seconds = await timed(reactor, store.get(key))
        assert result is None or isinstance(result, StorageError)
        assert seconds < DEADLINE + SLACK, result
        results.append(result)
        spent += seconds
    # The breaker opens after so many, and may let some more through to see.
    assert spent < (FAILURES + 3) * (DEADLINE + SLACK)
    assert sum(result is None for result in results) >= len(KEYS) - FAILURES - 3
    return results


async def hits_return(reactor, store):
    """Look up until every entry is there again; the test's own bound is the limit."""
    for key in KEYS:
        while await store.get(key) != key.encode():
            await deferLater(reactor, 0.02, lambda: None)


async def stored(reactor, store):
    """Store every entry until it is there."""
    for key in KEYS:
        while True:
            result, _ = await timed(reactor, store.put(key, key.encode()))
            if result is None and await store.get(key) == key.encode():
                break
            await deferLater(reactor, 0.02, lambda: None)


@pytest.mark.timeout(60)
@pytest_twisted.ensureDeferred
async def test_a_server_that_stands_still_costs_its_deadline_and_no_more(back_end, store, reactor):
    """Stopped in the middle: look-ups end at their deadline, then at once; thawed, every entry is a hit again."""
    await stored(reactor, store)
    back_end.server.freeze()
    results = await nothing_slower(reactor, store)
    assert any("did not answer within 0.25 s" in str(result) for result in results)
    back_end.server.thaw()
    await hits_return(reactor, store)


@pytest.mark.timeout(60)
@pytest_twisted.ensureDeferred
async def test_a_server_that_is_killed_and_one_that_talks_nonsense_in_its_place(back_end, store, reactor):
    """Killed, then replaced by nonsense, then started again: misses in time, no traceback, then hits."""
    await stored(reactor, store)
    under_way = [store.get(key) for key in KEYS]
    back_end.server.kill()
    for call in under_way:
        result, seconds = await timed(reactor, call)
        assert seconds < DEADLINE + SLACK
        assert result is None or isinstance(result, StorageError) or result in [key.encode() for key in KEYS]
    await nothing_slower(reactor, store)
    nonsense = listen_nonsense(reactor, back_end.server.port, back_end.words)
    problems = set()
    while len(problems) < FAILURES:
        result, seconds = await timed(reactor, store.get(KEYS[len(problems)]))
        assert seconds < DEADLINE + SLACK
        if isinstance(result, StorageError) and "refused" not in str(result):
            problems.add((len(problems), str(result)))
        await deferLater(reactor, 0.01, lambda: None)
    await nonsense.stopListening()
    back_end.server.start()
    back_end.prepare()
    await stored(reactor, store)
    await hits_return(reactor, store)
