"""The cache's store as it is configured: back ends, each behind its decorators, in levels.

Knows what keys mean together. Whatever is wrong with them is a ConfigError here and now; whatever is wrong with a
server (unreachable, another password) is a failed call later, which no build notices. A back end's module is imported
only when it is configured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from attrs import evolve, frozen

from sccache_twisted.config.remote_stores import StoreSettings
from sccache_twisted.errors import ConfigError
from sccache_twisted.interfaces import ICacheStore, IKeptHere, IReadAtOnce
from sccache_twisted.policy.backoff import Backoff
from sccache_twisted.policy.breaker import BreakerRules
from sccache_twisted.storage.levels import Level, Levels, WriteErrors
from sccache_twisted.storage.measured import LevelFigures, Measured

if TYPE_CHECKING:
    from sccache_twisted.storage.dialing import Server

REMOTE = ("s3", "redis", "memcached", "webdav")
LEVELS = ("disk", "memory", *REMOTE)
LONGEST_MEMCACHED_SECONDS = 30 * 86400
_LONGEST_MEMCACHED_PREFIX = 250 - 64 - 1


@frozen
class Opened:
    """A back end, what is said about it, and its ``rw_mode``."""

    name: str
    store: ICacheStore
    server: Server
    location: str
    mode: str


def chain(settings: StoreSettings) -> tuple[str, ...]:
    """The levels in order; raises ConfigError."""
    configured = tuple(name for name in REMOTE if _is_configured(settings, name))
    if not settings.chain:
        if len(configured) > 1:
            tables = " and ".join(f"cache.{name}" for name in configured)
            example = json.dumps(["disk", *configured])
            raise ConfigError(
                f"{tables} are configured: say in which order to use them, for instance "
                f"cache.multilevel.chain = {example}."
            )
        return configured or ("disk",)
    for name in settings.chain:
        if name not in LEVELS:
            raise ConfigError(f"cache.multilevel.chain names {name!r}; the levels there are: {', '.join(LEVELS)}.")
        if name in REMOTE and name not in configured:
            least = "bucket" if name == "s3" else "endpoint"
            raise ConfigError(f"cache.multilevel.chain names {name}, but cache.{name}.{least} is not set.")
    if len(set(settings.chain)) < len(settings.chain):
        raise ConfigError(f"cache.multilevel.chain names a level twice: {', '.join(settings.chain)}.")
    return settings.chain


def open_store(
    settings: StoreSettings,
    reactor: Any,
    *,
    disk: Callable[[], ICacheStore],
    disk_mode: str,
    environ: Mapping[str, str],
    draw: Callable[[], float],
) -> Levels:
    """The store; raises ConfigError, and StorageError when the disk's can't be opened.

    ``disk`` opens the store on disk, whose ``location`` is shown; ``draw`` is uniform in [0, 1).
    """
    order = chain(settings)
    secret = _signing_key(settings)
    rules = BreakerRules(
        settings.breaker_failures,
        Backoff(settings.breaker_first, 2.0, max(settings.breaker_first, settings.breaker_longest)),
    )

    def local(name: str, store: ICacheStore, location: str, mode: str) -> Level:
        figures = LevelFigures(name, location)
        level = _level(Measured(store, figures, reactor), figures, mode)
        kept = store if IKeptHere.providedBy(store) else None
        return evolve(level, kept=kept, at_hand=store if IReadAtOnce.providedBy(store) else None)

    def remote(opened: Opened) -> Level:
        from sccache_twisted.storage.breaker import Breaker
        from sccache_twisted.storage.deadline import Deadline
        from sccache_twisted.storage.signed import Signed

        figures = LevelFigures(opened.name, opened.location)
        store = Signed(opened.store, secret, figures) if secret else opened.store
        who = opened.server.who
        bounded = Deadline(store, reactor, who, settings.timeout, settings.write_timeout)
        measured = Measured(bounded, figures, reactor)
        return _level(Breaker(measured, rules, figures, reactor, draw), figures, opened.mode)

    # What can be wrong with keys is found before anything is opened.
    remotes = {name: _OPENERS[name](settings, reactor, environ) for name in order if name in REMOTE}
    levels = []
    for name in order:
        if name == "disk":
            store = disk()
            levels.append(local(name, store, getattr(store, "location", ""), disk_mode))
        elif name == "memory":
            levels.append(local(name, _memory(settings), "Memory of the daemon", "READ_WRITE"))
        else:
            levels.append(remote(remotes[name]))
    return Levels(levels, WriteErrors(settings.write_error_policy))


def _level(store: ICacheStore, figures: LevelFigures, mode: str) -> Level:
    return Level(store, figures, readable=mode != "WRITE_ONLY", writable=mode != "READ_ONLY")


def _is_configured(settings: StoreSettings, name: str) -> bool:
    return bool(
        {
            "s3": settings.s3.bucket,
            "redis": settings.redis.endpoint or settings.redis.url,
            "memcached": settings.memcached.endpoint or settings.memcached.url,
            "webdav": settings.webdav.endpoint,
        }[name]
    )


def _signing_key(settings: StoreSettings) -> bytes:
    if not settings.signing_key_file:
        return b""
    from sccache_twisted.storage.signed import read_signing_key

    return read_signing_key(settings.signing_key_file)


def _memory(settings: StoreSettings) -> ICacheStore:
    from sccache_twisted.storage.memory import MemoryStore

    store: ICacheStore = MemoryStore(settings.memory_size)
    return store


# --- the back ends --------------------------------------------------------------------------------


def _redis(settings: StoreSettings, reactor: Any, _environ: Mapping[str, str]) -> Opened:
    from sccache_twisted.storage.redis import RedisLogin, RedisStore

    keys = settings.redis
    key = _one_of("cache.redis", endpoint=keys.endpoint, url=keys.url)
    url = _endpoint(f"cache.redis.{key}", keys.url or keys.endpoint, {"redis": 6379, "rediss": 6379})
    if url.fragment:
        raise ConfigError(f"cache.redis.{key} ends in #{url.fragment}: name the server's CA in cache.ca_file instead.")
    if key == "endpoint":
        _no_userinfo("cache.redis.endpoint", url, "cache.redis.username and cache.redis.password")
    ttl = keys.expiration or keys.ttl
    if keys.expiration and keys.ttl:
        raise ConfigError("cache.redis.expiration and cache.redis.ttl are one thing: set only one of them.")
    login = RedisLogin(
        keys.username or unquote(url.username or ""),
        keys.password or unquote(url.password or ""),
        _database(url, keys.db),
    )
    server = _server("Redis", url, settings, tls=url.scheme == "rediss")
    prefix = _slashed(keys.key_prefix)
    store = RedisStore(reactor, server, login, prefix, ttl, settings.connect_timeout)
    location = f"redis, name: {url.scheme}://{server.host}:{server.port}/{login.db}, prefix: {prefix}"
    return Opened("redis", store, server, location, keys.rw_mode)


def _memcached(settings: StoreSettings, reactor: Any, _environ: Mapping[str, str]) -> Opened:
    from sccache_twisted.storage.memcached import MemcachedLogin, MemcachedStore

    keys = settings.memcached
    key = _one_of("cache.memcached", endpoint=keys.endpoint, url=keys.url)
    url = _endpoint(f"cache.memcached.{key}", keys.url or keys.endpoint, {"tcp": 11211})
    _no_userinfo(f"cache.memcached.{key}", url, "cache.memcached.username and cache.memcached.password")
    if keys.expiration > LONGEST_MEMCACHED_SECONDS:
        raise ConfigError("cache.memcached.expiration is at most 30 days (2592000 s): memcached takes more for a date.")
    prefix = _slashed(keys.key_prefix)
    if not prefix.isascii() or any(not " " < letter < "\x7f" for letter in prefix):
        raise ConfigError("cache.memcached.key_prefix must be of ASCII characters, without blanks.")
    if len(prefix) > _LONGEST_MEMCACHED_PREFIX:
        raise ConfigError(f"cache.memcached.key_prefix has at most {_LONGEST_MEMCACHED_PREFIX - 1} characters.")
    server = _server("memcached", url, settings, tls=False)
    login = MemcachedLogin(keys.username, keys.password)
    store = MemcachedStore(reactor, server, login, prefix, keys.expiration, settings.connect_timeout)
    location = f"memcached, name: tcp://{server.host}:{server.port}, prefix: {prefix}"
    return Opened("memcached", store, server, location, keys.rw_mode)


def _webdav(settings: StoreSettings, reactor: Any, _environ: Mapping[str, str]) -> Opened:
    from sccache_twisted.storage.http import HttpLogin, HttpStore, Layout

    keys = settings.webdav
    url = _endpoint("cache.webdav.endpoint", keys.endpoint, {"http": 80, "https": 443}, bare=False)
    _no_userinfo("cache.webdav.endpoint", url, "cache.webdav.username and cache.webdav.password")
    if url.query or url.fragment:
        raise ConfigError("cache.webdav.endpoint names a directory; it can't have a query or a fragment.")
    if keys.token and (keys.username or keys.password):
        raise ConfigError("cache.webdav.token and cache.webdav.username exclude each other: set only one of them.")
    login = HttpLogin.bearer(keys.token) if keys.token else HttpLogin()
    if keys.username or keys.password:
        login = HttpLogin.basic(keys.username, keys.password)
    server = _server("The web server", url, settings, tls=url.scheme == "https")
    base = f"{url.scheme}://{url.netloc}{quote(url.path.rstrip('/'), safe='/%')}"
    store = HttpStore(reactor, server, base, login, keys.key_prefix, Layout(keys.layout), settings.connect_timeout)
    location = f"webdav, name: {base}, prefix: {_slashed(keys.key_prefix)}"
    return Opened("webdav", store, server, location, keys.rw_mode)


def _s3(settings: StoreSettings, reactor: Any, environ: Mapping[str, str]) -> Opened:
    from sccache_twisted.storage.credentials import Credentials
    from sccache_twisted.storage.s3 import Bucket, S3Store

    keys = settings.s3
    region = keys.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    amazon = f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    written = keys.endpoint if not keys.endpoint or "://" in keys.endpoint else f"http://{keys.endpoint}"
    url = _endpoint("cache.s3.endpoint", written or amazon, {"http": 80, "https": 443})
    _no_userinfo("cache.s3.endpoint", url, "credentials where AWS's own tools look for them")
    if quote(keys.bucket, safe="") != keys.bucket:
        raise ConfigError(f"cache.s3.bucket is {keys.bucket!r}, which no bucket can be named.")
    tls = url.scheme == "https" if keys.use_ssl is None else keys.use_ssl
    if keys.use_ssl is not None:
        url = url._replace(scheme="https" if tls else "http")
    if keys.enable_virtual_host_style:
        url = url._replace(netloc=f"{keys.bucket}.{url.netloc}")
    base = f"{url.scheme}://{url.netloc}{quote(url.path.rstrip('/'), safe='/%')}"
    bucket = Bucket(
        keys.bucket,
        base if keys.enable_virtual_host_style else f"{base}/{keys.bucket}",
        keys.key_prefix,
        keys.server_side_encryption,
    )
    server = _server("S3", url, settings, tls=tls)
    credentials = Credentials(reactor, region, anonymous=keys.no_credentials)
    # It takes longer than a look-up may, and the first ones will come soon.
    credentials.search()
    store = S3Store(reactor, server, bucket, credentials, settings.connect_timeout)
    location = f"s3, name: {keys.bucket}, prefix: {_slashed(keys.key_prefix)}"
    return Opened("s3", store, server, location, keys.rw_mode)


_OPENERS: dict[str, Callable[[StoreSettings, Any, Mapping[str, str]], Opened]] = {
    "redis": _redis,
    "memcached": _memcached,
    "webdav": _webdav,
    "s3": _s3,
}


# --- what keys are made of ------------------------------------------------------------------------


def _one_of(section: str, **keys: str) -> str:
    written = [name for name, value in keys.items() if value]
    if len(written) > 1:
        raise ConfigError(
            f"{' and '.join(f'{section}.{name}' for name in written)} are one thing: set only one of them."
        )
    return written[0]


def _endpoint(key: str, text: str, schemes: Mapping[str, int], *, bare: bool = True) -> SplitResult:
    """``text`` as a URL with a host and a known scheme; the first of ``schemes`` where none is written and ``bare``."""
    usual = next(iter(schemes))
    whole = text if "://" in text or not bare else f"{usual}://{text}"
    try:
        url = urlsplit(whole)
        sound = bool(url.hostname) and url.port != 0
    except ValueError:
        url, sound = urlsplit(""), False
    if url.scheme not in schemes or not sound:
        kinds = " or ".join(f"{scheme}://HOST:PORT" for scheme in schemes)
        # The text may hold a password.
        shown = "what is written there" if "@" in text else repr(text)
        raise ConfigError(f"{key} must be {kinds}, not {shown}.")
    if url.port is None:
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        userinfo, at, _ = url.netloc.rpartition("@")
        default = (url.scheme, schemes[url.scheme]) in {("http", 80), ("https", 443)}
        url = url if default else url._replace(netloc=f"{userinfo}{at}{host}:{schemes[url.scheme]}")
    return url


def _server(kind: str, url: SplitResult, settings: StoreSettings, *, tls: bool) -> Server:
    from sccache_twisted.security.contexts import authority_peer
    from sccache_twisted.storage.dialing import Server

    host = url.hostname or ""
    port = url.port or (443 if tls else 80)
    shown = f"[{host}]" if ":" in host else host
    return Server(f"{kind} at {shown}:{port}", host, port, authority_peer(host, settings.ca_file) if tls else None)


def _no_userinfo(key: str, url: SplitResult, instead: str) -> None:
    if "@" in url.netloc:
        raise ConfigError(f"{key} must not hold a user or a password: write {instead}.")


def _database(url: SplitResult, written: int) -> int:
    """A Redis URL's database: ``?db=N`` or ``/N``; ``written`` where it names none."""
    named = (parse_qs(url.query).get("db") or [""])[-1] or url.path.strip("/")
    if not named:
        return written
    if not named.isdecimal():
        raise ConfigError("The Redis URL's database must be a number: ?db=1 or /1.")
    return int(named)


def _slashed(prefix: str) -> str:
    trimmed = prefix.rstrip("/")
    return f"{trimmed}/" if trimmed else ""
