"""The one place where failures become declared errors, in both directions.

An undeclared exception in an AMP responder drops the connection and every job on it, and a caller should
see no more kinds of failure than the failure table has. So every responder and every call passes here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone
from twisted.internet.error import ConnectionLost as TransportLost
from twisted.internet.error import TimeoutError as DialTimeout
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from sccache_twisted.errors import (
    ConnectionFailed,
    InternalError,
    JobCancelled,
    Malformed,
    SccacheTwistedError,
    TooLarge,
)

Responder = TypeVar("Responder", bound=Callable[..., Any])
Call = Callable[..., "Deferred[dict[str, Any]]"]

_log = Logger(namespace="sccache_twisted.wire")


def declare(failure: Failure) -> Failure:
    """Turn any failure of our own code into one that a peer may be told."""
    if failure.check(SccacheTwistedError):
        return failure
    if failure.check(CancelledError):
        return Failure(JobCancelled())
    if failure.check(ValueError, TypeError, UnicodeError) is not None and _came_from_decoding(failure):
        return Failure(Malformed(f"A message holds a wrong value: {failure.value}."))
    _log.failure("a responder failed", failure)
    return Failure(InternalError(f"The peer failed at this: {_kind(failure)}."))


def _kind(failure: Failure) -> str:
    return "error" if failure.type is None else failure.type.__name__


def _came_from_decoding(failure: Failure) -> bool:
    frames = failure.getTracebackObject()
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(
        ("sccache_twisted.wire.", "sccache_twisted.model.")
    )


def answering(responder: Responder) -> Responder:
    """Make an AMP responder fail with declared errors only."""

    def respond(self: object, **arguments: Any) -> Deferred[Any]:
        return maybeDeferred(responder, self, **arguments).addErrback(declare)

    return cast("Responder", respond)


def hearing(responder: Responder) -> Responder:
    """Make the responder of a message without an answer never fail: an error is logged, the link stays up."""

    def respond(self: object, **arguments: Any) -> Deferred[Any]:
        return (
            maybeDeferred(responder, self, **arguments).addErrback(declare).addErrback(_log_heard).addCallback(_empty)
        )

    return cast("Responder", respond)


def _log_heard(failure: Failure) -> None:
    _log.warn("a message was not understood: {sentence}", sentence=str(failure.value))


def _empty(_: object) -> dict[str, Any]:
    return {}


def translate(failure: Failure) -> Failure:
    """Turn any failure of a remote call into one of the failure table."""
    if failure.check(SccacheTwistedError, CancelledError):
        return failure
    if failure.check(amp.ProtocolSwitched, TransportLost, ConnectionDone, ConnectionAborted, ConnectError, DialTimeout):
        return Failure(ConnectionFailed(f"The link was lost: {failure.getErrorMessage()}"))
    if failure.check(amp.TooLong):
        return Failure(TooLarge("A value is too long for a message (65,535 bytes)."))
    if failure.check(amp.UnhandledCommand):
        return Failure(Malformed("The peer does not know this message: it is older than this side."))
    if failure.check(amp.RemoteAmpError, amp.AmpError) or _is_unreadable_answer(failure):
        return Failure(Malformed(f"The peer's answer was not understood: {failure.getErrorMessage()}"))
    _log.failure("a call failed", failure)
    return Failure(InternalError(f"A call failed: {_kind(failure)}."))


def _is_unreadable_answer(failure: Failure) -> bool:
    """Whether AMP could not read the values of an answer, for which it has no error of its own."""
    frames = failure.getTracebackObject()
    while frames is not None and frames.tb_frame.f_code.co_name != "parseResponse":
        frames = frames.tb_next
    return frames is not None


def calling(call: Call, command: type[amp.Command], **arguments: Any) -> Deferred[dict[str, Any]]:
    """Call the peer; fails with errors of the failure table only, also when nothing could be sent."""
    return maybeDeferred(call, command, **arguments).addErrback(translate)
