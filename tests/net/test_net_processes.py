"""Child processes that the reactor watches."""

import os
import signal
import socket
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from sccache_twisted.errors import TooLarge
from sccache_twisted.net import processes
from sccache_twisted.net.processes import ProcessRunner, Watched, start

ENV = {b"PATH": b"/usr/bin:/bin"}


@pytest.fixture
def reactor():
    from twisted.internet import reactor

    return reactor


def run(reactor, script, *, limit=1 << 20, umask=0o022, cwd=b"/"):
    return ProcessRunner(reactor).run(
        [b"sh", b"-c", script], executable=b"/bin/sh", cwd=cwd, env=ENV, umask=umask, limit=limit
    )


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Caller:
    """A connection that was just accepted: a reader who hears of its end."""

    def __init__(self, connection):
        self.connection = connection
        self.lost = None

    def fileno(self):
        return self.connection.fileno()

    def logPrefix(self):
        return "caller"

    def doRead(self):
        raise AssertionError("nobody has said anything")

    def connectionLost(self, reason):
        self.lost = reason


@pytest_twisted.ensureDeferred
async def test_whoever_comes_in_a_batch_hears_nothing_of_who_was_closed_in_it(reactor):
    """In one batch of events the first closes a pipe and accepts a caller, the next says the pipe's writer left."""
    first, first_writer = os.pipe()
    pipe, pipe_writer = os.pipe()
    callers, others, done = [], [], Deferred()

    def turn():
        watched.close()
        connection, other = socket.socketpair()
        callers.append(Caller(connection))
        others.append(other)
        reactor.addReader(callers[0])
        starter.close()
        # Behind the rest of the batch, and one turn more, in which the pipe is closed.
        reactor.callLater(0, reactor.callLater, 0, done.callback, None)

    starter, watched = Watched(reactor, first, turn), Watched(reactor, pipe, lambda: None)
    # The reactor looks again only when we wait: it finds both, in this order.
    os.write(first_writer, b"x")
    os.close(pipe_writer)
    await done
    os.close(first_writer)
    reactor.removeReader(callers[0])
    assert callers[0].lost is None
    assert callers[0].fileno() not in {first, pipe}
    for closed in (first, pipe):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(closed)
    for each in (callers[0].connection, *others):
        each.close()


@pytest_twisted.ensureDeferred
async def test_status_and_streams_arrive_whole(reactor):
    """A run ends with the status of the shell and every byte of both streams."""
    done = await run(reactor, b"head -c 300000 /dev/zero; printf oops >&2; exit 3")
    assert (done.status, len(done.stdout), done.stderr) == (3, 300000, b"oops")


@pytest_twisted.ensureDeferred
async def test_more_than_a_pipe_holds_arrives_whole(reactor):
    """Output that is read late blocks nobody for ever: a writer of more than a pipe holds is read while it writes."""
    done = await run(reactor, b"head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero", limit=4 << 20)
    assert (done.status, len(done.stdout), len(done.stderr)) == (0, 3000000, 3000000)


@pytest_twisted.ensureDeferred
async def test_the_words_of_a_short_run_do_not_wake_the_reactor(reactor, monkeypatch):
    """They are read at its end; what counts as short is more here than any machine takes."""
    monkeypatch.setattr(processes, "_SHORT_SECONDS", 60.0)
    watched = []

    def watch(stream):
        watched.append(stream)

    monkeypatch.setattr(processes._Stream, "watch", watch)
    done = await run(reactor, b"for n in 1 2 3; do echo $n; echo $n >&2; done")
    assert done.stdout == done.stderr == b"1\n2\n3\n"
    assert watched == []
    left = [call for call in reactor.getDelayedCalls() if call.func.__name__ == "_is_long"]
    assert left == [], "its timer went with it"


@pytest_twisted.ensureDeferred
async def test_signal_is_128_plus_n(reactor):
    """A process ended by signal n has status 128+n."""
    assert (await run(reactor, b"kill -TERM $$")).status == 128 + signal.SIGTERM


@pytest_twisted.ensureDeferred
async def test_umask_and_cwd_are_the_callers(reactor, tmp_path):
    """The umask and the working directory are those that were asked for; argv[0] is what it is told."""
    done = await run(reactor, b"umask; pwd; echo $0", umask=0o077, cwd=os.fsencode(tmp_path))
    assert done.stdout == b"0077\n" + os.fsencode(tmp_path) + b"\nsh\n"


@pytest_twisted.ensureDeferred
async def test_too_much_output_kills(reactor):
    """Output over the limit kills the process and is TooLarge."""
    with pytest.raises(TooLarge):
        await run(reactor, b"cat /dev/zero", limit=100_000)


@pytest.mark.parametrize(("name", "status"), [(b"/nowhere/cc", 127), (b"/etc/passwd", 126)])
@pytest_twisted.ensureDeferred
async def test_what_cannot_run_ends_as_in_a_shell(reactor, name, status):
    """A program that is absent ends with 127, one that may not be executed with 126, and both say so."""
    done = await ProcessRunner(reactor).run([b"cc"], executable=name, cwd=b"/", env=ENV, umask=0o22, limit=10)
    assert done.status == status
    assert done.stderr.startswith(name)


@pytest_twisted.ensureDeferred
async def test_cancel_fires_when_the_group_is_dead(reactor, tmp_path):
    """Cancelling kills the whole group, and the Deferred fires only when its leader has ended."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    running = run(reactor, b"sleep 1000 & echo $! $$ > %s; wait" % os.fsencode(ready))
    fd = os.open(ready, os.O_RDWR | os.O_NONBLOCK)
    started = Deferred()

    class Reader:
        def fileno(self):
            return fd

        def logPrefix(self):
            return "fifo"

        def connectionLost(self, reason):
            pass

        def doRead(self):
            reactor.removeReader(self)
            started.callback(os.read(fd, 100))

    reactor.addReader(Reader())
    pids = [int(word) for word in (await started).split()]
    os.close(fd)
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(pids[1], 0)
    while state_of(pids[0]) not in {"", "Z", "X"}:  # killed, and perhaps not dead yet: the timeout bounds it
        turn = Deferred()
        reactor.callLater(0.001, turn.callback, None)
        await turn


@pytest_twisted.ensureDeferred
async def test_cost_is_told(reactor):
    """A child tells what it and its children cost."""
    child = start(
        reactor,
        [b"sh", b"-c", b"i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"],
        executable=b"/bin/sh",
        cwd=b"/",
        env=ENV,
        umask=-1,
        limit=1,
    )
    ended = await child.wait()
    assert ended.cpu_seconds > 0
    assert ended.peak_memory_bytes > 1 << 20


@pytest_twisted.ensureDeferred
async def test_no_descriptor_is_left(reactor):
    """A run leaves no descriptor behind, neither here nor in the child."""
    before = len(os.listdir("/proc/self/fd"))
    done = await run(reactor, b"ls /proc/self/fd | wc -l")
    assert int(done.stdout) == 4  # 0, 1, 2 and the listing's own
    # They are closed before the reactor looks again.
    await deferLater(reactor, 0)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest_twisted.ensureDeferred
async def test_one_after_the_other_in_one_turn(reactor):
    """A process started where another's end was told reads its own streams, whatever events are left of the other's."""

    async def series(number):
        for _ in range(40):
            done = await run(reactor, b"echo out; echo err >&2")
            assert (done.status, done.stdout, done.stderr) == (0, b"out\n", b"err\n"), number

    await gatherResults([Deferred.fromCoroutine(series(number)) for number in range(4)])
