"""Entries that only holders of a shared key can have stored, for stores that strangers can write to.

An entry is signed together with its key, so it can't be moved to another one. Keys are mapped by the secret too:
whoever has another one, or none, neither sees these entries nor takes them for damaged and removes them. Says nothing
about the honesty of those who hold the secret, and hides nothing: entries are signed, not encrypted.
"""

from __future__ import annotations

import hmac

import blake3
from twisted.internet.defer import Deferred
from zope.interface import implementer

from sccache_twisted.errors import ConfigError
from sccache_twisted.interfaces import ICacheStore
from sccache_twisted.logs import EventLog, events
from sccache_twisted.security.files import read_secret
from sccache_twisted.storage.entries import check_key
from sccache_twisted.storage.measured import LevelFigures

_MAGIC = b"sct-s1\r\n"
_MAC_BYTES = 32
_NAMES = "sccache-twisted 2026-11 names of signed cache entries"
_ENTRIES = "sccache-twisted 2026-11 signatures of cache entries"
LEAST_SECRET_BYTES = 32


def read_signing_key(path: str) -> bytes:
    """The shared secret in a 0600 file; blanks around it don't count. Raises ConfigError."""
    secret = read_secret(path, "the key that signs cache entries", 4096).strip()
    if len(secret) < LEAST_SECRET_BYTES:
        raise ConfigError(
            f"{path}, the key that signs cache entries, holds {len(secret)} bytes; it takes {LEAST_SECRET_BYTES} or "
            f"more. Make one: head -c 32 /dev/urandom | base64 > {path}"
        )
    return secret


@implementer(ICacheStore)
class Signed:
    """``store``, of which only entries are believed that were put with the same ``secret``."""

    def __init__(self, store: ICacheStore, secret: bytes, figures: LevelFigures) -> None:
        self._store = store
        self._names = blake3.blake3(secret, derive_key_context=_NAMES).digest()
        self._entries = blake3.blake3(secret, derive_key_context=_ENTRIES).digest()
        self._figures = figures
        self._log = EventLog.of("sccache_twisted.storage", store=figures.name)

    def get(self, key: str) -> Deferred[bytes | None]:
        """See ICacheStore; None for an entry that isn't ours."""
        return Deferred.fromCoroutine(self._get(key))

    def put(self, key: str, entry: bytes) -> Deferred[None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._put(key, entry))

    def delete(self, key: str) -> Deferred[None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._delete(key))

    def close(self) -> Deferred[None]:
        """See ICacheStore."""
        return self._store.close()

    async def _get(self, key: str) -> bytes | None:
        name = self._name(key)
        found = await self._store.get(name)
        if found is None:
            return None
        entry = found[len(_MAGIC) + _MAC_BYTES :]
        if not hmac.compare_digest(found[: len(_MAGIC) + _MAC_BYTES], _MAGIC + self._mac(name, entry)):
            self._figures.add("get", "bad_signature")
            self._figures.silently(key, f"{self._figures.name} holds an entry that is not signed with our key.")
            self._log.emit(events.BAD_SIGNATURE, key=key)
            return None
        return entry

    async def _put(self, key: str, entry: bytes) -> None:
        name = self._name(key)
        await self._store.put(name, b"".join((_MAGIC, self._mac(name, entry), entry)))

    async def _delete(self, key: str) -> None:
        await self._store.delete(self._name(key))

    def _name(self, key: str) -> str:
        check_key(key)
        return blake3.blake3(key.encode(), key=self._names).hexdigest()

    def _mac(self, name: str, entry: bytes) -> bytes:
        # Names have one length, so nothing of the one can be taken for the other.
        return blake3.blake3(name.encode(), key=self._entries).update(entry).digest()
