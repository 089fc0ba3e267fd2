"""drain on the scheduler's machine: who may, whom it reaches, and what is said when it can't be."""

import json
import shutil
import stat
import threading
from http.server import HTTPServer, SimpleHTTPRequestHandler

import pytest
from cli_support import command
from plugins.plugins_support import run_role

from sccache_twisted.cli.drain import pages_address
from sccache_twisted.cli.home import Home
from sccache_twisted.cli.processes import wait_for_end
from sccache_twisted.errors import ConfigError
from sccache_twisted.security.files import CONTROL_FILE


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cluster of two workers, each with one slot."""
    directory = tmp_path_factory.mktemp("drain") / "c"
    for parent in directory.parents:
        if parent.exists() and parent.owner() == directory.parent.owner() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o001)
    started = command("cluster", "start", "--dir", directory, "--workers", "2", "--slots", "1")
    assert started.returncode == 0, started.stderr
    try:
        yield Home.at(str(directory))
    finally:
        ended = command("cluster", "stop", "--dir", directory)
        assert ended.returncode == 0, ended.stderr


def drain(config, *words):
    return command("drain", "--config", config, *words)


def refused(config, *words):
    """The sentence of a drain that was refused."""
    said = drain(config, *words)
    assert said.returncode == 2, said.stdout
    assert said.stdout == ""
    assert "Traceback" not in said.stderr
    return said.stderr


def test_a_worker_leaves_by_its_name(home):
    """With --wait it is gone when the command returns; programs are told whom it was."""
    server_id = home.ready("worker-1")["server_id"]
    said = drain(home.config("scheduler"), "worker-1", "--wait", "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == {
        "draining": [{"name": "worker-1", "server_id": server_id, "running": 0}],
        "left": True,
    }
    assert "worker-1" in refused(home.config("scheduler"), "worker-1")
    shown = json.loads(command("cluster", "status", "--dir", home.root, "--json").stdout)
    assert [worker["name"] for worker in shown["workers"]] == ["worker-2"]


def test_an_unknown_worker_is_answered_with_those_there_are(home):
    """A mistyped name is one sentence with the right ones."""
    assert "worker-2" in refused(home.config("scheduler"), "wroker-2")


def test_the_control_token_is_the_operators_alone(home, tmp_path):
    """It is 0600, is no token of a role's, and without it, or with another, nothing is ordered."""
    token = home.state / CONTROL_FILE
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text().strip()) == 43
    config = tmp_path / "s.toml"
    text = home.config("scheduler").read_text()
    config.write_text(text.replace(str(home.state), str(tmp_path / "state")))
    assert CONTROL_FILE in refused(config, "worker-2")
    (tmp_path / "state").mkdir()
    wrong = tmp_path / "state" / CONTROL_FILE
    shutil.copy(home.root / "worker.token", wrong)
    wrong.chmod(0o600)
    assert "does not know the control token" in refused(config, "worker-2")
    wrong.chmod(0o644)
    assert "chmod 600" in refused(config, "worker-2")


def test_a_second_scheduler_does_not_lock_the_operator_out(home):
    """A start that fails on a taken port leaves the running scheduler's token as it is."""
    before = (home.state / CONTROL_FILE).read_text()
    log = home.root / "second.log"
    config = home.root / "second.toml"
    config.write_text(home.config("scheduler").read_text().replace(str(home.log("scheduler")), str(log)))
    config.chmod(0o600)
    tried = run_role("scheduler", "--config", config)
    assert tried.returncode == 1
    assert (home.state / CONTROL_FILE).read_text() == before


def test_waiting_is_bounded(home):
    """When the time is over it says who is still there, and that the order stands."""
    pid = home.pid("worker-2")
    assert command("cluster", "remove", "--dir", home.root, "worker-2", "--signal", "STOP").returncode == 0
    try:
        said = drain(home.config("scheduler"), "worker-2", "--wait", "--timeout", "0.5")
        assert said.returncode == 2
        assert home.ready("worker-2")["server_id"] in said.stderr
        assert "Draining goes on" in said.stderr
    finally:
        command("cluster", "remove", "--dir", home.root, "worker-2", "--signal", "CONT")
    assert wait_for_end(pid, 60)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("insecure = true", "insecure"),
        ('http = ""', "scheduler.http is empty"),
        ('http = "tcp:0"', "scheduler.http"),
        ('http = "unix:/run/pages"', "scheduler.http"),
    ],
)
def test_a_scheduler_that_takes_no_orders_says_why(tmp_path, text, sentence):
    """What is to be configured is said, before anything is asked."""
    config = tmp_path / "s.toml"
    config.write_text(f'[scheduler]\nstate_dir = "{tmp_path}"\n{text}\n')
    assert sentence in refused(config, "worker-1")


def test_a_scheduler_that_is_not_there_is_a_sentence(tmp_path):
    """Nobody listens, or somebody who is no scheduler."""
    (tmp_path / CONTROL_FILE).write_text("x" * 43)
    (tmp_path / CONTROL_FILE).chmod(0o600)
    config = tmp_path / "s.toml"
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        config.write_text(f'[scheduler]\nstate_dir = "{tmp_path}"\nhttp = "tcp:{server.server_port}"\n')
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert "with status 501 is no scheduler" in refused(config, "worker-1")
        thread.join()
    assert "Is it running?" in refused(config, "worker-1")


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("tcp:10601", "127.0.0.1:10601"),
        ("tcp:10601:interface=10.0.0.1", "10.0.0.1:10601"),
        ("tcp:port=8080:interface=0.0.0.0", "127.0.0.1:8080"),
        ("tcp6:10601:interface=\\:\\:", "[::1]:10601"),
        ("tcp:10601:interface=fd00\\:\\:7", "[fd00::7]:10601"),
    ],
)
def test_pages_are_dialled_where_they_listen(endpoint, address):
    """An endpoint string says it, the loopback where it says everywhere."""
    assert str(pages_address(endpoint)) == address


def test_an_endpoint_without_a_port_names_its_key():
    """What Twisted would listen on by other means can't be dialled."""
    with pytest.raises(ConfigError, match=r"scheduler\.http"):
        pages_address("systemd:domain=INET:index=0")
