"""A cluster of real processes for system tests: started, watched by facts, and ended whatever happens.

Nothing here sleeps for a time that is hoped to be long enough: ``wait_for`` looks for a fact every 20 ms at most and
gives up loudly. When a test fails inside the block, the ends of all logs are shown.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from attrs import field, fields, frozen
from typing_extensions import Self

from support.trees.commands import CompileCommand, Result, clean_environment, run_commands

PROGRAM = Path(sys.executable).parent / "sccache-twisted"
POLL_SECONDS = 0.02
COMMAND_SECONDS = 60.0
SHOWN_LOG_BYTES = 4000
_Fact = TypeVar("_Fact")


class ClusterFailed(Exception):
    """A command of the cluster's failed, or a fact did not come about in time."""


@frozen
class WorkerStatus:
    """One worker as ``cluster status --json`` tells it."""

    name: str
    server_id: str
    pid: int
    address: str
    slots: int
    running: int
    state: str


@frozen
class ClusterStatus:
    """The scheduler's process and the workers by name."""

    scheduler_pid: int
    scheduler_address: str
    workers: Mapping[str, WorkerStatus] = field(factory=dict)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "ClusterStatus":
        """Read the object that ``cluster status --json`` prints."""
        names = [attribute.name for attribute in fields(WorkerStatus)]
        workers = [WorkerStatus(**{name: worker[name] for name in names}) for worker in told["workers"]]
        scheduler = told["scheduler"]
        return cls(scheduler["pid"], scheduler["address"], {worker.name: worker for worker in workers})


@frozen
class Stats:
    """What ``--show-stats --stats-format json`` tells, whole in ``told``."""

    told: Mapping[str, Any]

    @property
    def local_compiles(self) -> dict[str, int]:
        """Compilations that ran on the client, by reason; reasons that never occurred are left out."""
        return {reason: count for reason, count in self.told["stats"]["local_compiles"].items() if count}

    @property
    def dist_compiles(self) -> dict[str, int]:
        """Compilations that ran on a worker, by the worker's name."""
        return dict(self.told["stats"]["dist_compiles"])

    @property
    def dist_retries(self) -> int:
        """How often a compilation was asked for again."""
        return int(self.told["stats"]["dist_retries"])


def wait_for(predicate: Callable[[], _Fact | None], what: str, timeout: float = 30.0) -> _Fact:
    """Return the predicate's first true value; ClusterFailed that names ``what`` after ``timeout`` seconds."""
    ends = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > ends:
            raise ClusterFailed(f"in {timeout:g} s it did not come about that {what}")
        time.sleep(POLL_SECONDS)


class Cluster:
    """A context manager: an embedded cluster in a directory of its own, with a client daemon of its own.

    ``directory`` of None takes a temporary one, removed at the end. ``extra`` goes into the environment of the
    cluster's processes and of every client. Clients store no results unless ``cache``: what is measured here is
    distribution, and a result that was found would prove nothing about it.
    """

    def __init__(
        self,
        workers: int = 3,
        *,
        slots: int | None = None,
        directory: Path | None = None,
        extra: Mapping[str, str] | None = None,
        cache: bool = False,
    ) -> None:
        self._cache = cache
        self._workers = workers
        self._slots = slots
        self._extra = dict(extra or {})
        self._owned = contextlib.ExitStack()
        self._given = directory
        self._pidfds: dict[int, int] = {}
        self.directory = Path()
        self.env: dict[str, str] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as made:
            # A socket's path has at most 107 bytes, a test's own directory may be longer.
            short = Path(
                made.enter_context(tempfile.TemporaryDirectory(prefix="sct-", dir="/tmp", ignore_cleanup_errors=True))
            )
            # As root, jobs run as users of their own, who must be able to pass through.
            short.chmod(0o711)
            self.directory = short / "cluster" if self._given is None else self._given
            self.env = clean_environment(
                {
                    "SCCACHE_CONF": str(self.directory / "client.toml"),
                    "SCCACHE_SERVER_UDS": str(short / "daemon.sock"),
                    "SCCACHE_DIR": str(short / "cache"),
                    **({} if self._cache else {"SCCACHE_CACHE_SIZE": "0"}),
                    **self._extra,
                }
            )
            made.callback(self._close_pidfds)
            made.callback(self._end)
            slots = () if self._slots is None else ("--slots", str(self._slots))
            try:
                self._command("start", "--workers", str(self._workers), *slots)
                self._remember(self.status())
            except BaseException:
                self.show_logs()
                raise
            self._owned = made.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.show_logs()
        self._owned.close()

    @property
    def launcher(self) -> tuple[str, ...]:
        """The words to put before a compiler."""
        return (str(PROGRAM),)

    def status(self) -> ClusterStatus:
        """The processes as they are now."""
        told = ClusterStatus.from_json(json.loads(self._command("status", "--json")))
        self._remember(told)
        return told

    def busy_slots(self) -> int:
        """How many slots the scheduler knows to be taken; asked of its page, which takes no command's start-up time."""
        ready = json.loads((self.directory / "scheduler.ready").read_text(encoding="utf-8"))
        with urllib.request.urlopen(f"http://{ready['http']}/status", timeout=5) as answer:
            return sum(worker["running"] for worker in json.load(answer)["workers"])

    @contextlib.contextmanager
    def another_client(self, name: str, extra: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
        """The environment of one more client: its own configuration, socket, store of toolchains and log, ``name``."""
        place = Path(self.env["SCCACHE_SERVER_UDS"]).parent / name
        place.mkdir()
        configuration = place / "client.toml"
        configuration.touch(mode=0o600)
        configuration.write_bytes((self.directory / "client.toml").read_bytes())
        environment = {
            **self.env,
            "SCCACHE_CONF": str(configuration),
            "SCCACHE_SERVER_UDS": str(place / "daemon.sock"),
            "SCCACHE_DIR": str(place / "cache"),
            "SCCACHE_DIST_CACHE_DIR": str(place / "toolchains"),
            "SCCACHE_ERROR_LOG": str(self.directory / "logs" / f"{name}.log"),
            **(extra or {}),
        }
        try:
            yield environment
        finally:
            # It may never have been started.
            with contextlib.suppress(ClusterFailed):
                self._run(*self.launcher, "--stop-server", env=environment)

    def stats(self, env: Mapping[str, str] | None = None) -> Stats:
        """The counters of the client daemon, or of another one's by its environment."""
        return Stats(json.loads(self._run(*self.launcher, "--show-stats", "--stats-format", "json", env=env)))

    def zero_stats(self) -> None:
        """Set the client daemon's counters to nought."""
        self._run(*self.launcher, "--zero-stats")

    def add(self, name: str | None = None) -> ClusterStatus:
        """Start one more worker; the status in which it is registered."""
        before = set(self.status().workers)
        self._command("add", *(() if name is None else ("--name", name)))

        def grown() -> ClusterStatus | None:
            now = self.status()
            return now if set(now.workers) - before else None

        return wait_for(grown, "a new worker is registered")

    def remove(self, name: str, signal_name: str | None = None) -> None:
        """Send TERM, KILL, STOP or CONT to a worker; None takes the command's own default."""
        self._command("remove", name, *(() if signal_name is None else ("--signal", signal_name)))

    def log_events(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of a process's log so far, without a line that is still being written."""
        path = self.directory / "logs" / f"{name}.log"
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        return [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]

    def run_build(
        self, commands: Iterable[CompileCommand], *, jobs: int, env: Mapping[str, str] | None = None
    ) -> dict[tuple[str, ...], Result]:
        """Run the commands behind the launcher, ``jobs`` at a time; each command's key with its result."""
        return run_commands(commands, jobs=jobs, prefix=self.launcher, environment={**self.env, **(env or {})})

    def show_logs(self) -> None:
        """Print the end of each log to stderr, where pytest keeps it for a failed test."""
        logs = self.directory / "logs"
        for path in sorted(logs.iterdir()) if logs.is_dir() else []:
            tail = path.read_bytes()[-SHOWN_LOG_BYTES:].decode("utf-8", "replace")
            sys.stderr.write(f"--- the end of {path.name}\n{tail}\n")

    def _command(self, verb: str, *words: str) -> str:
        return self._run(str(PROGRAM), "cluster", verb, "--dir", str(self.directory), *words)

    def _run(self, *argv: str, env: Mapping[str, str] | None = None) -> str:
        # Files, not pipes: a background process that inherited a pipe would keep this call waiting for its end.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            done = subprocess.run(
                argv,
                env=self.env if env is None else env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=COMMAND_SECONDS,
                check=False,
            )
            out.seek(0)
            err.seek(0)
            if done.returncode:
                told = err.read().decode("utf-8", "replace") or out.read().decode("utf-8", "replace")
                raise ClusterFailed(f"{' '.join(argv)} ended with {done.returncode}: {told.strip()}")
            return out.read().decode("utf-8")

    def _remember(self, status: ClusterStatus) -> None:
        """Keep a handle on each process, so that its end can be asked for without mistaking a reused pid for it."""
        for pid in (status.scheduler_pid, *(worker.pid for worker in status.workers.values())):
            if pid not in self._pidfds:
                with contextlib.suppress(ProcessLookupError):
                    self._pidfds[pid] = os.pidfd_open(pid)

    def _end(self) -> None:
        """Stop the daemon and the cluster in order; what is left after that is killed."""
        for argv in (
            (str(PROGRAM), "--stop-server"),
            (str(PROGRAM), "cluster", "stop", "--dir", str(self.directory)),
        ):
            # The daemon may never have been started, and the cluster may be half dead: that's what the handles are for.
            with contextlib.suppress(ClusterFailed, subprocess.TimeoutExpired, FileNotFoundError):
                self._run(*argv)
        for handle in self._pidfds.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)

    def _close_pidfds(self) -> None:
        for handle in self._pidfds.values():
            os.close(handle)
        self._pidfds.clear()
