"""The ways of a command line: alone, cold and local, out of the cache, on a worker, and out of what a worker made.

All cases of a batch run at once, each in a directory of its own that is wiped and filled anew for every way, so that
paths and files are equal. One cluster serves two clients with a cache each: one stays here, one distributes.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, field, frozen
from commandline import CACHED, DISTRIBUTED, LOCAL, NO_COMPILATION, Case
from outcome import Node, Outcome, looked_at
from support.cluster import PROGRAM, Cluster, ClusterFailed, wait_for
from support.processes import with_variable

from sccache_twisted.compilers.reasons import REASONS, Place
from sccache_twisted.launcher.native import build

AT_ONCE = 4
_OLD_NS = 60_000_000
_STORED_SECONDS = 5.0
_CHDIR = re.compile(r'chdir\("(.*)"\)')
_SECONDS = 400
_BUSTER = b"SCCACHE_C_CUSTOM_CACHE_BUSTER"

UNASKED = "unasked"
"""The reason of a call that the daemon never hears of, since the launcher does not know where it is."""
ALONE, HERE, HIT_HERE, THERE, HIT_THERE = "alone", "here", "hit here", "there", "hit there"
HITS = {HIT_HERE, HIT_THERE}
WAYS = (ALONE, HERE, HIT_HERE, THERE, HIT_THERE)
_CLIENT = {HERE: "here", HIT_HERE: "here", THERE: "there", HIT_THERE: "there"}


@frozen
class Told:
    """What the daemon said of a call: ``hit``, ``remote``, ``here``, ``itself`` or ``refused``, and why."""

    decision: str
    reason: str = ""
    kept: bool = False
    server_id: str = ""

    @property
    def kind(self) -> str:
        """Which of the four decisions that is; a hit is the distributed one."""
        if self.decision in {"remote", "hit"}:
            return DISTRIBUTED
        reason = REASONS.get(self.reason)
        if reason is not None and reason.place is Place.NOT_COMPILATION:
            return NO_COMPILATION
        return CACHED if self.kept else LOCAL


@define
class Run:
    """One case by all ways: what was laid out, what each way left, what the daemons said, how many programs they began.

    ``began`` counts for the ways out of the cache only.
    """

    case: Case
    ways: tuple[str, ...]
    laid: dict[str, Node] = field(factory=dict, repr=False)
    outcomes: dict[str, Outcome] = field(factory=dict, repr=False)
    told: dict[str, Told] = field(factory=dict)
    began: dict[str, int] = field(factory=dict)

    @property
    def written(self) -> set[str]:
        """The names that appeared when the compiler ran alone, with those that it wrote anew."""
        return {name for name, node in self.outcomes[ALONE].nodes.items() if self.laid.get(name) != node}


class Bench:
    """A cluster of two workers, and the two clients."""

    def __init__(self, cluster: Cluster, place: Path, clients: Mapping[str, Mapping[str, str]]) -> None:
        self.site = place / "site"
        self.launcher = place / "sccache-twisted"
        self._place = place
        self._cluster = cluster
        self._clients = clients
        self._read = dict.fromkeys(clients, 0)
        build(os.fsencode(self.launcher), dict(os.environb))
        for env in clients.values():
            subprocess.run([PROGRAM, "--start-server"], env=env, check=True, capture_output=True, timeout=60)
        self.servers = {worker.server_id for worker in cluster.status().workers.values()}

    def environment(self, client: str) -> dict[str, str]:
        """What a call of a client has in its environment besides its own."""
        return {name: value for name, value in self._clients[client].items() if name.startswith("SCCACHE_")}

    def run(self, chosen: Sequence[Case], ways: Callable[[Case], Collection[str]] = lambda _: WAYS) -> dict[str, Run]:
        """All cases by their names, each by its ways."""
        everything = {case.name: Run(case, tuple(ways(case))) for case in chosen}
        for way in WAYS:
            runs = {name: run for name, run in everything.items() if way in run.ways}
            self._fill(runs)
            for name, run in runs.items():
                run.laid = run.laid or looked_at(self.site / name)
            client = _CLIENT.get(way)
            before = self._written(client)
            with self._traced(client if way in HITS else None) as began:
                with ThreadPoolExecutor(AT_ONCE) as pool:
                    cases = [run.case for run in runs.values()]
                    done = dict(zip(runs, pool.map(self._call, cases, repeat(way)), strict=True))
                if client is not None:
                    self._hear(runs, way, client)
            for name, ended in done.items():
                run, nodes = runs[name], looked_at(self.site / name)
                run.outcomes[way] = Outcome(ended.returncode, ended.stdout, ended.stderr, nodes)
                run.began[way] = began.get(name, 0)
            if client is not None and way not in HITS:
                self._settle(client, before + sum(_is_stored(run, way) for run in runs.values()))
        return everything

    def _fill(self, runs: Mapping[str, Run]) -> None:
        """A fresh directory for each case, with files that are no news any more."""
        shutil.rmtree(self.site, ignore_errors=True)
        for name, run in runs.items():
            place = self.site / name
            place.mkdir(parents=True)
            run.case.lay_out(place)
        finished = time.time_ns()
        wait_for(lambda: time.time_ns() - finished > _OLD_NS, "the sources are no news")

    def _call(self, case: Case, way: str) -> "subprocess.CompletedProcess[bytes]":
        place = self.site / case.name
        words, env = case.words(place), case.environment(place)
        client = _CLIENT.get(way)
        if client is not None:
            words = [os.fsencode(self.launcher), *words]
            ours = {os.fsencode(name): os.fsencode(value) for name, value in self.environment(client).items()}
            env = {**env, **ours, _BUSTER: case.name.encode()}
        if way == HERE:
            env[b"SCCACHE_NO_DIST"] = b"1"
        if case.before:
            words = [b"sh", b"-c", case.before.encode() + b'; exec "$@"', b"sh", *words]
        return subprocess.run(
            words,
            cwd=place / case.cwd,
            env=env,
            umask=case.umask,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )

    def _hear(self, runs: Mapping[str, Run], way: str, client: str) -> None:
        """Wait until the daemon has said what became of each call."""

        def all_told() -> bool:
            for event in self._news(client):
                if event.get("event") == "call_decided":
                    name = os.path.relpath(event["directory"], self.site).split("/")[0]
                    if name in runs:
                        told = Told(event["decision"], event["reason"], event["kept"], event.get("server_id", ""))
                        runs[name].told[way] = told
            return all(way in run.told or run.case.reason == UNASKED for run in runs.values())

        with suppress(ClusterFailed):  # the case that nothing was said of tells it
            wait_for(all_told, "the daemon says what it decided", timeout=10)

    def _news(self, client: str) -> list[dict[str, Any]]:
        with (self._cluster.directory / "logs" / f"{client}.log").open("rb") as stream:
            stream.seek(self._read[client])
            whole, mark, _ = stream.read().rpartition(b"\n")
        self._read[client] += len(whole + mark)
        return [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]

    def _written(self, client: str | None) -> int:
        if client is None:
            return 0
        return int(self._cluster.stats(self._clients[client]).told["stats"]["cache_writes"])

    def _settle(self, client: str, count: int) -> None:
        """Wait until so many results have been stored; what never is, is found missing by the way that looks for it."""
        with suppress(ClusterFailed):
            wait_for(lambda: self._written(client) >= count, "the results are stored", timeout=_STORED_SECONDS)

    @contextmanager
    def _traced(self, client: str | None) -> Iterator[Mapping[str, int]]:
        """How many programs the daemon and its hit servers begin, by the case in whose directory: strace sees each."""
        began: Counter[str] = Counter()
        if client is None:
            yield began
            return
        log = self._place / "strace.log"
        # A hit server that begins later is followed as the daemon's child.
        pids = list(with_variable("SCCACHE_SERVER_UDS", self._clients[client]["SCCACHE_SERVER_UDS"]))
        assert pids, "the daemon runs"
        words = ["strace", "-f", "-q", "-s", "4096", "-e", "trace=chdir,execve", "-o", str(log)]
        words += [word for pid in pids for word in ("-p", str(pid))]
        with subprocess.Popen(words, stderr=subprocess.PIPE) as tracer:
            assert tracer.stderr is not None
            wait_for(lambda: all(_traces(tracer.pid, pid) for pid in pids), "strace has attached")
            yield began
            tracer.send_signal(signal.SIGINT)
            tracer.stderr.read()
        where: dict[str, str] = {}
        for line in log.read_text().splitlines():
            process, _, call = line.partition(" ")
            found = _CHDIR.match(call.strip())
            if found:
                where[process] = found[1]
            elif call.strip().startswith("execve("):
                began[os.path.relpath(where.get(process, "/"), self.site).split("/")[0]] += 1


def _traces(tracer: int, traced: int) -> bool:
    """Whether every thread of a process has its tracer, or the process has ended, as hit servers do by themselves."""
    tasks = Path(f"/proc/{traced}/task")
    wanted = f"TracerPid:\t{tracer}\n"
    try:
        return all(wanted in (task / "status").read_text() for task in tasks.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return not tasks.exists()


def _is_stored(run: Run, way: str) -> bool:
    told = run.told.get(way)
    return (
        told is not None
        and run.outcomes[way].status == 0
        and run.case.hit != ""
        and (told.decision == "remote" or told.kept)
    )


@contextmanager
def bench() -> Iterator[Bench]:
    """A bench for as long as the block lasts."""
    with ExitStack() as made:
        place = Path(made.enter_context(TemporaryDirectory(prefix="lines-", dir="/tmp", ignore_cleanup_errors=True)))
        place.chmod(0o755)
        extra = {"SCCACHE_LOG": "debug", "SCCACHE_DIST_CACHE_DIR": str(place / "toolchains")}
        cluster = made.enter_context(Cluster(2, slots=2, cache=True, extra=extra))
        shared = {"SCCACHE_DIST_CACHE_DIR": str(place / "toolchains")}
        clients = {name: made.enter_context(cluster.another_client(name, shared)) for name in ("here", "there")}
        yield Bench(cluster, place, clients)
