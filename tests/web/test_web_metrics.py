from __future__ import annotations

import pytest
import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families
from scheduler.scheduler_kit import GCC, Client, Entropy, Worker, identity, job, request, result
from treq.testing import StubTreq
from twisted.internet.task import Clock

from sccache_twisted.config import SchedulerSettings
from sccache_twisted.errors import (
    FAILURES,
    ConnectionFailed,
    JobKilled,
    NoWorkers,
    StillQueued,
    ToolchainAbsent,
    WorkerFull,
)
from sccache_twisted.interfaces import PROTOCOL_VERSION, AttemptReport, Hello, JobPhase, Outcome, Role
from sccache_twisted.model import Beat, ClientId, Transfers
from sccache_twisted.scheduler.service import SchedulerService
from sccache_twisted.web.site import StatusPages

OURS = "sccache_twisted_"


class Place:
    """A scheduler without a network, and its pages."""

    def __init__(self, **settings):
        self.clock = Clock()
        settings = SchedulerSettings(insecure=True, **{"settle_seconds": 0.0, "allocate_seconds": 5.0, **settings})
        self.service = SchedulerService(self.clock, settings, None, None, Entropy())
        self.http = StubTreq(StatusPages(self.service).resource())
        self.client = self.service.door.client(Hello(PROTOCOL_VERSION, Role.CLIENT, "", "client-1"), Client())

    def join(self, name, answer=True, slots=2):
        worker = Worker(identity(name), answer, slots=slots)
        hello = Hello(PROTOCOL_VERSION, Role.WORKER, "", worker.server_id)
        welcome = self.service.door.welcome(hello, "192.0.2.7")
        worker.avatar = self.service.door.worker(hello, welcome, worker, "192.0.2.7")
        worker.avatar.register(worker.registration(welcome.challenge))
        return worker

    def beat(self, worker):
        worker.avatar.heartbeat(Beat(0, 0.0, 1 << 30), (), ())

    def allocate(self, number, attempt=1, **more):
        asked = request(number, **more)
        if attempt > 1:
            asked = type(asked)(asked.client_id, job(number, attempt), GCC, "x86_64", **more)
        return self.client.allocate(asked)

    def report(self, worker, number, outcome, reason="", attempt=1, seconds=0.0, peak=0):
        self.client.report(AttemptReport(job(number, attempt), outcome, worker.server_id, reason, seconds, peak))

    async def scrape(self):
        """Every sample by its name without the prefix, and its label values."""
        response = await self.http.get("http://scheduler/metrics")
        assert response.code == 200
        found = {}
        for family in text_string_to_metric_families(await response.text()):
            for sample in family.samples:
                assert sample.name.startswith(OURS)
                key = (sample.name.removeprefix(OURS), *sample.labels.values())
                assert key not in found
                found[key] = sample.value
        return found


@pytest.fixture
def place():
    return Place()


@pytest_twisted.ensureDeferred
async def test_the_page_is_prometheus_text(place):
    """/metrics has Prometheus' content type, and every metric has its help and type."""
    response = await place.http.get("http://scheduler/metrics")
    assert response.headers.getRawHeaders("content-type") == ["text/plain; version=0.0.4; charset=utf-8"]
    families = list(text_string_to_metric_families(await response.text()))
    assert len(families) == 25
    for family in families:
        assert family.documentation
        assert family.type in {"gauge", "counter", "histogram"}
    response = await place.http.post("http://scheduler/metrics", data=b"")
    assert response.code == 405


@pytest_twisted.ensureDeferred
async def test_expected_outcomes_are_there_before_they_happen(place):
    """A counter's expected values stand at 0 from the start, so that a rate sees the first one."""
    found = await place.scrape()
    for outcome in ("allocated", "still_queued", "no_workers", "cancelled", "too_many_requests"):
        assert found["allocations_total", outcome] == 0
    for kind in FAILURES:
        assert found["attempt_failures_total", kind.value] == 0
    for state in ("alive", "suspect", "draining"):
        assert found["workers", state] == 0


@pytest_twisted.ensureDeferred
async def test_gauges_are_the_cluster_at_the_moment_of_the_scrape(place):
    """Slots, running, queued, demand and workers by state follow the books; who drains offers no slots."""
    worker, leaving = place.join("a"), place.join("b", slots=4)
    leaving.avatar.draining()
    for number in range(5):
        place.allocate(number)
    found = await place.scrape()
    assert (found["slots",], found["running",], found["queued",], found["demand",]) == (2, 2, 3, 5)
    assert (found["workers", "alive"], found["workers", "suspect"], found["workers", "draining"]) == (1, 0, 1)
    worker.avatar.link_lost()
    place.clock.advance(1.5)
    found = await place.scrape()
    assert (found["workers", "alive"], found["workers", "suspect"]) == (0, 1)
    assert found["uptime_seconds",] == 1.5


@pytest_twisted.ensureDeferred
async def test_answers_to_clients_are_counted_by_outcome(place):
    """Allocated, still queued, cancelled, no workers, too many: each answer counts once, under its own outcome."""
    place = Place(max_queue=2)
    assert isinstance(result(place.allocate(1)), NoWorkers)
    worker = place.join("a", slots=1)
    assert result(place.allocate(2)).server_id == worker.server_id
    waiting, cancelled = place.allocate(3), place.allocate(4)
    assert result(place.allocate(5)).code == "too_many_requests"
    place.client.cancel(job(4))
    assert result(cancelled).code == "cancelled"
    place.clock.advance(5.0)
    assert isinstance(result(waiting), StillQueued)
    again = place.allocate(3, age=5.0)
    worker.avatar.job_state(job(2), JobPhase.RUNNING)
    place.clock.advance(2.0)
    worker.avatar.job_state(job(2), JobPhase.ENDED)
    assert result(again).attempt == job(3)
    found = await place.scrape()
    outcomes = {key[1]: value for key, value in found.items() if key[0] == "allocations_total" and value}
    assert outcomes == {"allocated": 2, "still_queued": 1, "no_workers": 1, "cancelled": 1, "too_many_requests": 1}
    assert (found["queue_seconds_count",], found["queue_seconds_sum",]) == (2, 7.0)
    assert found["queue_seconds_bucket", "5.0"] == 1
    assert found["queue_seconds_bucket", "10.0"] == 2


@pytest_twisted.ensureDeferred
async def test_offers_are_counted_by_what_workers_said(place):
    """A refusal, a broken link and an acceptance are three offers, and one allocation."""
    answers = iter([WorkerFull("full"), ConnectionFailed("gone"), True])
    workers = [place.join(name, answer=None) for name in "abc"]
    allocated = place.allocate(1)
    for _ in workers:
        asked = next(worker for worker in workers if worker.unanswered)
        answer = next(answers)
        waiting = asked.unanswered.pop()
        waiting.callback(answer) if answer is True else waiting.errback(answer)
        place.clock.advance(0)
    assert result(allocated).attempt == job(1)
    found = await place.scrape()
    offers = {key[1]: value for key, value in found.items() if key[0] == "offers_total" and value}
    assert offers == {"refusal": 1, "transport": 1, "accepted": 1}
    assert found["allocations_total", "allocated"] == 1


@pytest_twisted.ensureDeferred
async def test_reports_become_failures_by_kind_attempts_and_durations(place):
    """A failed attempt counts under its kind; a done one tells attempts, run seconds and peak memory."""
    worker = place.join("a", slots=8)
    for number in range(4):
        place.allocate(number)
    place.report(worker, 0, Outcome.FAILED, JobKilled.code)
    place.report(worker, 1, Outcome.FAILED, ToolchainAbsent.code)
    place.report(worker, 2, Outcome.FAILED, "a_word_of_tomorrow")
    place.report(worker, 3, Outcome.DONE, seconds=1.5, peak=100 << 20)
    place.allocate(0, attempt=2)
    place.report(worker, 0, Outcome.DONE, attempt=2, seconds=3.0, peak=200 << 20)
    place.report(worker, 1, Outcome.CANCELLED)
    found = await place.scrape()
    failures = {key[1]: value for key, value in found.items() if key[0] == "attempt_failures_total" and value}
    assert failures == {"killed": 1, "toolchain_absent": 1, "unknown": 1}
    assert [found["attempts_total", outcome] for outcome in ("done", "failed", "cancelled")] == [2, 3, 1]
    assert [found["job_attempts_bucket", bucket] for bucket in ("1.0", "2.0", "+Inf")] == [1, 2, 2]
    assert (found["run_seconds_count",], found["run_seconds_sum",]) == (2, 4.5)
    assert (found["job_peak_memory_bytes_count",], found["job_peak_memory_bytes_sum",]) == (2, 300 << 20)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
@pytest_twisted.ensureDeferred
async def test_a_number_that_is_no_duration_spoils_no_sum(place, seconds):
    """What a client says it took is not believed blindly: nan, infinity and less than nothing are left out."""
    worker = place.join("a")
    place.allocate(1, age=max(0.0, seconds))
    place.report(worker, 1, Outcome.DONE, seconds=seconds, peak=-5)
    found = await place.scrape()
    assert found["attempts_total", "done"] == 1
    assert found["run_seconds_count",] == found["run_seconds_sum",] == 0
    assert found["job_peak_memory_bytes_count",] == 0
    assert found["queue_seconds_sum",] in {0.0, 86400.0}


@pytest_twisted.ensureDeferred
async def test_the_lives_of_workers_and_leases_are_counted(place):
    """Registrations, heartbeats, lost workers and leases that nobody claimed are counters."""
    worker = place.join("a")
    place.allocate(1)
    for _ in range(40):
        place.beat(worker)
        place.clock.advance(0.5)
    assert worker.cancelled == [job(1)]
    for _ in range(40):
        place.clock.advance(0.5)
    found = await place.scrape()
    assert found["heartbeats_total",] == 40
    assert found["workers_registered_total",] == 1
    assert found["leases_expired_total",] == 1
    assert found["workers_lost_total",] == 1
    assert found["workers", "alive"] == 0


@pytest_twisted.ensureDeferred
async def test_what_clients_moved_and_kept_is_counted(place):
    """Bytes by what they were, upload and download times, local compilations by reason; nonsense counts as unknown."""
    worker = place.join("a")
    for attempt, transfers in (
        (1, Transfers(toolchain_bytes=1000, upload_seconds=0.5, sent_bytes=10)),
        (2, Transfers(sent_bytes=20, received_bytes=7, download_seconds=0.25)),
        (3, Transfers(-5, -1.0, -1, 1 << 70, float("nan"))),
    ):
        outcome = Outcome.FAILED if attempt == 1 else Outcome.DONE
        place.client.report(AttemptReport(job(1, attempt), outcome, worker.server_id, transfers=transfers))
    for reason, count in (("no_workers", 2), ("killed", 1), ("nonsense", 4), ("no_workers", -3), ("killed", 1 << 70)):
        place.client.stayed_local(reason, count)
    found = await place.scrape()
    moved = {what: found["transferred_bytes_total", what] for what in ("toolchains", "inputs", "results")}
    assert moved == {"toolchains": 1000, "inputs": 30, "results": 7}
    assert (found["upload_seconds_count",], found["upload_seconds_sum",]) == (1, 0.5)
    assert (found["download_seconds_count",], found["download_seconds_sum",]) == (1, 0.25)
    local = {reason: found["local_compilations_total", reason] for reason in ("no_workers", "killed", "unknown")}
    assert local == {"no_workers": 2, "killed": 1, "unknown": 4}
    assert found["local_compilations_total", "time_macros"] == 0


@pytest_twisted.ensureDeferred
async def test_two_schedulers_in_one_process_share_nothing():
    """What one scheduler counts is not in the other's figures, and either may have several pages."""
    one, other = Place(), Place()
    one.join("a")
    one.allocate(1)
    assert (await one.scrape())["allocations_total", "allocated"] == 1
    assert (await other.scrape())["allocations_total", "allocated"] == 0
    one.http = StubTreq(StatusPages(one.service).resource())
    assert (await one.scrape())["allocations_total", "allocated"] == 1


@pytest_twisted.ensureDeferred
async def test_no_name_of_a_worker_or_client_is_in_it(place):
    """Labels are bounded: however many workers and clients come and go, there are no more series."""
    before = set(await place.scrape())
    for name in "abc":
        worker = place.join(name)
        hello = Hello(PROTOCOL_VERSION, Role.CLIENT, "", f"client-{name}")
        client = place.service.door.client(hello, Client())
        client.allocate(request(ord(name), client=ClientId(f"client-{name}"), label=f"{name}.c"))
        client.report(AttemptReport(job(ord(name)), Outcome.FAILED, worker.server_id, f"reason-{name}"))
    assert set(await place.scrape()) == before


@pytest_twisted.ensureDeferred
async def test_clients_that_wait_when_the_scheduler_stops_are_counted(place):
    """Whoever still waits at the end is told that there is no scheduler, and counted so."""
    place.join("a", answer=None)
    waiting = place.allocate(1)
    answer = result(waiting)
    assert answer is None
    place.service._switchboard.stop()
    assert result(waiting).code == "no_scheduler"
    assert (await place.scrape())["allocations_total", "no_scheduler"] == 1
