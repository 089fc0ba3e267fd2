"""Workers that leave in the middle of a build, by every way there is: nothing that they run is lost or run twice.

One build has a victim for each way. A compiler of each victim is stopped until its worker has begun to drain and all
other jobs are done, so what is asked does not depend on how fast anything is.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

import pytest
from attrs import frozen
from support import jobs
from support.cluster import PROGRAM, Cluster, wait_for
from support.processes import compilers_below
from support.small import running, slow_tree

from sccache_twisted.cli import processes
from sccache_twisted.cli.home import Home

pytestmark = pytest.mark.root

# Each build has a number of its own, so that no cache has its results.
SPINS = 250_000
UNITS = 24
SLOTS = 2
WAYS = ("signal", "remove", "order", "file", "url", "every")
TOKEN = b"a-token=="


@pytest.fixture(scope="module")
def cluster():
    """One worker that stays."""
    with Cluster(1, slots=SLOTS, extra={"SCCACHE_LOG": "debug"}) as started:
        yield started


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return slow_tree(tmp_path_factory.mktemp("drain") / "tree", UNITS)


class Victim:
    """A worker of the cluster's whose process is this one's child, so that its exit status is known."""

    def __init__(self, cluster, name, worker="", timers=""):
        home = Home.at(str(cluster.directory))
        text = home.config("worker-1").read_text().replace("worker-1", name)
        for table, more in (("[worker]", worker), ("[log]", 'level = "debug"')):
            text = text.replace(f"{table}\n", f"{table}\n{more}\n")
        config = home.config(name)
        config.touch(mode=0o600)
        config.write_text(f"{text}\n[timers]\npreemption_seconds = 0.1\n{timers}\n")
        self.name = name
        self.cluster = cluster
        self.home = home
        self.process = processes.start("worker", config, home.pid_file(name), home.ready_file(name), home.errors(name))
        self.held = 0

    @property
    def server_id(self):
        return self.home.ready(self.name)["server_id"]

    def logged(self):
        return self.cluster.log_events(self.name)

    def names_of_events(self):
        return [event["event"] for event in self.logged()]

    def drains(self):
        return "worker_draining" in self.names_of_events()

    def compilers(self):
        return [process.pid for process in compilers_below(self.process.pid)]

    def hold(self):
        """Stop a compiler of its; whether one is stopped. Call it until it says so."""
        if processes.state(self.held) != "T":
            self.held = next(iter(self.compilers()), 0)
            if self.held:
                # It may have ended meanwhile; then the next one is stopped.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.held, signal.SIGSTOP)
        return processes.state(self.held) == "T"

    def let_go(self):
        os.kill(self.held, signal.SIGCONT)

    def running(self):
        """The attempts that the client knows to run there."""
        return jobs.running(self.cluster.log_events("client"), self.server_id)

    def given_afterwards(self):
        """What was leased to it after it had begun to drain."""
        names = self.names_of_events()
        return names[names.index("worker_draining") :].count("lease_granted")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class MetadataService(ThreadingHTTPServer):
    """EC2's, of the version that wants a token: 404 until ``going``."""

    going = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/latest/meta-data/spot/instance-action"


class _Answers(BaseHTTPRequestHandler):
    def do_PUT(self):
        assert self.path == "/latest/api/token"
        self._answer(200, TOKEN)

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN.decode():
            self._answer(401, b"")
        elif self.server.going:
            self._answer(200, b'{"action": "terminate"}')
        else:
            self._answer(404, b"no")

    def _answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def metadata_service():
    with MetadataService() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@frozen
class Story:
    """What became of a victim: what ran there when all else was done, how it was shown, its end."""

    victim: Victim
    ran: dict
    shown: str
    status: int


@frozen
class Build:
    """All stories by way, what ``drain --wait`` said, and the client's numbers and events at the end."""

    stories: dict
    said: dict
    stats: object
    done: dict


@pytest.fixture(scope="module")
def build(cluster, tree, tmp_path_factory):
    """A build in which six of seven workers leave, each by another way, while each runs a job."""
    place = tmp_path_factory.mktemp("notices")
    with ExitStack() as held:
        service = held.enter_context(metadata_service())
        more = {
            "file": f'preemption_file = "{place}/file"',
            "every": f'preemption_file = "{place}/every"',
            "url": f'preemption_url = "{service.url}"',
        }
        victims = {way: Victim(cluster, f"by-{way}", more.get(way, "")) for way in WAYS}
        for victim in victims.values():
            held.callback(victim.end)
        wait_for(lambda: len(shown(cluster)) == 1 + len(WAYS), "all have registered")
        make = held.enter_context(running(start_make(cluster, tree, UNITS, SPINS)))
        wait_for(lambda: not [way for way in WAYS if not victims[way].hold()], "each runs a compiler", timeout=60)
        ordered = subprocess.Popen(drain_words(cluster, "by-order", "--wait", "--json"), stdout=subprocess.PIPE)
        cluster.remove("by-remove")
        service.going = True
        (place / "file").touch()
        victims["signal"].process.terminate()
        (place / "every").touch()
        wait_for(victims["every"].drains, "the notice is seen")
        subprocess.run(drain_words(cluster, "by-every"), check=True, stdout=subprocess.DEVNULL)
        victims["every"].process.terminate()
        wait_for(lambda: all(victim.drains() for victim in victims.values()), "all drain")
        wait_for(lambda: len(done(cluster)) == UNITS - len(WAYS), "everything else is done", timeout=60)
        states = shown(cluster)
        ran = {way: victim.running() for way, victim in victims.items()}
        assert [victim.process.poll() for victim in victims.values()] == [None] * len(WAYS)
        for victim in victims.values():
            victim.let_go()
        stories = {
            way: Story(victim, ran[way], states[victim.name]["state"], victim.process.wait(30))
            for way, victim in victims.items()
        }
        said = make.communicate(timeout=60)[0].decode("utf-8", "replace")
        assert make.returncode == 0, said
        told = json.loads(ordered.communicate(timeout=30)[0])
        assert ordered.returncode == 0
        yield Build(stories, told, cluster.stats(), done(cluster))


@pytest.mark.parametrize("way", WAYS)
def test_what_runs_on_a_leaving_worker_ends_there(build, way):
    """The job that ran when the drain began is done there, at its first attempt, and no other comes after it.

    One slot was free all that time, with jobs in the queue. The process ends with status 0.
    """
    story = build.stories[way]
    assert story.status == 0
    assert story.shown == "draining"
    ((job, attempt),) = story.ran
    assert attempt == 1
    last, event = build.done[job]
    assert (last, event["server_id"]) == (1, story.victim.server_id)
    (begun,) = [event for event in story.victim.logged() if event["event"] == "worker_draining"]
    assert 1 <= begun["running"] <= SLOTS
    assert story.victim.given_afterwards() == 0
    assert "job_killed" not in story.victim.names_of_events()


def test_nothing_ran_on_the_client(build):
    """Six workers left, and every job of the build was done by a worker, once."""
    assert build.stats.local_compiles == {}
    assert sum(build.stats.dist_compiles.values()) == UNITS
    assert len(build.done) == UNITS
    assert {event["attempts"] for _, event in build.done.values()} == {1}


@pytest.mark.parametrize(
    ("way", "name", "fields"),
    [
        ("signal", "stopping", {"reason": "SIGTERM; running jobs finish first, another SIGTERM ends them"}),
        ("remove", "stopping", {"reason": "SIGTERM; running jobs finish first, another SIGTERM ends them"}),
        ("order", "drain_ordered", {}),
        ("file", "preemption_notice", {"said": "the file exists"}),
        ("url", "preemption_notice", {"said": '{"action": "terminate"}'}),
    ],
)
def test_the_log_says_why(build, way, name, fields):
    """Signal, order and notice are events of their own, before the drain."""
    events = build.stories[way].victim.logged()
    why = next(event for event in events if event["event"] == name)
    assert {key: why[key] for key in fields} == fields
    assert events.index(why) < next(place for place, each in enumerate(events) if each["event"] == "worker_draining")
    assert "preemption_unknown" not in {event["event"] for event in events}


def test_every_way_at_once_is_one_drain(build):
    """Notice, order and signal for one worker: one drain and one orderly end, and no failure."""
    events = build.stories["every"].victim.logged()
    names = [event["event"] for event in events]
    assert {"preemption_notice", "drain_ordered", "stopping"} <= set(names)
    assert names.count("worker_draining") == 1
    assert [event for event in events if event["level"] in {"error", "critical"}] == []


def test_the_command_waits_until_it_has_left(build):
    """``drain --wait`` tells whom it was and how many jobs it ran."""
    assert build.said["left"] is True
    (told,) = build.said["draining"]
    assert (told["name"], told["server_id"]) == ("by-order", build.stories["order"].victim.server_id)
    assert 1 <= told["running"] <= SLOTS


@pytest.mark.parametrize(
    ("timers", "spins"),
    [("", 3 * SPINS + 1), ("drain_seconds = 0.2", 3 * SPINS + 2)],
    ids=["second-signal", "drain-seconds"],
)
def test_what_is_cut_short_runs_elsewhere(cluster, tree, timers, spins):
    """A second SIGTERM, or drain_seconds, ends the drain: compilers are killed, status 0, the jobs go to others."""
    for name in tree.left:
        (tree.root / name).unlink()
    earlier = len(cluster.log_events("client"))
    cluster.zero_stats()
    name = "in-time" if timers else "in-haste"
    victim = Victim(cluster, name, timers=timers)
    try:
        wait_for(lambda: name in shown(cluster), "it has registered")
        with running(start_make(cluster, tree, 6, spins)) as make:
            wait_for(victim.hold, "it runs a compiler", timeout=60)
            wait_for(victim.running, "the client knows")
            victim.process.terminate()
            wait_for(victim.drains, "it drains")
            if not timers:
                victim.process.terminate()
            assert victim.process.wait(20) == 0
            assert processes.state(victim.held) == ""
            said = make.communicate(timeout=60)[0].decode("utf-8", "replace")
            assert make.returncode == 0, said
    finally:
        victim.end()
    events = cluster.log_events("client")[earlier:]
    struck = jobs.attempts([event for event in events if event.get("server_id") == victim.server_id], "job_failed")
    assert struck
    finished = done(cluster, earlier)
    for job, attempt in struck:
        last, event = finished[job]
        assert last > attempt
        assert event["server_id"] != victim.server_id
    assert cluster.stats().local_compiles == {}
    assert [event for event in victim.logged() if event["level"] in {"error", "critical"}] == []


def start_make(cluster, tree, units, spins):
    words = [f"-j{(1 + len(WAYS)) * SLOTS + 2}", f"CXX={cluster.launcher[0]} g++", f"SPINS={spins}"]
    return tree.make(*words, *tree.objects[:units], env=cluster.env)


def drain_words(cluster, *words):
    return [str(PROGRAM), "drain", "--config", str(cluster.directory / "scheduler.toml"), *words]


def shown(cluster):
    """The workers of /status by name."""
    ready = json.loads((cluster.directory / "scheduler.ready").read_text())
    with urlopen(f"http://{ready['http']}/status", timeout=5) as answer:
        return {worker["name"]: worker for worker in json.load(answer)["workers"]}


def done(cluster, earlier=0):
    """Of each job that is done the attempt that did it, and its event."""
    events = cluster.log_events("client")[earlier:]
    return {job: (attempt, event) for (job, attempt), event in jobs.attempts(events, "job_done").items()}
