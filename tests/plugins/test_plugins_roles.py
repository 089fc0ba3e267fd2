"""Scheduler and worker as twistd processes: how they start, refuse to start, and end."""

import json
import os
import signal
import socket
from contextlib import contextmanager
from urllib.request import urlopen

import pytest
from plugins_support import SECONDS, run_role, running_role

from sccache_twisted.interfaces import Role
from sccache_twisted.security import SchedulerIdentity, TokenStore
from sccache_twisted.security.tokens import TOKENS_FILE


@pytest.fixture
def room(tmp_path):
    """A directory that the users of jobs may enter."""
    for path in (tmp_path, *tmp_path.parents):
        if path.owner() == tmp_path.owner() and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o001)
    return tmp_path


def write(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


@contextmanager
def scheduler(room):
    """A scheduler that runs: yields the process and the facts of its ready file."""
    config = write(
        room / "s.toml",
        '[scheduler]\nlisten = "tcp:0:interface=127.0.0.1"\nhttp = "tcp:0:interface=127.0.0.1"\n'
        f'state_dir = "{room}/state"\n',
    )
    ready, log = room / "s.ready", room / "s.log"
    words = ("--config", config, "--log-format", "json")
    with running_role("scheduler", ready, *words, log=log) as process:
        yield process, json.loads(ready.read_text())


def worker_config(room, facts, **more):
    tokens = TokenStore(room / "state" / TOKENS_FILE)
    if not tokens.names():
        write(room / "worker.token", tokens.create("worker", Role.WORKER, 0.0))
    pin = SchedulerIdentity.load_or_create(str(room / "state"), ["x"], 0.0).pin
    keys = {
        "name": "probe",
        "schedulers": [f"tls://{facts['address']}?pin={pin}"],
        "token_file": f"{room}/worker.token",
        "listen": "tcp:0:interface=127.0.0.1",
        "directory": f"{room}/worker",
        "slots": 1,
        **more,
    }
    return write(room / "w.toml", "[worker]\n" + "".join(f"{name} = {json.dumps(keys[name])}\n" for name in keys))


def workers_of(facts):
    with urlopen(f"http://{facts['http']}/status", timeout=SECONDS) as answer:
        return json.load(answer)["workers"]


def wait_for_workers(facts, count):
    while len(found := workers_of(facts)) != count:
        pass
    return found


def events_in(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_scheduler_says_where_it_listens_and_ends_with_0(room):
    """The ready file has the AMP port and the pages' port; the pages answer; SIGTERM ends it with status 0."""
    with scheduler(room) as (process, facts):
        assert facts["pid"] == process.pid
        assert workers_of(facts) == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert not any("traceback" in event for event in events_in(room / "s.log"))


def test_a_worker_registers_and_leaves_in_order(room):
    """A worker appears under its name; SIGTERM drains it: it leaves the scheduler and ends with status 0."""
    with scheduler(room) as (_, facts):
        config = worker_config(room, facts)
        ready, log = room / "w.ready", room / "w.log"
        with running_role("worker", ready, "--config", config, "--log-format", "json", log=log) as process:
            (shown,) = wait_for_workers(facts, 1)
            said = json.loads(ready.read_text())
            assert (shown["name"], shown["server_id"]) == ("probe", said["server_id"])
            assert shown["address"] == said["address"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
        wait_for_workers(facts, 0)
    assert "worker_draining" in [event["event"] for event in events_in(log)]
    assert not any("traceback" in event for event in events_in(log))
    heard = [event["event"] for event in events_in(room / "s.log")]
    assert "worker_draining" in heard
    assert "worker_left" in heard
    assert not {"worker_lost", "worker_suspect"} & set(heard), "an orderly end is no loss"


def test_a_worker_on_a_machine_that_goes_ends_at_once(room):
    """A notice that is there before the worker ends it in order, with no scheduler in reach."""
    config = worker_config(room, {"address": "127.0.0.1:1"}, preemption_file=str(room))
    ended = run_role("worker", "--config", config, "--log-format", "json")
    assert ended.returncode == 0, ended.stderr
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [event["source"] for event in told if event["event"] == "preemption_notice"] == [str(room)]
    assert not any("traceback" in event for event in told)


def test_the_name_on_the_line_wins(room):
    """--name overrides worker.name."""
    with scheduler(room) as (_, facts):
        config = worker_config(room, facts)
        ready, log = room / "w.ready", room / "w.log"
        with running_role("worker", ready, "--config", config, "--name", "other", log=log):
            assert json.loads(ready.read_text())["server_id"].startswith("other-")


def test_a_taken_port_is_one_sentence(room):
    """A port that somebody else listens on ends the start of a scheduler with its sentence and status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = f'[scheduler]\nlisten = "tcp:{port}:interface=127.0.0.1"\nhttp = ""\nstate_dir = "{room}/state"\n'
        tried = run_role("scheduler", "--config", write(room / "s.toml", text))
    assert tried.returncode == 1
    assert str(port) in tried.stderr
    assert "in use" in tried.stderr
    assert "Traceback" not in tried.stderr + tried.stdout


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[scheduler]\nlisten = "nonsense"\n', "nonsense"),
        ('[scheduler]\nlisten = "tcp:many"\n', "tcp:many"),
        ('[scheduler]\ncertificate_file = "/absent.pem"\nkey_file = "/absent.key"\n', "/absent.pem"),
        ('[scheduler]\nstate_dir = "/proc/1/x"\n', "/proc/1/x"),
    ],
)
def test_a_scheduler_with_wrong_settings_says_so(room, text, sentence):
    """Each mistake is one sentence, status 1, no traceback."""
    state = "" if "state_dir" in text else f'state_dir = "{room}/state"\n'
    tried = run_role("scheduler", "--config", write(room / "s.toml", text + state))
    assert tried.returncode == 1, tried.stderr
    assert sentence in tried.stderr
    assert "Traceback" not in tried.stderr + tried.stdout


def test_damaged_tokens_end_the_start(room):
    """A tokens file that can't be understood admits nobody, so the scheduler does not start."""
    (room / "state").mkdir(mode=0o700)
    write(room / "state" / TOKENS_FILE, "{")
    tried = run_role("scheduler", "--config", write(room / "s.toml", f'[scheduler]\nstate_dir = "{room}/state"\n'))
    assert tried.returncode == 1
    assert TOKENS_FILE in tried.stderr
    assert "Traceback" not in tried.stderr + tried.stdout


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"schedulers": []}, "worker.schedulers"),
        ({"schedulers": ["tls://h:1?pin=sha256:00"]}, "pin"),
        ({"schedulers": ["tcp://h:1"]}, "insecure"),
        ({"name": "Not A Label"}, "worker.name"),
        ({"token_file": "/absent"}, "/absent"),
        ({"bwrap": "/absent/bwrap"}, "/absent/bwrap"),
        ({"directory": "/proc/1/x"}, "/proc/1/x"),
        ({"slot_uids": "many"}, "slot_uids"),
        ({"public": "no port"}, "worker.public"),
        ({"listen": "tcp:x"}, "tcp:x"),
        ({"preemption_url": "metadata.google.internal"}, "worker.preemption_url"),
        ({"preemption_url": "http://h/", "preemption_headers": ["no colon"]}, "worker.preemption_headers"),
    ],
)
def test_a_worker_with_wrong_settings_says_so(room, more, sentence):
    """Each mistake is one sentence, status 1, no traceback."""
    if "slot_uids" in more and os.getuid() != 0:
        pytest.skip("only a worker that is root uses slot_uids")
    config = worker_config(room, {"address": "127.0.0.1:1"}, **more)
    tried = run_role("worker", "--config", config)
    assert tried.returncode == 1, tried.stderr
    assert sentence in tried.stderr
    assert "Traceback" not in tried.stderr + tried.stdout


def test_an_insecure_scheduler_says_so(room):
    """The insecure mode is said in the log at every start."""
    text = '[scheduler]\nlisten = "tcp:0:interface=127.0.0.1"\nhttp = ""\ninsecure = true\n'
    config = write(room / "s.toml", text)
    ready, log = room / "s.ready", room / "s.log"
    with running_role("scheduler", ready, "--config", config, "--log-format", "json", log=log):
        assert "insecure" in [event["event"] for event in events_in(log)]


def test_a_wrong_log_format_is_a_usage_error():
    """A word that is no format is named, and the status is not 0."""
    tried = run_role("scheduler", "--log-format", "xml")
    assert tried.returncode != 0
    assert "xml" in tried.stdout + tried.stderr
    assert "Traceback" not in tried.stderr + tried.stdout
