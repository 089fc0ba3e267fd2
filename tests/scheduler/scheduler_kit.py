"""Workers and clients of the real interfaces, in memory, and a scheduler over a Clock."""

from __future__ import annotations

import hashlib
import time

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from sccache_twisted.config import LinkTimers
from sccache_twisted.interfaces import (
    PROTOCOL_VERSION,
    Hello,
    IClientPeer,
    IWorkerPeer,
    Registration,
    Role,
)
from sccache_twisted.model import (
    Address,
    AllocationRequest,
    Beat,
    ClientId,
    Digest,
    ServerId,
    Try,
    WorkerCard,
    mint_job_id,
    mint_server_id,
)
from sccache_twisted.scheduler.core import SchedulerCore
from sccache_twisted.scheduler.door import SchedulerDoor
from sccache_twisted.scheduler.placing import CoreLimits
from sccache_twisted.scheduler.switchboard import Switchboard
from sccache_twisted.security import WorkerIdentity

GCC = Digest("a" * 64)
CLIENT = ClientId("client-1")


class Entropy:
    """Bytes that differ each time and are the same in each run."""

    def __init__(self):
        self.count = 0

    def __call__(self, size):
        self.count += 1
        return hashlib.shake_256(str(self.count).encode()).digest(size)


def job(number, attempt=1):
    return Try(mint_job_id(1_700_000_000_000, number.to_bytes(10, "big")), attempt)


def request(number, client=CLIENT, **more):
    return AllocationRequest(client, job(number), GCC, "x86_64", **more)


def server_id(name):
    return mint_server_id(name, hashlib.blake2b(name.encode()).digest())


@implementer(IWorkerPeer)
@define(eq=False)
class Worker:
    """A worker that answers as it is told: ``answer`` is True, False, an error to fail with, or None for silence."""

    identity: WorkerIdentity
    answer: object = True
    orders: list = field(factory=list)
    cancelled: list = field(factory=list)
    taken_back: list = field(factory=list)
    unanswered: list = field(factory=list)
    avatar: object = None
    slots: int = 2
    memory: int = 0
    was_cancelled: Deferred = field(factory=Deferred)
    drains: int = 0

    def assign(self, order):
        self.orders.append(order)
        if self.answer is None:
            self.unanswered.append(Deferred())
            return self.unanswered[-1]
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)

    def cancel(self, attempt, *, unclaimed=False):
        (self.taken_back if unclaimed else self.cancelled).append(attempt)
        if not self.was_cancelled.called:
            self.was_cancelled.callback(attempt)
        return succeed(None)

    def drain(self):
        self.drains += 1
        return succeed(None)

    @property
    def server_id(self):
        return self.identity.server_id

    def registration(self, challenge, jobs=(), **changes):
        card = WorkerCard(
            self.server_id, Address("10.0.0.1", 10501), self.identity.certificate, self.slots, self.memory, "x86_64"
        )
        return Registration(evolve(card, **changes), self.identity.prove(challenge), tuple(jobs))


@implementer(IClientPeer)
@define
class Client:
    lost: list = field(factory=list)
    taken_back: list = field(factory=list)

    def worker_lost(self, server_id):
        self.lost.append(server_id)
        return succeed(None)

    def lease_taken_back(self, attempt):
        self.taken_back.append(attempt)
        return succeed(None)


class Scheduler:
    """A scheduler without a network: its door, and what comes through it."""

    def __init__(self, tokens=None, **limits):
        self.clock = Clock()
        self.core = SchedulerCore(CoreLimits(**{"settle_seconds": 0.0, **limits}), self.clock.seconds())
        self.switchboard = Switchboard(self.core, self.clock, 2.0, Entropy())
        self.door = SchedulerDoor(self.switchboard, tokens, LinkTimers(), "scheduler", Entropy())

    def client(self, client_id=CLIENT, peer=None):
        hello = Hello(PROTOCOL_VERSION, Role.CLIENT, "", client_id)
        return self.door.client(hello, Client() if peer is None else peer)

    def link(self, worker, host="192.0.2.7"):
        """A worker's link that has said Hello: its avatar and the challenge."""
        hello = Hello(PROTOCOL_VERSION, Role.WORKER, "", worker.server_id)
        welcome = self.door.welcome(hello, host)
        return self.door.worker(hello, welcome, worker, host), welcome.challenge

    def join(self, name, answer=True, **more):
        worker = Worker(identity(name), answer, **more)
        self.rejoin(worker)
        return worker

    def rejoin(self, worker, jobs=()):
        avatar, challenge = self.link(worker)
        avatar.register(worker.registration(challenge, jobs))
        worker.avatar = avatar
        self.beat(worker)

    def beat(self, worker, added=(), running=0):
        worker.avatar.heartbeat(Beat(running, 0.0, 1 << 30), added, ())

    def pass_time(self, seconds, *speaking):
        """Let time pass in small steps while ``speaking`` workers send their heartbeats."""
        for _ in range(round(seconds * 2)):
            for worker in speaking:
                self.beat(worker)
            self.clock.advance(0.5)

    def state(self, worker):
        views = {view.server_id: view for view in self.core.worker_views(self.clock.seconds())}
        return views[worker.server_id].state if worker.server_id in views else None

    def turn(self):
        """Let what was put off to the next turn happen."""
        self.clock.advance(0)


_identities: dict[str, WorkerIdentity] = {}


def identity(name):
    if name not in _identities:
        _identities[name] = WorkerIdentity.create(ServerId(server_id(name)), time.time())
    return _identities[name]


def result(deferred):
    """What a Deferred has fired with: a value, an exception, or None while it waits. May be asked again."""
    found = vars(deferred).setdefault("_found", [])
    if not vars(deferred).get("_watched"):
        vars(deferred)["_watched"] = True
        deferred.addBoth(lambda value: found.append(getattr(value, "value", value)))
    return found[0] if found else None
