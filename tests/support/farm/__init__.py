"""A farm: schedulers, workers and clients as real processes on hosts of their own, for tests that break them.

Every timer is short and in ``TIMERS``. Ports are fixed, since each host has all of them to itself.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from sccache_twisted.interfaces import Role as TokenRole
from sccache_twisted.logs.events import VOCABULARY
from sccache_twisted.security import SchedulerIdentity, TokenStore
from sccache_twisted.security.files import write_secret
from sccache_twisted.security.tokens import TOKENS_FILE
from support.cluster import wait_for
from support.farm.network import HUB_ADDRESS, Host, Network
from support.farm.roles import Client, Role, Scheduler, Tables, Worker
from support.trees.commands import clean_environment

__all__ = ["TIMERS", "Client", "Farm", "Host", "Role", "Scheduler", "Worker"]

LINKS = {
    "ping_seconds": 0.5,
    "peer_lost_seconds": 3.0,
    "connect_seconds": 2.0,
    "tcp_user_timeout_seconds": 4.0,
    "reconnect_longest_seconds": 0.5,
}
TIMERS: Mapping[str, Mapping[str, object]] = {
    "scheduler": {
        **LINKS,
        "assign_seconds": 1.0,
        "settle_seconds": 2.0,
        "worker_lost_seconds": 4.0,
        "blame_half_life_seconds": 2.0,
    },
    "worker": {**LINKS, "progress_seconds": 0.5, "heartbeat_seconds": 0.5, "claim_seconds": 5.0},
    "client": {**LINKS, "silence_seconds": 3.0},
}
"""Of each role. Long enough for processes that share two cores with sixteen compilers."""

WORKER_PORT = 10501


class Farm:
    """A context manager. ``schedulers`` are started with it; workers and clients as they are asked for."""

    def __init__(self, schedulers: int = 1, *, timers: Mapping[str, Mapping[str, object]] = TIMERS) -> None:
        self._count = schedulers
        self._timers = timers
        self._ends = contextlib.ExitStack()
        self._roles: dict[str, Role] = {}
        self.urls: list[str] = []
        self.schedulers: list[Scheduler] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ends:
            place = ends.enter_context(tempfile.TemporaryDirectory(prefix="sctf-", ignore_cleanup_errors=True))
            self.directory = Path(place)
            self.directory.chmod(0o711)
            self.network = ends.enter_context(Network())
            ends.callback(self._end)
            for number in range(self._count):
                self.schedulers.append(self._make_scheduler(number))
            for scheduler in self.schedulers:
                scheduler.start()
            for scheduler in self.schedulers:
                scheduler.ready()
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.show_logs()
        else:
            self.check_logs()
        self._ends.close()

    @property
    def scheduler(self) -> Scheduler:
        """The first scheduler."""
        return self.schedulers[0]

    def _make_scheduler(self, number: int) -> Scheduler:
        name = f"scheduler-{number + 1}"
        home = self.directory / name
        home.mkdir()
        tokens = TokenStore(home / TOKENS_FILE)
        for role in TokenRole:
            # One token for all schedulers is what the table of keys knows.
            if number:
                continue
            write_secret(self.directory / f"{role.value}.token", tokens.create(role.value, role, time.time()).encode())
        if number:
            (home / TOKENS_FILE).write_bytes((self.directory / "scheduler-1" / TOKENS_FILE).read_bytes())
            (home / TOKENS_FILE).chmod(0o600)
        port = 10600 + 10 * number
        identity = SchedulerIdentity.load_or_create(str(home), ["localhost", HUB_ADDRESS], time.time())
        self.urls.append(f"tls://{HUB_ADDRESS}:{port}?pin={identity.pin}")
        listens = {"listen": f"tcp:{port}", "http": f"tcp:{port + 1}:interface=127.0.0.1", "state_dir": str(home)}
        tables = {"scheduler": listens, "timers": self._timers["scheduler"]}
        made = Scheduler("scheduler", name, self.network.hub, home, tables, clean_environment())
        self._roles[name] = made
        return made

    def worker(self, name: str, slots: int = 2, *, start: bool = True, tables: Tables | None = None) -> Worker:
        """A worker of this name on a host of its own, started now unless it runs; it keeps what it had stored."""
        worker = self._roles.get(name)
        if worker is None:
            home = self.directory / name
            host = self.network.host(name)
            more = dict(tables or {})
            own = {
                "name": name,
                "schedulers": self.urls,
                "token_file": str(self.directory / "worker.token"),
                "listen": f"tcp:{WORKER_PORT}",
                "slots": slots,
                "directory": str(home / "store"),
                **more.pop("worker", {}),
            }
            timers = {**self._timers["worker"], **more.pop("timers", {})}
            worker = Worker("worker", name, host, home, {"worker": own, "timers": timers, **more}, clean_environment())
            worker.slots = slots
            self._roles[name] = worker
        assert isinstance(worker, Worker)
        if start and not worker.alive:
            worker.start()
        return worker

    def workers(self, *names: str, slots: int = 2) -> list[Worker]:
        """Workers of these names, all of them registered with every scheduler that runs."""
        found = [self.worker(name, slots) for name in names]
        for worker in found:
            self.registered(worker)
        return found

    def registered(self, worker: Worker) -> str:
        """Wait until every scheduler that runs knows the worker's present start; its server_id."""
        server_id = worker.server_id
        for scheduler in self.schedulers:
            if scheduler.alive:
                wait_for(
                    lambda scheduler=scheduler: scheduler.workers().get(server_id, {}).get("state") == "alive",
                    f"{server_id} is alive for {scheduler.name}",
                )
        return server_id

    def client(self, name: str, *, tables: Tables | None = None, start: bool = True, **env: str) -> Client:
        """A client daemon of this name on a host of its own, started now unless it runs."""
        client = self._roles.get(name)
        if client is None:
            home = self.directory / name
            more = dict(tables or {})
            dist = {"schedulers": self.urls, "cache_dir": str(self.directory / "toolchains"), **more.pop("dist", {})}
            timers = {**self._timers["client"], **more.pop("timers", {})}
            auth = {"token_file": str(self.directory / "client.token")}
            environment = clean_environment(
                {
                    "SCCACHE_CONF": str(home / "client.toml"),
                    "SCCACHE_SERVER_UDS": str(home / "socket"),
                    "SCCACHE_DIR": str(home / "cache"),
                    # A hit would prove nothing about workers.
                    "SCCACHE_RECACHE": "1",
                    **env,
                }
            )
            written = {"dist": dist, "dist.auth": auth, "timers": timers, **more}
            client = Client("client", name, self.network.host(name), home, written, environment)
            home.chmod(0o700)
            client.socket = home / "socket"
            self._roles[name] = client
        assert isinstance(client, Client)
        if start and not client.alive:
            client.start()
            client.ready()
        return client

    def free(self) -> None:
        """Wait until no slot is taken, in any scheduler's books and in no worker's processes."""
        for scheduler in self.schedulers:
            if scheduler.alive:
                wait_for(lambda scheduler=scheduler: scheduler.busy() == 0, f"no slot is taken for {scheduler.name}")

    def check_logs(self) -> None:
        """Assert that every event of every process is of the vocabulary, with its identifiers and fields."""
        for role in self._roles.values():
            for line in role.events(*VOCABULARY):
                event = VOCABULARY[line["event"]]
                absent = [name for name in (*event.ids, *event.fields) if name not in line]
                assert not absent, f"{role.name} logged {event.name} without {', '.join(absent)}: {line}"
            unknown = {line["event"] for line in role.events() if line.get("event")} - VOCABULARY.keys()
            assert not unknown, f"{role.name} logged what no page documents: {', '.join(sorted(unknown))}"

    def show_logs(self) -> None:
        """Print the end of each log, where pytest keeps it for a failed test."""
        for role in self._roles.values():
            sys.stderr.write(f"--- {role.name}\n{role.said()}\n")

    def _end(self) -> None:
        enders: list[Callable[[], None]] = [role.end for role in self._roles.values()]
        with contextlib.ExitStack() as all_of_them:
            for end in enders:
                all_of_them.callback(end)
