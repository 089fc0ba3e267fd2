"""A door that admits one token, and what else the tests of links need."""

from __future__ import annotations

import time

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from sccache_twisted.errors import IdentityTaken, ProtocolMismatch, StillQueued, Unauthorized
from sccache_twisted.interfaces import (
    OLDEST_PROTOCOL,
    PROTOCOL_VERSION,
    IClientPeer,
    ISchedulerDoor,
    ISchedulerForClients,
    ISchedulerForWorkers,
    IWorkerPeer,
    Welcome,
)
from sccache_twisted.model import Address, Allocation, Digest, ServerId, Try, WorkerCard
from sccache_twisted.security import WorkerIdentity

A = ServerId("a-0123456789abcdef")
B = ServerId("b-0123456789abcdef")
C = ServerId("c-0123456789abcdef")
JOB = "018c0000-0000-7000-8000-000000000000"
DIGEST = Digest("ab" * 32)


def identity(server_id, *, years=0):
    """A worker's identity as made by a host whose clock is this many years off."""
    return WorkerIdentity.create(server_id, time.time() + years * 365 * 86400)


@implementer(ISchedulerForClients)
@define
class ClientBusiness:
    peer: object
    asked: list = field(factory=list)
    lost: Deferred = field(factory=Deferred)

    def allocate(self, request):
        self.asked.append(request)
        waiting = Deferred()
        if request.age == 1.0:
            waiting.errback(StillQueued())
        return waiting

    def report(self, report):
        self.asked.append(report)
        return succeed(None)

    def stayed_local(self, reason, count):
        self.asked.append((reason, count))
        return succeed(None)

    def cancel(self, attempt):
        self.asked.append(attempt)
        return succeed(None)

    def link_lost(self):
        self.lost.callback(None)


@implementer(ISchedulerForWorkers)
@define
class WorkerBusiness:
    peer: object
    cards: list = field(factory=list)
    lost: Deferred = field(factory=Deferred)
    taken: bool = False

    def register(self, registration):
        if self.taken:
            raise IdentityTaken
        self.cards.append(registration.card)
        return succeed(None)

    def heartbeat(self, beat, added, dropped):
        return succeed(None)

    def job_state(self, attempt, phase):
        return succeed(None)

    def draining(self):
        return succeed(None)

    def link_lost(self):
        self.lost.callback(None)


@implementer(ISchedulerDoor)
class Door:
    """Admits the token ``good``; ``admitted`` gives the next business that was opened."""

    def __init__(self):
        self.hellos = []
        self.businesses = []
        self.taken = False
        self._waiting = []

    def welcome(self, hello, host):
        self.hellos.append((hello, host))
        if not OLDEST_PROTOCOL <= hello.version <= PROTOCOL_VERSION:
            raise ProtocolMismatch
        if hello.token != "good":
            raise Unauthorized
        return Welcome(PROTOCOL_VERSION, "s", b"c" * 32, 5.0, 15.0)

    def _opened(self, business):
        self.businesses.append(business)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(business)
        return business

    def client(self, hello, peer):
        return self._opened(ClientBusiness(peer))

    def worker(self, hello, welcome, peer, host):
        return self._opened(WorkerBusiness(peer, taken=self.taken))

    def admitted(self):
        waiting = Deferred()
        self._waiting.append(waiting)
        return waiting


@implementer(IClientPeer)
class LostWorkers:
    """A client that collects what it is told."""

    def __init__(self):
        self.lost = []
        self.told = Deferred()

    def worker_lost(self, server_id):
        self.lost.append(server_id)
        self.told.callback(server_id)
        return succeed(None)

    def lease_taken_back(self, attempt):
        raise AssertionError(f"nothing was held ahead of {attempt}")


@implementer(IWorkerPeer)
class Idle:
    """A worker that says yes."""

    def assign(self, order):
        return succeed(True)

    def cancel(self, attempt, *, unclaimed=False):
        return succeed(None)

    def drain(self):
        return succeed(None)


def card(worker):
    return WorkerCard(worker.server_id, Address("h", 1), worker.certificate, 2, 1 << 30, "x86_64")


def allocation(worker, address, *, present=True):
    return Allocation(Try(JOB, 1), worker.server_id, address, worker.certificate, "token-of-attempt", present)
