"""A toolchain on its way in, without network and disk: who waits for whom when a piece can't be stored."""

from types import SimpleNamespace

from twisted.internet.defer import Deferred, execute

from sccache_twisted.errors import WorkerStorage
from sccache_twisted.logs import EventLog
from sccache_twisted.model import Digest, Try, mint_job_id
from sccache_twisted.worker.upload import Upload

DIGEST = Digest("1" * 64)
ATTEMPT = Try(mint_job_id(1, bytes(10)), 1)
PIECE = bytes(3 << 20)


class Request:
    """A client that sends only while it may."""

    def __init__(self):
        self.paused = False
        self.answered = []

    def pause(self, *, paused):
        self.paused = paused

    def answer(self, status, content_type, body):
        self.answered.append(status)

    def answer_error(self, error):
        self.answered.append(error)

    def abort(self):
        raise AssertionError("nobody is to be cut off")


class SlowThreads:
    """Threads that work when they are told to."""

    def __init__(self):
        self.waiting = []

    def defer(self, work):
        begun = Deferred()
        self.waiting.append(begun)
        return begun.addCallback(lambda _: execute(work))

    def work(self):
        while self.waiting:
            self.waiting.pop(0).callback(None)


class FullDisk:
    """An intake that has no room, and forgets what it had."""

    aborted = False

    def write(self, data):
        raise WorkerStorage("cc1 cannot be stored: the disk is full.")

    def abort(self):
        self.aborted = True


def test_a_client_that_waits_is_let_go_on_when_the_disk_is_full():
    """The rest of its body must come before it can be told why, so it isn't left waiting until it gives us up."""
    request, threads, intake = Request(), SlowThreads(), FullDisk()
    ended = []
    jobs = SimpleNamespace(
        toolchains=SimpleNamespace(get=lambda _: None, begin=lambda _: intake),
        upload_begins=lambda *_: True,
        upload_moved=lambda *_: None,
        upload_ended=lambda *_, **how: ended.append(how),
        log=EventLog.of("test"),
    )
    upload = Upload(request, jobs, threads, DIGEST, ATTEMPT)
    for _ in range(3):
        upload.write(PIECE)
    assert request.paused, "the client sends faster than a thread unpacks"
    threads.work()
    assert not request.paused
    assert intake.aborted
    assert ended == [{"stored": False, "lost": False}]
    upload.write(PIECE)
    upload.complete()
    (error,) = request.answered
    assert isinstance(error, WorkerStorage)
    assert not request.paused
