"""Child processes without ``fork``: started by vfork, watched through a pidfd, read by the reactor.

``reactor.spawnProcess`` copies the page tables of the whole process, 9 ms at 470 MB; ``subprocess.Popen`` with
plain arguments uses vfork and takes 0.2 ms at any size. So Popen starts, the reactor waits. Knows how to start,
read, bound, kill and reap. Refuses to know what the process is for.

``--die-with-parent`` and PR_SET_PDEATHSIG fire when the *thread* that started a process ends: call :func:`start`
in the reactor's thread only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.errors import StorageError, TooLarge
from sccache_twisted.interfaces import Finished, IProcessRunner

_READ: Final = 1 << 16
_PIPE: Final = 1 << 20
_SHORT_SECONDS: Final = 0.05
_CANNOT_EXECUTE: Final = {errno.ENOENT: 127, errno.ENOTDIR: 127, errno.EACCES: 126, errno.ENOEXEC: 126}


@frozen
class Ended:
    """An ended process: the shell's status, its signal (0: none), its streams, and what it and its children cost.

    ``peak_memory_bytes`` is the largest resident set of any one process. As a vfork'ed child begins in our own
    memory, it is never less than this process's own peak.
    """

    status: int
    signal: int
    stdout: bytes
    stderr: bytes
    cpu_seconds: float
    peak_memory_bytes: int


@implementer(IReadDescriptor)
class Watched:
    """A descriptor that the reactor watches for reading, and that this object owns and closes."""

    def __init__(self, reactor: Any, fd: int, readable: Callable[[], object]) -> None:
        self._reactor = reactor
        self._fd = fd
        self._readable = readable
        self.open = True
        reactor.addReader(self)

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._fd

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "process"

    def doRead(self) -> None:
        """See IReadDescriptor.

        Looks rather than believes. Events come in batches: one of them may end a process, whose descriptors are
        closed, and start another, whose descriptors get the same numbers; the rest of the batch speaks of the first.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if poll.poll(0):
            self._readable()

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002 - the reactor's signature
        """See IFileDescriptor. Called when all writers have gone, or said to have."""
        if self.open:
            self._reactor.addReader(self)
            self.doRead()

    def close(self) -> None:
        """Stop watching, and close before the reactor looks again; may be called again.

        Not at once: the batch of events that the reactor is in may say of this number that its writers have gone. A
        caller who is accepted in the same batch would be given the number, and be hung up on for it.
        """
        if self.open:
            self.open = False
            self._reactor.removeReader(self)
            self._reactor.callLater(0, os.close, self._fd)


class _Stream:
    """One of the child's output pipes, read until its end or its bound; not watched before :meth:`watch`."""

    def __init__(self, reactor: Any, fd: int, limit: int, too_large: Callable[[], None]) -> None:
        os.set_blocking(fd, False)
        self._chunks: list[bytes] = []
        self._size = 0
        self._limit = limit
        self._too_large = too_large
        self._fd = fd
        self._reactor = reactor
        self._watched: Watched | None = None
        self._open = True

    def watch(self) -> None:
        """Read from now on as output comes."""
        self._watched = Watched(self._reactor, self._fd, self._read_some)

    def _close(self) -> None:
        if self._open:
            self._open = False
            if self._watched is not None:
                self._watched.close()
            else:
                os.close(self._fd)

    def _read_some(self) -> None:
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return
        if not data:
            self._close()
            return
        self._size += len(data)
        if self._size > self._limit:
            self._chunks = []
            self._too_large()
            return
        self._chunks.append(data)

    def rest(self) -> bytes:
        """Everything that was written until now; reads no more after this."""
        while self._open and self._size <= self._limit:
            before = self._size
            self._read_some()
            if self._size == before:
                break
        self._close()
        return b"".join(self._chunks)


class Child:
    """A running process, watched until it has ended.

    The process leads a session and group of its own. When it ends, what is left of its group is killed, and
    whatever is left holding its pipes is not waited for.
    """

    def __init__(self, reactor: Any, popen: subprocess.Popen[bytes], limit: int) -> None:
        self.pid = popen.pid
        self._popen = popen
        self._waiting: list[Deferred[Ended]] = []
        self._outcome: Ended | TooLarge | None = None
        self._too_large = False
        self._limit = limit
        # The process is ours and not yet reaped, so its number cannot have been given to another.
        self._pidfd = Watched(reactor, os.pidfd_open(popen.pid), self._has_ended)
        self._streams = [
            _Stream(reactor, os.dup(pipe.fileno()), limit, self._over_limit)
            for pipe in (popen.stdout, popen.stderr)
            if pipe is not None
        ]
        for pipe in (popen.stdout, popen.stderr):
            if pipe is not None:
                pipe.close()
        # A compiler writes its words one by one, and each would wake us: those of a short run are read at its end.
        self._long: IDelayedCall | None = reactor.callLater(_SHORT_SECONDS, self._is_long)

    def _is_long(self) -> None:
        self._long = None
        for stream in self._streams:
            stream.watch()

    def wait(self) -> Deferred[Ended]:
        """Fires when the process has ended; fails with TooLarge. Cancelling ends the waiting, not the process."""
        waiter: Deferred[Ended] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        if self._outcome is not None:
            self._tell()
        return waiter

    async def run_to_end(self) -> Ended:
        """Wait for the end; a cancelled waiter kills the process and still waits until it has ended."""
        cancelled = False
        while True:
            try:
                ended = await self.wait()
            except CancelledError:
                cancelled = True
                self.kill()
                continue
            if cancelled:
                raise CancelledError
            return ended

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Signal the process's whole group, if it has not ended."""
        if self._pidfd.open:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signum)

    def _over_limit(self) -> None:
        self._too_large = True
        self.kill()

    def _has_ended(self) -> None:
        # Not reaped yet, so the group's number still is ours to signal.
        self.kill()
        self._pidfd.close()
        if self._long is not None:
            self._long.cancel()
            self._long = None
        _, wait_status, usage = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(wait_status)
        self._popen.returncode = code
        stdout, stderr = (stream.rest() for stream in self._streams)
        if self._too_large:
            self._outcome = TooLarge(f"a process wrote more than {self._limit} bytes to one of its streams")
        else:
            self._outcome = Ended(
                status=code if code >= 0 else 128 - code,
                signal=max(0, -code),
                stdout=stdout,
                stderr=stderr,
                cpu_seconds=usage.ru_utime + usage.ru_stime,
                peak_memory_bytes=usage.ru_maxrss * 1024,
            )
        self._tell()

    def _tell(self) -> None:
        while self._waiting:
            waiter = self._waiting.pop(0)
            if isinstance(self._outcome, Ended):
                waiter.callback(self._outcome)
            else:
                waiter.errback(self._outcome)


def start(
    reactor: Any,
    argv: Sequence[bytes],
    *,
    executable: bytes,
    cwd: bytes,
    env: Mapping[bytes, bytes],
    umask: int,
    limit: int,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start a process with stdin at /dev/null and no descriptors but ``pass_fds``; OSError when it cannot start.

    ``limit`` bounds each of stdout and stderr, in bytes; over it the process is killed. ``umask`` -1 inherits.
    """
    popen = subprocess.Popen(
        argv,
        executable=executable,
        cwd=cwd,
        env=env,
        umask=umask,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
        bufsize=0,
    )
    if popen.stdout is not None:
        # A megabyte of output should not wait for the reactor's turn, where the kernel allows it.
        with suppress(OSError):
            fcntl.fcntl(popen.stdout.fileno(), 1031, _PIPE)  # F_SETPIPE_SZ
    return Child(reactor, popen, limit)


@implementer(IProcessRunner)
class ProcessRunner:
    """Runs processes on this machine. Cancelling a run kills its group; the Deferred fires when it has ended."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def run(
        self,
        argv: Sequence[bytes],
        *,
        executable: bytes,
        cwd: bytes,
        env: Mapping[bytes, bytes],
        umask: int,
        limit: int,
    ) -> Deferred[Finished]:
        """Run to the end; a program that is not there or not executable ends with 127 or 126, as in a shell.

        Fails with TooLarge, StorageError (no more processes or descriptors), or CancelledError.
        """
        return Deferred.fromCoroutine(self._run(argv, executable, cwd, env, umask, limit))

    async def _run(
        self, argv: Sequence[bytes], executable: bytes, cwd: bytes, env: Mapping[bytes, bytes], umask: int, limit: int
    ) -> Finished:
        try:
            child = start(self._reactor, argv, executable=executable, cwd=cwd, env=env, umask=umask, limit=limit)
        except OSError as problem:
            name = os.fsdecode(executable)
            status = _CANNOT_EXECUTE.get(problem.errno or 0)
            if status is None:
                raise StorageError(f"{name} cannot be started: {problem.strerror}") from problem
            return Finished(status, b"", os.fsencode(f"{name}: {problem.strerror}\n"))
        ended = await child.run_to_end()
        return Finished(ended.status, ended.stdout, ended.stderr)
