"""How values are spelled in AMP arguments, in both directions; wrong spellings raise Malformed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgpack

from sccache_twisted.errors import Malformed, SccacheTwistedError
from sccache_twisted.interfaces import JobPhase, Outcome, Role
from sccache_twisted.model import Address, Digest, JobId, ServerId, Try
from sccache_twisted.model.identity import is_job_id, is_server_id
from sccache_twisted.wire.http import parse_digest
from sccache_twisted.wire.scheduling import JOBS_PER_PAGE

_BYTES = 32
_Word = TypeVar("_Word", Role, Outcome, JobPhase)


def attempt_arguments(attempt: Try) -> dict[str, Any]:
    """An attempt as arguments ``job`` and ``attempt``."""
    return {"job": attempt.job_id, "attempt": attempt.attempt}


def read_attempt(job: str, attempt: int) -> Try:
    """An attempt from its arguments."""
    if not is_job_id(job) or not 0 < attempt < 1_000_000:
        raise Malformed(f"{job[:80]!r}, {attempt} do not name an attempt.")
    return Try(JobId(job), attempt)


def read_server(text: str) -> ServerId:
    """A server id from its argument."""
    if not is_server_id(text):
        raise Malformed(f"{text[:80]!r} is not a server_id.")
    return ServerId(text)


def read_address(text: str) -> Address:
    """An address; ``:PORT`` stands for the host that the scheduler sees (host is empty then)."""
    try:
        if text.startswith(":"):
            return Address("", Address.parse(f"unspecified{text}").port)
        return Address.parse(text)
    except ValueError as error:
        raise Malformed(f"A worker's public address is wrong: {error}.") from None


def read_word(kind: type[_Word], text: str) -> _Word:
    """A member of an enumeration by its value."""
    try:
        return kind(text)
    except ValueError:
        raise Malformed(f"{text[:40]!r} is no {kind.__name__}.") from None


def pack_digests(digests: Iterable[Digest]) -> bytes:
    """Digests as 32 bytes each."""
    return b"".join(map(bytes.fromhex, digests))


def read_digests(packed: bytes) -> tuple[Digest, ...]:
    """Digests from 32 bytes each."""
    if len(packed) % _BYTES:
        raise Malformed("A list of digests is cut off.")
    return tuple(parse_digest(packed[at : at + _BYTES].hex()) for at in range(0, len(packed), _BYTES))


def pages(entries: Sequence[Digest], size: int) -> Iterator[Sequence[Digest]]:
    """Cut a sequence into pages; one empty page for none."""
    for start in range(0, max(1, len(entries)), size):
        yield entries[start : start + size]


def pack_jobs(jobs: Sequence[tuple[Try, JobPhase]]) -> bytes:
    """The attempts that a worker holds, at most a page of them."""
    packed = msgpack.packb([(job.job_id, job.attempt, phase.value) for job, phase in jobs[:JOBS_PER_PAGE]])
    return bytes(packed)


def read_jobs(packed: bytes) -> tuple[tuple[Try, JobPhase], ...]:
    """The attempts that a worker says it holds."""
    try:
        entries = msgpack.unpackb(packed)
        return tuple((read_attempt(job, attempt), read_word(JobPhase, phase)) for job, attempt, phase in entries)
    except SccacheTwistedError:
        raise
    except (ValueError, TypeError, AttributeError, msgpack.exceptions.UnpackException):
        raise Malformed("The list of jobs that a worker holds is not understood.") from None
