"""What tests of a job's life at its client share: a dispatcher between a scheduler and workers in memory."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from sccache_twisted.client.dispatcher import Dispatcher
from sccache_twisted.client.stats import Statistics
from sccache_twisted.config import ClientSettings
from sccache_twisted.interfaces import (
    AttemptReport,
    IBlobSource,
    ISchedulerForClients,
    ISchedulerLink,
    IWorkerConnection,
)
from sccache_twisted.model import (
    Action,
    ActionResult,
    Address,
    Allocation,
    AllocationRequest,
    ClientId,
    Digest,
    OutputFile,
    RunFigures,
    ServerId,
    Try,
    mint_server_id,
)

TOOLCHAIN = Digest("7" * 64)
FIGURES = RunFigures(wall_seconds=2.0, peak_memory_bytes=900 << 20)
GOOD = ActionResult(0, b"", b"", (OutputFile(b"/src/a.o", b"object"),), FIGURES)
ACTION = Action(TOOLCHAIN, b"/usr/bin/gcc", (b"gcc", b"-c", b"a.c"), b"/src", (), (), (b"/src/a.o",))


def server(number: int) -> ServerId:
    return mint_server_id(f"w{number}", bytes([number]) * 8)


@implementer(ISchedulerForClients, ISchedulerLink)
class Scheduler:
    """Answers allocations with what ``answers`` holds, in turn; the last one for ever."""

    client_id = ClientId("client-1")

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[AllocationRequest] = []
        self.reports: list[AttemptReport] = []
        self.cancelled: list[Try] = []
        self.local: Counter[str] = Counter()
        self.outage: Exception | None = None

    def scheduler(self) -> Deferred[Any]:
        return fail(self.outage) if self.outage else succeed(self)

    def refused(self) -> Exception | None:
        return None

    def allocate(self, request: AllocationRequest) -> Deferred[Allocation]:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            return fail(answer)
        if isinstance(answer, Deferred):
            return answer
        server_id, present = answer if isinstance(answer, tuple) else (answer, True)
        return succeed(Allocation(request.attempt, server_id, Address("h", 1), b"", "token", present))

    def report(self, report: AttemptReport) -> Deferred[None]:
        self.reports.append(report)
        return succeed(None)

    def stayed_local(self, reason: str, count: int) -> Deferred[None]:
        self.local[reason] += count
        return succeed(None)

    def cancel(self, attempt: Try) -> Deferred[None]:
        self.cancelled.append(attempt)
        return succeed(None)

    def link_lost(self) -> None:
        raise AssertionError("only the locator's side says so")


@implementer(IWorkerConnection)
class Workers:
    """Runs jobs to the outcomes that it is given, in turn; the last one for ever. ``running`` is reported first."""

    toolchain_bytes = 5000

    def __init__(self, *outcomes: Any, running: bool = True) -> None:
        self.outcomes = list(outcomes)
        self.running = running
        self.ran: list[tuple[ServerId, Action]] = []
        self.uploads: list[ServerId] = []

    def run(self, allocation: Allocation, action: Action, blobs: IBlobSource, progress: Any) -> Deferred[ActionResult]:
        self.ran.append((allocation.server_id, action))
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        progress.sent(100)
        if self.running:
            progress.phase_changed("running")
        if isinstance(outcome, Deferred):
            return outcome
        if isinstance(outcome, Exception):
            return fail(outcome)
        progress.received(30, 0.25)
        return succeed(outcome)

    def upload_toolchain(self, allocation: Allocation, digest: Digest, archive: str) -> Deferred[int]:
        self.uploads.append(allocation.server_id)
        return succeed(self.toolchain_bytes)

    def worker_lost(self, server_id: ServerId) -> None:
        raise AssertionError("the dispatcher says nothing of the kind")


class Bench:
    """A dispatcher between a scheduler and workers, with its time in the test's hand."""

    def __init__(self, scheduler: Scheduler, workers: Workers, **settings: Any) -> None:
        self.clock = Clock()
        self.scheduler = scheduler
        self.workers = workers
        self.statistics = Statistics()
        self.minted = count()
        self.dispatcher = Dispatcher(
            self.clock,
            scheduler,
            workers,
            evolve(ClientSettings(), **settings),
            self.statistics,
            draw=lambda: 0.5,
            entropy=lambda size: next(self.minted).to_bytes(size, "big"),
            now_ms=lambda: 1_700_000_000_000,
        )

    def dispatch(self, tmp: Any = __file__, again: Any = None) -> Deferred[Any]:
        return self.dispatcher.dispatch(ACTION, "x86_64", lambda: str(tmp), None, "/src/a.c", again)  # type: ignore[arg-type]

    def outcome(self, seconds: float = 3600.0) -> Any:
        """What a job comes to in that time: a RemoteRun, an exception, or None while it goes on."""
        found: list[Any] = []
        self.dispatch().addCallbacks(found.append, lambda failure: found.append(failure.value))
        for _ in range(int(seconds * 10)):
            if found:
                break
            self.clock.advance(0.1)
        return found[0] if found else None
