"""An order over HTTP to a real scheduler: whom it reaches, and how they are shown from then on."""

from __future__ import annotations

import time

import pytest
import pytest_twisted
from scheduler.scheduler_kit import Entropy, Worker
from treq.testing import StubTreq
from twisted.internet.task import Clock

from sccache_twisted.config import SchedulerSettings
from sccache_twisted.interfaces import PROTOCOL_VERSION, Hello, Role
from sccache_twisted.model import mint_server_id
from sccache_twisted.scheduler.service import SchedulerService
from sccache_twisted.security import WorkerIdentity
from sccache_twisted.web.site import StatusPages

TOKEN = {"Authorization": "Bearer secret"}


class Place:
    """A scheduler without a network, its pages, and workers that joined it."""

    def __init__(self):
        self.service = SchedulerService(Clock(), SchedulerSettings(insecure=True), None, None, Entropy())
        self.http = StubTreq(StatusPages(self.service, "secret").resource())

    def join(self, name, entropy):
        worker = Worker(WorkerIdentity.create(mint_server_id(name, entropy), time.time()))
        hello = Hello(PROTOCOL_VERSION, Role.WORKER, "", worker.server_id)
        welcome = self.service.door.welcome(hello, "192.0.2.7")
        self.service.door.worker(hello, welcome, worker, "192.0.2.7").register(worker.registration(welcome.challenge))
        return worker

    async def drain(self, worker):
        response = await self.http.post(f"http://scheduler/workers/{worker}/drain", headers=TOKEN)
        return {each["server_id"] for each in (await response.json())["draining"]}

    async def text(self, page):
        return await (await self.http.get(f"http://scheduler/{page}")).text()


@pytest.fixture
def place():
    return Place()


@pytest_twisted.ensureDeferred
async def test_a_name_reaches_all_who_have_it_and_a_server_id_one(place):
    """Workers told by name are all of that name; each is told once."""
    first, second = place.join("rack", b"\1" * 8), place.join("rack", b"\2" * 8)
    other = place.join("rack-2", b"\3" * 8)
    assert await place.drain(second.server_id) == {second.server_id}
    assert (first.drains, second.drains, other.drains) == (0, 1, 0)
    assert await place.drain("rack") == {first.server_id, second.server_id}
    assert (first.drains, second.drains, other.drains) == (1, 2, 0)


@pytest_twisted.ensureDeferred
async def test_whoever_drains_is_shown_so_everywhere(place):
    """/status, the page for people and /metrics say it at once, and its slots are offered no more."""
    leaving = place.join("leaving", b"\1" * 8)
    place.join("staying", b"\2" * 8)
    await place.drain("leaving")
    shown = await (await place.http.get("http://scheduler/status")).json()
    assert {each["server_id"]: each["state"] for each in shown["workers"]}[leaving.server_id] == "draining"
    assert (shown["scheduler"]["workers"], shown["scheduler"]["slots"]) == (1, 2)
    assert '<td>leaving</td><td class="draining">draining</td>' in await place.text("")
    metrics = await place.text("metrics")
    assert 'sccache_twisted_workers{state="draining"} 1.0\n' in metrics
    assert 'sccache_twisted_workers{state="alive"} 1.0\n' in metrics
