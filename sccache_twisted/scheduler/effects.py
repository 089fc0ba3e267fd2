"""What the core wants done: frozen values that only the service performs."""

from __future__ import annotations

from typing import Any, NewType

from attrs import field, frozen

from sccache_twisted.errors import SccacheTwistedError
from sccache_twisted.logs.events import Event
from sccache_twisted.model import Allocation, ClientId, Digest, JobId, ServerId, Try

JobKey = tuple[ClientId, JobId, int]
"""What ``AllocateJob`` is idempotent by: client, job, attempt."""

AskId = NewType("AskId", int)
"""One call of AllocateJob; each is answered once."""

LinkId = NewType("LinkId", int)
"""One connection to the scheduler."""


@frozen
class AskWorker:
    """Offer a job to a worker, and tell the core what came of it: accepted, or refused with an error."""

    key: JobKey
    nonce: int
    server_id: ServerId
    attempt: Try
    toolchain: Digest
    expected_bytes: int


@frozen
class Answer:
    """Answer an AllocateJob with the leased slot."""

    ask: AskId
    allocation: Allocation


@frozen
class Fail:
    """Answer an AllocateJob with an error."""

    ask: AskId
    error: SccacheTwistedError


@frozen
class CancelAt:
    """Tell a worker that an attempt's lease is not wanted any more; ``unclaimed``: unless its client has come."""

    server_id: ServerId
    attempt: Try
    unclaimed: bool = False


@frozen
class TellTakenBack:
    """Tell a client, over those of its links, that the slot it held ahead of an attempt is taken back."""

    links: frozenset[LinkId]
    attempt: Try


@frozen
class TellWorkerLost:
    """Tell every client that a worker is gone."""

    server_id: ServerId


@frozen
class DrainWorker:
    """Tell a worker to finish what it runs and leave."""

    server_id: ServerId


@frozen
class Note:
    """Log an event of the vocabulary with its fields."""

    event: Event
    attempt: Try | None = None
    server_id: ServerId | None = None
    fields: dict[str, Any] = field(factory=dict)


Effect = AskWorker | Answer | Fail | CancelAt | TellTakenBack | TellWorkerLost | DrainWorker | Note
