"""One constant for each thing that is logged: its name, level, sentence, and the fields that come with it.

An event below the least level costs one comparison, unless it is about a job and a journal is kept, which has all of
those. ``trace`` and the tests read names and fields, never sentences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import field, frozen
from twisted.logger import Logger, LogLevel

from sccache_twisted.model import ServerId, Try

SERVER = ("server_id",)
JOB = ("job_id", "attempt")
PLACED = (*JOB, *SERVER)
"""The identifiers of what an event is about: a worker, a job, a job on a worker."""

_RANKS = {"debug": 0, "info": 1, "warn": 2, "error": 3, "critical": 4}
_LEVELS = {name: LogLevel.levelWithName(name) for name in _RANKS}


@frozen
class Event:
    """A word of the vocabulary. ``sentence`` is a format string over ``fields`` and the ids.

    ``ids`` are those that it always carries; others come with it where they are known.
    """

    name: str
    level: str
    sentence: str
    fields: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    rank: int = field(init=False)

    @rank.default
    def _by_level(self) -> int:
        return _RANKS[self.level]


VOCABULARY: dict[str, Event] = {}
"""Every event by its name."""


def _event(name: str, level: str, sentence: str, *fields: str, ids: tuple[str, ...] = ()) -> Event:
    event = VOCABULARY[name] = Event(name, level, sentence, fields, ids)
    return event


_debug, _info, _warn = "debug", "info", "warn"

# --- a job's way, in the order of a good day ------------------------------------------------------

JOB_QUEUED = _event("job_queued", _debug, "{label} waits for a worker behind {ahead} others", "label", "ahead", ids=JOB)
WORKER_ASKED = _event("worker_asked", _debug, "asked {server_id} for a slot", ids=PLACED)
WORKER_REFUSED = _event("worker_refused", _debug, "{server_id} refused: {code}", "code", ids=PLACED)
WORKER_ACCEPTED = _event(
    "worker_accepted", _debug, "{server_id} leased a slot after {seconds:.3f} s", "seconds", ids=PLACED
)
LEASE_GRANTED = _event("lease_granted", _debug, "slot leased for {claim_seconds} s", "claim_seconds", ids=PLACED)
LEASE_CLAIMED = _event("lease_claimed", _debug, "the client has come for its slot", ids=PLACED)
LEASE_AHEAD = _event(
    "lease_ahead", _debug, "a slot is asked for while {label} is still being prepared", "label", ids=JOB
)
LEASE_TAKEN_BACK = _event(
    "lease_taken_back", _debug, "the slot that was held ahead is taken back: {reason}", "reason", ids=JOB
)
LEASE_GIVEN_BACK = _event(
    "lease_given_back", _debug, "the slot that was asked for ahead is not needed: {reason}", "reason", ids=JOB
)
LEASE_EXPIRED = _event(
    "lease_expired", _warn, "nobody claimed the slot within {claim_seconds} s", "claim_seconds", ids=PLACED
)
TOOLCHAIN_SENT = _event(
    "toolchain_sent",
    _info,
    "toolchain {toolchain} sent, {bytes} bytes in {seconds:.3f} s",
    "toolchain",
    "bytes",
    "seconds",
    ids=PLACED,
)
BLOBS_SENT = _event("blobs_sent", _debug, "{count} blobs sent, {bytes} bytes as sent", "count", "bytes", ids=PLACED)
BLOBS_MISSING = _event("blobs_missing", _debug, "{count} blobs are missing on the worker", "count", ids=PLACED)
JOB_RUNNING = _event("job_running", _debug, "the compiler runs", ids=PLACED)
JOB_FINISHED = _event(
    "job_finished",
    _debug,
    "the compiler ended with {exit_code} after {seconds:.3f} s",
    "exit_code",
    "seconds",
    ids=PLACED,
)
JOB_DONE = _event(
    "job_done",
    _debug,
    "{label} done in {attempts} attempts, {seconds:.3f} s",
    "label",
    "attempts",
    "seconds",
    ids=PLACED,
)

# --- every call of a compiler ---------------------------------------------------------------------

CALL_DECIDED = _event(
    "call_decided",
    _debug,
    "{program} in {directory}: {decision} {reason}",
    "program",
    "directory",
    "decision",
    "reason",
    "kept",
    "process",
)

# --- processes beside the daemon -------------------------------------------------------------------

HIT_SERVER_STARTED = _event("hit_server_started", _info, "hit server {process} answers hits beside us", "process")
HIT_SERVER_ENDED = _event("hit_server_ended", _info, "hit server {process} has gone: {reason}", "process", "reason")
HIT_SERVER_LOST = _event(
    "hit_server_lost", _warn, "hit server {process} has ended by itself: {reason}", "process", "reason"
)
HIT_SERVER_TROUBLED = _event(
    "hit_server_troubled", _warn, "hit server {process} left a call to us: {reason}", "process", "reason"
)

# --- a job's way on other days --------------------------------------------------------------------

JOB_FAILED = _event("job_failed", _info, "attempt failed ({code}): {sentence}", "code", "sentence", ids=JOB)
JOB_KILLED = _event("job_killed", _warn, "the job's processes were killed: {reason}", "reason", ids=PLACED)
JOB_RETRIED = _event("job_retried", _info, "another attempt in {wait:.3f} s ({code})", "code", "wait", ids=JOB)
JOB_LOCAL = _event("job_local", _info, "compiles locally ({reason}): {sentence}", "reason", "sentence", ids=JOB)
JOB_CANCELLED = _event("job_cancelled", _debug, "cancelled: {reason}", "reason", ids=JOB)
JOB_PREDICTED = _event("job_predicted", _debug, "its inputs were predicted, no preprocessor ran", ids=PLACED)
JOB_MISPREDICTED = _event(
    "job_mispredicted", _info, "it reads more than was predicted: listed properly and run again", ids=PLACED
)
JOB_DISCREPANCY = _event(
    "job_discrepancy",
    _warn,
    "worker and client disagree: status {remote} there, {local} here",
    "remote",
    "local",
    ids=PLACED,
)

# --- workers --------------------------------------------------------------------------------------

WORKER_REGISTERED = _event(
    "worker_registered", _info, "{server_id} at {address} joined with {slots} slots", "address", "slots", ids=SERVER
)
WORKER_LOST = _event("worker_lost", _warn, "{server_id} is lost: {reason}", "reason", ids=SERVER)
WORKER_DRAINING = _event("worker_draining", _info, "{server_id} takes no new jobs", "running", ids=SERVER)
DRAIN_ORDERED = _event("drain_ordered", _info, "{server_id} is told to leave", ids=SERVER)
PREEMPTION_NOTICE = _event(
    "preemption_notice",
    _warn,
    "{server_id} is about to lose its machine: {source} says {said}",
    "source",
    "said",
    ids=SERVER,
)
PREEMPTION_UNKNOWN = _event(
    "preemption_unknown",
    _warn,
    "whether {server_id} is about to lose its machine is not known: {source}: {reason}",
    "source",
    "reason",
    ids=SERVER,
)
CERTIFICATE_RENEWED = _event(
    "certificate_renewed",
    _info,
    "{server_id} shows a new certificate for its key, good until {until}",
    "until",
    ids=SERVER,
)
WORKER_LEFT = _event("worker_left", _info, "{server_id} left", ids=SERVER)
WORKER_SUSPECT = _event(
    "worker_suspect", _info, "{server_id} did not answer and is asked last: {reason}", "reason", ids=SERVER
)

# --- what a worker keeps --------------------------------------------------------------------------

TOOLCHAIN_STORED = _event(
    "toolchain_stored", _info, "toolchain {toolchain} stored, {bytes} bytes", "toolchain", "bytes", ids=SERVER
)
TOOLCHAIN_REFUSED = _event(
    "toolchain_refused", _warn, "toolchain {toolchain} refused: {sentence}", "toolchain", "sentence", ids=SERVER
)
TOOLCHAIN_DROPPED = _event(
    "toolchain_dropped", _info, "toolchain {toolchain} dropped: {reason}", "toolchain", "reason", ids=SERVER
)
BLOB_CORRUPT = _event("blob_corrupt", _warn, "blob {digest} was damaged and is dropped", "digest", ids=SERVER)

# --- the cache's stores ---------------------------------------------------------------------------

STORE_LEFT_ALONE = _event(
    "store_left_alone",
    _warn,
    "{store} keeps failing and is left alone for {operation}: {sentence}",
    "store",
    "operation",
    "sentence",
)
STORE_CALLED = _event(
    "store_called",
    _debug,
    "{store}: {operation} {outcome} after {seconds:.4f} s",
    "store",
    "operation",
    "outcome",
    "seconds",
)
STORE_BACK = _event("store_back", _info, "{store} is back for {operation}", "store", "operation")
STORE_DENIES = _event(
    "store_denies",
    _warn,
    "{store} denies us a look-up, which it also does when an entry is not there and we may not list: {sentence}",
    "store",
    "sentence",
)
BAD_SIGNATURE = _event(
    "bad_signature",
    _warn,
    "{store} holds an entry that is not signed with our key, and is not used: {key}",
    "store",
    "key",
)

# --- the cache -------------------------------------------------------------------------------------

CACHE_DAMAGED = _event("cache_damaged", _warn, "the cache's entry {key} is dropped: {reason}", "key", "reason")
CACHE_FAILED = _event("cache_failed", _info, "the cache failed to {what} an entry: {reason}", "what", "reason")

# --- links ----------------------------------------------------------------------------------------

LINK_UP = _event("link_up", _info, "link with {peer} is up", "peer", "role")
LINK_DOWN = _event("link_down", _info, "link with {peer} is down: {reason}", "peer", "reason")
LINK_RETRY = _event("link_retry", _debug, "{peer} is dialled again in {wait:.3f} s: {reason}", "peer", "wait", "reason")
LINK_DROPPED = _event("link_dropped", _warn, "link from {peer} dropped: {reason}", "peer", "reason")
HELLO_REFUSED = _event(
    "hello_refused", _warn, "Hello between us and {peer} refused ({code}): {sentence}", "peer", "code", "sentence"
)
TOO_MANY_LINKS = _event("too_many_links", _warn, "link from {peer} refused: {limit} are open", "peer", "limit")

# --- processes ------------------------------------------------------------------------------------

LISTENING = _event("listening", _info, "{role} listens on {address}", "role", "address")
INSECURE = _event("insecure", _warn, "{role} runs without encryption and identities: {sentence}", "role", "sentence")
STARTED = _event("started", _info, "{role} {version} started", "role", "version")
STOPPING = _event("stopping", _info, "{role} stops: {reason}", "role", "reason")

JOURNAL_LOST = _event("journal_lost", _warn, "the journal {path} cannot be written: {reason}", "path", "reason")

_least_rank = _RANKS["info"]
_journal: Callable[[dict[str, Any]], None] | None = None


def set_least_level(level: str) -> None:
    """Emit no event that is less severe than ``level``: debug, info, warn, error or critical. One for the process."""
    global _least_rank  # noqa: PLW0603 - the one switch that makes silent events free
    _least_rank = _RANKS[level]


def set_journal(write: Callable[[dict[str, Any]], None] | None) -> None:
    """Hand every event that has an attempt, of any level, to ``write``; None ends that. One for the process."""
    global _journal  # noqa: PLW0603 - the other switch that makes silent events free
    _journal = write


def emit(
    log: Logger, event: Event, *, attempt: Try | None = None, server_id: ServerId | None = None, **fields: Any
) -> None:
    """Log an event with its ids and fields."""
    journal = _journal if attempt is not None else None
    if event.rank < _least_rank and journal is None:
        return
    fields["event"] = event.name
    if attempt is not None:
        fields["job_id"] = attempt.job_id
        fields["attempt"] = attempt.attempt
    if server_id is not None:
        fields["server_id"] = server_id
    if journal is not None:
        journal(fields)
    if event.rank >= _least_rank:
        log.emit(_LEVELS[event.level], event.sentence, **fields)


@frozen
class EventLog:
    """A logger with fields that all its events share, a role or a server_id for instance."""

    log: Logger
    bound: dict[str, Any]

    @classmethod
    def of(cls, namespace: str, **bound: Any) -> EventLog:
        """A logger of this namespace."""
        return cls(Logger(namespace=namespace), bound)

    def bind(self, **more: Any) -> EventLog:
        """The same logger with more shared fields."""
        return EventLog(self.log, {**self.bound, **more})

    def emit(
        self, event: Event, *, attempt: Try | None = None, server_id: ServerId | None = None, **fields: Any
    ) -> None:
        """Log an event."""
        if event.rank >= _least_rank or (attempt is not None and _journal is not None):
            ids = {"server_id": server_id} if server_id is not None else {}
            emit(self.log, event, attempt=attempt, **{**self.bound, **fields, **ids})
