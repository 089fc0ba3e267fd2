"""Settings that can't work: a sentence with file, line and key; a build goes on without us, a role does not start.

The three roles are started as twistd processes, the client also by its launcher, as a build would.
"""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
from bad_input_kit import (
    PROGRAM,
    SECONDS,
    STRANGER,
    TWISTD,
    Client,
    Said,
    finish,
    has_root_and_setpriv,
    listening,
)
from support.terminal import on_terminal
from support.trees.commands import clean_environment

from sccache_twisted.cli.home import toml

TABLES = {"client": "dist", "scheduler": "scheduler", "worker": "worker"}


def started(role, config, home):
    """A role's start, which must fail by itself."""
    env = clean_environment({"HOME": str(home), "SCCACHE_SERVER_UDS": str(home / "d.sock")})
    return finish([TWISTD, "--nodaemon", "--pidfile=", f"sccache-{role}", "--config", config], env=env)


@pytest.fixture
def config(tmp_path):
    """Where a configuration is written; as root jobs' users may enter its directory."""
    return tmp_path / "role.toml"


@pytest.mark.parametrize(
    ("role", "text", "phrases"),
    [
        ("client", "[timers]\nconnect_seconds = = 3\n", ("role.toml:2:", "this is not TOML")),
        ("scheduler", "[timers]\nconect_seconds = 3\n", ("role.toml:2:", "timers.conect_seconds", "connect_seconds?")),
        (
            "worker",
            "[timers]\nconnect_seconds = 0.0\n",
            ("role.toml:2:", "timers.connect_seconds", "must be at least 0.1"),
        ),
        ("worker", '[log]\nlevel = "loud"\n', ("role.toml:2:", "log.level", 'must be one of "debug"', 'not "loud"')),
        ("client", "[log]\nfile = 3\n", ("role.toml:2:", "log.file", "must be an absolute path", "not 3")),
        ("scheduler", "[log]\nfile = 'here.log'\n", ("role.toml:2:", "log.file", "absolute path")),
        ("scheduler", b"[log]\nfile = '\xff'\n", ("role.toml:2:", "not UTF-8")),
        ("worker", None, ("Cannot read", "role.toml", "No such file or directory")),
    ],
)
def test_a_wrong_file_ends_the_start_with_its_place(tmp_path, config, role, text, phrases):
    """File, line, key, what is wrong and what would be right; status 1, one line, and nothing is left running."""
    if text is not None:
        config.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = started(role, config, tmp_path)
    assert said.status == 1, said
    assert said.stderr.startswith(f"sccache-{role}: ")
    assert said.stderr.count("\n") == 1
    for phrase in phrases:
        assert phrase in said.stderr


@pytest.mark.parametrize(("role", "foreign"), [("client", "worker"), ("worker", "scheduler"), ("scheduler", "dist")])
def test_a_key_of_another_role_is_said_to_be_one(tmp_path, config, role, foreign):
    """A key in the wrong role's file is not called unknown, but sent to its own file."""
    key = {"worker": "slots = 2", "scheduler": "http = ''", "dist": "fallback = 'never'"}[foreign]
    config.write_text(f"[{foreign}]\n{key}\n")
    said = started(role, config, tmp_path)
    assert said.status == 1
    assert f"role.toml:2: {foreign}.{key.split()[0]} is a key of the" in said.stderr


def test_a_key_of_sccaches_is_named_with_ours(tmp_path, config):
    """Who comes from sccache is told what his key is called here."""
    config.write_text('[dist]\nscheduler_url = "http://build:10600"\n')
    said = started("client", config, tmp_path)
    assert said.status == 1
    assert "sccache's key dist.scheduler_url is not used here" in said.stderr
    assert "dist.schedulers" in said.stderr


def test_an_environment_variable_is_named_by_its_name(tmp_path, config):
    """A wrong value in a variable is not blamed on the file."""
    config.write_text("")
    env = clean_environment({"HOME": str(tmp_path), "SCCACHE_IDLE_TIMEOUT": "soon"})
    said = finish([TWISTD, "--nodaemon", "--pidfile=", "sccache-client", "--config", config], env=env)
    assert said.status == 1
    assert "Environment variable SCCACHE_IDLE_TIMEOUT (server.idle_seconds) must be a number" in said.stderr


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("[dist\n", "client.toml:1:"),
        ("[dist]\nshedulers = []\n", "client.toml:2: there is no key dist.shedulers. Did you mean dist.schedulers?"),
        ('[dist]\nfallback = "maybe"\n', 'client.toml:2: dist.fallback must be one of "allow", "never", not "maybe".'),
        ('[dist]\nschedulers = ["tls://h:1?pin=sha256:12"]\n', "pin"),
    ],
)
def test_a_build_goes_on_without_a_daemon_that_cannot_start(text, phrase):
    """A wrong client.toml breaks no build: the compiler runs here, the log says why, --start-server says it aloud."""
    with Client(text) as client:
        plain = client.plain("gcc", "-c", "a.c", "-o", "plain.o")
        assert client.call("gcc", "-c", "a.c", "-o", "ours.o") == plain
        client.left_only("a.c", "plain.o", "ours.o")
        assert (client.work / "ours.o").read_bytes() == (client.work / "plain.o").read_bytes()
        log = client.log()
        assert phrase in log
        assert "the daemon ended at its start" in log
        assert "running gcc without it" in log
        said = client.command("--start-server")
        assert said.status == 2
        assert said.stderr.startswith("sccache-twisted: The daemon did not start:")
        assert phrase in said.stderr


def test_a_person_at_a_terminal_is_told_at_once():
    """Where stderr is a terminal the launcher says that it goes without its daemon, and where the reason stands."""
    with Client("[dist]\nshedulers = []\n") as client:
        status, shown = on_terminal([PROGRAM, "gcc", "-c", "a.c", "-o", "a.o"], client.work, client.env)
        assert status == 0
        assert (client.work / "a.o").exists()
        assert b"sccache-twisted: the daemon ended at its start; see " in shown
        assert b"running gcc without it" in shown


def test_a_configuration_that_is_not_there():
    """SCCACHE_CONF names no file: the build goes on, and the sentence names the path."""
    with Client("") as client:
        client.config.unlink()
        assert client.call("gcc", "-c", "a.c", "-o", "a.o").status == 0
        assert (client.work / "a.o").exists()
        expected = f"Cannot read {client.config}: No such file or directory."
        assert expected in client.log()
        assert expected in client.command("--start-server").stderr


def test_a_socket_path_that_is_too_long():
    """A socket path of 108 bytes: the build goes on, the sentence says how long it may be and which key to set."""
    with Client("") as client:
        path = str(client.root / ("d" * (108 - len(str(client.root)) - 1)))
        assert len(path) == 108
        assert client.call("gcc", "-c", "a.c", "-o", "a.o", SCCACHE_SERVER_UDS=path).status == 0
        assert (client.work / "a.o").exists()
        said = client.command("--start-server", SCCACHE_SERVER_UDS=path)
        assert said.status == 2
        assert path in said.stderr
        assert "has 108 bytes, more than 107: set SCCACHE_SERVER_UDS to a shorter one." in said.stderr
        client.left_only("a.c", "a.o")


@pytest.mark.root
@pytest.mark.skipif(not has_root_and_setpriv(), reason="gives directories to another user")
def test_a_socket_directory_of_somebody_elses():
    """A runtime directory that another user owns is not used: the build goes on, the sentence says what to do."""
    with Client("") as client:
        theirs = client.root / "run/sccache-twisted"
        theirs.mkdir(parents=True)
        os.chown(theirs, STRANGER, STRANGER)
        theirs.chmod(0o700)
        env = {"XDG_RUNTIME_DIR": str(client.root / "run"), "SCCACHE_SERVER_UDS": ""}
        assert client.call("gcc", "-c", "a.c", "-o", "a.o", **env).status == 0
        assert (client.work / "a.o").exists()
        said = client.command("--start-server", **env)
        assert said.status == 2
        assert "is not a directory of ours with mode 0700; remove it" in said.stderr
        assert list(theirs.iterdir()) == []


@pytest.mark.root
@pytest.mark.skipif(not has_root_and_setpriv(), reason="becomes another user")
def test_a_daemon_of_somebody_elses_is_not_trusted():
    """A socket on which another user listens is not spoken to: the build goes on, and the owner is named."""
    with Client("") as client:
        client.root.chmod(0o777)
        path = client.root / "d.sock"
        code = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); "
            "print(flush=True); sys.stdin.read()"
        )
        stranger = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "/usr/bin/python3"]
        with subprocess.Popen(
            [*stranger, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as theirs:
            try:
                assert theirs.stdout.readline() == b"\n"
                path.chmod(0o666)
                assert client.call("gcc", "-c", "a.c", "-o", "a.o").status == 0
                assert (client.work / "a.o").exists()
                said = client.command("--show-stats")
                assert said.status == 2
                assert f"belongs to uid {STRANGER}" in said.stderr
            finally:
                theirs.stdin.close()
                theirs.wait(SECONDS)


@pytest.mark.parametrize(("role", "key"), [("scheduler", "listen"), ("scheduler", "http"), ("worker", "listen")])
def test_a_port_that_is_taken_ends_the_start(short, role, key):
    """The sentence names the endpoint and the system's reason; status 1, and what was begun is undone."""
    with listening() as taken:
        endpoint = f"tcp:{taken}:interface=127.0.0.1"
        keys = {"listen": "tcp:0:interface=127.0.0.1", key: endpoint}
        if role == "scheduler":
            keys = {"http": "", **keys, "state_dir": str(short / "state")}
        else:
            pin = "sha256:" + "0" * 64
            keys |= {"schedulers": [f"tls://127.0.0.1:{taken}?pin={pin}"], "token": "t", "directory": str(short / "w")}
        config = short / "role.toml"
        config.write_text(toml({TABLES[role]: keys}))
        config.chmod(0o600)
        said = started(role, config, short)
    assert said.status == 1, said
    assert endpoint in said.stderr
    assert "Address already in use" in said.stderr
    assert said.stderr.splitlines()[-1].startswith(f"sccache-{role}: ")


@pytest.mark.parametrize(("role", "key"), [("scheduler", "listen"), ("worker", "listen")])
def test_an_endpoint_that_means_nothing_ends_the_start(short, role, key):
    """What is no Twisted endpoint string is shown with the reason."""
    keys = {key: "carrier-pigeon:10600"}
    if role == "worker":
        keys |= {"schedulers": ["tls://h:1?pin=sha256:" + "0" * 64], "token": "t", "directory": str(short / "w")}
    else:
        keys |= {"state_dir": str(short / "state")}
    config = short / "role.toml"
    config.write_text(toml({TABLES[role]: keys}))
    config.chmod(0o600)
    said = started(role, config, short)
    assert said.status == 1, said
    assert "'carrier-pigeon:10600'" in said.stderr
    assert "is no Twisted endpoint" in said.stderr


@pytest.mark.parametrize(
    ("keys", "phrases"),
    [
        ({"token": "t"}, ("worker.schedulers",)),
        ({"schedulers": ["tls://h:1?pin=sha256:" + "0" * 64], "token_file": "/absent/token"}, ("/absent/token",)),
        ({"schedulers": ["http://h:1"], "token": "t"}, ("'http://h:1'", "tls://HOST:PORT")),
        ({"schedulers": ["tls://h:1?pin=sha256:" + "0" * 64], "token": "t", "bwrap": "/absent/bwrap"}, ("bwrap",)),
        ({"schedulers": ["tls://h:1?pin=sha256:" + "0" * 64], "token": "t", "slot_uids": "many"}, ("slot_uids",)),
        ({"schedulers": ["tls://h:1?pin=sha256:" + "0" * 64], "token": "t", "public": "no port"}, ("public",)),
        ({"schedulers": ["tls://h:1?pin=sha256:" + "0" * 64], "token": "t", "directory": "/dev/null"}, ("/dev/null",)),
    ],
)
def test_a_worker_that_could_not_work_does_not_start(short, keys, phrases):
    """Without a scheduler, a token, a sandbox or a place of its own a worker ends at once, and says what it lacks."""
    config = short / "role.toml"
    worker = {"listen": "tcp:0:interface=127.0.0.1", "directory": str(short / "w"), **keys}
    config.write_text(toml({"worker": worker}))
    config.chmod(0o600)
    said = started("worker", config, short)
    assert said.status == 1, said
    last = said.stderr.splitlines()[-1]
    assert last.startswith("sccache-worker: ")
    for phrase in phrases:
        assert phrase in last


def test_a_file_with_a_token_that_others_can_read(tmp_path, config):
    """A token in a file of mode 0644 is refused with the command that mends it; the token is not repeated."""
    config.write_text('[dist.auth]\ntoken = "very-secret-token"\n')
    config.chmod(0o644)
    said = started("client", config, tmp_path)
    assert said.status == 1
    assert f"{config} holds a token and others can read it: chmod 600 {config}" in said.stderr
    assert "very-secret-token" not in said.stderr + said.stdout


@pytest.fixture
def short():
    """A directory with a short path, which any user may enter."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="sctb-", dir="/tmp") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


def test_garbage_on_the_daemons_socket_harms_no_other_call():
    """Bytes that are no frame, and a frame over the limit, are answered or hung up on; the next call is served."""
    with Client({"server": {"max_request_bytes": 100_000}}) as client:
        assert client.command("--start-server").status == 0
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", (200_000).to_bytes(4, "big"), b"\0\0\0\0", b"\0"):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(SECONDS)
                peer.connect(str(client.root / "d.sock"))
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(1 << 16):
                    pass
        assert client.call("gcc", "-c", "a.c", "-o", "a.o").status == 0
        assert client.stats()["local_compiles"] == {"not_configured": 1}
        client.left_only("a.c", "a.o")
        dropped = client.events("link_dropped")
        assert any("over the limit" in event["reason"] for event in dropped), json.dumps(dropped)


def test_the_program_itself_is_the_one_that_is_tested():
    """The launcher under test is the one of this environment."""
    assert isinstance(finish([PROGRAM, "--version"], env=clean_environment()), Said)
    assert "sccache-twisted" in finish([PROGRAM, "--version"], env=clean_environment()).stdout
