from __future__ import annotations

import json
import tempfile
from http.client import HTTPConnection

import pytest
import pytest_twisted
from treq.testing import StubTreq
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from sccache_twisted import __version__
from sccache_twisted.model import Address, ClientId, ClusterFigures, JobId, ServerId
from sccache_twisted.scheduler.views import QueuedView, WorkerState, WorkerView
from sccache_twisted.web.site import StatusPages, status_service

WORKER = WorkerView(
    name="a",
    server_id=ServerId("a-0123456789abcdef"),
    address=Address("10.0.0.1", 10501),
    arch="x86_64",
    state=WorkerState.SUSPECT,
    slots=4,
    running=3,
    load=1.234,
    memory_bytes=8 << 30,
    free_memory_bytes=3 << 30,
    toolchains=2,
    failures=1.5,
)


TOKEN = "the control token"


class Shown:
    """A scheduler with one worker and a long queue; ``ordered`` are the drains that it was asked for."""

    uptime = 93784.5

    def __init__(self):
        self.ordered = []

    def order_drain(self, worker):
        self.ordered.append(worker)
        return [WORKER] if worker == "a" else []

    def figures(self):
        return ClusterFigures(1, 4, 3, 5000, 2)

    def worker_views(self):
        return [WORKER]

    def queued_views(self, offset, limit):
        return [
            QueuedView(JobId(f"job-{number}"), 1, ClientId("client"), f"<script>{number}.c", 2.0)
            for number in range(5000)[offset : offset + limit]
        ]


@pytest.fixture
def shown():
    return Shown()


@pytest.fixture
def http(shown):
    return StubTreq(StatusPages(shown, TOKEN).resource())


@pytest_twisted.ensureDeferred
async def test_healthz_is_ok(http):
    """A load balancer hears 200."""
    response = await http.get("http://scheduler/healthz")
    assert response.code == 200
    assert await response.text() == "ok\n"


@pytest_twisted.ensureDeferred
async def test_status_tells_numbers_workers_and_queue(http):
    """/status holds the cluster in numbers, every worker, and one page of the queue."""
    response = await http.get("http://scheduler/status")
    assert response.headers.getRawHeaders("content-type") == ["application/json"]
    found = json.loads(await response.text())
    assert found["scheduler"] == {
        "version": __version__,
        "uptime": 93784.5,
        "workers": 1,
        "slots": 4,
        "running": 3,
        "ahead": 2,
        "queued": 5000,
        "demand": 5003,
    }
    assert found["workers"] == [
        {
            "name": "a",
            "server_id": "a-0123456789abcdef",
            "address": "10.0.0.1:10501",
            "arch": "x86_64",
            "state": "suspect",
            "slots": 4,
            "running": 3,
            "load": 1.23,
            "memory": 8 << 30,
            "free_memory": 3 << 30,
            "toolchains": 2,
            "failures": 1.5,
        }
    ]
    assert len(found["queue"]) == 100
    assert found["queue"][0] == {
        "job_id": "job-0",
        "attempt": 1,
        "client_id": "client",
        "label": "<script>0.c",
        "waiting": 2.0,
    }


@pytest_twisted.ensureDeferred
async def test_the_queue_is_paged(http):
    """The arguments offset and limit choose what part of the queue is shown."""
    response = await http.get("http://scheduler/status?offset=4998&limit=1000")
    assert [one["job_id"] for one in (await response.json())["queue"]] == ["job-4998", "job-4999"]


@pytest.mark.parametrize("query", ["limit=1001", "limit=-1", "offset=x", "offset=%ff", "offset=99999999999999999999"])
@pytest_twisted.ensureDeferred
async def test_a_wrong_number_is_a_sentence(http, query):
    """A page that can't be is refused, with a sentence that names the argument."""
    response = await http.get(f"http://scheduler/status?{query}")
    assert response.code == 400
    assert query.partition("=")[0] in await response.text()


@pytest_twisted.ensureDeferred
async def test_the_page_shows_it_to_a_person(http):
    """/ shows workers and the head of the queue, and lets no label become markup."""
    response = await http.get("http://scheduler/")
    text = await response.text()
    assert response.code == 200
    assert "1 d 2 h" in text
    assert "a-0123456789abcdef" not in text
    assert "3/4" in text
    assert "&lt;script&gt;0.c" in text
    assert "<script" not in text
    assert "and 4980 more" in text


@pytest_twisted.ensureDeferred
async def test_unknown_pages_and_methods_get_sentences(http):
    """A wrong path names the right ones; a wrong method says that pages are read only; HEAD has no body."""
    response = await http.get("http://scheduler/statu")
    assert response.code == 404
    assert "/status" in await response.text()
    response = await http.post("http://scheduler/status", data=b"x")
    assert response.code == 405
    assert "read" in await response.text()
    response = await http.head("http://scheduler/status")
    assert response.code == 200
    assert await response.text() == ""


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest_twisted.ensureDeferred
async def test_who_shows_the_control_token_drains_a_worker(http, shown):
    """The order is passed on, and answered with whom it reached and how much they still run."""
    response = await http.post("http://scheduler/workers/a/drain", headers=bearer(TOKEN))
    assert response.code == 202
    assert await response.json() == {"draining": [{"name": "a", "server_id": "a-0123456789abcdef", "running": 3}]}
    assert shown.ordered == ["a"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("another token"),
        bearer(""),
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"token={TOKEN}"},
    ],
)
@pytest.mark.parametrize("worker", ["a", "nobody"])
@pytest_twisted.ensureDeferred
async def test_without_the_token_nothing_is_ordered_nor_told(http, shown, headers, worker):
    """A wrong or absent token is 401 with a sentence, whether there is such a worker or not."""
    response = await http.post(f"http://scheduler/workers/{worker}/drain", headers=headers)
    assert response.code == 401
    assert response.headers.getRawHeaders("www-authenticate") == ["Bearer"]
    text = await response.text()
    assert "sccache-twisted drain" in text
    assert TOKEN not in text
    assert shown.ordered == []


@pytest_twisted.ensureDeferred
async def test_an_unknown_worker_is_answered_with_the_known(http):
    """404 names those that there are; a name is quoted, whatever is in it."""
    response = await http.post("http://scheduler/workers/b%0Ac%20%3Cb%3E/drain", headers=bearer(TOKEN))
    assert response.code == 404
    assert await response.text() == "There is no worker 'b\\nc <b>'; there are a.\n"
    assert response.headers.getRawHeaders("content-type") == ["text/plain; charset=utf-8"]


@pytest_twisted.ensureDeferred
async def test_an_insecure_scheduler_takes_no_orders(shown):
    """Without identities everybody could give them."""
    http = StubTreq(StatusPages(shown, None).resource())
    for headers in ({}, bearer(""), bearer("None")):
        response = await http.post("http://scheduler/workers/a/drain", headers=headers)
        assert response.code == 403
        assert "insecure" in await response.text()
    assert shown.ordered == []


@pytest_twisted.ensureDeferred
async def test_an_order_is_no_page(http, shown):
    """Reading its address orders nothing, and says what would."""
    response = await http.get("http://scheduler/workers/a/drain", headers=bearer(TOKEN))
    assert response.code == 405
    assert response.headers.getRawHeaders("allow") == ["POST"]
    assert "POST" in await response.text()
    assert shown.ordered == []


@pytest_twisted.ensureDeferred
async def test_a_body_that_nobody_wants_is_laid_nowhere(shown, monkeypatch):
    """Whoever sends 280 kB is answered although no temporary file can be made: what comes is passed over."""
    monkeypatch.setattr(tempfile, "tempdir", "/absent")
    service = status_service(reactor, "tcp:0:interface=127.0.0.1", shown, TOKEN)
    service.startService()

    def send():
        connection = HTTPConnection("127.0.0.1", service.port, timeout=30)
        connection.request("POST", "/workers/a/drain", bytes(280_000), {"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        connection.close()
        return answer.status

    assert await deferToThread(send) == 202
    assert shown.ordered == ["a"]
    await service.stopService()
