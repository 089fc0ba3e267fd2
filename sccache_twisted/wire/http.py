"""Paths, headers and error bodies of the HTTPS conversation between client and worker."""

from __future__ import annotations

import json
import re

from sccache_twisted.errors import (
    AttemptRunning,
    Malformed,
    PeerError,
    SccacheTwistedError,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UnknownAttempt,
    WorkerFault,
    WorkerStorage,
    from_wire,
)
from sccache_twisted.model import Digest, JobId, Try
from sccache_twisted.model.identity import is_job_id

JOB_TYPE = b"application/x-sccache-job"
TOOLCHAIN_TYPE = b"application/x-sccache-toolchain"
STREAM_TYPE = b"application/x-sccache-answer"
JOB_HEADER = b"X-Job"
ALIVE_HEADER = b"X-Alive"
STILL_HERE = b"\r\n"
"""What a client says on the connection of a job that it waits for. HTTP allows an empty line before a request."""
MAX_ERROR_BODY = 64 << 10

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_SECONDS = re.compile(rb"[0-9]{1,4}(\.[0-9]{1,6})?\Z")
_STATUS: dict[type[SccacheTwistedError], int] = {
    Unauthorized: 401,
    UnknownAttempt: 404,
    AttemptRunning: 409,
    TooLarge: 413,
    TooManyRequests: 429,
    WorkerFault: 500,
    WorkerStorage: 507,
}


def toolchain_path(digest: Digest) -> str:
    """Where a toolchain is asked for and uploaded."""
    return f"/v1/toolchains/{digest}"


def job_path(attempt: Try) -> str:
    """Where an attempt is run."""
    return f"/v1/jobs/{attempt.job_id}/{attempt.attempt}"


def job_header(attempt: Try) -> bytes:
    """The value of the X-Job header."""
    return f"{attempt.job_id}/{attempt.attempt}".encode("ascii")


def parse_digest(text: str) -> Digest:
    """A digest in a path or message; raises Malformed."""
    if not _DIGEST.match(text):
        raise Malformed(f"{text[:80]!r} is not a digest (64 lower-case hexadecimal digits).")
    return Digest(text)


def parse_attempt(text: str) -> Try:
    """``<job_id>/<attempt>`` of a path or an X-Job header; raises Malformed."""
    job_id, slash, attempt = text.partition("/")
    if not slash or not is_job_id(job_id) or not attempt.isascii() or not attempt.isdigit() or len(attempt) > 6:
        raise Malformed(f"{text[:80]!r} is not <job_id>/<attempt>.")
    return Try(JobId(job_id), int(attempt))


def alive_header(seconds: float) -> bytes:
    """The value of the X-Alive header: at least how often, in seconds, the client says that it is still there."""
    return b"%.3f" % seconds


def parse_alive(text: bytes | None) -> float:
    """The seconds of an X-Alive header, 0.0 without one; raises Malformed."""
    if not text:
        return 0.0
    if not _SECONDS.match(text):
        raise Malformed("X-Alive is no number of seconds.")
    return float(text)


def status_of(error: SccacheTwistedError) -> int:
    """The HTTP status that carries an error."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)


def error_body(error: SccacheTwistedError) -> bytes:
    """The JSON body that carries an error."""
    return json.dumps({"code": error.code, "sentence": error.sentence}).encode()


def error_from_response(status: int, body: bytes) -> SccacheTwistedError:
    """The error in a response that is not 2xx, also when it comes from a gateway that speaks no JSON."""
    try:
        found = json.loads(body)
        return from_wire(str(found["code"]), str(found["sentence"]))
    except (ValueError, KeyError, TypeError):
        return PeerError(f"The worker's address answered HTTP {status}, and not as a worker does.")
