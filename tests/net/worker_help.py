"""A worker's HTTPS port whose behaviour a test writes down."""

from __future__ import annotations

from functools import partial
from threading import Thread

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from sccache_twisted.client.workers import WorkerConnections
from sccache_twisted.config import LinkTimers
from sccache_twisted.model import Action, ActionResult, Address, Digest, FileInput, OutputFile
from sccache_twisted.net.agent import WorkerAgent
from sccache_twisted.net.dialing import tcp
from sccache_twisted.net.ports import ListeningService
from sccache_twisted.security import CertificateBook
from sccache_twisted.security.contexts import ServerTLS
from sccache_twisted.wire.jobs import decode_job

TOOLCHAIN = Digest("cd" * 32)
RESULT = ActionResult(0, b"out", b"err\xff", (OutputFile(b"/w/a.o", b"object"),))


def digest(n):
    return Digest(f"{n:064x}")


def action(blobs, outputs=(b"/w/a.o",)):
    """An action whose inputs are these blobs."""
    inputs = tuple(FileInput(b"/w/%d.h" % n, each, len(data), 0) for n, (each, data) in enumerate(blobs.items()))
    return Action(TOOLCHAIN, b"/usr/bin/gcc", (b"gcc",), b"/w", (), inputs, outputs)


class Blobs:
    """The content of inputs; notes what was read."""

    def __init__(self, blobs):
        self.blobs = blobs
        self.read_digests = []

    def read(self, wanted):
        self.read_digests.append(wanted)
        return self.blobs[wanted]


class Phases:
    def __init__(self):
        self.phases = []

    def phase_changed(self, phase):
        self.phases.append(phase)

    def sent(self, size):
        assert size > 0

    def received(self, size, seconds):
        assert size > 0
        assert seconds >= 0


class Leaf(Resource):
    isLeaf = True

    def __init__(self, worker):
        super().__init__()
        self.worker = worker

    def render(self, request):
        self.worker.requests.append(request)
        request.jobs = None
        request.hung_up = Deferred()
        request.notifyFinish().addErrback(lambda _: request.hung_up.callback(None))
        body = request.content.read()
        if request.path.startswith(b"/v1/jobs/"):
            request.job, request.blobs = decode_job(body, max_plain=1 << 30, max_inputs=1000)
        request.body = body
        self.worker.script.pop(0)(request)
        waiting, self.worker.waiting = self.worker.waiting, []
        for each in waiting:
            each.callback(request)
        return NOT_DONE_YET


class Worker:
    """Answers each request by the next function of ``script``."""

    def __init__(self, identity, *script, port=0, shows=None, tls=True):
        self.identity = identity
        self.script = list(script)
        self.requests = []
        self.waiting = []
        self.site = Site(Leaf(self))
        self.connections = 0
        build = self.site.buildProtocol

        def counted(addr):
            self.connections += 1
            return build(addr)

        self.site.buildProtocol = counted
        self.site.noisy = False
        context = ServerTLS(shows or identity) if tls else None
        self.service = ListeningService(reactor, f"tcp:{port}:interface=127.0.0.1", self.site, context, "worker")
        self.service.startService()
        self.address = Address("127.0.0.1", self.service.port)

    def request(self):
        """The next request, when it has come in."""
        waiting = Deferred()
        self.waiting.append(waiting)
        return waiting

    async def stop(self):
        await self.service.stopService()


class Threads(ThreadPool):
    """Threads that don't outlive a test that failed."""

    threadFactory = partial(Thread, daemon=True)


class Client:
    """Connections as a client has them, with a thread of its own."""

    def __init__(self, *, silence=10.0, answer=100.0, insecure=False, refresh=None, timers=None):
        timers = timers or LinkTimers()
        self.book = CertificateBook()
        self.threads = Threads(1, 1)
        self.threads.start()
        self.agent = WorkerAgent(reactor, tcp(reactor, timers), self.book, timers, insecure=insecure)
        self.workers = WorkerConnections(
            reactor,
            self.threads,
            self.agent,
            self.book,
            silence_seconds=silence,
            answer_seconds=answer,
            compression_level=1,
            refresh=refresh,
        )

    async def stop(self):
        await self.workers.close()
        self.threads.stop()


def frames(*each):
    """Answer with these frames."""

    def answer(request):
        request.write(b"".join(each))
        request.finish()

    return answer


def says(status, body):
    """Answer with a status and a body."""

    def answer(request):
        request.setResponseCode(status)
        request.write(body)
        request.finish()

    return answer


def nothing(request):
    """Never answer."""
