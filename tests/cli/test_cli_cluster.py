"""The embedded cluster: real processes, a real compiler, real sandboxes."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import command

from sccache_twisted.cli import processes
from sccache_twisted.cli.home import Home

LAUNCHER = shutil.which("sccache-twisted", path=str(Path(sys.executable).parent))
SOURCE = "int answer(int x) { return x + 42; }\n"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A directory that job users may enter, as root's temporary directories are not."""
    path = tmp_path_factory.mktemp("cluster")
    for parent in (path, *path.parents):
        if parent.owner() == path.owner() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o001)
    return path


def cluster(verb, directory, *words):
    return command("cluster", verb, "--dir", directory, *words)


def status(directory):
    shown = cluster("status", directory, "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


@pytest.fixture(scope="module")
def running(room):
    """A cluster of two, ended at last whatever happened to it."""
    directory = room / "c"
    started = cluster("start", directory, "--workers", "2", "--slots", "1")
    assert started.returncode == 0, started.stderr
    try:
        yield directory, started.stdout
    finally:
        ended = cluster("stop", directory)
        assert ended.returncode == 0, ended.stderr


def compile_through(directory, where):
    """Compile a file through the cluster and without it; what the launcher's call said."""
    where.mkdir(exist_ok=True)
    (where / "a.c").write_text(SOURCE)
    environ = {**os.environ, "SCCACHE_CONF": str(directory / "client.toml"), "SCCACHE_CACHE_SIZE": "0"}
    done = subprocess.run(
        [LAUNCHER, "gcc", "-g", "-O2", "-c", "a.c", "-o", "remote.o"],
        cwd=where,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    subprocess.run(["gcc", "-g", "-O2", "-c", "a.c", "-o", "local.o"], cwd=where, check=True)
    return done


def test_start_returns_when_all_workers_have_registered(running):
    """After start the status has the scheduler and every worker, with pids, addresses, ids and slots."""
    directory, said = running
    shown = status(directory)
    home = Home.at(str(directory))
    assert f"SCCACHE_CONF={directory}/client.toml" in said
    assert shown["scheduler"]["pid"] == home.pid("scheduler")
    assert shown["scheduler"]["address"].startswith("127.0.0.1:")
    assert [worker["name"] for worker in shown["workers"]] == ["worker-1", "worker-2"]
    for worker in shown["workers"]:
        assert set(worker) == {"name", "server_id", "pid", "address", "slots", "running", "state"}
        assert worker["server_id"].rpartition("-")[0] == worker["name"]
        assert worker["pid"] == home.pid(worker["name"])
        assert (worker["slots"], worker["running"], worker["state"]) == (1, 0, "alive")
    assert "worker-2" in cluster("status", directory).stdout


def test_its_secrets_are_private(running):
    """Tokens, configuration and keys can be read by their owner only, and no token is in a log."""
    directory, _ = running
    tokens = [(directory / f"{role}.token").read_text().strip() for role in ("client", "worker")]
    for path in (*directory.glob("*.toml"), *directory.glob("*.token"), *(directory / "state").glob("*.*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    for log in (directory / "logs").iterdir():
        assert not any(token in log.read_text() for token in tokens)


def test_a_file_compiles_on_a_worker_and_equals_the_local_one(running, room):
    """A compilation through client.toml runs on a worker, and its object is the local one byte for byte."""
    directory, _ = running
    where = room / "build"
    done = compile_through(directory, where)
    assert (done.returncode, done.stderr) == (0, "")
    assert (where / "remote.o").read_bytes() == (where / "local.o").read_bytes()
    environ = {"SCCACHE_CONF": str(directory / "client.toml")}
    stats = json.loads(command("--show-stats", "--stats-format", "json", env=environ).stdout)["stats"]
    assert sum(stats["dist_compiles"].values()) == 1
    assert stats["local_compiles"] == {}


def test_the_cluster_tells_its_size(running):
    """--dist-status has the cluster's numbers, and jobs counts its slots and this machine's cores."""
    directory, _ = running
    environ = {"SCCACHE_CONF": str(directory / "client.toml")}
    numbers = json.loads(command("--dist-status", env=environ).stdout)["SchedulerStatus"][1]
    assert numbers["num_servers"] == len(status(directory)["workers"])
    jobs = command("jobs", env=environ)
    assert int(jobs.stdout) == numbers["num_cpus"] + len(os.sched_getaffinity(0))


def test_logs_are_json_lines(running):
    """Every line of every process's log is an object with time, level and message."""
    directory, _ = running
    for name in ("scheduler", "worker-1", "worker-2"):
        lines = (directory / "logs" / f"{name}.log").read_text().splitlines()
        assert lines
        assert all({"time", "level", "message"} <= set(json.loads(line)) for line in lines)
        assert (directory / "logs" / f"{name}.err").read_text() == ""


def test_a_second_cluster_in_one_directory_is_refused(running):
    """A running cluster is not started over; the sentence says what to do."""
    directory, _ = running
    before = status(directory)
    again = cluster("start", directory)
    assert again.returncode == 2
    assert "is running" in again.stderr
    assert "cluster stop" in again.stderr
    assert status(directory) == before


def test_workers_come_and_go(running):
    """A worker is added, stopped, continued and killed by name, and the status follows."""
    directory, _ = running
    assert cluster("add", directory, "--name", "rack-9", "--slots", "2").returncode == 0
    added = {worker["name"]: worker for worker in status(directory)["workers"]}["rack-9"]
    assert (added["slots"], added["state"]) == (2, "alive")
    taken = cluster("add", directory, "--name", "rack-9")
    assert taken.returncode == 2
    assert "already" in taken.stderr
    for number, state in (("STOP", "stopped"), ("CONT", "alive")):
        assert cluster("remove", directory, "rack-9", "--signal", number).returncode == 0
        shown = {worker["name"]: worker["state"] for worker in status(directory)["workers"]}["rack-9"]
        assert (shown == "stopped") == (state == "stopped")
    assert cluster("remove", directory, "rack-9", "--signal", "KILL").returncode == 0
    assert "rack-9" not in [worker["name"] for worker in status(directory)["workers"]]
    assert processes.state(added["pid"]) in {"", "Z"}
    gone = cluster("remove", directory, "rack-9")
    assert gone.returncode == 2
    assert "worker-1" in gone.stderr


def test_a_worker_that_is_told_to_leave_leaves_in_order(running):
    """TERM lets an idle worker go at once; it takes its pid file with it."""
    directory, _ = running
    assert cluster("add", directory, "--name", "leaver").returncode == 0
    home = Home.at(str(directory))
    pid = home.pid("leaver")
    assert cluster("remove", directory, "leaver").returncode == 0
    assert processes.wait_for_end(pid, 60)
    assert "leaver" not in [worker["name"] for worker in status(directory)["workers"]]


def test_a_worker_that_died_unasked_is_shown_dead(running):
    """A worker that was killed behind the cluster's back is shown as dead until the cluster is told."""
    directory, _ = running
    assert cluster("add", directory, "--name", "victim").returncode == 0
    pid = Home.at(str(directory)).pid("victim")
    os.kill(pid, signal.SIGKILL)
    assert processes.wait_for_end(pid, 60)
    shown = {worker["name"]: worker for worker in status(directory)["workers"]}["victim"]
    assert (shown["state"], shown["pid"]) == ("dead", None)


def remote_compilations(directory):
    stats = command("--show-stats", "--stats-format", "json", env={"SCCACHE_CONF": str(directory / "client.toml")})
    counts = json.loads(stats.stdout)["stats"]
    assert counts["local_compiles"] == {}
    return sum(counts["dist_compiles"].values())


def test_a_scheduler_that_ended_is_started_again_by_start(running, room):
    """Where it alone has ended, start brings it back at its address, and its workers, which never ended, serve on."""
    directory, _ = running
    assert compile_through(directory, room / "before").returncode == 0
    before, count = status(directory), remote_compilations(directory)
    os.kill(before["scheduler"]["pid"], signal.SIGKILL)
    assert processes.wait_for_end(before["scheduler"]["pid"], 60)
    started = cluster("start", directory)
    assert started.returncode == 0, started.stderr
    after = status(directory)
    assert after["scheduler"]["pid"] == Home.at(str(directory)).pid("scheduler") != before["scheduler"]["pid"]
    assert f"pid {after['scheduler']['pid']}, with worker-1, worker-2" in started.stdout
    assert after["scheduler"]["address"] == before["scheduler"]["address"]
    living = [worker for worker in before["workers"] if worker["pid"]]
    assert [worker for worker in after["workers"] if worker["pid"]] == living
    assert {worker["state"] for worker in living} == {"alive"}
    assert compile_through(directory, room / "after").returncode == 0
    assert remote_compilations(directory) == count + 1


def test_stop_ends_everything_and_may_be_repeated(room):
    """After stop no process of the cluster is left, not the client daemon either; stopping again is fine."""
    directory = room / "stopped"
    assert cluster("start", directory, "--workers", "1").returncode == 0
    assert compile_through(directory, room / "build2").returncode == 0
    home = Home.at(str(directory))
    daemons = list(processes.client_daemons(home.client_config))
    pids = [home.pid("scheduler"), home.pid("worker-1"), *daemons]
    assert len(pids) == 3
    stopped_worker = home.pid("worker-1")
    os.kill(stopped_worker, signal.SIGSTOP)
    directory.chmod(0o700)  # nobody else may enter any more: no new jobs, but it can be ended
    ended = cluster("stop", directory)
    assert ended.returncode == 0, ended.stderr
    assert all(processes.state(pid) in {"", "Z"} for pid in pids)
    again = cluster("stop", directory)
    assert (again.returncode, again.stdout) == (0, "Nothing was running.\n")
    assert status(directory)["workers"] == []


def test_where_nothing_was_started_commands_say_so(tmp_path):
    """Status, add and remove need a cluster; stop does not."""
    for words in (("status",), ("add",), ("remove", "worker-1")):
        tried = command("cluster", words[0], "--dir", tmp_path / "none", *words[1:])
        assert tried.returncode == 2
        assert "no cluster" in tried.stderr
    assert cluster("stop", tmp_path / "none").returncode == 0
    assert not (tmp_path / "none").exists()


def test_a_start_that_fails_leaves_nothing_behind(room):
    """When a process ends at its start its words are shown, and nothing keeps running."""
    directory = room / "broken"
    (directory / "workers").mkdir(parents=True)
    (directory / "workers" / "worker-1").write_text("a file where a directory belongs")
    started = cluster("start", directory, "--workers", "1")
    assert started.returncode == 2
    assert "worker-1 ended at its start" in started.stderr
    assert "Traceback" not in started.stderr
    home = Home.at(str(directory))
    assert [name for name in home.names() if home.pid(name) is not None] == []
