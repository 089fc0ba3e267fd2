"""Workers behind a real gateway: haproxy or nginx, with the very configurations that docs/gateways.md shows."""

import contextlib
import json
import random
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import frozen
from bad_input_kit import SECONDS, SLOW, SLOW_COMMAND, TWISTD, Client, tables_of
from support.cluster import Cluster, wait_for
from support.farm.builds import seeds

from sccache_twisted.cli.home import toml
from sccache_twisted.cli.status import scheduler_status
from sccache_twisted.model import worker_name

DOCUMENT = Path(__file__).parents[2] / "docs" / "gateways.md"
BLOCK = re.compile(r"^```(haproxy|nginx)\n# (.+?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {(kind, title): text for kind, title, text in BLOCK.findall(DOCUMENT.read_text())}
POOL, BY_NAME = "A pool of ports", "One port, by name"
FIRST, SECOND = "10.0.0.11:10501", "10.0.0.12:10501"
SOURCE = SLOW.replace("120000", "50000")
SBIN = "/usr/sbin:/usr/local/sbin:/usr/bin"
NGINX = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nerror_log stderr;\nevents {}\n"


@frozen
class Worker:
    """A worker's process: its start's id, and what it logs."""

    process: subprocess.Popen
    server_id: str
    log: Path

    def attempts(self) -> set[tuple[str, int]]:
        """Every attempt at a job whose compiler ended here."""
        lines = self.log.read_text().rpartition("\n")[0].splitlines()
        events = [json.loads(line) for line in lines]
        return {
            (event["job_id"], event["attempt"])
            for event in events
            if event.get("event") == "job_finished" and event["server_id"] == self.server_id
        }

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)


class Farm:
    """A scheduler, a client that shows its dealings, and workers that are started one by one."""

    def __init__(self, cluster: Cluster, client: Client, ends: contextlib.ExitStack) -> None:
        self.cluster = cluster
        self.client = client
        self._before = {name: len(client.events(name)) for name in ("job_done", "job_failed", "job_local")}
        self._ends = ends
        self._page = json.loads((cluster.directory / "scheduler.ready").read_text())["http"]
        self._schedulers = tables_of(cluster)["dist"]["schedulers"]
        (client.work / "slow.cc").write_text(SOURCE)
        assert client.plain(*SLOW_COMMAND, "plain.o").status == 0
        self._plain = (client.work / "plain.o").read_bytes()

    def known(self) -> dict[str, dict]:
        """What the scheduler knows of workers, by server_id; those that ended lately too, which it may take back."""
        return {worker["server_id"]: worker for worker in scheduler_status(self._page)}

    def events(self, name: str) -> list[dict]:
        """What the client logged of this since the test began."""
        return self.client.events(name)[self._before[name] :]

    def worker(self, name: str, listen: int, public: int) -> Worker:
        """A registered worker on the port ``listen`` that says it is reached on the port ``public``.

        One that had the name before leaves it the toolchains.
        """
        home = self.cluster.directory / name
        home.mkdir(exist_ok=True)
        home.chmod(0o755)
        worker = {
            "name": name,
            "schedulers": self._schedulers,
            "token_file": str(self.cluster.directory / "worker.token"),
            "listen": f"tcp:{listen}:interface=127.0.0.1",
            "public": f"127.0.0.1:{public}",
            "slots": 1,
            "directory": str(home / "w"),
        }
        log = {"format": "json", "file": str(home / "log"), "level": "debug"}
        (home / "worker.toml").write_text(toml({"worker": worker, "log": log}))
        argv = [str(TWISTD), "--nodaemon", "--pidfile=", "sccache-worker", "--config", str(home / "worker.toml")]
        earlier = set(self.known())
        process = subprocess.Popen(argv, env=self.cluster.env, cwd="/", stdin=subprocess.DEVNULL)
        self._ends.callback(process.wait, SECONDS)
        self._ends.callback(process.terminate)

        def registered() -> str:
            assert process.poll() is None, (home / "log").read_text()
            return next((new for new in self.known() if worker_name(new) == name and new not in earlier), "")

        server_id = wait_for(registered, f"{name} is registered", SECONDS)
        assert self.known()[server_id]["address"] == f"127.0.0.1:{public}"
        return Worker(process, server_id, home / "log")

    def build(self, jobs: int) -> list[dict]:
        """Compile ``jobs`` times, four at a time; the job_done events, each a job with the right object."""
        before = len(self.events("job_done"))

        def one(number: int) -> None:
            said = self.client.call(*SLOW_COMMAND, f"{number}.o", SCCACHE_RECACHE="1")
            assert (said.status, said.stdout, said.stderr) == (0, "", "")
            assert (self.client.work / f"{number}.o").read_bytes() == self._plain
            (self.client.work / f"{number}.o").unlink()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(jobs)))
        done = self.events("job_done")[before:]
        assert len(done) == jobs
        assert self.events("job_local") == []
        return done


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple[Cluster, Client]]:
    """A scheduler without workers, and a client."""
    with Cluster(1, slots=1) as cluster, Client(tables_of(cluster), {"SCCACHE_LOG": "debug"}) as client:
        cluster.remove("worker-1", "KILL")
        yield cluster, client


@pytest.fixture
def farm(parts) -> Iterator[Farm]:
    """A farm without workers."""
    with contextlib.ExitStack() as ends:
        yield Farm(*parts, ends)


@pytest.fixture
def ports() -> list[int]:
    """Five free ports: three for the gateway, two for workers."""
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(5)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def gateway(kind: str, title: str, directory: Path, addresses: Mapping[str, int]) -> Iterator[None]:
    """The documented configuration at work, its addresses replaced by ports of this host."""
    text = BLOCKS[kind, title]
    for documented, port in addresses.items():
        own = f"127.0.0.1:{port}"
        pattern = rf"(?<=listen ){documented[1:]}(?=;)|(?<!\S){documented}(?=;|$)"
        text, count = re.subn(pattern, own, text, flags=re.MULTILINE)
        assert count == 1, (documented, text)
    assert "10.0.0." not in text
    assert not re.search(r"(bind :|listen )\d+;?$", text, re.MULTILINE), text
    file = directory / f"{kind}.conf"
    program = shutil.which(kind, path=SBIN)
    assert program is not None
    if kind == "haproxy":
        file.write_text(text)
        argv = [program, "-q", "-db", "-f", str(file)]
    else:
        file.write_text(f"pid {directory}/nginx.pid;\n{NGINX}{text}")
        argv = [program, "-e", "stderr", "-p", str(directory), "-c", str(file), "-g", "daemon off;"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        for documented, port in addresses.items():
            if documented.startswith(":"):
                wait_for(lambda port=port: _accepts(process, port), f"{kind} listens on {port}")
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)


def _accepts(process: subprocess.Popen, port: int) -> bool:
    assert process.poll() is None, "the gateway ended at its start"
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


def through(farm: Farm, workers: list[Worker]) -> None:
    """Jobs succeed at once on every worker, and each ran where the client thinks that it did."""
    done = farm.build(6)
    assert {event["server_id"] for event in done} == {worker.server_id for worker in workers}
    for worker in workers:
        meant = {(event["job_id"], event["attempt"]) for event in done if event["server_id"] == worker.server_id}
        assert meant <= worker.attempts()
    assert {event["attempts"] for event in done} == {1}


def test_pool_of_ports(farm, ports, tmp_path):
    """Two workers, each reached through a port of the gateway's: every job runs on the worker that it was meant for."""
    first, second, _, one, two = ports
    workers = [farm.worker("builder-1", one, first), farm.worker("builder-2", two, second)]
    routes = {":21001": first, ":21002": second, FIRST: one, SECOND: two}
    for kind in ("haproxy", "nginx"):
        with gateway(kind, POOL, tmp_path, routes):
            through(farm, workers)


def test_one_port_by_name(farm, ports, tmp_path):
    """Two workers behind one port are told apart by the name in the client's greeting."""
    port, _, _, one, two = ports
    workers = [farm.worker("builder-1", one, port), farm.worker("builder-2", two, port)]
    for kind in ("haproxy", "nginx"):
        with gateway(kind, BY_NAME, tmp_path, {":21000": port, FIRST: one, SECOND: two}):
            through(farm, workers)


@pytest.mark.parametrize("seed", seeds())
def test_takeover(farm, ports, tmp_path, seed):
    """A worker that starts where another died, behind the same port, does its first job at the first attempt."""
    first, second, _, one, two = ports
    kind = random.Random(seed).choice(("haproxy", "nginx"))
    with gateway(kind, POOL, tmp_path, {":21001": first, ":21002": second, FIRST: one, SECOND: two}):
        late = farm.worker("builder-1", one, first)
        (done,) = farm.build(1)
        assert done["server_id"] == late.server_id
        late.kill()
        wait_for(lambda: late.server_id not in farm.known(), "the scheduler knows that it is lost")
        heir = farm.worker("builder-3", one, first)
        (done,) = farm.build(1)
        assert (done["server_id"], done["attempts"]) == (heir.server_id, 1)
        assert (done["job_id"], 1) in heir.attempts()
        assert farm.events("job_failed") == []


def test_wrong_worker_at_the_port(farm, ports, tmp_path):
    """Where the gateway leads to another worker than the one meant, the client refuses it; the job goes elsewhere."""
    first, second, _, one, two = ports
    routes = {":21001": first, ":21002": second, FIRST: one, SECOND: two}
    with gateway("haproxy", POOL, tmp_path, routes):
        meant = farm.worker("builder-1", one, first)
        farm.build(1)
    # Both ports lead to the other one now, although the first one lives.
    other = farm.worker("builder-4", two, second)
    with gateway("haproxy", POOL, tmp_path, {**routes, FIRST: two}):
        done = farm.build(4)
    assert {event["server_id"] for event in done} == {other.server_id}
    failed = farm.events("job_failed")
    assert {(event["code"], event["server_id"]) for event in failed} == {("pin_mismatch", meant.server_id)}
    refused = {(event["job_id"], event["attempt"]) for event in failed}
    assert not refused & other.attempts()
    assert len(meant.attempts()) == 1
