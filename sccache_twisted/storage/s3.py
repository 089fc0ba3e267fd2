"""Entries in a bucket of Amazon S3, or of what speaks its language: MinIO, Ceph, R2, Garage …

Signed with botocore, sent with treq. Objects are named ``a/b/c/abc…`` below the prefix, as sccache names them, so that
a bucket's partitions share the load.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from sccache_twisted.errors import StorageError
from sccache_twisted.interfaces import ICacheStore
from sccache_twisted.logs import EventLog, events
from sccache_twisted.storage.credentials import Credentials
from sccache_twisted.storage.dialing import Server
from sccache_twisted.storage.entries import check_key, check_size
from sccache_twisted.storage.requests import Answer, StoreClient

_CODE = re.compile(rb"<Code>(\w{1,80})</Code>")
_STALE = frozenset({"ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"})

_SIGNED_AT_ONCE = 1 << 20
"""A signature holds the body's SHA-256; larger bodies are hashed in a thread."""


@frozen
class Bucket:
    """``base`` is the encoded URL below which the bucket's objects lie."""

    name: str
    base: str
    prefix: str = ""
    encrypt: bool = False


@implementer(ICacheStore)
class S3Store:
    """Entries in ``bucket``."""

    def __init__(
        self, reactor: Any, server: Server, bucket: Bucket, credentials: Credentials, connect_seconds: float
    ) -> None:
        self._reactor = reactor
        self._log = EventLog.of("sccache_twisted.storage", store="s3")
        self._denied = False
        self._who = server.who
        self._bucket = bucket
        self._prefix = [quote(part) for part in bucket.prefix.split("/") if part]
        self._credentials = credentials
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
        answer = await self._request("GET", key)
        if answer.status == 200:
            return answer.body
        code = _code(answer)
        if answer.status == 404 and code != "NoSuchBucket":
            return None
        if answer.status == 403 and code == "AccessDenied":
            # Whoever may not list a bucket is told so of every object that isn't there.
            if not self._denied:
                self._denied = True
                self._log.emit(events.STORE_DENIES, sentence=self._refusal(answer, code).sentence)
            return None
        raise self._refusal(answer, code)

    async def _put(self, key: str, entry: bytes) -> None:
        check_size(entry)
        headers = {"Content-Type": "application/octet-stream"}
        if self._bucket.encrypt:
            headers["x-amz-server-side-encryption"] = "AES256"
        answer = await self._request("PUT", key, headers, bytes(entry))
        if not answer.good:
            raise self._refusal(answer, _code(answer))

    async def _delete(self, key: str) -> None:
        answer = await self._request("DELETE", key)
        code = _code(answer)
        if not answer.good and (answer.status != 404 or code == "NoSuchBucket"):
            raise self._refusal(answer, code)

    async def _request(
        self, method: str, key: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        check_key(key)
        url = "/".join([self._bucket.base, *self._prefix, key[0], key[1], key[2], key])
        signer = await self._credentials.signer()
        arguments = (method, url, headers or {}, body or b"")
        if body is not None and len(body) > _SIGNED_AT_ONCE:
            pool = self._reactor.getThreadPool()
            signed = await deferToThreadPool(self._reactor, pool, signer.sign, *arguments)
        else:
            signed = signer.sign(*arguments)
        return await self._client.request(method, url, signed, body)

    def _refusal(self, answer: Answer, code: str) -> StorageError:
        if code in _STALE:
            self._credentials.forget()
        elsewhere = answer.header("x-amz-bucket-region")
        if answer.status in {301, 307, 400} and elsewhere:
            return StorageError(f"The bucket {self._bucket.name} is in {elsewhere}: write that as cache.s3.region.")
        if code:
            return StorageError(f"{self._who} refuses: {code} ({answer.status}), bucket {self._bucket.name}.")
        return self._client.refusal(answer)


def _code(answer: Answer) -> str:
    found = _CODE.search(answer.body[:4096])
    return found[1].decode() if found else ""
