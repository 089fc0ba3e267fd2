"""One command in its sandbox: started, held back, let go, watched, killed whole.

bubblewrap is two processes here: the outer one is our child, the inner one is the first of the job's PID namespace, so
its end is the end of everything in it, and what is waited for. Killing means killing the inner one; the outer then
reports and ends by itself.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred

from sccache_twisted.errors import SandboxFailed, TooLarge
from sccache_twisted.net.processes import Ended, Watched, start
from sccache_twisted.worker.bubblewrap import Bubblewrap
from sccache_twisted.worker.jobroot import Owner

_SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ
_PIPE: Final = 1 << 16
_KILL_SECONDS: Final = 2.0
_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> None:
    """Have the kernel give this process the inner processes whose outer has ended, with what they cost.

    bubblewrap's outer process ends when the job's first process has; the inner one is then the child of whoever adopts
    orphans, and in a container often nobody reaps them.
    """
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@frozen
class Left:
    """What a sandboxed command left. ``exit_code`` is None when it was never run or bubblewrap could not tell.

    ``peak_memory_bytes`` is the largest resident set of any one of its processes.
    """

    exit_code: int | None
    ended: Ended
    cpu_seconds: float
    peak_memory_bytes: int


class Sandboxed:
    """A command that waits for its options, then runs confined. Make and use it in the reactor's thread only.

    Raises SandboxFailed when it cannot be started. Whoever makes one awaits :meth:`run_to_end`, whatever happens.
    """

    def __init__(
        self,
        reactor: Any,
        bubblewrap: Bubblewrap,
        owner: Owner | None,
        bounds: Sequence[bytes],
        command: tuple[bytes, tuple[bytes, ...]],
        *,
        umask: int,
        limit: int,
        starter: bool,
    ) -> None:
        self._reactor = reactor
        options_out, self._options = os.pipe()
        status_in, self.status_fd = os.pipe()
        argv = bubblewrap.argv(owner, bounds, options_out, *command, starter=starter)
        try:
            self._outer = start(
                reactor,
                argv,
                executable=argv[0],
                cwd=b"/",
                env={},
                umask=umask,
                limit=limit,
                pass_fds=(options_out, self.status_fd),
            )
        except (OSError, ValueError) as problem:
            os.close(self._options)
            os.close(status_in)
            raise SandboxFailed(f"the sandbox could not be started: {problem}") from problem
        finally:
            os.close(options_out)
            os.close(self.status_fd)
        self._said = b""
        os.set_blocking(status_in, False)
        self._status = Watched(reactor, status_in, self._read_status)
        self._inner: Watched | None = None
        self._inner_pid = 0
        self._cost: tuple[float, int] | None = None
        self._exit_code: int | None = None
        self._waiting: list[Deferred[None]] = []
        self._killing = False
        self._last_resort: Any = None

    @property
    def pid(self) -> int:
        """The outer process, the root of the job's tree."""
        return self._outer.pid

    def let_go(self, options: bytes) -> None:
        """Tell the sandbox what it is; raises SandboxFailed. Must be called, or :meth:`kill`."""
        fd, self._options = self._options, -1
        try:
            if len(options) > _PIPE:
                fcntl.fcntl(fd, _SET_PIPE_SIZE, len(options))
            os.set_blocking(fd, False)
            if os.write(fd, options) != len(options):
                raise SandboxFailed("the job's environment and directories do not fit into a pipe")
        except OSError as problem:
            raise SandboxFailed(f"the sandbox could not be told its options: {problem}") from problem
        finally:
            os.close(fd)

    def kill(self) -> None:
        """Kill everything in the sandbox; :meth:`run_to_end` tells when nothing is left."""
        if self._killing:
            return
        self._killing = True
        if self._options >= 0:
            self._outer.kill()
        elif self._inner is not None:
            self._kill_inner()
        else:
            # Between the birth of the inner process and the report of its pid, its parent must not die: it might
            # not have asked yet to die with it. That is over within milliseconds.
            self._last_resort = self._reactor.callLater(_KILL_SECONDS, self._outer.kill)

    async def run_to_end(self) -> Left:
        """Wait until nothing of the command is left. When cancelled, kill it and wait all the same. TooLarge."""
        cancelled = False
        outcome: Ended | TooLarge | None = None
        while outcome is None:
            try:
                outcome = await self._outer.wait()
            except CancelledError:
                cancelled = True
                self.kill()
            except TooLarge as problem:
                outcome = problem
        self._forget()
        while self._inner is not None and self._inner.open:
            # Others of the job outlived its first process; the inner one dies with the outer, and they with it.
            waiter: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiter)
            try:
                await waiter
            except CancelledError:
                cancelled = True
        self._reap_inner()
        if cancelled:
            raise CancelledError
        if isinstance(outcome, TooLarge):
            raise outcome
        cpu, peak = self._cost or (outcome.cpu_seconds, outcome.peak_memory_bytes)
        return Left(self._exit_code, outcome, cpu, peak)

    def _forget(self) -> None:
        """The outer process has ended: hear its last words and let go of what belonged to it."""
        while self._status.open and self._read_status():
            pass
        self._status.close()
        if self._options >= 0:
            os.close(self._options)
            self._options = -1
        if self._last_resort is not None and self._last_resort.active():
            self._last_resort.cancel()

    def _read_status(self) -> bool:
        """Read what bubblewrap reports, one JSON document a line; answers whether there may be more."""
        try:
            data = os.read(self._status.fileno(), 4096)
        except BlockingIOError:
            return False
        if not data:
            self._status.close()
            return False
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            with suppress(ValueError):
                self._heard(json.loads(line))
        return True

    def _heard(self, document: dict[str, Any]) -> None:
        if isinstance(document.get("exit-code"), int):
            self._exit_code = document["exit-code"]
        inner = document.get("child-pid")
        if isinstance(inner, int):
            with suppress(ProcessLookupError):
                fd = os.pidfd_open(inner)
                if not self._is_inner(inner, document.get("pid-namespace")):
                    os.close(fd)
                    return
                self._inner_pid = inner
                self._inner = Watched(self._reactor, fd, self._inner_ended)
                if self._killing:
                    self._kill_inner()

    def _is_inner(self, pid: int, namespace: int | None) -> bool:
        """Whether a pid is the inner process still, and not a stranger that got its number."""
        try:
            with open(f"/proc/{pid}/stat", "rb") as stream:
                if int(stream.read().rpartition(b")")[2].split()[1]) == self._outer.pid:
                    return True
            return os.stat(f"/proc/{pid}/ns/pid").st_ino == namespace
        except OSError:
            return False

    def _kill_inner(self) -> None:
        if self._inner is not None and self._inner.open:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._inner.fileno(), signal.SIGKILL)

    def _reap_inner(self) -> None:
        """Reap the inner process, which became ours when the outer ended without waiting for it."""
        if self._inner_pid:
            with suppress(ChildProcessError):
                pid, _, usage = os.wait4(self._inner_pid, os.WNOHANG)
                if pid:
                    self._cost = (usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
            self._inner_pid = 0

    def _inner_ended(self) -> None:
        if self._inner is not None:
            self._inner.close()
        while self._waiting:
            self._waiting.pop().callback(None)
