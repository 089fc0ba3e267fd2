"""From keys to a store: what is configured is what is asked, and what is wrong is a sentence."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import pytest_twisted
from contracts.cache_store import key_of
from support.store_servers import DavServer, RedisServer

from sccache_twisted.config import ClientSettings
from sccache_twisted.config.load import load
from sccache_twisted.errors import ConfigError
from sccache_twisted.storage.configured import chain, open_store
from sccache_twisted.storage.memory import MemoryStore

MIB = 1 << 20


def settings_of(text="", **environ):
    return load(ClientSettings, text, "client.toml", environ).stores


@pytest.fixture
def opened(reactor):
    stores = []

    def open_one(text="", disk=None, disk_mode="READ_WRITE", **environ):
        stores.append(
            open_store(
                settings_of(text, **environ),
                reactor,
                disk=lambda: disk or MemoryStore(MIB),
                disk_mode=disk_mode,
                environ=environ,
                draw=lambda: 0.5,
            )
        )
        return stores[-1]

    yield open_one
    for store in stores:
        pytest_twisted.blockon(store.close())


@pytest.mark.parametrize(
    ("environ", "levels"),
    [
        ({}, ["disk: "]),
        ({"SCCACHE_REDIS_ENDPOINT": "redis://a:6380"}, ["redis: redis, name: redis://a:6380/0, prefix: "]),
        (
            {"SCCACHE_REDIS": "rediss://u:p%40ss@[::1]/?db=3", "SCCACHE_REDIS_KEY_PREFIX": "team/"},
            ["redis: redis, name: rediss://::1:6379/3, prefix: team/"],
        ),
        ({"SCCACHE_REDIS": "redis://:p@a:1/4"}, ["redis: redis, name: redis://a:1/4, prefix: "]),
        (
            {"SCCACHE_MEMCACHED": "a", "SCCACHE_MEMCACHED_KEY_PREFIX": "x"},
            ["memcached: memcached, name: tcp://a:11211, prefix: x/"],
        ),
        ({"SCCACHE_BUCKET": "b", "SCCACHE_S3_KEY_PREFIX": "p/q"}, ["s3: s3, name: b, prefix: p/q/"]),
        ({"SCCACHE_WEBDAV_ENDPOINT": "https://a/b c/"}, ["webdav: webdav, name: https://a/b%20c, prefix: "]),
        (
            {"SCCACHE_MULTILEVEL_CHAIN": "memory,disk, redis", "SCCACHE_REDIS_ENDPOINT": "a"},
            ["memory: Memory of the daemon", "disk: ", "redis: redis, name: redis://a:6379/0, prefix: "],
        ),
    ],
)
def test_variables_of_sccache_make_its_stores(opened, environ, levels):
    """Sccache's variables, as they are written for it, give the same store; nothing set gives the disk."""
    assert [f"{level.name}: {level.location}" for level in opened(**environ).figures] == levels


@pytest.mark.parametrize(
    ("environ", "who"),
    [
        ({"SCCACHE_REGION": "eu-west-1"}, "S3 at s3.eu-west-1.amazonaws.com:443"),
        ({"AWS_REGION": "cn-north-1"}, "S3 at s3.cn-north-1.amazonaws.com.cn:443"),
        ({"SCCACHE_S3_ENABLE_VIRTUAL_HOST_STYLE": "true"}, "S3 at b.s3.us-east-1.amazonaws.com:443"),
        ({"SCCACHE_ENDPOINT": "minio:9000"}, "S3 at minio:9000"),
        ({"SCCACHE_ENDPOINT": "minio", "SCCACHE_S3_USE_SSL": "true"}, "S3 at minio:443"),
        ({"SCCACHE_ENDPOINT": "https://x.r2.example", "SCCACHE_S3_USE_SSL": "false"}, "S3 at x.r2.example:80"),
    ],
)
def test_an_s3_endpoint_is_found_as_sccache_finds_it(reactor, environ, who):
    """Amazon's own by region, others as written, with or without TLS, in both styles."""
    from sccache_twisted.storage.configured import _s3

    environ = {"SCCACHE_BUCKET": "b", **environ}
    assert _s3(settings_of(**environ), reactor, environ).server.who == who


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (
            {"SCCACHE_REDIS_ENDPOINT": "http://a:1"},
            "cache.redis.endpoint must be redis://HOST:PORT or rediss://HOST:PORT",
        ),
        ({"SCCACHE_REDIS_ENDPOINT": "redis://a:99999"}, "cache.redis.endpoint must be redis://HOST:PORT"),
        ({"SCCACHE_REDIS_ENDPOINT": "redis://:1"}, "cache.redis.endpoint must be redis://HOST:PORT"),
        ({"SCCACHE_REDIS_ENDPOINT": "redis://u:sesame@a:1"}, "write cache.redis.username and cache.redis.password"),
        ({"SCCACHE_REDIS": "redis://:sesame@a:x"}, "not what is written there"),
        ({"SCCACHE_REDIS": "rediss://a:1#insecure"}, "name the server's CA in cache.ca_file"),
        ({"SCCACHE_REDIS": "redis://a:1/?db=sesame"}, "must be a number"),
        ({"SCCACHE_REDIS": "redis://a", "SCCACHE_REDIS_ENDPOINT": "redis://a"}, "set only one of them"),
        ({"SCCACHE_REDIS": "redis://a", "SCCACHE_REDIS_TTL": "1", "SCCACHE_REDIS_EXPIRATION": "1"}, "are one thing"),
        ({"SCCACHE_MEMCACHED_ENDPOINT": "udp://a:1"}, "cache.memcached.endpoint must be tcp://HOST:PORT"),
        ({"SCCACHE_MEMCACHED": "a", "SCCACHE_MEMCACHED_EXPIRATION": "31d"}, "SCCACHE_MEMCACHED_EXPIRATION"),
        ({"SCCACHE_MEMCACHED": "a", "SCCACHE_MEMCACHED_EXPIRATION": "2592001"}, "at most 30 days"),
        ({"SCCACHE_MEMCACHED": "a", "SCCACHE_MEMCACHED_KEY_PREFIX": "a b"}, "without blanks"),
        ({"SCCACHE_MEMCACHED": "a", "SCCACHE_MEMCACHED_KEY_PREFIX": "x" * 200}, "at most 184 characters"),
        ({"SCCACHE_WEBDAV_ENDPOINT": "example.com/dav"}, "must be http://HOST:PORT or https://HOST:PORT"),
        ({"SCCACHE_WEBDAV_ENDPOINT": "http://u:sesame@a/"}, "write cache.webdav.username"),
        ({"SCCACHE_WEBDAV_ENDPOINT": "http://a/?x=1"}, "can't have a query"),
        (
            {"SCCACHE_WEBDAV_ENDPOINT": "http://a", "SCCACHE_WEBDAV_TOKEN": "sesame", "SCCACHE_WEBDAV_USERNAME": "u"},
            "exclude each other",
        ),
        ({"SCCACHE_BUCKET": "a/b"}, "no bucket can be named"),
        ({"SCCACHE_BUCKET": "b", "SCCACHE_ENDPOINT": "ftp://a"}, "cache.s3.endpoint must be http://HOST:PORT"),
        ({"SCCACHE_BUCKET": "b", "SCCACHE_REDIS": "redis://a"}, 'chain = ["disk", "s3", "redis"]'),
        ({"SCCACHE_MULTILEVEL_CHAIN": "disk,redis"}, "cache.redis.endpoint is not set"),
        ({"SCCACHE_MULTILEVEL_CHAIN": "disk,s3"}, "cache.s3.bucket is not set"),
        ({"SCCACHE_MULTILEVEL_CHAIN": "disk,gcs"}, "the levels there are: disk, memory, s3"),
        ({"SCCACHE_MULTILEVEL_CHAIN": "disk,disk"}, "names a level twice"),
    ],
)
def test_what_is_wrong_is_a_sentence_and_repeats_no_secret(opened, environ, words):
    """Each mistake is an error of configuration that names the key and says what to write."""
    with pytest.raises(ConfigError) as caught:
        opened(**environ)
    assert words in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_missing_ca_or_key_file_is_a_sentence(opened, tmp_path):
    """Files that are named and can't be read are told before anything is asked of a server."""
    with pytest.raises(ConfigError, match="the CA file, cannot be read"):
        opened(f'[cache]\nca_file = "{tmp_path}/none"\n[cache.redis]\nendpoint = "rediss://a:1"\n')
    with pytest.raises(ConfigError, match="signs cache entries, cannot be read"):
        opened(f'[cache]\nsigning_key_file = "{tmp_path}/none"\n[cache.redis]\nendpoint = "redis://a:1"\n')


def test_secrets_are_not_shown():
    """A settings' text holds no password, token or URL with one."""
    shown = repr(
        settings_of(
            SCCACHE_REDIS="redis://:sesame@a",
            SCCACHE_REDIS_PASSWORD="sesame",
            SCCACHE_WEBDAV_TOKEN="sesame",
            SCCACHE_WEBDAV_PASSWORD="sesame",
            SCCACHE_MEMCACHED_PASSWORD="sesame",
        )
    )
    assert "sesame" not in shown


def test_back_ends_are_imported_only_when_configured():
    """A client without remote stores loads no library of theirs."""
    probe = (
        "import sys\n"
        "from twisted.internet import reactor\n"
        "from sccache_twisted.config import ClientSettings\n"
        "from sccache_twisted.storage.configured import open_store\n"
        "open_store(ClientSettings().stores, reactor, disk=lambda: None, disk_mode='', environ={}, draw=None)\n"
        "theirs = ('hiredis', 'botocore', 'twisted.protocols.memcache', 'treq')\n"
        "print([name for name in theirs if name in sys.modules])\n"
    )
    told = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True, env=dict(os.environ))
    assert told.stdout == b"[]\n"


@pytest_twisted.ensureDeferred
async def test_levels_decorators_and_modes_are_put_together(opened, tmp_path):
    """A disk, Redis, a web server that is only read, all signed: what the last holds comes up and is kept above."""
    (tmp_path / "key").write_bytes(os.urandom(32).hex().encode())
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "dav").mkdir()
    with RedisServer(tmp_path) as redis, DavServer(tmp_path / "dav") as dav:
        signed = f'[cache]\ntimeout = 5\nsigning_key_file = "{tmp_path}/key"\n'
        web = f'[cache.webdav]\nendpoint = "http://localhost:{dav.port}"\nkey_prefix = "w"\n'
        writer = opened(f"{signed}{web}")
        await writer.put(key_of("x"), b"from afar")
        chained = (
            f'{signed}[cache.multilevel]\nchain = ["disk", "redis", "webdav"]\n{web}rw_mode = "READ_ONLY"\n'
            f'[cache.redis]\nendpoint = "redis://localhost:{redis.port}"\nexpiration = 60\nkey_prefix = "r"\n'
        )
        disk = MemoryStore(MIB)
        store = opened(chained, disk)
        assert await store.get(key_of("x")) == b"from afar"
        await store.put(key_of("y"), b"new")
        assert await disk.get(key_of("x")) == b"from afar"
        assert await writer.get(key_of("y")) is None
        fresh = opened(chained, MemoryStore(MIB))
        assert [await fresh.get(key_of(name)) for name in "xy"] == [b"from afar", b"new"]
        told = [figures.as_json(number) for number, figures in enumerate(fresh.figures)]
        assert [(level["name"], level["hits"], level["misses"]) for level in told] == [
            ("L0 (disk)", 0, 2),
            ("L1 (redis)", 2, 0),
            ("L2 (webdav)", 0, 0),
        ]
        unsigned = opened(chained.replace(signed, "[cache]\ntimeout = 5\n"), MemoryStore(MIB))
        assert await unsigned.get(key_of("x")) is None


def test_the_chain_is_the_order():
    """Without a chain the one remote store that is configured is all there is, as in sccache."""
    assert chain(settings_of(SCCACHE_BUCKET="b")) == ("s3",)
    assert chain(settings_of(SCCACHE_BUCKET="b", SCCACHE_MULTILEVEL_CHAIN="disk")) == ("disk",)
