"""The doctor finds what is missing and says what to do."""

import json
import shutil
import socket
import threading

import pytest
from cli_support import command

from sccache_twisted.cli import checks
from sccache_twisted.config import ClientSettings


@pytest.fixture
def home(tmp_path):
    return {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "xdg"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "SCCACHE_SERVER_UDS": str(tmp_path / "d.sock"),
    }


def findings(finished):
    return {each["subject"]: each for each in json.loads(finished.stdout)}


def test_a_machine_with_everything_passes(home):
    """Where compilers, bubblewrap and plugins are, nothing is missing, and the status is 0."""
    finished = command("doctor", env=home)
    assert finished.returncode == 0, finished.stdout
    assert "Nothing essential is missing" in finished.stdout


def test_what_is_missing_is_named_with_its_remedy(home, tmp_path):
    """Without compilers and bubblewrap each is a failure with advice, and the status is 1."""
    tools = tmp_path / "bin"
    tools.mkdir()
    finished = command("doctor", "--json", env={**home, "PATH": str(tools)})
    found = findings(finished)
    assert finished.returncode == 1
    assert found["compilers"]["grade"] == found["bubblewrap"]["grade"] == "missing"
    assert "bubblewrap" in found["bubblewrap"]["advice"]


def test_an_old_bubblewrap_is_not_enough(home, tmp_path):
    """A bwrap that can't forbid user namespaces is refused by what its own help says."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "bwrap").write_text("#!/bin/sh\necho --unshare-all\n")
    (tools / "bwrap").chmod(0o755)
    found = findings(command("doctor", "--json", env={**home, "PATH": f"{tools}:/usr/bin:/bin"}))
    assert found["bubblewrap"]["grade"] == "missing"
    assert "0.8" in found["bubblewrap"]["advice"]


def test_a_pure_client_needs_no_sandbox(home, tmp_path):
    """Where jobs are only sent away, a missing bubblewrap is a note; an unreachable scheduler is a failure."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        conf = tmp_path / "xdg" / "sccache-twisted" / "client.toml"
        conf.parent.mkdir(parents=True)
        conf.write_text(f'[dist]\nschedulers = ["tls://127.0.0.1:{port}?pin=sha256:{"0" * 64}"]\n')
        tools = tmp_path / "bin"
        tools.mkdir()
        for name in ("gcc", "g++"):
            (tools / name).symlink_to(shutil.which(name))
        finished = command("doctor", "--json", env={**home, "PATH": str(tools)})
    found = findings(finished)
    assert found["bubblewrap"]["grade"] == "worth knowing"
    scheduler = found[f"scheduler tls://127.0.0.1:{port}"]
    assert scheduler["grade"] == "missing"
    assert "cannot be reached" in scheduler["sentence"]
    assert finished.returncode == 1


def _hang_up_on_one(listener):
    connection, _ = listener.accept()
    connection.close()


def test_one_scheduler_of_several_is_enough():
    """While one scheduler answers, another's absence is only worth knowing."""
    with socket.socket() as listener, socket.socket() as closed:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        closed.bind(("127.0.0.1", 0))
        accepting = threading.Thread(target=_hang_up_on_one, args=[listener])
        accepting.start()
        urls = tuple(f"tcp://127.0.0.1:{each.getsockname()[1]}" for each in (listener, closed))
        grades = [each.grade for each in checks.schedulers(ClientSettings(schedulers=urls, insecure=True))]
        accepting.join()
    assert grades == [checks.Grade.FINE, checks.Grade.WORTH_KNOWING]


def test_a_broken_configuration_is_a_finding(home, tmp_path):
    """A file that can't be understood is named, and everything else is looked at all the same."""
    conf = tmp_path / "xdg" / "sccache-twisted" / "worker.toml"
    conf.parent.mkdir(parents=True)
    conf.write_text("[worker]\nslot = 3\n")
    finished = command("doctor", "--json", env=home)
    found = findings(finished)
    assert finished.returncode == 1
    assert f"{conf}:2:" in found["worker configuration"]["sentence"]
    assert found["gcc"]["grade"] == "fine"
