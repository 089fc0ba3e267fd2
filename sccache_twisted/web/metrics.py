"""``/metrics``: what the scheduler has counted, and how it stands at the moment of the scrape, for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sccache_twisted import __version__
from sccache_twisted.scheduler.views import WorkerState
from sccache_twisted.web.status import Shown

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format; every scraper reads this version of it."""


def exposition(scheduler: Shown) -> bytes:
    """The page."""
    return generate_latest(_Everything(scheduler))


class _Everything(Collector):
    """Gauges are read when they are asked for: nothing keeps them in step with the scheduler's books."""

    def __init__(self, scheduler: Shown) -> None:
        self._scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        """Every metric."""
        scheduler = self._scheduler
        figures = scheduler.figures()
        build = GaugeMetricFamily(
            "sccache_twisted_build_info", "The scheduler's version; always 1.", labels=["version"]
        )
        build.add_metric([__version__], 1)
        yield build
        yield _gauge("uptime_seconds", "Seconds since the scheduler started.", scheduler.uptime)
        yield _gauge("slots", "Slots of workers that take new jobs.", figures.slots)
        yield _gauge("running", "Jobs that have a slot, or are being offered to a worker.", figures.running)
        yield _gauge("ahead", "Jobs among those that hold a slot before they need it.", figures.ahead)
        yield _gauge("queued", "Jobs that wait for a slot.", figures.queued)
        yield _gauge("demand", "Slots that would be in use if there were enough: running and queued.", figures.demand)
        states = Counter(view.state for view in scheduler.worker_views())
        workers = GaugeMetricFamily("sccache_twisted_workers", "Registered workers by state.", labels=["state"])
        for state in WorkerState:
            workers.add_metric([state.value], states[state])
        yield workers
        yield from scheduler.metrics.collect()


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"sccache_twisted_{name}", about, value=value)
