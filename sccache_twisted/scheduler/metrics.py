"""What a scheduler counts, for Prometheus. Every scheduler has a registry of its own; nothing of it is global.

Label values come from short fixed lists: no name of a worker, client or job is one, for those come and go for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric

from sccache_twisted.compilers.reasons import REASONS, Place
from sccache_twisted.errors import (
    BY_CODE,
    FailureKind,
    JobCancelled,
    NoWorkers,
    SccacheTwistedError,
    SchedulerUnavailable,
    StillQueued,
    TooManyRequests,
    UnknownAttempt,
)
from sccache_twisted.interfaces import AttemptReport, Outcome
from sccache_twisted.logs import events
from sccache_twisted.model import Transfers
from sccache_twisted.scheduler.effects import Note

_ALLOCATED = "allocated"
_ACCEPTED = "accepted"
_UNKNOWN = "unknown"
_ABSURD = float(1 << 60)
_MOST_AT_ONCE = 1_000_000
_LOCAL_REASONS = tuple(word for word, reason in REASONS.items() if reason.place is Place.LOCAL)
_TOOLCHAINS, _INPUTS, _RESULTS = "toolchains", "inputs", "results"
_KINDS = (*(kind.value for kind in FailureKind), _UNKNOWN)
_REFUSALS = (JobCancelled, NoWorkers, SchedulerUnavailable, StillQueued, TooManyRequests, UnknownAttempt)
_QUEUE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_TRANSFER_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_RUN_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
_ATTEMPTS = (1, 2, 3, 4, 5, 8, 16)
_MEMORY = tuple(float(1 << power) for power in range(25, 35))  # 32 MiB to 16 GiB


class SchedulerMetrics:
    """Counters and histograms of one scheduler. Each method tells of one thing that has happened."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._allocations = _Labelled(
            self._counter("allocations_total", "Answers to AllocateJob.", "outcome"),
            (_ALLOCATED, *(error.code for error in _REFUSALS)),
        )
        self._offers = _Labelled(
            self._counter("offers_total", "What workers said when they were asked for a slot.", "outcome"),
            (_ACCEPTED, *_KINDS),
        )
        self._attempts = _Labelled(
            self._counter("attempts_total", "Attempts whose end a client reported.", "outcome"),
            tuple(outcome.value for outcome in Outcome),
        )
        self._failures = _Labelled(
            self._counter("attempt_failures_total", "Attempts that clients reported as failed.", "kind"),
            _KINDS,
        )
        self._local = _Labelled(
            self._counter("local_compilations_total", "Compilations that clients kept on their machines.", "reason"),
            (*_LOCAL_REASONS, _UNKNOWN),
        )
        self._transferred = _Labelled(
            self._counter("transferred_bytes_total", "Bytes between clients and workers, as sent.", "what"),
            (_TOOLCHAINS, _INPUTS, _RESULTS),
        )
        self._heartbeats = self._counter("heartbeats_total", "Heartbeats of workers.")
        self._leases_expired = self._counter("leases_expired_total", "Slots that were leased and never claimed.")
        self._leases_taken_back = self._counter(
            "leases_taken_back_total", "Slots that were held ahead of a job and then served another one."
        )
        self._joined = self._counter("workers_registered_total", "Workers that joined or came back over a new link.")
        self._lost = self._counter("workers_lost_total", "Workers that fell silent or did not come back.")
        self._queue_seconds = self._histogram(
            "queue_seconds", "How long a client had been asking for a slot when it got one.", _QUEUE_SECONDS
        )
        self._run_seconds = self._histogram(
            "run_seconds", "From a client's coming for its slot until it had the result.", _RUN_SECONDS
        )
        self._upload_seconds = self._histogram(
            "upload_seconds", "How long a client took to send a toolchain.", _TRANSFER_SECONDS
        )
        self._download_seconds = self._histogram(
            "download_seconds", "From a result's first byte to its last.", _TRANSFER_SECONDS
        )
        self._job_attempts = self._histogram("job_attempts", "Attempts until a job had its result.", _ATTEMPTS)
        self._peak_memory = self._histogram("job_peak_memory_bytes", "The most memory that a job used.", _MEMORY)
        self._by_event = {
            events.LEASE_EXPIRED.name: self._leases_expired,
            events.LEASE_TAKEN_BACK.name: self._leases_taken_back,
            events.WORKER_REGISTERED.name: self._joined,
            events.WORKER_LOST.name: self._lost,
        }

    def collect(self) -> Iterator[Metric]:
        """Everything counted so far, without the moments at which counting began: a scrape is half as long so."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric

    def allocated(self, waited: float) -> None:
        """A client got a slot; it had been asking for ``waited`` seconds."""
        self._allocations.count(_ALLOCATED)
        _observe(self._queue_seconds, waited)

    def not_allocated(self, error: SccacheTwistedError) -> None:
        """A client got no slot."""
        self._allocations.count(error.code)

    def noted(self, note: Note) -> None:
        """Something happened that is logged too."""
        name = note.event.name
        if name == events.WORKER_ACCEPTED.name:
            self._offers.count(_ACCEPTED)
        elif name == events.WORKER_REFUSED.name:
            self._offers.count(_kind(note.fields["code"]))
        elif name in self._by_event:
            self._by_event[name].inc()

    def heartbeat(self) -> None:
        """A worker's heartbeat came."""
        self._heartbeats.inc()

    def reported(self, report: AttemptReport) -> None:
        """A client told how an attempt ended."""
        self._attempts.count(report.outcome.value)
        self._moved(report.transfers)
        if report.outcome is Outcome.DONE:
            self._job_attempts.observe(report.attempt.attempt)
            _observe(self._run_seconds, report.seconds)
            _observe(self._download_seconds, report.transfers.download_seconds)
            if report.peak_memory_bytes:
                _observe(self._peak_memory, report.peak_memory_bytes)
        elif report.outcome is Outcome.FAILED:
            self._failures.count(_kind(report.reason))

    def stayed_local(self, reason: str, count: int) -> None:
        """A client compiled by itself."""
        if 0 < count <= _MOST_AT_ONCE:
            self._local.count(reason if reason in _LOCAL_REASONS else _UNKNOWN, count)

    def _moved(self, transfers: Transfers) -> None:
        for what, size in (
            (_TOOLCHAINS, transfers.toolchain_bytes),
            (_INPUTS, transfers.sent_bytes),
            (_RESULTS, transfers.received_bytes),
        ):
            # Peers may send any number; a negative one is no counter's.
            if 0 < size < _ABSURD:
                self._transferred.count(what, size)
        if transfers.toolchain_bytes > 0:
            _observe(self._upload_seconds, transfers.upload_seconds)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"sccache_twisted_{name}", about, labels, registry=self._registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"sccache_twisted_{name}", about, buckets=buckets, registry=self._registry)


class _Labelled:
    """A counter with one label. Its expected values are there from the start, so that a rate sees the first one."""

    def __init__(self, counter: Counter, values: tuple[str, ...]) -> None:
        self._counter = counter
        self._children = {value: counter.labels(value) for value in values}

    def count(self, value: str, more: int = 1) -> None:
        """``more`` of ``value``, which is a word of ours."""
        child = self._children.get(value)
        if child is None:
            child = self._children[value] = self._counter.labels(value)
        child.inc(more)


def _kind(code: str) -> str:
    failure = BY_CODE.get(code)
    return failure.kind.value if failure is not None else _UNKNOWN


def _observe(histogram: Histogram, value: float) -> None:
    # Peers may send any number; one that is no duration and no size would spoil the sum for ever.
    if 0.0 <= value < _ABSURD:
        histogram.observe(value)
