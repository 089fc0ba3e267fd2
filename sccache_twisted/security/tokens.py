"""Tokens by which clients and workers are admitted: named, for one role, revocable, kept as hashes only.

A token is 256 random bits, so a plain SHA-256 of it can't be guessed back. The file is re-read when it has changed:
``token revoke`` in another process takes effect at the next Hello.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.logger import Logger

from sccache_twisted.errors import ConfigError, StorageError, Unauthorized, UserError
from sccache_twisted.interfaces import Role
from sccache_twisted.security.files import read_secret, write_secret

TOKENS_FILE = "tokens.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_LIMIT = 16 << 20
_log = Logger()


@frozen
class TokenRecord:
    """A token as it is kept. ``created`` is Unix time in seconds."""

    name: str
    role: Role
    sha256: str
    created: float


class TokenStore:
    """The tokens in one file, which need not exist yet."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._stamp: tuple[int, int, int] | None = None
        self._records: tuple[TokenRecord, ...] = ()
        self.generation = 0
        """Grows whenever the file was found changed: time to judge open links again."""

    def names(self) -> tuple[TokenRecord, ...]:
        """Every token that is valid now; raises ConfigError when the file can't be understood."""
        self._refresh()
        return self._records

    def create(self, name: str, role: Role, now: float) -> str:
        """Make a token and keep its hash; the answer is the only copy. Raises UserError, ConfigError, StorageError."""
        if not _NAME.match(name):
            raise UserError(f"{name[:80]!r} cannot name a token: use up to 64 letters, digits and . _ @ -")
        token = secrets.token_urlsafe(32)
        with self._changing():
            if any(record.name == name for record in self._records):
                raise UserError(f"There is a token named {name!r} already: revoke it first, or use another name.")
            self._write((*self._records, TokenRecord(name, role, _hash(token), now)))
        return token

    def revoke(self, name: str) -> None:
        """End a token; raises UserError if there is none of this name."""
        with self._changing():
            kept = tuple(record for record in self._records if record.name != name)
            if len(kept) == len(self._records):
                raise UserError(f"There is no token named {name[:80]!r}.")
            self._write(kept)

    def check(self, role: Role, token: str) -> str:
        """The name of a token that is good for ``role``; raises Unauthorized. An unreadable file admits nobody."""
        try:
            self._refresh()
        except ConfigError as error:
            _log.error("no token is accepted: {sentence}", sentence=error.sentence)
            raise Unauthorized("The scheduler cannot read its tokens.") from error
        presented = _hash(token)
        found: TokenRecord | None = None
        for record in self._records:
            # Every record is compared, so that the time tells nothing about which one matched.
            if hmac.compare_digest(record.sha256, presented):
                found = record
        if found is None:
            raise Unauthorized("The token is wrong or was revoked.")
        if found.role is not role:
            raise Unauthorized(f"The token {found.name!r} is a {found.role.value}'s, not a {role.value}'s.")
        return found.name

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            if self._stamp is not None:
                self._stamp, self._records = None, ()
                self.generation += 1
            return
        except OSError as error:
            raise ConfigError(f"{self._path}, the tokens, cannot be read: {error.strerror}.") from error
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp == self._stamp:
            return
        self._records = _parse(read_secret(self._path, "the tokens", _LIMIT), self._path)
        self._stamp = stamp
        self.generation += 1

    def _write(self, records: tuple[TokenRecord, ...]) -> None:
        tokens = [
            {"name": record.name, "role": record.role.value, "sha256": record.sha256, "created": record.created}
            for record in records
        ]
        write_secret(self._path, json.dumps({"version": 1, "tokens": tokens}, indent=1).encode() + b"\n")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other processes out while the file is read, changed and written."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(
                self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise StorageError(f"{self._path}, the tokens, cannot be changed: {error.strerror}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._refresh()
            yield
            self._refresh()
        finally:
            os.close(lock)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _parse(data: bytes, path: Path) -> tuple[TokenRecord, ...]:
    try:
        found: Any = json.loads(data)
        return tuple(
            TokenRecord(str(entry["name"]), Role(entry["role"]), str(entry["sha256"]), float(entry["created"]))
            for entry in found["tokens"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}, the tokens, is damaged: restore it, or remove it and invite everyone anew."
        ) from error


class BadTokenBrake:
    """Slows down whoever tries wrong tokens: a leaky bucket for each peer host. Pure: ``now`` comes in.

    ``burst`` wrong tokens at once, then one every ``seconds_each``; remembers at most ``max_hosts`` hosts.
    """

    def __init__(self, burst: int = 20, seconds_each: float = 3.0, max_hosts: int = 10_000) -> None:
        self._burst = burst
        self._seconds_each = seconds_each
        self._max_hosts = max_hosts
        # When the host's bucket will be empty again: one number says how full it is now.
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def failed(self, host: str, now: float) -> None:
        """A wrong token came from ``host``."""
        self._empty_at[host] = max(now, self._empty_at.get(host, now)) + self._seconds_each
        self._empty_at.move_to_end(host)
        while len(self._empty_at) > self._max_hosts:
            self._empty_at.popitem(last=False)

    def wait(self, host: str, now: float) -> float:
        """For how many seconds the next token of ``host`` is not even looked at; 0.0: it may try."""
        empty_at = self._empty_at.get(host)
        if empty_at is None:
            return 0.0
        if empty_at <= now:
            del self._empty_at[host]
            return 0.0
        return max(0.0, empty_at - now - (self._burst - 1) * self._seconds_each)
