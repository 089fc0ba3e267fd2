"""Processes are known by what they were started with, and signalled without hitting others."""

import os
import signal
import subprocess
import sys

import pytest

from sccache_twisted.cli import processes
from sccache_twisted.cli.home import Home, toml
from sccache_twisted.config.load import tomllib
from sccache_twisted.errors import UserError

STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
PLAIN = "import signal; print('up', flush=True); signal.pause()"


@pytest.fixture
def started(tmp_path):
    """Starts a process that carries a configuration's name on its command line."""
    running = []

    def start(config, code=PLAIN):
        process = subprocess.Popen([sys.executable, "-c", code, f"--config={config}"], stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout.readline() == b"up\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_pid_alone_proves_nothing(tmp_path, started):
    """A process is ours if its command line names our file; a reused number in a pid file is nobody."""
    config, other = tmp_path / "a.toml", tmp_path / "b.toml"
    process = started(config)
    pid_file = tmp_path / "a.pid"
    pid_file.write_text(str(process.pid))
    assert processes.pid_in(pid_file, config) == process.pid
    assert processes.pid_in(pid_file, other) is None
    assert not processes.send(process.pid, other, signal.SIGKILL)
    assert process.poll() is None
    pid_file.write_text("not a number")
    assert processes.pid_in(pid_file, config) is None
    assert processes.pid_in(tmp_path / "absent", config) is None


def test_processes_are_found_without_their_files(tmp_path, started):
    """What was started with a file below a directory is found when the directory is gone, and nothing else is."""
    inside, outside = tmp_path / "c" / "a.toml", tmp_path / "c2" / "a.toml"
    process = started(inside)
    started(outside)
    assert list(processes.started_below(tmp_path / "c")) == [process.pid]


def test_a_dead_process_is_nobodys(tmp_path, started):
    """A process that has ended and was not waited for yet does not count as running."""
    config = tmp_path / "a.toml"
    process = started(config)
    assert processes.send(process.pid, config, signal.SIGKILL)
    assert processes.wait_for_end(process.pid, 10)
    assert processes.state(process.pid) == "Z"
    assert not processes.is_ours(process.pid, config)


def test_ending_wakes_the_stopped_and_kills_the_stubborn(tmp_path, started):
    """end() returns when all are gone: the willing, the stopped, those that ignore TERM, and the long dead."""
    config = tmp_path / "a.toml"
    willing, stopped, stubborn = started(config), started(config), started(config, STUBBORN)
    stopped.send_signal(signal.SIGSTOP)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    processes.end([willing.pid, stopped.pid, stubborn.pid, gone.pid], patience=0.5)
    assert [process.wait(1) for process in (willing, stopped, stubborn)] == [-15, -15, -9]


def test_services_keep_nothing_of_their_callers_python():
    """A service's environment has no PYTHONPATH, no make flags, no client settings, but the log level."""
    kept = processes.service_environment(
        {"PATH": "/bin", "PYTHONPATH": "x", "MAKEFLAGS": "-j", "SCCACHE_CONF": "c", "SCCACHE_LOG": "debug"}
    )
    assert kept == {"PATH": "/bin", "SCCACHE_LOG": "debug"}


@pytest.mark.parametrize("name", ["client", "scheduler", "Rack", "a b", "-a", "a" * 47, "../x"])
def test_a_worker_has_a_dns_label_for_a_name(tmp_path, name):
    """Names end in server_ids and file names, so they are checked first."""
    with pytest.raises(UserError, match="cannot name a worker"):
        Home.at(str(tmp_path)).new_worker_name(name)


def test_new_workers_get_the_next_free_name(tmp_path):
    """A name that has a file is taken, also when its worker is gone."""
    home = Home.at(str(tmp_path))
    home.config("worker-1").touch()
    assert home.new_worker_name("") == "worker-2"
    assert home.new_worker_name("rack-7") == "rack-7"


@pytest.mark.skipif(os.getuid() != 0, reason="only root's jobs run as other users")
def test_root_refuses_a_directory_that_job_users_cannot_enter(tmp_path):
    """A directory below one without o+x would fail every job, so it is refused at once."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for parent in tmp_path.parents[:-1]:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    home = Home.at(str(closed / "cluster"))
    home.make()
    with pytest.raises(UserError, match=f"cannot enter {closed}"):
        home.must_be_traversable()


def test_written_toml_reads_back():
    """Whatever a path holds, the file that is written for it means the same."""
    tables = {"worker": {"directory": 'a "b" \\ \x7f é', "schedulers": ["tls://x"], "slots": 3, "insecure": False}}
    assert tomllib.loads(toml(tables)) == tables
