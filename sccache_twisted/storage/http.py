"""Entries on a web server that takes PUT, GET and DELETE: WebDAV, plain HTTP caches, bazel-remote.

Layouts, named as ccache names them: *subdirs* (``ab/cdef…``, for servers that keep entries as files), *flat*, and
*bazel* (``ac/abcdef…``). A bazel-remote server takes any 64 hexadecimal digits there, checks that an entry is an
ActionResult unless it was started with ``--disable_http_ac_validation``, and knows no DELETE. (Below ``cas/`` it takes
nothing but content under its own SHA-256, which an entry is not.)
"""

from __future__ import annotations

from base64 import b64encode
from enum import Enum
from typing import Any
from urllib.parse import quote

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from sccache_twisted.errors import EntryTooLarge, StorageError
from sccache_twisted.interfaces import ICacheStore
from sccache_twisted.storage.dialing import Server
from sccache_twisted.storage.entries import check_key, check_size
from sccache_twisted.storage.requests import Answer, StoreClient

_DELETED = b"sccache-twisted: deleted"
"""What stands in a deleted entry's place where a server knows no DELETE."""

_LACKING = frozenset({403, 404, 409, 500})
"""What servers say when a PUT's collection isn't there: RFC 4918 wants 409, nginx says 500."""


class Layout(str, Enum):
    """How keys become paths."""

    SUBDIRS = "subdirs"
    FLAT = "flat"
    BAZEL = "bazel"


@frozen
class HttpLogin:
    """Basic authentication, or bearer, or none. ``header`` is the Authorization header's value."""

    header: str = field(default="", repr=False)

    @classmethod
    def basic(cls, username: str, password: str) -> HttpLogin:
        """A name and a password."""
        return cls(f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}")

    @classmethod
    def bearer(cls, token: str) -> HttpLogin:
        """A token."""
        return cls(f"Bearer {token}")


@implementer(ICacheStore)
class HttpStore:
    """Entries below ``base`` (an encoded URL without a slash at its end) and ``prefix``."""

    def __init__(
        self,
        reactor: Any,
        server: Server,
        base: str,
        login: HttpLogin,
        prefix: str,
        layout: Layout,
        connect_seconds: float,
    ) -> None:
        self._who = server.who
        self._base = base
        self._headers = {"Authorization": login.header} if login.header else {}
        self._layout = layout
        self._prefix = [quote(part) for part in prefix.split("/") if part]
        self._made: set[tuple[str, ...]] = set()
        self._client = StoreClient(reactor, server, connect_seconds)

    def get(self, key: str) -> Deferred[bytes | None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._get(key))

    def put(self, key: str, entry: bytes) -> Deferred[None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._put(key, entry))

    def delete(self, key: str) -> Deferred[None]:
        """See ICacheStore."""
        return Deferred.fromCoroutine(self._delete(key))

    def close(self) -> Deferred[None]:
        """See ICacheStore."""
        return self._client.close()

    async def _get(self, key: str) -> bytes | None:
        answer = await self._request("GET", self._path(key))
        if answer.status in {404, 410} or (answer.status == 200 and answer.body == _DELETED):
            return None
        if answer.status != 200:
            raise self._client.refusal(answer)
        return answer.body

    async def _put(self, key: str, entry: bytes) -> None:
        path = self._path(key)
        check_size(entry)
        # Judged before: another call may make the same collection while this one is refused.
        collection = tuple(path[:-1])
        known = collection in self._made
        answer = await self._request("PUT", path, bytes(entry))
        if answer.status in _LACKING and self._layout is not Layout.BAZEL:
            if known:
                # Somebody may have removed it; the next put makes it again, if that is what is wrong.
                self._made -= {collection[:length] for length in range(1, len(collection) + 1)}
            else:
                await self._make_collections(collection)
                answer = await self._request("PUT", path, bytes(entry))
        if answer.status == 413:
            raise EntryTooLarge(f"{self._who} does not take an entry of {len(entry)} bytes (413).")
        if answer.status == 400 and self._layout is Layout.BAZEL:
            raise StorageError(
                f"{self._who} refuses an entry (400): a bazel-remote server has to be started with "
                "--disable_http_ac_validation."
            )
        if not answer.good:
            raise self._client.refusal(answer)

    async def _delete(self, key: str) -> None:
        path = self._path(key)
        if self._layout is Layout.BAZEL:
            if await self._get(key) is not None:
                await self._put(key, _DELETED)
            return
        answer = await self._request("DELETE", path)
        if not answer.good and answer.status not in {404, 410}:
            raise self._client.refusal(answer)

    def _path(self, key: str) -> list[str]:
        check_key(key)
        below = {
            Layout.SUBDIRS: [key[:2], key[2:]],
            Layout.FLAT: [key],
            Layout.BAZEL: ["ac", key],
        }
        return self._prefix + below[self._layout]

    async def _make_collections(self, path: tuple[str, ...]) -> None:
        for length in range(1, len(path) + 1):
            if path[:length] not in self._made:
                answer = await self._request("MKCOL", [*path[:length], ""])
                # 405: it is there, perhaps since just now. What went wrong the next PUT tells better.
                if answer.good or answer.status == 405:
                    self._made.add(path[:length])

    async def _request(self, method: str, path: list[str], body: bytes | None = None) -> Answer:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/octet-stream"}
        return await self._client.request(method, "/".join([self._base, *path]), headers, body)
