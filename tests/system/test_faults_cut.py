"""A worker dies, or its line breaks, in the middle of a transfer: of a toolchain, of a job's inputs, of its result.

A proxy before the worker counts TLS records and strikes between two of them. Each test proves from the logs that the
job was on that worker, and how far it was. Nothing compiles on the client, and nothing is left half-written anywhere.
"""

import os
import random
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import frozen
from support import jobs
from support.cluster import wait_for
from support.farm import TIMERS, WORKER_PORT, Farm, Worker
from support.farm.builds import seeds
from support.farm.cutting import Cut, CuttingProxy, Way
from support.farm.network import HUB_ADDRESS
from support.farm.roles import END_SECONDS, Event
from support.processes import compilers_below

pytestmark = pytest.mark.root

PROXY_PORT = 10777
FREED_SECONDS = 2.0
COMPILER = ("g++", "-std=c++17", "-fconstexpr-ops-limit=2000000000", "-fconstexpr-loop-limit=2000000000", "-g", "-c")
SLOW = """\
constexpr unsigned spin() {
    unsigned x = 1;
    for (unsigned i = 0; i < 200000u; i++)
        x = x * 3u + i;
    return x;
}
constexpr unsigned spun = spin();
unsigned get() { return spun; }
"""


class Stage:
    """The victim behind a proxy, where a job goes first; the survivor; and a client."""

    def __init__(self, farm: Farm, proxy: CuttingProxy, directory: Path) -> None:
        self.farm = farm
        self.proxy = proxy
        self.directory = directory
        self.victim, self.survivor = farm.worker("a1", start=False), farm.worker("z1", start=False)
        self.client = farm.client("c1")
        self.records_of_first_job = 0
        """How many go to a worker that has nothing yet: the toolchain, and in the last one a small job."""
        self._sources = 0

    def ready(self) -> None:
        """Both workers are there, and known to have the toolchain."""
        for worker in self.farm.workers("a1", "z1"):
            wait_for(lambda worker=worker: self._toolchains(worker), f"{worker.name} has the toolchain")

    def ready_with_empty_stores(self) -> None:
        """Both workers are there, and have nothing."""
        for worker in (self.victim, self.survivor):
            worker.end()
            shutil.rmtree(worker.home / "store", ignore_errors=True)
        for worker in self.farm.workers("a1", "z1"):
            assert not self._toolchains(worker)

    def _toolchains(self, worker: Worker) -> int:
        return int(self.farm.scheduler.workers()[worker.server_id]["toolchains"])

    def small(self) -> "Source":
        """A file of one line."""
        return self._source("int a;\n")

    def large(self, draw: random.Random, words: int) -> "Source":
        """A file that no compressor makes much smaller; its object holds this many words of four bytes."""
        table = ",".join(str(draw.getrandbits(32)) for _ in range(words))
        return self._source(f"unsigned table[] = {{{table}}};\n")

    def slow(self) -> "Source":
        """A file that takes the compiler about a second."""
        return self._source(SLOW)

    def _source(self, text: str) -> "Source":
        self._sources += 1
        directory = self.directory / str(self._sources)
        directory.mkdir()
        (directory / "a.cc").write_text(text)
        subprocess.run([*COMPILER, "a.cc"], cwd=directory, check=True)
        return Source(directory, (directory / "a.o").read_bytes())

    def call(self, source: "Source") -> Event:
        """Compile it behind the launcher; the one job_done. Asserts that it went as if the compiler had been alone."""
        earlier = self.client.mark()
        said = self.client.call(*COMPILER, "a.cc", cwd=source.directory)
        assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
        source.check()
        assert self.client.events("job_local", since=earlier) == []
        (done,) = self.client.events("job_done", since=earlier)
        return done

    def warm(self, source: "Source") -> None:
        """The client has a connection to the victim, and the victim has what this source needs."""
        assert self.call(source)["server_id"] == self.victim.server_id

    def uncut(self, source: "Source", way: Way) -> list[int]:
        """The records that go this way for a job of the victim's when nothing is cut."""
        self.proxy.watch()
        self.warm(source)
        return self.proxy.passed(way)

    def cut(self, source: "Source", cut: Cut, *, kill: bool = True) -> "Struck":
        """Compile while the victim, or only its line, is struck there."""
        server_id = self.victim.server_id
        client, worker = self.client.mark(), self.victim.mark()
        with ThreadPoolExecutor(1) as pool:
            struck = self.proxy.arm(cut, self.victim.kill if kill else lambda: None)
            freed = None if kill else pool.submit(self._seconds_to_free, struck)
            done = self.call(source)
            assert struck.wait(END_SECONDS), "nothing was cut"
        told = self.client.events(since=client)
        attempt = (done["job_id"], 1)
        assert jobs.attempts(told, "worker_accepted")[attempt]["server_id"] == server_id
        names = [
            {event["event"] for event in said if (event.get("job_id"), event.get("attempt")) == attempt}
            for said in (told, self.victim.events(since=worker))
        ]
        return Struck(done, *names, freed.result() if freed else None)

    def _seconds_to_free(self, struck: threading.Event) -> float:
        """How long after it was struck the victim tells that its slot is free."""
        assert struck.wait(END_SECONDS)
        began = time.monotonic()
        server_id = self.victim.server_id
        wait_for(lambda: self.farm.scheduler.workers()[server_id]["running"] == 0, "the victim's slot is free")
        return time.monotonic() - began

    def toolchain_files(self) -> list[str]:
        """Every file of a toolchain, whole or not, in the victim's store."""
        root = self.victim.home / "store" / "toolchains"
        return [str(path) for path in root.rglob("*") if not path.is_dir()]

    def send_toolchain_again(self, source: "Source") -> None:
        """A job that has to be the victim's, which has to be sent the toolchain."""
        self.survivor.kill()
        earlier = self.client.mark()
        done = self.call(source)
        assert (done["server_id"], done["attempt"]) == (self.victim.server_id, 1)
        (sent,) = self.client.events("toolchain_sent", since=earlier)
        assert (sent["job_id"], sent["server_id"]) == (done["job_id"], self.victim.server_id)

    def lost(self, source: "Source", cut: Cut, *, kill: bool = True) -> "Struck":
        """The same, and the attempt failed by it; the survivor did the job."""
        found = self.cut(source, cut, kill=kill)
        assert "job_failed" in found.client
        assert found.done["server_id"] == self.survivor.server_id
        assert found.done["attempt"] >= 2
        return found


@frozen
class Source:
    """A compilation, and what the compiler alone makes of it."""

    directory: Path
    plain: bytes

    def check(self) -> None:
        """Its directory holds the source and the whole object, and nothing else; the object is removed."""
        assert sorted(os.listdir(self.directory)) == ["a.cc", "a.o"]
        assert (self.directory / "a.o").read_bytes() == self.plain
        (self.directory / "a.o").unlink()


@frozen
class Struck:
    """A job whose first attempt was cut: its job_done, and what client and worker had said of that attempt."""

    done: Event
    client: set[str]
    worker: set[str]
    freed: float | None
    """Seconds until the slot of a victim that lives was free."""


@pytest.fixture(scope="module")
def farm():
    """A scheduler. Workers say nothing of their own accord, so that an answer has the same records each time."""
    timers = {
        **TIMERS,
        "worker": {**TIMERS["worker"], "progress_seconds": 300.0},
        "client": {**TIMERS["client"], "silence_seconds": 30.0},
    }
    with Farm(timers=timers) as started:
        yield started


@pytest.fixture(scope="module")
def stage(farm, tmp_path_factory):
    """Both workers have the toolchain."""
    victim = farm.worker("a1", slots=8, start=False, tables={"worker": {"public": f"{HUB_ADDRESS}:{PROXY_PORT}"}})
    farm.worker("z1", slots=1, start=False)
    with CuttingProxy(farm.network.hub, PROXY_PORT, f"{victim.host.address}:{WORKER_PORT}") as proxy:
        stage = Stage(farm, proxy, tmp_path_factory.mktemp("sources"))
        stage.ready_with_empty_stores()
        small = stage.small()
        stage.records_of_first_job = len(stage.uncut(small, Way.UP))
        victim.kill()
        assert stage.call(small)["server_id"] == stage.survivor.server_id
        yield stage


@pytest.mark.parametrize("seed", seeds())
def test_the_result_is_cut_off(stage, seed):
    """At every boundary in the answer: before it, between its parts, and behind its end."""
    draw = random.Random(seed)
    source = stage.large(draw, draw.randrange(4_000, 16_000))
    stage.ready()
    stage.warm(source)
    records = stage.uncut(source, Way.DOWN)
    assert len(records) >= 2
    for boundary in range(len(records)):
        stage.ready()
        stage.warm(source)
        found = stage.lost(source, Cut(Way.DOWN, boundary, next=True))
        assert "lease_claimed" in found.worker
        # The first record says that the compiler runs; with the others comes the result.
        assert ("job_running" in found.client) is (boundary > 0)
        assert ("job_finished" in found.worker) is (boundary > 0)
    stage.ready()
    stage.warm(source)
    # The client has it all, unless the reset took the end out of its hands again.
    found = stage.cut(source, Cut(Way.DOWN, len(records)))
    assert "job_finished" in found.worker
    stage.farm.free()


@pytest.mark.parametrize("seed", seeds())
def test_the_inputs_are_cut_off(stage, seed):
    """At boundaries in the request, its end included (every one with most seeds): the compiler has not begun."""
    draw = random.Random(seed)
    small, source = stage.small(), stage.large(draw, draw.randrange(7_500, 12_000))
    stage.ready()
    stage.warm(small)
    records = stage.uncut(source, Way.UP)
    assert len(records) >= 3
    # The next one has been sent nothing of it.
    stage.victim.kill()
    last = len(records)
    for boundary in range(1, last + 1) if seed else (1, draw.randrange(2, last), last):
        stage.ready()
        stage.warm(small)
        found = stage.lost(source, Cut(Way.UP, boundary))
        assert "blobs_sent" in found.client
        assert "job_running" not in found.client
        if boundary < last:
            assert "lease_claimed" not in found.worker
    stage.farm.free()


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_the_toolchain_is_cut_off(stage, where, seed):
    """Nothing is left of a toolchain that came in part, and the next upload succeeds."""
    source = stage.small()
    # Before it come the end of the handshake and the question whose turn it is, behind it the job.
    first, last = 3, stage.records_of_first_job - 1
    after = {"first": first, "middle": random.Random(seed).randrange(first + 1, last), "last": last}[where]
    stage.ready_with_empty_stores()
    found = stage.lost(source, Cut(Way.UP, after))
    assert not {"toolchain_sent", "job_running"} & found.client
    assert "toolchain_stored" not in found.worker
    stage.farm.workers("a1")
    assert stage.toolchain_files() == []
    stage.send_toolchain_again(source)
    stage.farm.free()


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("phase", ["toolchain", "inputs", "running", "result"])
def test_the_line_breaks(stage, phase, seed):
    """The worker lives on: its slot is free within two seconds, and nothing of the job is left there."""
    draw = random.Random(f"{phase} {seed}")
    if phase == "toolchain":
        source = stage.small()
        stage.ready_with_empty_stores()
        cut = Cut(Way.UP, draw.randrange(3, stage.records_of_first_job - 1))
    else:
        source = stage.slow() if phase == "running" else stage.large(draw, 10_000)
        stage.ready()
        stage.warm(stage.small())
        cut = {"inputs": Cut(Way.UP, 2), "running": Cut(Way.DOWN, 1), "result": Cut(Way.DOWN, 2)}[phase]
    found = stage.lost(source, cut, kill=False)
    assert found.freed < FREED_SECONDS
    assert phase != "inputs" or "blobs_sent" in found.client
    assert ("lease_claimed" in found.worker) is (phase in {"running", "result"})
    assert ("job_running" in found.client) is (phase in {"running", "result"})
    assert ("job_finished" in found.worker) is (phase == "result")
    assert compilers_below(stage.victim.pid) == []
    if phase == "toolchain":
        assert "toolchain_sent" not in found.client
        wait_for(lambda: stage.toolchain_files() == [], "nothing of it is left")
        stage.send_toolchain_again(source)
    stage.farm.free()
