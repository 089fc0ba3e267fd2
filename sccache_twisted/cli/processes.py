"""Processes of ours on this machine: started in the background, known again by pid and command line, signalled, ended.

A pid alone proves nothing, since numbers are used again: a process is ours when its command line names the file that we
started it with. Signals go through a pidfd, so that they can't reach a successor.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sccache_twisted.errors import InternalError

KEPT_VARIABLES = frozenset({"SCCACHE_LOG"})


def twistd() -> str:
    """The absolute path of the twistd beside this Python; raises InternalError."""
    found = Path(sys.executable).parent / "twistd"
    if not found.exists():
        raise InternalError(f"There is no twistd beside {sys.executable}: install the package Twisted there.")
    return str(found)


def service_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a background process keeps of a caller's environment: nothing that belongs to his Python, make or client."""
    return {
        name: value
        for name, value in environ.items()
        if name in KEPT_VARIABLES or not name.startswith(("SCCACHE_", "PYTHON", "PYTEST", "MAKE", "MFLAGS", "COV_CORE"))
    }


def start(role: str, config: Path, pid_file: Path, ready_file: Path, errors: Path) -> subprocess.Popen[bytes]:
    """Start ``twistd sccache-<role>`` in a session of its own; what it prints outside its log goes to ``errors``."""
    argv = [twistd(), "--nodaemon", f"--pidfile={pid_file}", f"sccache-{role}", f"--config={config}"]
    argv.append(f"--ready={ready_file}")
    ready_file.unlink(missing_ok=True)
    with errors.open("wb") as sink:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd="/",
            env=service_environment(os.environ),
            start_new_session=True,
        )


def pid_in(pid_file: Path, config: Path) -> int | None:
    """The pid of the live process that was started with ``config`` and wrote ``pid_file``."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return pid if is_ours(pid, config) else None


def is_ours(pid: int, config: Path) -> bool:
    """Whether ``pid`` is a live process that was started with ``config``."""
    return f"--config={config}".encode() in command_line(pid) and state(pid) not in {"Z", "X", ""}


def started_below(root: Path) -> Iterator[int]:
    """The live processes that were started with a configuration below ``root``, whatever became of their files."""
    beginning = f"--config={root}/".encode()
    for pid in _all():
        if any(word.startswith(beginning) for word in command_line(pid)) and state(pid) not in {"Z", "X", ""}:
            yield pid


def command_line(pid: int) -> list[bytes]:
    """The words that a process was started with; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def state(pid: int) -> str:
    """The kernel's letter: ``T`` stopped, ``Z`` dead and not yet waited for; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def client_daemons(configuration: Path) -> Iterator[int]:
    """The client daemons that run with SCCACHE_CONF=``configuration``, wherever their sockets are."""
    wanted = f"SCCACHE_CONF={configuration}".encode()
    for pid in _all():
        if b"sccache-client" not in command_line(pid):
            continue
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in environ and state(pid) not in {"Z", "X", ""}:
            yield pid


@contextmanager
def handle(pid: int) -> Iterator[int | None]:
    """A pidfd, or None when the process is gone; check who it is after this, not before."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def send(pid: int, config: Path, number: signal.Signals) -> bool:
    """Signal a process if it is ours; whether it was."""
    with handle(pid) as process:
        if process is None or not is_ours(pid, config):
            return False
        signal.pidfd_send_signal(process, number)
        return True


def end(pids: Iterable[int], patience: float = 8.0) -> None:
    """End processes that were just found to be ours: TERM, once more, then KILL; returns when all are gone.

    The second TERM tells a draining worker not to wait for its jobs. A stopped process is woken to hear it.
    """
    opened = []
    for pid in pids:
        try:
            opened.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    try:
        left = opened
        for number, seconds in ((signal.SIGTERM, 1.0), (signal.SIGTERM, patience), (signal.SIGKILL, 30.0)):
            for process in left:
                for each in (number, signal.SIGCONT):
                    _signal_open(process, each)
            left = _wait(left, seconds)
        if left:
            raise InternalError("A process does not end even when it is killed; it may hang in the kernel.")
    finally:
        for process in opened:
            os.close(process)


def wait_for_end(pid: int, seconds: float) -> bool:
    """Wait until a process is gone; False when it still runs after ``seconds``."""
    with handle(pid) as process:
        return process is None or not _wait([process], seconds)


def _all() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _signal_open(process: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(process, number)
    except ProcessLookupError:
        return


def _wait(processes: list[int], seconds: float) -> list[int]:
    """Those that still run after at most ``seconds``."""
    deadline = time.monotonic() + seconds
    left = list(processes)
    while left:
        ended, _, _ = select.select(left, [], [], max(0.0, deadline - time.monotonic()))
        if not ended:
            break
        left = [process for process in left if process not in ended]
    return left
