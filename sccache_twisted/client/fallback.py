"""What the client room tells itself when a remote compilation does not come about."""

from __future__ import annotations

from sccache_twisted.errors import DigestMismatch, FailureKind, SccacheTwistedError
from sccache_twisted.model import RunsLocally, Try


class FellBack(SccacheTwistedError):
    """The job is to be compiled on the client's machine."""

    code = "fell_back"
    kind = FailureKind.USER

    def __init__(self, local: RunsLocally, attempt: Try | None = None) -> None:
        super().__init__(local.sentence or local.reason)
        self.local = local
        self.attempt = attempt


class Found(SccacheTwistedError):
    """While the job waited in the queue, somebody else stored its result; ``answer`` is what ``again`` gave."""

    code = "found"
    kind = FailureKind.USER

    def __init__(self, answer: object) -> None:
        super().__init__("The job's result was stored by somebody else while it waited.")
        self.answer = answer


class InputChanged(DigestMismatch):
    """A source or header changed between being listed and being sent."""

    code = "input_changed"
    kind = FailureKind.USER
