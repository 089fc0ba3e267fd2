"""The keys of the caches that are reached by network, and of how they are put together.

Sections, keys and variables are sccache's; ``rw_mode = "WRITE_ONLY"``, ``cache.webdav.layout``, and the keys of
``[cache]`` itself are ours. Whether keys fit together is judged by :mod:`sccache_twisted.storage.configured`.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from sccache_twisted.config.keys import Unit, key

RW_MODES = ("READ_WRITE", "READ_ONLY", "WRITE_ONLY")


def _rw_mode(section: str, env: str) -> Any:
    doc = "READ_ONLY: nothing is stored there. WRITE_ONLY: nothing is looked up there."
    return key(section, "rw_mode", Unit.TEXT, "READ_WRITE", doc, env=env, choices=RW_MODES)


def _key_prefix(section: str, env: str) -> Any:
    return key(
        section, "key_prefix", Unit.TEXT, "", "What every entry's name begins with, with a slash after it.", env=env
    )


@frozen
class RedisSettings:
    """One Redis server."""

    endpoint: str = key(
        "cache.redis",
        "endpoint",
        Unit.TEXT,
        "",
        "redis://HOST:PORT, or rediss:// for TLS; HOST:PORT is enough. Empty: no Redis.",
        env="SCCACHE_REDIS_ENDPOINT",
    )
    url: str = key(
        "cache.redis",
        "url",
        Unit.TEXT,
        "",
        "Everything in one, as of old: redis://USER:PASSWORD@HOST:PORT/?db=N.",
        env="SCCACHE_REDIS",
        secret=True,
    )
    username: str = key(
        "cache.redis", "username", Unit.TEXT, "", "Redis 6 and newer; empty: default.", env="SCCACHE_REDIS_USERNAME"
    )
    password: str = key(
        "cache.redis", "password", Unit.TEXT, "", "Empty: none.", env="SCCACHE_REDIS_PASSWORD", secret=True
    )
    db: int = key("cache.redis", "db", Unit.INTEGER, 0, "Number of the database.", env="SCCACHE_REDIS_DB", minimum=0)
    expiration: float = key(
        "cache.redis",
        "expiration",
        Unit.SECONDS,
        0.0,
        "Entries are gone after this long; 0: never.",
        env="SCCACHE_REDIS_EXPIRATION",
    )
    ttl: float = key("cache.redis", "ttl", Unit.SECONDS, 0.0, "Another name of expiration.", env="SCCACHE_REDIS_TTL")
    key_prefix: str = _key_prefix("cache.redis", "SCCACHE_REDIS_KEY_PREFIX")
    rw_mode: str = _rw_mode("cache.redis", "SCCACHE_REDIS_RW_MODE")


@frozen
class S3Settings:
    """One bucket of Amazon S3, or of a store that speaks its language."""

    bucket: str = key("cache.s3", "bucket", Unit.TEXT, "", "Empty: no S3.", env="SCCACHE_BUCKET")
    endpoint: str = key(
        "cache.s3",
        "endpoint",
        Unit.TEXT,
        "",
        "HOST:PORT or a URL of another store than Amazon's; empty: Amazon's for the region.",
        env="SCCACHE_ENDPOINT",
    )
    region: str = key(
        "cache.s3",
        "region",
        Unit.TEXT,
        "",
        "Empty: AWS_REGION, else AWS_DEFAULT_REGION, else us-east-1.",
        env="SCCACHE_REGION",
    )
    key_prefix: str = _key_prefix("cache.s3", "SCCACHE_S3_KEY_PREFIX")
    use_ssl: bool | None = key(
        "cache.s3",
        "use_ssl",
        Unit.BOOLEAN,
        None,
        "https or http, whatever the endpoint says; none: as it says, https for Amazon, else http.",
        env="SCCACHE_S3_USE_SSL",
    )
    no_credentials: bool = key(
        "cache.s3",
        "no_credentials",
        Unit.BOOLEAN,
        False,
        "Requests are not signed: for public buckets.",
        env="SCCACHE_S3_NO_CREDENTIALS",
    )
    enable_virtual_host_style: bool = key(
        "cache.s3",
        "enable_virtual_host_style",
        Unit.BOOLEAN,
        False,
        "The bucket is part of the host's name instead of the path.",
        env="SCCACHE_S3_ENABLE_VIRTUAL_HOST_STYLE",
    )
    server_side_encryption: bool = key(
        "cache.s3",
        "server_side_encryption",
        Unit.BOOLEAN,
        False,
        "Ask the store to encrypt what it keeps (AES256).",
        env="SCCACHE_S3_SERVER_SIDE_ENCRYPTION",
    )
    rw_mode: str = _rw_mode("cache.s3", "SCCACHE_S3_RW_MODE")


@frozen
class WebdavSettings:
    """One directory of a web server that takes PUT."""

    endpoint: str = key(
        "cache.webdav",
        "endpoint",
        Unit.TEXT,
        "",
        "URL of the directory, http or https. Empty: no WebDAV.",
        env="SCCACHE_WEBDAV_ENDPOINT",
    )
    key_prefix: str = _key_prefix("cache.webdav", "SCCACHE_WEBDAV_KEY_PREFIX")
    username: str = key(
        "cache.webdav", "username", Unit.TEXT, "", "Basic authentication.", env="SCCACHE_WEBDAV_USERNAME"
    )
    password: str = key(
        "cache.webdav", "password", Unit.TEXT, "", "Basic authentication.", env="SCCACHE_WEBDAV_PASSWORD", secret=True
    )
    token: str = key(
        "cache.webdav", "token", Unit.TEXT, "", "Bearer authentication.", env="SCCACHE_WEBDAV_TOKEN", secret=True
    )
    layout: str = key(
        "cache.webdav",
        "layout",
        Unit.TEXT,
        "subdirs",
        "How entries lie: in 256 directories, side by side, or as a bazel-remote server wants them (below ac/).",
        choices=("subdirs", "flat", "bazel"),
    )
    rw_mode: str = _rw_mode("cache.webdav", "SCCACHE_WEBDAV_RW_MODE")


@frozen
class MemcachedSettings:
    """One memcached server."""

    endpoint: str = key(
        "cache.memcached",
        "endpoint",
        Unit.TEXT,
        "",
        "tcp://HOST:PORT; HOST:PORT is enough. Empty: no memcached.",
        env="SCCACHE_MEMCACHED_ENDPOINT",
    )
    url: str = key("cache.memcached", "url", Unit.TEXT, "", "Another name of endpoint.", env="SCCACHE_MEMCACHED")
    username: str = key(
        "cache.memcached",
        "username",
        Unit.TEXT,
        "",
        "For a server that was started with --auth-file.",
        env="SCCACHE_MEMCACHED_USERNAME",
    )
    password: str = key(
        "cache.memcached",
        "password",
        Unit.TEXT,
        "",
        "Belongs to username.",
        env="SCCACHE_MEMCACHED_PASSWORD",
        secret=True,
    )
    expiration: float = key(
        "cache.memcached",
        "expiration",
        Unit.SECONDS,
        86400.0,
        "Entries are gone after this long; 0: never. At most 30 days.",
        env="SCCACHE_MEMCACHED_EXPIRATION",
    )
    key_prefix: str = _key_prefix("cache.memcached", "SCCACHE_MEMCACHED_KEY_PREFIX")
    rw_mode: str = _rw_mode("cache.memcached", "SCCACHE_MEMCACHED_RW_MODE")


@frozen
class StoreSettings:
    """Every remote store, the order of levels, and what is done about slow and dead ones."""

    chain: tuple[str, ...] = key(
        "cache.multilevel",
        "chain",
        Unit.LIST,
        (),
        "Levels, the fastest first, out of disk, memory, redis, s3, webdav, memcached. Empty: the one remote store "
        "that is configured, else disk.",
        env="SCCACHE_MULTILEVEL_CHAIN",
    )
    write_error_policy: str = key(
        "cache.multilevel",
        "write_error_policy",
        Unit.TEXT,
        "l0",
        "Storing counts as failed when the first level failed (l0), any did (all), or never (ignore); no build fails.",
        env="SCCACHE_MULTILEVEL_WRITE_ERROR_POLICY",
        choices=("ignore", "l0", "all"),
    )
    memory_size: int = key(
        "cache.memory", "size", Unit.SIZE, 256 << 20, "Bound on the level memory, which lasts as long as the daemon."
    )
    timeout: float = key(
        "cache",
        "timeout",
        Unit.SECONDS,
        0.25,
        "A look-up in a remote store that takes longer is a miss. Raise it for stores far away.",
        minimum=0.001,
    )
    write_timeout: float = key(
        "cache",
        "write_timeout",
        Unit.SECONDS,
        10.0,
        "Bound on storing in a remote store, which no build waits for.",
        minimum=0.001,
    )
    connect_timeout: float = key(
        "cache",
        "connect_timeout",
        Unit.SECONDS,
        5.0,
        "Bound on making a connection to a remote store: while it is made, look-ups miss.",
        minimum=0.001,
    )
    breaker_failures: int = key(
        "cache",
        "breaker_failures",
        Unit.INTEGER,
        5,
        "A store that fails this often in a row is left alone.",
        minimum=1,
    )
    breaker_first: float = key(
        "cache", "breaker_first", Unit.SECONDS, 1.0, "A store left alone is tried again after this long.", minimum=0.001
    )
    breaker_longest: float = key(
        "cache",
        "breaker_longest",
        Unit.SECONDS,
        30.0,
        "That wait doubles with every try that fails, up to this.",
        minimum=0.001,
    )
    signing_key_file: str = key(
        "cache",
        "signing_key_file",
        Unit.PATH,
        "",
        "File (mode 0600) with a key of at least 32 bytes that all clients of the remote stores share: they believe "
        "only entries signed with it. Empty: any entry.",
    )
    ca_file: str = key(
        "cache",
        "ca_file",
        Unit.PATH,
        "",
        "PEM file of the CAs that sign remote stores' certificates; empty: the system's CAs.",
    )
    redis: RedisSettings = RedisSettings()
    s3: S3Settings = S3Settings()
    webdav: WebdavSettings = WebdavSettings()
    memcached: MemcachedSettings = MemcachedSettings()
