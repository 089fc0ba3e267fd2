"""Who is who: jobs, attempts, servers, clients and content digests."""

from __future__ import annotations

import re
import uuid
from typing import NewType

from attrs import frozen

JobId = NewType("JobId", str)
"""A UUIDv7, minted by the client, one per compilation for its whole life."""

ServerId = NewType("ServerId", str)
"""``<name>-<16 hex>``, a DNS label, new at every start of a worker."""

ClientId = NewType("ClientId", str)
"""Names one run of one client daemon or library."""

Digest = NewType("Digest", str)
"""The blake3 of some content as 64 lower-case hexadecimal digits."""

SERVER_DOMAIN = "worker.sccache-twisted"
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,44}[a-z0-9])?\Z")
_SERVER_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,44}[a-z0-9])?-[0-9a-f]{16}\Z")


@frozen
class Try:
    """One attempt at a job; messages of an older attempt are ignored.

    ``attempt`` counts from 1.
    """

    job_id: JobId
    attempt: int


def mint_job_id(now_ms: int, entropy: bytes) -> JobId:
    """A UUIDv7 (RFC 9562 §5.7) from Unix milliseconds and 10 random bytes."""
    value = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(entropy[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return JobId(str(uuid.UUID(int=value)))


def is_job_id(text: str) -> bool:
    """Whether ``text`` is a UUID in its usual spelling."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def mint_server_id(name: str, entropy: bytes) -> ServerId:
    """A new server's id from the worker's name and 8 random bytes; ValueError for a name that is no DNS label."""
    if not _LABEL.match(name):
        raise ValueError(f"worker name {name!r} is not a DNS label of at most 46 characters (a-z, 0-9, -)")
    return ServerId(f"{name}-{entropy[:8].hex()}")


def is_server_id(text: str) -> bool:
    """Whether ``text`` has the form of a server id."""
    return _SERVER_ID.match(text) is not None


def worker_name(server_id: ServerId) -> str:
    """The name part of a server id: what stays when a worker restarts."""
    return server_id.rpartition("-")[0]


def server_host(server_id: ServerId) -> str:
    """The host name under which a worker's certificate is issued and its URL is written."""
    return f"{server_id}.{SERVER_DOMAIN}"


def server_id_of_host(host: str) -> ServerId | None:
    """The server id in a host name made by :func:`server_host`, or None."""
    label, dot, domain = host.partition(".")
    return ServerId(label) if dot and domain == SERVER_DOMAIN and is_server_id(label) else None
