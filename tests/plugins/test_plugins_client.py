"""The client daemon as a twistd process."""

import json
import signal
import socket

import pytest
from plugins_support import SECONDS, run_role, running_role

from sccache_twisted.wire.frames import FrameDecoder
from sccache_twisted.wire.launcher import MAX_FRAME, Answer, Query, decode, encode


@pytest.fixture
def uds(tmp_path):
    return {"SCCACHE_SERVER_UDS": str(tmp_path / "d.sock"), "HOME": str(tmp_path)}


def ask(path, name):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(path)
        connection.sendall(encode(Query(name)))
        decoder = FrameDecoder(MAX_FRAME)
        while data := connection.recv(65536):
            for kind, payload in decoder.feed(data):
                answer = decode(kind, payload)
                assert isinstance(answer, Answer)
                return json.loads(answer.text)
    raise AssertionError("hung up")


def test_it_says_when_it_is_ready_and_answers(tmp_path, uds):
    """The ready file has the pid and the socket; the socket answers; SIGTERM ends it with status 0."""
    ready, log = tmp_path / "ready", tmp_path / "log"
    with running_role("client", ready, "--log-format", "json", env=uds, log=log) as process:
        facts = json.loads(ready.read_text())
        assert facts == {"pid": process.pid, "socket": uds["SCCACHE_SERVER_UDS"]}
        assert ask(facts["socket"], "ping") == {"pid": process.pid}
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"] in {"listening", "stopping"}] == ["listening", "stopping"]
    assert not any("traceback" in line for line in lines)


def test_being_asked_to_stop_is_an_orderly_end(tmp_path, uds):
    """The stop query ends the process with status 0."""
    ready, log = tmp_path / "ready", tmp_path / "log"
    with running_role("client", ready, env=uds, log=log) as process:
        assert ask(uds["SCCACHE_SERVER_UDS"], "stop") == {"pid": process.pid}
        assert process.wait(SECONDS) == 0


def test_a_second_daemon_on_one_socket_is_refused(tmp_path, uds):
    """Exactly one daemon serves a socket; the second says so in a sentence and ends with status 1."""
    ready, log = tmp_path / "ready", tmp_path / "log"
    with running_role("client", ready, env=uds, log=log):
        second = run_role("client", env=uds)
    assert second.returncode == 1
    assert "another daemon serves" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[dist]\nfalback = 1\n", "c.toml:2:"),
        ("[dist\n", "c.toml:1:"),
        ('[dist]\nschedulers = ["tls://h:1?pin=sha256:zz"]\n', "pin"),
        ('[dist]\nschedulers = ["tcp://h:1"]\n', "insecure"),
        ('[dist]\nschedulers = ["tls://h:1"]\nca_file = "/absent.pem"\n', "/absent.pem"),
        ('[dist]\nschedulers = ["tls://h:1"]\n[dist.auth]\ntoken_file = "/absent"\n', "/absent"),
        ('[server]\nuds = "/' + "x" * 120 + '"\n', "107"),
        ('[log]\nfile = "/absent/log"\n', "/absent/log"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, text, sentence):
    """Settings that can't work end the start with their sentence, status 1 and no traceback."""
    config = tmp_path / "c.toml"
    config.write_text(text)
    tried = run_role("client", "--config", config, env={"HOME": str(tmp_path)})
    assert tried.returncode == 1
    assert sentence in tried.stderr
    assert "Traceback" not in tried.stderr + tried.stdout


def test_a_socket_that_cannot_be_made_is_one_sentence(tmp_path):
    """A socket in a directory that is not there ends the start with a sentence."""
    tried = run_role("client", env={"SCCACHE_SERVER_UDS": str(tmp_path / "absent" / "d.sock"), "HOME": str(tmp_path)})
    assert tried.returncode == 1
    assert "absent" in tried.stderr
    assert "Traceback" not in tried.stderr + tried.stdout


def test_the_log_goes_where_the_settings_say(tmp_path, uds):
    """With log.file nothing is written to standard error but what is wrong at the start."""
    config, events = tmp_path / "c.toml", tmp_path / "events.log"
    config.write_text(f'[log]\nfile = "{events}"\nformat = "json"\n')
    ready, log = tmp_path / "ready", tmp_path / "log"
    with running_role("client", ready, "--config", config, env=uds, log=log) as process:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
    assert log.read_text() == ""
    assert all(json.loads(line) for line in events.read_text().splitlines())
