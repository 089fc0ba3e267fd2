"""The scheduler's core under any order of events."""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import define, evolve, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from sccache_twisted.errors import (
    ConnectionFailed,
    FailureKind,
    Silence,
    WorkerDraining,
    WorkerFault,
    WorkerFull,
)
from sccache_twisted.interfaces import AttemptReport, JobPhase, Outcome
from sccache_twisted.logs import events
from sccache_twisted.model import (
    Address,
    AllocationRequest,
    Beat,
    ClientId,
    Digest,
    JobId,
    ServerId,
    Try,
    WorkerCard,
)
from sccache_twisted.scheduler.core import SchedulerCore
from sccache_twisted.scheduler.effects import (
    Answer,
    AskWorker,
    CancelAt,
    DrainWorker,
    Fail,
    TellTakenBack,
    TellWorkerLost,
)
from sccache_twisted.scheduler.jobs import Leased, Placed, Queued, TakenBack
from sccache_twisted.scheduler.placing import CoreLimits

GIB = 1 << 30
TOOLCHAINS = [Digest(letter * 64) for letter in "ab"]
REFUSALS = [WorkerFull(), WorkerDraining(), Silence(), ConnectionFailed(), WorkerFault()]


@define
class ModelWorker:
    card: WorkerCard
    link: int | None
    draining: bool = False
    silent: bool = False
    ordered: bool = False
    held: set = field(factory=set)
    claimed: set = field(factory=set)


@define
class ModelAsk:
    request: AllocationRequest
    link: int
    answers: int = 0
    void: bool = False


class SchedulerMachine(RuleBasedStateMachine):
    asked = Bundle("asked")

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.serial = 0
        self.workers: dict[ServerId, ModelWorker] = {}
        self.asks: dict[int, ModelAsk] = {}
        self.outstanding: list[AskWorker] = []
        self.freed: list[tuple[ModelWorker, Try]] = []
        self.taken_back: set[Try] = set()

    @initialize(
        scale=st.sampled_from([0.0, 20.0]),
        settle=st.sampled_from([0.0, 10.0]),
        workers=st.lists(st.sampled_from([1, 1, 2]), max_size=3),
    )
    def begin(self, scale: float, settle: float, workers: list[int]) -> None:
        self.core = SchedulerCore(
            CoreLimits(scale_from_zero_seconds=scale, settle_seconds=settle, max_queue=50), self.now
        )
        for slots in workers:
            self.register(slots, 8 * GIB, "x86_64")

    def number(self) -> int:
        self.serial += 1
        return self.serial

    # --- effects are checked as they come out -------------------------------------------------------

    def do(self, effects) -> list[AskWorker]:
        fresh = []
        for effect in effects:
            if isinstance(effect, AskWorker):
                self.check_choice(effect)
                self.outstanding.append(effect)
                fresh.append(effect)
            elif isinstance(effect, Answer | Fail):
                ask = self.asks[effect.ask]
                assert not ask.void, "somebody who went away is answered"
                ask.answers += 1
                assert ask.answers == 1, "an ask is answered twice"
                if isinstance(effect, Answer):
                    assert effect.allocation.server_id in self.workers
                    assert effect.allocation.attempt == ask.request.attempt
            elif isinstance(effect, CancelAt):
                worker = self.workers.get(effect.server_id)
                if worker is None or worker.link is None:
                    continue
                if not effect.unclaimed:
                    worker.held.discard(effect.attempt)
                elif effect.attempt in worker.held - worker.claimed:
                    self.freed.append((worker, effect.attempt))
            elif isinstance(effect, TellTakenBack):
                holder = self.core._desk.table.of_attempt(effect.attempt)
                assert holder.ahead, "a slot is taken from somebody who was ready"
                self.taken_back.add(effect.attempt)
            elif isinstance(effect, TellWorkerLost) or getattr(effect, "event", None) is events.WORKER_LEFT:
                del self.workers[effect.server_id]
        return fresh

    def check_choice(self, effect: AskWorker) -> None:
        worker = self.workers.get(effect.server_id)
        assert worker is not None, "a lost worker is asked"
        assert worker.link is not None, "a worker without a link is asked"
        assert not worker.draining, "a draining worker is asked"
        assert not worker.silent, "a worker that did not answer is asked again before it was heard from"
        request = next(ask.request for ask in self.asks.values() if ask.request.key == effect.key)
        assert worker.card.arch == request.arch
        sound = {
            server_id
            for server_id, other in self.workers.items()
            if other.link is not None and not other.draining and not other.silent and other.card.arch == request.arch
        }
        if sound - request.avoid:
            assert effect.server_id not in request.avoid, "an avoided worker is asked though another lives"

    # --- clients ------------------------------------------------------------------------------------

    @rule(
        target=asked,
        client=st.integers(0, 2),
        toolchain=st.sampled_from(TOOLCHAINS),
        arch=st.sampled_from(["x86_64", "x86_64", "x86_64", "aarch64"]),
        memory=st.sampled_from([0, GIB // 2, 3 * GIB, 9 * GIB]),
        age=st.sampled_from([0.0, 40.0]),
        ahead=st.booleans(),
        data=st.data(),
    )
    def ask_new(self, client, toolchain, arch, memory, age, ahead, data):
        avoid = data.draw(st.lists(st.sampled_from(sorted(self.workers)), max_size=2)) if self.workers else ()
        attempt = Try(JobId(f"job-{self.number()}"), 1)
        request = AllocationRequest(
            ClientId(f"client-{client}"),
            attempt,
            toolchain,
            arch,
            frozenset(avoid),
            "a.c",
            1.0,
            memory,
            age,
            ahead=ahead,
        )
        self.ask(request, client)
        return request

    @rule(request=asked)
    def ask_again(self, request):
        self.ask(request, int(request.client_id[-1]))

    @rule(request=asked)
    def turn_ready(self, request):
        """Whoever asked ahead is prepared; what it had is its own now, or it waits as all others do."""
        self.ask(evolve(request, ahead=False), int(request.client_id[-1]))
        job = self.core._desk.table.get(request.key)
        assert job is None or not job.ahead or isinstance(job.state, TakenBack)

    def ask(self, request, link):
        number = self.number()
        self.asks[number] = ModelAsk(request, link)
        self.do(self.core.clients.allocation_asked(self.now, number, link, request))

    @rule(request=consumes(asked))
    def cancel(self, request):
        self.do(self.core.clients.attempt_cancelled(self.now, request.client_id, request.attempt))
        for ask in self.asks.values():
            assert ask.request.key != request.key or ask.answers or ask.void, (
                "a cancelled ask was left without an answer"
            )

    @rule(link=st.integers(0, 2))
    def client_vanishes(self, link):
        for ask in self.asks.values():
            if ask.link == link and not ask.answers:
                ask.void = True
        self.do(self.core.clients.link_lost(self.now, link))

    @rule(
        request=asked,
        outcome=st.sampled_from(list(Outcome)),
        reason=st.sampled_from(["", "silence", "sandbox_failed", "nonsense"]),
        data=st.data(),
    )
    def report(self, request, outcome, reason, data):
        if self.workers:
            server_id = data.draw(st.sampled_from(sorted(self.workers)))
            report = AttemptReport(request.attempt, outcome, server_id, reason)
            self.do(self.core.clients.attempt_reported(self.now, request.client_id, report))

    # --- workers ------------------------------------------------------------------------------------

    @rule(
        slots=st.integers(1, 3),
        memory=st.sampled_from([0, 2 * GIB, 8 * GIB]),
        arch=st.sampled_from(["x86_64", "x86_64", "aarch64"]),
    )
    def register_another(self, slots, memory, arch):
        self.register(slots, memory, arch)

    def register(self, slots, memory, arch):
        number = self.number()
        server_id = ServerId(f"w-{number:016x}")
        card = WorkerCard(server_id, Address("10.0.0.1", number), b"certificate", slots, memory, arch)
        self.workers[server_id] = ModelWorker(card, number)
        self.do(self.core.workers.registered(self.now, number, card, ()))

    def some_worker(self, data, which=bool):
        able = sorted(server_id for server_id, worker in self.workers.items() if which(worker))
        return self.workers[data.draw(st.sampled_from(able))] if able else None

    @rule(data=st.data(), forget=st.booleans())
    def link_again(self, data, forget):
        worker = self.some_worker(data)
        if worker is None:
            return
        worker.link = self.number()
        worker.silent = False
        self.freed = [(other, attempt) for other, attempt in self.freed if other is not worker]
        if forget and worker.held:
            worker.held.discard(min(worker.held, key=str))
        phases = {True: JobPhase.RUNNING, False: JobPhase.LEASED}
        jobs = [(attempt, phases[attempt in worker.claimed]) for attempt in sorted(worker.held, key=str)]
        effects = self.core.workers.registered(self.now, worker.link, worker.card, jobs)
        self.do(effects)
        assert (DrainWorker(worker.card.server_id) in effects) is worker.ordered, "an order is lost with its link"

    @rule(data=st.data())
    def unlink(self, data):
        worker = self.some_worker(data, lambda worker: worker.link is not None)
        if worker is not None:
            link, worker.link = worker.link, None
            self.do(self.core.workers.unlinked(self.now, worker.card.server_id, link))

    @rule(data=st.data())
    def an_old_link_ends(self, data):
        worker = self.some_worker(data)
        if worker is not None:
            self.do(self.core.workers.unlinked(self.now, worker.card.server_id, -1))

    @rule(data=st.data())
    def drain(self, data):
        worker = self.some_worker(data, lambda worker: worker.link is not None)
        if worker is not None:
            worker.draining, worker.silent, worker.ordered = True, False, False
            self.do(self.core.workers.drained(self.now, worker.card.server_id))

    @rule(data=st.data())
    def order_to_drain(self, data):
        """The worker hears it at once, or with its next link."""
        worker = self.some_worker(data)
        if worker is not None:
            worker.draining = worker.ordered = True
            effects = self.core.workers.drain_ordered(self.now, worker.card.server_id)
            self.do(effects)
            assert DrainWorker(worker.card.server_id) in effects

    @rule(
        data=st.data(),
        added=st.sets(st.sampled_from(TOOLCHAINS)),
        dropped=st.sets(st.sampled_from(TOOLCHAINS)),
        pressure=st.sampled_from([0.0, 0.9]),
        load=st.floats(0, 50),
    )
    def beat(self, data, added, dropped, pressure, load):
        worker = self.some_worker(data, lambda worker: worker.link is not None)
        if worker is not None:
            worker.silent = False
            beat = Beat(len(worker.held), load, GIB, pressure)
            self.do(
                self.core.workers.beat(self.now, worker.card.server_id, beat, sorted(added - dropped), sorted(dropped))
            )

    @rule(data=st.data(), phase=st.sampled_from(list(JobPhase)))
    def job_moves(self, data, phase):
        worker = self.some_worker(data, lambda worker: worker.link is not None and worker.held)
        if worker is not None:
            attempt = data.draw(st.sampled_from(sorted(worker.held, key=str)))
            worker.silent = False
            if phase is JobPhase.ENDED:
                worker.held.discard(attempt)
            elif phase is JobPhase.LEASED:
                worker.claimed.discard(attempt)
            else:
                worker.claimed.add(attempt)
            self.do(self.core.workers.job_moved(self.now, worker.card.server_id, attempt, phase))

    @rule(data=st.data())
    def a_slot_is_freed_or_was_claimed(self, data):
        """A worker has heard that a lease is to be taken back: it frees the slot, unless its client has come."""
        if not self.freed:
            return
        worker, attempt = self.freed.pop(data.draw(st.integers(0, len(self.freed) - 1)))
        if worker.link is None or self.workers.get(worker.card.server_id) is not worker:
            return
        if attempt in worker.held - worker.claimed:
            worker.held.discard(attempt)
            worker.silent = False
            self.do(self.core.workers.job_moved(self.now, worker.card.server_id, attempt, JobPhase.ENDED))

    # --- answers ------------------------------------------------------------------------------------

    @rule(present=st.booleans())
    def accept_all(self, present):
        while self.outstanding:
            self.accepts(self.outstanding.pop(0), present)

    @rule(data=st.data())
    def job_ends(self, data):
        worker = self.some_worker(data, lambda worker: worker.link is not None and worker.held)
        if worker is not None:
            attempt = min(worker.held, key=str)
            worker.held.discard(attempt)
            worker.silent = False
            self.do(self.core.workers.job_moved(self.now, worker.card.server_id, attempt, JobPhase.ENDED))

    @rule(data=st.data(), present=st.booleans())
    def accept(self, data, present):
        if self.outstanding:
            self.accepts(self.outstanding.pop(data.draw(st.integers(0, len(self.outstanding) - 1))), present)

    def accepts(self, ask: AskWorker, present: bool) -> None:
        worker = self.workers.get(ask.server_id)
        if worker is not None:
            worker.silent = False
            if worker.link is not None:
                worker.held.add(ask.attempt)
        self.do(self.core.workers.accepted(self.now, ask.key, ask.nonce, ask.server_id, "token", present))

    @rule(data=st.data(), error=st.sampled_from(REFUSALS))
    def refuse(self, data, error):
        if self.outstanding:
            self.refuses(self.outstanding.pop(data.draw(st.integers(0, len(self.outstanding) - 1))), error)

    def refuses(self, ask: AskWorker, error) -> None:
        worker = self.workers.get(ask.server_id)
        if worker is not None:
            worker.silent = worker.silent or error.kind is FailureKind.TRANSPORT
            worker.draining = worker.draining or isinstance(error, WorkerDraining)
        self.do(self.core.workers.refused(self.now, ask.key, ask.nonce, ask.server_id, error))

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 11.0, 16.0, 31.0]))
    def time_passes(self, seconds):
        end = self.now + seconds
        for _ in range(10_000):
            due = self.core.next_deadline()
            if due is None or due > end:
                break
            assert due >= self.now - 1e-6 or not self.core.time_passed(self.now), "an alarm is set in the past"
            self.now = max(self.now, due)
            self.do(self.core.time_passed(self.now))
        else:
            raise AssertionError("alarms go on for ever without time passing")
        self.now = end

    # --- what holds at every moment -----------------------------------------------------------------

    @invariant()
    def books_agree(self):
        """Table, registry, pools, queue and shares tell the same story, and no worker is above its slots."""
        if not hasattr(self, "core"):
            return
        desk = self.core._desk
        shares = Counter()
        for job in desk.table:
            assert job.state is not None
            if isinstance(job.state, Placed):
                shares[job.request.client_id] += 1
                worker = desk.registry.get(job.at)
                assert worker is not None, "a job stands in the books of nobody"
                assert worker.booked[job.attempt][0] == job.key
                assert job.reserved is None
            elif job.reserved is not None:
                assert desk.registry.get(job.reserved).reserved_for == job.key
        assert shares == desk.table._shares
        assert desk.table.queued == sum(isinstance(job.state, Queued) for job in desk.table)
        assert set(self.workers) == {worker.server_id for worker in desk.registry}
        for worker in desk.registry:
            assert len(worker.booked) <= worker.card.slots
            assert worker.booked_bytes == sum(need for _, need in worker.booked.values())
            assert not worker.card.memory_bytes or worker.booked_bytes <= worker.card.memory_bytes
            for attempt, (key, _) in worker.booked.items():
                assert desk.table.get(key).at == worker.server_id, attempt
            pool = desk.registry.pool(worker.card.arch)
            assert (worker.server_id in pool.seats) is not worker.draining
            if worker.reserved_for is not None:
                assert desk.table.get(worker.reserved_for).reserved == worker.server_id
            if not worker.draining:
                assert pool.seats[worker.server_id] == worker.seat(self.now) or worker.standing.reports.score

    @invariant()
    def nobody_waits_beside_a_free_slot(self):
        """Whoever waits could not be given any slot that is free."""
        if not hasattr(self, "core"):
            return
        desk = self.core._desk
        for arch in ("x86_64", "aarch64"):
            pool = desk.registry.pool(arch)
            for job in desk.table.waiting(arch):
                for server_id in pool.open_workers():
                    assert not pool.admits(server_id, job.wish), "a job waits beside a slot that it could have"

    @invariant()
    def nobody_who_is_ready_waits_for_a_slot_held_ahead(self):
        """While somebody waits who could have a slot that is held ahead, as many as wait are being taken back."""
        if not hasattr(self, "core"):
            return
        desk = self.core._desk
        for arch in ("x86_64", "aarch64"):
            pool = desk.registry.pool(arch)
            ready = [job for job in desk.table.waiting(arch) if not job.ahead]
            returning = [job for job in desk.table if isinstance(job.state, TakenBack) and job.request.arch == arch]
            assert desk.table._returning.get(arch, 0) == len(returning)
            if len(ready) <= len(returning):
                continue
            for holder in desk.table:
                if isinstance(holder.state, Leased) and holder.ahead and holder.request.arch == arch:
                    _, freed = desk.registry.get(holder.at).booked[holder.attempt]
                    for job in ready:
                        assert not pool.would_admit(holder.at, job.wish, freed), "a slot idles that a job waits for"

    @invariant()
    def what_is_held_ahead_is_known(self):
        """The table's index of slots that are held ahead is what its jobs say, and a claim ends it."""
        if not hasattr(self, "core"):
            return
        table = self.core._desk.table
        indexed = {key for leases in table._held.values() for key in leases}
        assert indexed == {job.key for job in table if job.ahead and isinstance(job.state, Leased)}
        for worker in self.core._desk.registry:
            for attempt, (key, _) in worker.booked.items():
                if attempt in self.workers[worker.server_id].claimed & self.workers[worker.server_id].held:
                    job = table.get(key)
                    assert not job.ahead or isinstance(job.state, Placed), "a claimed slot is still held ahead"

    @invariant()
    def nobody_is_forgotten(self):
        """Every ask that is not answered and whose asker is still there is in the table."""
        if not hasattr(self, "core"):
            return
        held = {ask.ask for job in self.core._desk.table for ask in job.asks}
        waiting = {number for number, ask in self.asks.items() if not ask.answers and not ask.void}
        assert waiting == held

    def teardown(self):
        """In the end everybody has been answered, and every slot is free again."""
        if not hasattr(self, "core"):
            return
        for round_number in range(200):
            while self.outstanding:
                self.refuses(self.outstanding.pop(), WorkerFull() if round_number % 2 else Silence())
            self.time_passes(5.0)
            if round_number > 20 and not self.outstanding:
                break
        assert all(ask.answers == 1 or ask.void for ask in self.asks.values())
        assert not self.core.figures().demand


def machine_settings(examples):
    return settings(
        max_examples=examples, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
    )


SchedulerMachine.TestCase.settings = machine_settings(200)
TestSchedulerMachine = SchedulerMachine.TestCase


@pytest.mark.full
@pytest.mark.timeout(900)
def test_the_machine_for_long():
    """The same rules and invariants, fifteen hundred times."""
    run_state_machine_as_test(SchedulerMachine, settings=machine_settings(1500))
