"""What the client remembers of a job when it has ended."""

from __future__ import annotations

from attrs import frozen

from sccache_twisted.model.identity import JobId, ServerId


@frozen
class RunsLocally:
    """A compilation stays on the client's machine, and why: a word of the documented set, and a sentence."""

    reason: str
    sentence: str = ""


@frozen
class Transfers:
    """What an attempt moved between client and worker, in bytes as sent, and how long that took in seconds.

    ``upload_seconds``: sending the toolchain; 0.0 if another did or it was there. ``download_seconds``: from the
    result's first byte to its last.
    """

    toolchain_bytes: int = 0
    upload_seconds: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0
    download_seconds: float = 0.0


@frozen
class JobFigures:
    """Where one remote compilation ran and how its time was spent, in seconds."""

    job_id: JobId
    attempts: int
    server_id: ServerId
    queue_seconds: float = 0.0
    upload_seconds: float = 0.0
    run_seconds: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0
