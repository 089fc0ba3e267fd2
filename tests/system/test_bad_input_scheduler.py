"""Between the roles and a scheduler: no answer, wrong keys and tokens, foreign protocols, garbage.

A build never breaks because of it: the compilation runs here and the log says why, or, with fallback = "never", it
fails with a clear sentence. Whatever a stranger sends, other links and jobs don't notice.
"""

import contextlib
import json
import signal
import socket
import ssl
import subprocess
import time

import pytest
from bad_input_kit import (
    PROGRAM,
    QUICK,
    SECONDS,
    TWISTD,
    Client,
    PeerRefused,
    ScriptedPeer,
    blackhole,
    bystander,
    finish,
    listening,
    tables_of,
)
from support.cluster import Cluster, wait_for
from twisted.protocols import amp

from sccache_twisted.cli.home import toml
from sccache_twisted.interfaces import OLDEST_PROTOCOL, PROTOCOL_VERSION
from sccache_twisted.model import ServerId
from sccache_twisted.security import Invitation, SchedulerIdentity
from sccache_twisted.security.identity import WorkerIdentity
from sccache_twisted.wire import scheduling as messages

NO_PIN = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def cluster():
    """Two workers with two slots each."""
    with Cluster(2, slots=2) as running:
        yield running


@pytest.fixture
def client_token(cluster):
    """A token that the scheduler takes from clients."""
    return (cluster.directory / "client.token").read_text().strip()


@pytest.fixture
def scheduler(cluster):
    """The scheduler's AMP address."""
    return cluster.status().scheduler_address


def alone(port, **dist):
    """The tables of a client that has only a scheduler on this loopback port."""
    url = f"tls://127.0.0.1:{port}?pin={NO_PIN}"
    return {"dist": {"schedulers": [url], **dist}, "dist.auth": {"token": "t"}, "timers": QUICK}


def dist_status(client):
    return json.loads(client.command("--dist-status").stdout)


# --- schedulers that can't be reached ---------------------------------------------------------------


@contextlib.contextmanager
def refusing():
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def mute():
    """A port that takes connections and says nothing."""
    return listening(lambda connection: connection.makefile("rb").read())


def plain_http():
    """A port on which something else speaks, and not TLS."""
    return listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))


@pytest.mark.parametrize(
    ("place", "phrase"),
    [
        (refusing, "The scheduler at 127.0.0.1:{port} cannot be reached: Connection refused."),
        (blackhole, "The scheduler at 127.0.0.1:{port} did not answer within 0.5 s."),
        (mute, "The scheduler at 127.0.0.1:{port} did not answer within 0.5 s."),
        (plain_http, "The TLS handshake with the scheduler at 127.0.0.1:{port} failed: wrong version number."),
    ],
)
def test_a_scheduler_that_cannot_be_reached(place, phrase):
    """The build goes on here after the grace; log and --dist-status name the scheduler and what is wrong with it."""
    with place() as port, Client(alone(port)) as client:
        client.compiles_here("no_scheduler", f"No scheduler could be reached. {phrase.format(port=port)}")
        address, sentence = dist_status(client)["NotConnected"]
        assert address == f"tls://127.0.0.1:{port}"
        assert sentence.startswith(phrase.format(port=port))


def test_without_fallback_an_unreachable_scheduler_fails_the_call():
    """Fallback = "never": status 1, one sentence with the reason and what to do, no output, and nothing ran here."""
    with refusing() as port, Client(alone(port, fallback="never")) as client:
        said = client.call("gcc", "-c", "a.c", "-o", "a.o")
        assert (said.status, said.stdout) == (1, "")
        assert said.stderr == (
            "sccache-twisted: The job could not be run on a worker: No scheduler could be reached. "
            f"The scheduler at 127.0.0.1:{port} cannot be reached: Connection refused. "
            'See "sccache-twisted --dist-status", or set dist.fallback = "allow".\n'
        )
        stats = client.stats()
        assert (stats["local_compiles"], stats["compile_fails"]) == ({}, 1)
        client.left_only("a.c")


def test_a_host_name_that_does_not_exist():
    """A scheduler whose name can't be found is named by it."""
    tables = {**alone(1), "dist": {"schedulers": [f"tls://scheduler.invalid:1?pin={NO_PIN}"]}}
    with Client({**tables, "timers": {"scheduler_grace_seconds": 5.0, "connect_seconds": 3.0}}) as client:
        client.compiles_here("no_scheduler", "The scheduler at scheduler.invalid:1 ")


# --- wrong keys and tokens --------------------------------------------------------------------------


def test_a_wrong_pin(cluster, scheduler):
    """A scheduler with another key gets no token: the sentence has both keys; others' jobs go on."""
    url = f"tls://{scheduler}?pin={NO_PIN}"
    with bystander(cluster), Client({**tables_of(cluster, schedulers=[url]), "timers": QUICK}) as client:
        client.compiles_here("no_scheduler", f"The scheduler at {scheduler} shows another key (sha256:")
        assert f"than the one promised ({NO_PIN})" in client.log()


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("guessed-secret", "The token is wrong or was revoked."),
        ("worker", "The token 'worker' is a worker's, not a client's."),
    ],
)
def test_a_wrong_token(cluster, token, sentence):
    """The sentence says that it is the token, and whom to ask; the token itself is in no log."""
    tables = tables_of(cluster)
    secret = (cluster.directory / "worker.token").read_text().strip() if token == "worker" else token
    tables |= {"dist.auth": {"token": secret}, "timers": QUICK}
    with bystander(cluster), Client(tables) as client:
        client.compiles_here("no_scheduler", sentence)
        assert 'Ask the operator for a new line of "sccache-twisted invite".' in dist_status(client)["NotConnected"][1]
        assert secret not in client.log()
        assert secret not in (cluster.directory / "logs/scheduler.log").read_text()


def test_a_token_that_is_revoked_while_it_is_used(cluster):
    """Revoking ends the open link within seconds and only that; the client is told, and a new invitation helps."""
    config = cluster.directory / "scheduler.toml"

    def operator(*words):
        said = finish([PROGRAM, *words, "--config", config], env=cluster.env)
        assert said.status == 0, said
        return said.stdout.strip()

    tables = tables_of(cluster)
    auth = cluster.directory / "mallory.token"
    invitation = Invitation.parse(operator("invite", "client", "--name", "mallory"))
    auth.write_text(invitation.token)
    auth.chmod(0o600)
    with Client({**tables, "dist.auth": {"token_file": str(auth)}, "timers": QUICK}) as client:
        assert client.call("gcc", "-c", "a.c", "-o", "first.o").status == 0
        assert client.stats()["local_compiles"] == {}
        (client.work / "first.o").unlink()
        with bystander(cluster):
            operator("token", "revoke", "mallory")
            lost = wait_for(lambda: dist_status(client).get("NotConnected"), "the link of the revoked token ends")
            assert lost[0].startswith("tls://")
            client.command("--zero-stats")
            client.compiles_here("no_scheduler", "The token is wrong or was revoked.")
        auth.write_text(Invitation.parse(operator("invite", "client", "--name", "mallory")).token)
        for name in ("plain.o", "ours.o"):
            (client.work / name).unlink()
        client.command("--stop-server")
        assert client.call("gcc", "-c", "a.c", "-o", "again.o").status == 0
        assert sum(client.stats()["dist_compiles"].values()) == 1
        client.left_only("a.c", "again.o")
    operator("token", "revoke", "mallory")


def test_a_worker_with_a_wrong_token_or_a_wrong_pin(cluster, scheduler):
    """A worker that is not let in says why in its log and keeps trying; the cluster stays what it is."""
    good = tables_of(cluster)["dist"]["schedulers"][0]
    cases = {
        "wrong-token": (good, "wrong-secret", "unauthorized", "The token is wrong or was revoked."),
        "wrong-pin": (f"tls://{scheduler}?pin={NO_PIN}", "good-secret", "pin_mismatch", "shows another key"),
    }
    before = set(cluster.status().workers)
    with bystander(cluster), contextlib.ExitStack() as ends:
        logs = {}
        for name, (url, token, _, _) in cases.items():
            home = cluster.directory / name
            home.mkdir(mode=0o755)
            worker = {"name": name, "schedulers": [url], "token": token, "slots": 1, "directory": str(home / "w")}
            worker["listen"] = "tcp:0:interface=127.0.0.1"
            logs[name] = home / "log"
            (home / "worker.toml").write_text(
                toml({"worker": worker, "log": {"format": "json", "file": str(logs[name])}})
            )
            (home / "worker.toml").chmod(0o600)
            argv = [TWISTD, "--nodaemon", "--pidfile=", "sccache-worker", "--config", home / "worker.toml"]
            process = subprocess.Popen(argv, env=cluster.env, cwd="/", stdin=subprocess.DEVNULL)
            ends.callback(process.wait, SECONDS)
            ends.callback(process.send_signal, signal.SIGTERM)
        for name, (_, token, code, sentence) in cases.items():
            (event, *_) = wait_for(lambda name=name: _refusals(logs[name]), f"{name} is refused")
            assert event["code"] == code
            assert sentence in event["sentence"]
            assert token not in logs[name].read_text()
            assert "raceback" not in logs[name].read_text()
        assert set(cluster.status().workers) == before


def _refusals(log):
    lines = log.read_text().rpartition("\n")[0].splitlines() if log.exists() else []
    return [event for line in lines if (event := json.loads(line)).get("event") == "hello_refused"]


def test_a_worker_that_claims_to_be_another(cluster, scheduler):
    """Without the key's proof nobody registers, and a living worker's server_id is not for another key."""
    token = (cluster.directory / "worker.token").read_text().strip()
    living = next(iter(cluster.status().workers.values())).server_id
    with bystander(cluster):
        for name, proven, code, phrase in (
            ("fake-0123456789abcdef", False, "bad_proof", "did not prove that it holds its certificate's key"),
            (living, True, "identity_taken", f"Worker {living} is registered with another key and still alive."),
        ):
            identity = WorkerIdentity.create(ServerId(name), time.time())
            with ScriptedPeer(scheduler) as peer:
                challenge = peer.hello("worker", token, name=name)["challenge"]
                card = {"server": name, "address": "127.0.0.1:9", "certificate": identity.certificate, "slots": 1}
                proof = identity.prove(challenge if proven else b"another")
                with pytest.raises(PeerRefused, match=phrase) as refused:
                    peer.call(messages.Register, **card, proof=proof, memory=1, arch="x86_64", jobs=b"\x90")
                assert refused.value.code == code
        assert {worker.state for worker in cluster.status().workers.values()} == {"alive"}


# --- foreign protocols ------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["client", "worker"])
@pytest.mark.parametrize("version", [99, 0])
def test_a_peer_of_another_protocol_is_told_both_versions(cluster, scheduler, role, version):
    """A Hello of version 99, or 0, is answered with an error that names both sides' versions, and hung up on."""
    token = (cluster.directory / f"{role}.token").read_text().strip()
    with ScriptedPeer(scheduler) as peer:
        name = "new-0123456789abcdef"
        with pytest.raises(PeerRefused, match=f"The {role} speaks protocol {version}, this scheduler ") as refused:
            peer.hello(role, token, version=version, name=name)
        assert refused.value.code == "protocol_mismatch"
        peer.must_be_hung_up_on()
    refusals = [event for event in cluster.log_events("scheduler") if event.get("event") == "hello_refused"]
    assert refusals[-1]["code"] == "protocol_mismatch"


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (
            {b"_error_code": b"protocol_mismatch", b"_error_description": b"I speak 98 to 99, you 1."},
            "I speak 98 to 99, you 1. Upgrade the older side.",
        ),
        (
            {b"version": b"99", b"scheduler": b"s", b"challenge": b"c", b"ping": b"5.0", b"lost": b"15.0"},
            f"protocol 99, this side {OLDEST_PROTOCOL} to {PROTOCOL_VERSION}. Upgrade the older side.",
        ),
        ({b"version": b"many"}, "was not understood"),
        ({b"_error_code": b"teapot", b"_error_description": b"?"}, "was not understood"),
    ],
)
def test_a_scheduler_of_another_protocol(tmp_path, answer, phrase):
    """A scheduler that speaks another version, or nonsense, over true TLS: the build goes on here, the log says why."""
    identity = SchedulerIdentity.load_or_create(str(tmp_path), ["localhost"], time.time())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "identity.pem")

    def serve(connection):
        with context.wrap_socket(connection, server_side=True) as link:
            asked = _box(link)
            kind = amp.ERROR if b"_error_code" in answer else amp.ANSWER
            link.sendall(amp.AmpBox({kind: asked[amp.ASK], **answer}).serialize())
            link.recv(1)

    with listening(serve) as port:
        tables = alone(port)
        tables["dist"]["schedulers"] = [f"tls://127.0.0.1:{port}?pin={identity.pin}"]
        tables["timers"] = {"scheduler_grace_seconds": 1.0, "connect_seconds": 3.0}
        with Client(tables) as client:
            client.compiles_here("no_scheduler", phrase)


def _box(link):
    """The one box that a Hello is."""
    data = b""
    while not data.endswith(b"\0\0"):
        data += link.recv(65536)
    (box,) = amp.parseString(data)
    return box


# --- garbage and too much of it ---------------------------------------------------------------------


def too_many_values():
    """One box of more than 256 KiB, none of whose values is too long."""
    values = b"".join(b"\0\4key%d" % number + b"\xff\xff" + b"x" * 65535 for number in range(5))
    return b"\0\4_ask\0\0011" + values + b"\0\0"


GARBAGE = {
    "a key of 300 bytes": (b"\x01\x2c" + b"k" * 300, "a key of 300 bytes"),
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "is no message"),
    "a box over the limit": (too_many_values(), "a message of more than 262144 bytes"),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_to_the_scheduler_ends_that_link_only(cluster, scheduler, client_token, what):
    """Before Hello and after it: the sender is hung up on and named in the log; all other links and jobs go on."""
    data, phrase = GARBAGE[what]
    before = len(_dropped(cluster, phrase))
    with bystander(cluster):
        with ScriptedPeer(scheduler) as stranger:
            stranger.send(data)
            stranger.must_be_hung_up_on()
        with ScriptedPeer(scheduler) as known:
            known.hello("client", client_token)
            known.send(data)
            known.must_be_hung_up_on()
        with ScriptedPeer(scheduler) as other:
            other.hello("client", client_token)
            assert other.call(messages.ClusterStatus)["workers"] == 2
    told = wait_for(lambda: _dropped(cluster, phrase)[before:], "the scheduler has logged why")
    assert {event["peer"] for event in told} <= {"The peer at 127.0.0.1", "client-scripted"}
    assert not any("traceback" in event for event in cluster.log_events("scheduler"))


def _dropped(cluster, phrase):
    names = {"link_dropped", "link_down"}
    found = [event for event in cluster.log_events("scheduler") if event.get("event") in names]
    return [event for event in found if phrase in event["reason"]]


def test_what_is_no_tls_ends_that_connection_only(cluster, scheduler, client_token):
    """Plain text, a cut handshake and silence on the TLS port harm nobody."""
    host, _, port = scheduler.rpartition(":")
    with bystander(cluster), contextlib.ExitStack() as open_ones:
        silent = open_ones.enter_context(socket.create_connection((host, int(port)), SECONDS))
        for data in (b"hello?\n" * 10, bytes(range(256)), b"\x16\x03\x01\x02\x00\x01\x00"):
            with socket.create_connection((host, int(port)), SECONDS) as stranger:
                stranger.sendall(data)
                stranger.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    while stranger.recv(4096):
                        pass
        with ScriptedPeer(scheduler) as other:
            other.hello("client", client_token)
            assert other.call(messages.ClusterStatus)["workers"] == 2
        # Who says nothing at all is hung up on too, when his time for a Hello is over.
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""
    assert not any("traceback" in event for event in cluster.log_events("scheduler"))


def test_messages_in_the_wrong_place_or_with_wrong_values(cluster, scheduler, client_token):
    """Nothing is understood before Hello; after it a wrong message is answered with an error and the link lives on."""
    attempt = {"job": "no-job-id", "attempt": 1}
    with ScriptedPeer(scheduler) as early:
        with pytest.raises(PeerRefused, match="say Hello with a client token first") as refused:
            early.call(messages.ClusterStatus)
        assert refused.value.code == "malformed"
        early.must_be_hung_up_on()
    with bystander(cluster), ScriptedPeer(scheduler) as peer:
        peer.hello("client", client_token)
        with pytest.raises(PeerRefused, match="do not name an attempt"):
            peer.call(messages.CancelJob, **attempt)
        with pytest.raises(PeerRefused, match="This message is a worker's"):
            peer.call(messages.Draining)
        with pytest.raises(PeerRefused, match="has said Hello before"):
            peer.hello("client", client_token)
        peer.send(amp.AmpBox({b"_ask": b"77", b"_command": b"Sesame"}).serialize())
        assert peer.box()[amp.ERROR_CODE] == b"UNHANDLED"
        peer.send(amp.AmpBox({b"_ask": b"78", b"_command": b"CancelJob", b"job": b"\xff\xff"}).serialize())
        assert peer.box()[amp.ERROR_CODE] == b"malformed"
        assert peer.call(messages.ClusterStatus)["workers"] == 2
    assert not any("traceback" in event for event in cluster.log_events("scheduler"))


def test_a_host_that_tries_tokens_has_to_wait():
    """After twenty wrong tokens a host's next one is not even looked at, and it is told for how long."""
    # On a scheduler of its own: everybody here comes from one host.
    with Cluster(1, slots=1) as other:
        address = other.status().scheduler_address
        refusals = []
        for number in range(22):
            with ScriptedPeer(address) as peer, pytest.raises(PeerRefused) as refused:
                peer.hello("client", f"guess-{number}")
            refusals.append(refused.value)
        assert {each.code for each in refusals[:20]} == {"unauthorized"}
        assert refusals[-1].code == "too_many_requests"
        assert "Too many wrong tokens came from 127.0.0.1: it must wait" in refusals[-1].sentence
        assert other.status().workers["worker-1"].state == "alive"
