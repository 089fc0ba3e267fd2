"""The farm's processes: real twistd roles that are watched through their logs and hit through their pids."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sccache_twisted.cli.home import write_toml
from support.cluster import wait_for
from support.farm.network import Host

TWISTD = Path(sys.executable).parent / "twistd"
END_SECONDS = 60.0
START_SECONDS = 60.0

Event = dict[str, Any]
Tables = Mapping[str, Mapping[str, object]]


class Role:
    """One process of ours at a time, started and started anew. ``home`` is its directory, its log in it."""

    def __init__(self, kind: str, name: str, host: Host, home: Path, tables: Tables, env: Mapping[str, str]) -> None:
        self.kind = kind
        self.name = name
        self.host = host
        self.home = home
        self.env = dict(env)
        self.wrap: tuple[str, ...] = ()
        """Words before the command, a faketime for instance."""
        self._config = home / f"{kind}.toml"
        self._ready = home / "ready"
        self.log = home / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self._facts: dict[str, Any] = {}
        home.mkdir(parents=True, exist_ok=True)
        # As root, jobs run as users of their own, who must be able to pass through.
        home.chmod(0o755)
        self.configure(tables)

    def configure(self, tables: Tables) -> None:
        """Write its file; counts from its next start on."""
        log = {"format": "json", "file": str(self.log), "level": "debug"}
        write_toml(self._config, {**tables, "log": log})

    @property
    def pid(self) -> int:
        """The pid of the process that runs, or ran last."""
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it; returns at once."""
        assert not self.alive
        self._ready.unlink(missing_ok=True)
        self._facts = {}
        words = (str(TWISTD), "--nodaemon", "--pidfile=", f"sccache-{self.kind}", "--ready", str(self._ready))
        named = () if self.kind == "client" else ("--config", str(self._config))
        with (self.home / "err").open("ab") as errors:
            self.process = subprocess.Popen(
                self.host.inside(*self.wrap, *words, *named),
                env=self.env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )

    def ready(self) -> dict[str, Any]:
        """Wait until it listens; what it says, or said, of itself."""
        if self._facts:
            return self._facts

        def told() -> dict[str, Any] | None:
            assert self.alive, f"{self.name} ended at its start: {self.said()}"
            return json.loads(self._ready.read_text()) if self._ready.exists() else None

        self._facts = wait_for(told, f"{self.name} listens", START_SECONDS)
        return self._facts

    # --- what is done to it ---

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with -9 and bury it."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(END_SECONDS)

    def finish(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        self.send(number)
        assert self.process is not None
        return self.process.wait(END_SECONDS)

    def end(self) -> None:
        """At the test's end: ended, whatever state it is in."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.kill()

    # --- what it says ---

    def events(self, *names: str, since: int = 0) -> list[Event]:
        """Its log from the ``since``-th line on, or the events of these names in it; complete lines only."""
        whole = self.log.read_bytes().rpartition(b"\n")[0] if self.log.exists() else b""
        found = [json.loads(line) for line in whole.splitlines()[since:]]
        return [event for event in found if not names or event.get("event") in names]

    def mark(self) -> int:
        """How many lines its log has: what ``since`` takes."""
        return len(self.events())

    def said(self) -> str:
        """The end of its log and of what it printed, for people."""
        found = [path.read_text(errors="replace")[-4000:] for path in (self.log, self.home / "err") if path.exists()]
        return "\n".join(found)


class Scheduler(Role):
    """A scheduler on the hub."""

    url = ""

    def status(self) -> dict[str, Any]:
        """What /status says."""
        return json.loads(self.page("/status"))

    def page(self, path: str) -> str:
        """A page of the scheduler's."""
        with self.host.connect(str(self.ready()["http"])) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = connection.makefile("rb").read()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0], head
        return body.decode()

    def workers(self) -> dict[str, dict[str, Any]]:
        """The workers that it knows and has not lost, by server_id."""
        return {worker["server_id"]: worker for worker in self.status()["workers"]}

    def busy(self) -> int:
        """How many slots are taken in its books."""
        return sum(worker["running"] for worker in self.workers().values())


class Worker(Role):
    """A worker; every start of it is another ``server_id``."""

    slots = 0

    @property
    def server_id(self) -> str:
        """The identity of its present start."""
        return str(self.ready()["server_id"])

    def stop(self) -> None:
        """Let it stand still; its connections look alive."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)


class Client(Role):
    """A client daemon, and its launcher."""

    socket = Path()

    @property
    def launcher(self) -> tuple[str, ...]:
        """The words to put before a compiler: on this host, should the launcher have to start a daemon."""
        return self.host.inside(str(TWISTD.with_name("sccache-twisted")))

    def stats(self) -> dict[str, Any]:
        """What --show-stats tells."""
        words = [*self.launcher, "--show-stats", "--stats-format", "json"]
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)["stats"]

    def call(self, *argv: str, cwd: Path, **env: str) -> "subprocess.CompletedProcess[bytes]":
        """A compiler's command behind the launcher, to its end."""
        return subprocess.run(
            [*self.launcher, *argv],
            cwd=cwd,
            env={**self.env, "PWD": str(cwd), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=END_SECONDS,
            check=False,
        )

    @contextlib.contextmanager
    def calling(self, *argv: str, cwd: Path, **env: str) -> "Iterator[subprocess.Popen[bytes]]":
        """The same while it runs, its streams in one pipe; killed with the block, and what it started here."""
        with subprocess.Popen(
            [*self.launcher, *argv],
            cwd=cwd,
            env={**self.env, "PWD": str(cwd), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
