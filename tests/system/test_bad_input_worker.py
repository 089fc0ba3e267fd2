"""What a worker is sent by strangers and by clients gone wrong: refused with a sentence, and nothing of it stays.

The requests are made by hand over true TLS, on leases that the scheduler really gave. While they come, another
client's compiler stands still on the very same worker, and has to end well afterwards.
"""

import contextlib
import json
import os
import ssl
import subprocess
import time

import pytest
import zstandard
from attrs import frozen
from bad_input_kit import SECONDS, TWISTD, ScriptedPeer, bystander, https
from support.cluster import Cluster, wait_for

from sccache_twisted.cli.home import toml
from sccache_twisted.cli.status import scheduler_status
from sccache_twisted.errors import SccacheTwistedError
from sccache_twisted.model import Action, DirectoryInput, Try, mint_job_id
from sccache_twisted.toolchains import package_to
from sccache_twisted.wire import scheduling as messages
from sccache_twisted.wire.frames import FrameDecoder
from sccache_twisted.wire.http import job_path, toolchain_path
from sccache_twisted.wire.jobs import decode_answer, encode_job

LIMITS = {"job_body": "1M", "job_plain": "4M", "inputs": 40, "toolchain": "2G", "requests": 8}
NOWHERE = "5" * 64


@pytest.fixture(scope="module")
def cluster():
    """A cluster whose own worker leaves when the one with tight limits has come."""
    with Cluster(1, slots=1) as running:
        yield running


@frozen
class Lease:
    """A slot that a worker keeps for an attempt: where, and the token that opens it."""

    attempt: Try
    server_id: str
    address: str
    token: str

    def headers(self, **more):
        return {
            "Authorization": f"Bearer {self.token}",
            "X-Job": f"{self.attempt.job_id}/{self.attempt.attempt}",
            **{name.replace("_", "-"): value for name, value in more.items()},
        }


class Office:
    """A scripted client of the cluster, and the worker with tight limits."""

    def __init__(self, cluster, peer, strict, pid):
        self.cluster = cluster
        self.peer = peer
        self.strict = strict
        self.pid = pid

    def bystander(self):
        """Another's job on the very same worker."""
        return bystander(self.cluster, self.pid)

    @contextlib.contextmanager
    def lease(self, toolchain=NOWHERE):
        """A slot of the worker; given back at the end."""
        attempt = Try(mint_job_id(time.time_ns() // 1_000_000, os.urandom(10)), 1)
        told = self.peer.call(
            messages.AllocateJob,
            job=attempt.job_id,
            attempt=1,
            toolchain=toolchain,
            arch=os.uname().machine,
            avoid=[],
            label="bad input",
            seconds=1.0,
            bytes=1 << 20,
            age=0.0,
            patience=30.0,
        )
        assert told["server"] == self.strict
        try:
            yield Lease(attempt, told["server"], told["address"], told["token"])
        finally:
            self.peer.call(messages.CancelJob, job=attempt.job_id, attempt=1)

    def stored(self):
        """Every file in the strict worker's stores that belongs to a toolchain, whole or not."""
        root = self.cluster.directory / "strict" / "w"
        return sorted(str(path.relative_to(root)) for path in root.glob("toolchains/**/*") if path.is_file())

    def log(self):
        path = self.cluster.directory / "strict" / "log"
        return [json.loads(line) for line in path.read_text().rpartition("\n")[0].splitlines()]


@pytest.fixture(scope="module")
def office(cluster):
    """The strict worker registered, the scripted client welcome."""
    home = cluster.directory / "strict"
    home.mkdir(mode=0o755)
    worker = {
        "name": "strict",
        "schedulers": _schedulers(cluster),
        "token_file": str(cluster.directory / "worker.token"),
        "listen": "tcp:0:interface=127.0.0.1",
        "slots": 4,
        "directory": str(home / "w"),
    }
    log = {"format": "json", "file": str(home / "log"), "level": "debug"}
    (home / "worker.toml").write_text(toml({"worker": worker, "limits": LIMITS, "log": log}))
    argv = [str(TWISTD), "--nodaemon", "--pidfile=", "sccache-worker", "--config", str(home / "worker.toml")]
    process = subprocess.Popen(argv, env=cluster.env, cwd="/", stdin=subprocess.DEVNULL)
    try:
        page = json.loads((cluster.directory / "scheduler.ready").read_text())["http"]

        def registered():
            return next((each["server_id"] for each in scheduler_status(page) if each["name"] == "strict"), "")

        strict = wait_for(registered, "the strict worker is registered")
        cluster.remove("worker-1", "KILL")
        wait_for(lambda: [each["name"] for each in scheduler_status(page)] == ["strict"], "it is the only worker")
        with ScriptedPeer(cluster.status().scheduler_address) as peer:
            peer.hello("client", (cluster.directory / "client.token").read_text().strip())
            made = Office(cluster, peer, strict, process.pid)
            yield made
            assert not any("traceback" in event for event in made.log())
    finally:
        process.terminate()
        assert process.wait(SECONDS) == 0


def _schedulers(cluster):
    import tomllib

    return tomllib.loads((cluster.directory / "client.toml").read_text())["dist"]["schedulers"]


def ask(lease, method, path, body=b"", headers=None):
    """Make a request as the lease's holder; status, and the JSON error or the raw body."""
    connection = https(lease.address, lease.server_id)
    with contextlib.closing(connection):
        # Bytes go as they are, with their length; an iterator goes in chunks, without.
        connection.request(
            method,
            path,
            body,
            lease.headers() if headers is None else headers,
            encode_chunked=not isinstance(body, bytes),
        )
        answer = connection.getresponse()
        data = answer.read()
    if answer.headers["Content-Type"] == "application/json":
        return answer.status, json.loads(data)
    return answer.status, data


def error_in(data):
    """The error that a stream of frames ends with."""
    *_, (kind, payload) = FrameDecoder(1 << 20).feed(data)
    with pytest.raises(SccacheTwistedError) as failed:
        decode_answer(kind, payload, 1 << 20)
    return failed.value.code, failed.value.sentence


def action(toolchain, inputs=()):
    return Action(
        toolchain=toolchain,
        executable=b"/usr/bin/gcc",
        argv=(b"gcc", b"-c", b"a.c"),
        cwd=b"/nowhere",
        env=(),
        inputs=tuple(inputs),
        outputs=(b"/nowhere/a.o",),
        umask=0o022,
        memory_bytes=1 << 20,
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The packaged gcc: its digest and its bytes."""
    out = tmp_path_factory.mktemp("archive") / "gcc.tar.zst"
    made = package_to(b"gcc", os.fsencode(out))
    return made.digest, out.read_bytes()


# --- who may ----------------------------------------------------------------------------------------


def test_without_its_token_no_attempt_is_open(office):
    """No token, a wrong one, another job's, an ended attempt's: refused with a sentence, and the lease stays good."""
    job = encode_job(action(NOWHERE), [], 1)
    with office.bystander(), office.lease() as lease, office.lease() as other:
        for name, value, status, code, phrase in (
            ("Authorization", None, 401, "unauthorized", "The request carries no token."),
            ("Authorization", "Basic Zm9v", 401, "unauthorized", "The request carries no token."),
            ("Authorization", "Bearer wrong", 404, "unknown_attempt", "unknown, has expired, or the token is another"),
            ("Authorization", f"Bearer {other.token}", 404, "unknown_attempt", "the token is another job's"),
        ):
            headers = lease.headers()
            headers.pop(name)
            headers |= {} if value is None else {name: value}
            for method, path in (
                ("POST", job_path(lease.attempt)),
                ("POST", toolchain_path(NOWHERE)),
                ("PUT", toolchain_path(NOWHERE)),
            ):
                told = ask(lease, method, path, job, headers)
                assert told == (status, {"code": code, "sentence": told[1]["sentence"]})
                assert phrase in told[1]["sentence"]
        for each in (lease, other):
            assert ask(each, "POST", toolchain_path(NOWHERE))[0] == 200
    told = ask(lease, "POST", job_path(lease.attempt), job)
    assert (told[0], told[1]["code"]) == (404, "unknown_attempt")
    tokens = {lease.token, other.token}
    assert not any(token in json.dumps(event) for event in office.log() for token in tokens)


# --- garbage ----------------------------------------------------------------------------------------


def test_what_is_no_request_is_answered_or_hung_up_on(office):
    """Bytes that are no HTTP, headers without end, paths to nothing: refused, and the next request is served."""
    with office.bystander(), office.lease() as lease:
        for data in (b"\0\1\2\3\r\n\r\n", b"hello\r\n\r\n", b"GET " + b"x" * 100_000, b"GET / HTTP/1.1\r\n" * 5000):
            _send_raw(lease, data)
        for method, path, phrase in (
            ("GET", "/", "There is nothing at /."),
            ("GET", "/v1/toolchains/short", "'short' is not a digest"),
            ("DELETE", job_path(lease.attempt), "A job is sent by POST."),
            ("DELETE", toolchain_path(NOWHERE), "A toolchain is sent by PUT."),
            ("POST", "/v1/jobs/no-id/1", "is not <job_id>/<attempt>"),
            ("POST", toolchain_path("6" * 64), "The toolchain is another than the lease's."),
        ):
            told = ask(lease, method, path)
            assert (told[0], told[1]["code"]) == (400, "malformed")
            assert phrase in told[1]["sentence"]
        assert ask(lease, "POST", toolchain_path(NOWHERE))[0] == 200


def _send_raw(lease, data):
    """Send bytes and read until the worker hangs up, or has answered."""
    connection = https(lease.address, lease.server_id)
    connection.connect()
    with contextlib.closing(connection), contextlib.suppress(ConnectionError, BrokenPipeError, ssl.SSLError):
        connection.sock.sendall(data)
        connection.sock.unwrap()
        connection.sock.recv(4096)


def test_a_job_that_cannot_be_understood(office, archive):
    """A body that is no zstd, no msgpack, cut off, or of another toolchain: a failure frame, and the slot is free."""
    digest, content = archive
    good = encode_job(action(digest), [], 1)
    plain = zstandard.decompress(good)
    compress = zstandard.ZstdCompressor().compress
    bodies = {
        b"": "A job request is not one whole zstd frame.",
        b"this is prose": "A job request is not one whole zstd frame.",
        good[: len(good) // 2]: "A job request is not one whole zstd frame.",
        compress(b"\0\0"): "A job request ends before its header.",
        compress(b"\xff\xff\xff\xff" + plain[4:]): "A job request ends before its header does.",
        compress(b"\0\0\0\x04\xc1\xc1\xc1\xc1"): "A job's header is not valid msgpack.",
        compress(b"\0\0\0\x01\x90"): "A job's header is not a map.",
        compress(b"\0\0\0\x01\x80"): "A job's header has no valid 'inputs'.",
        compress(plain + b"more"): "A job request has bytes behind its last blob.",
        encode_job(action("7" * 64), [], 1): "The job names another toolchain than its lease.",
    }
    with office.bystander():
        with office.lease(digest) as lease:
            assert ask(lease, "PUT", toolchain_path(digest), content)[0] in {200, 201}
        for body, sentence in bodies.items():
            with office.lease(digest) as lease:
                status, data = ask(lease, "POST", job_path(lease.attempt), body)
                assert status == 200
                assert error_in(data) == ("malformed", sentence)


# --- too much ---------------------------------------------------------------------------------------


def test_what_is_over_a_limit_is_refused_with_the_limit(office, archive):
    """A body over the limit, announced or not, one that would unpack to too much, too many inputs: no more, no less."""
    digest, content = archive
    much = b"x" * (2 << 20)
    with office.bystander():
        with office.lease(digest) as lease:
            job = job_path(lease.attempt)
            told = ask(lease, "POST", job, much)
            assert told == (413, {"code": "too_large", "sentence": told[1]["sentence"]})
            assert f"{len(much)} bytes is over the worker's limit of 1048576" in told[1]["sentence"]
            told = ask(lease, "POST", job, iter([much]), lease.headers(Transfer_Encoding="chunked"))
            assert (told[0], told[1]["code"]) == (413, "too_large")
            assert "more than 1048576 bytes is over the worker's limit" in told[1]["sentence"]
            # So much that it would not even be read to its end is answered before it is sent.
            for method, path, length in (("POST", job, 300 << 20), ("PUT", toolchain_path(digest), 3 << 30)):
                connection = https(lease.address, lease.server_id)
                with contextlib.closing(connection):
                    connection.request(method, path, b"", lease.headers(Content_Length=str(length)))
                    answer = connection.getresponse()
                    told = json.loads(answer.read())
                assert (answer.status, told["code"]) == (413, "too_large")
                assert f"{length} bytes is over the worker's limit" in told["sentence"]
            assert ask(lease, "PUT", toolchain_path(digest), content)[0] in {200, 201}
        bomb = zstandard.ZstdCompressor().compress(bytes(100 << 20))
        crowd = encode_job(action(digest, [DirectoryInput(b"/d%d" % number) for number in range(41)]), [], 1)
        for body, sentence in (
            (bomb, "A job request of 104857600 bytes is over the limit of 4194304."),
            (crowd, "A job with 41 inputs is over the limit of 40."),
        ):
            with office.lease(digest) as lease:
                assert error_in(ask(lease, "POST", job_path(lease.attempt), body)[1]) == ("too_large", sentence)


def test_requests_over_the_limit_of_one_host(office):
    """The ninth open request of a host is told so; when one of the others is gone there is room again."""
    with office.bystander(), office.lease() as lease, contextlib.ExitStack() as ends:
        open_ones = []
        for _ in range(8):
            connection = ends.enter_context(contextlib.closing(https(lease.address, lease.server_id)))
            connection.putrequest("POST", job_path(lease.attempt))
            for name, value in lease.headers(Content_Length="10").items():
                connection.putheader(name, value)
            connection.endheaders()
            open_ones.append(connection)

        def refused():
            told = ask(lease, "POST", toolchain_path(NOWHERE))
            return told if told[0] == 429 else None

        told = wait_for(refused, "the worker has seen all eight")
        assert told[1]["code"] == "too_many_requests"
        assert "More than 8 requests of 127.0.0.1 are open." in told[1]["sentence"]
        for connection in open_ones:
            connection.close()
        wait_for(lambda: ask(lease, "POST", toolchain_path(NOWHERE))[0] == 200, "there is room again")


# --- toolchains -------------------------------------------------------------------------------------


def test_a_toolchain_that_does_not_come_whole(office, archive):
    """Cut in the middle, wrong in its digest, garbage: refused, nothing of it stays, and the next upload is stored."""
    digest, content = archive
    before = office.stored()
    with office.bystander():
        wrong = "8" * 64
        with office.lease(wrong) as lease:
            told = ask(lease, "PUT", toolchain_path(wrong), content)
            assert (told[0], told[1]["code"]) == (400, "digest_mismatch")
            assert wrong in told[1]["sentence"]
        assert office.stored() == before
        for body in (b"", b"this is prose", content[: len(content) // 2], content[:-1], content + b"more"):
            with office.lease(wrong) as lease:
                told = ask(lease, "PUT", toolchain_path(wrong), body)
                assert told[0] == 400, told
                assert told[1]["code"] in {"bad_archive", "digest_mismatch", "malformed"}
                assert told[1]["sentence"].endswith(".")
        assert office.stored() == before
        with office.lease(wrong) as lease, office.lease(wrong) as next_one:
            connection = https(lease.address, lease.server_id)
            connection.putrequest("PUT", toolchain_path(wrong))
            for name, value in lease.headers(Content_Length=str(len(content))).items():
                connection.putheader(name, value)
            connection.endheaders(content[: len(content) // 2])
            turn = lambda: ask(next_one, "POST", toolchain_path(wrong))[1]["turn"]  # noqa: E731
            assert turn() == "wait"
            connection.sock.close()
            connection.close()
            # The turn is the next one's as soon as the cut is seen; what had come is gone by then or soon after.
            wait_for(lambda: turn() == "yours", "the broken upload has lost its turn")
            gone = ask(lease, "POST", toolchain_path(wrong))
            assert (gone[0], gone[1]["code"]) == (404, "unknown_attempt"), "who was cut off holds no slot"
            wait_for(lambda: office.stored() == before, "nothing of the broken upload is left")
        with office.lease(digest) as lease:
            assert ask(lease, "PUT", toolchain_path(digest), content)[0] in {200, 201}
            assert ask(lease, "POST", toolchain_path(digest)) == (200, {"turn": "present"})
    refused = [event for event in office.log() if event.get("event") == "toolchain_refused"]
    assert refused
    assert {event["toolchain"] for event in refused} == {wrong}


# --- TLS --------------------------------------------------------------------------------------------


def test_what_is_no_tls_harms_no_other_connection(office):
    """Plain HTTP and a cut handshake on the HTTPS port end there; the next request is served."""
    import socket

    with office.bystander(), office.lease() as lease:
        host, _, port = lease.address.rpartition(":")
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", bytes(200)):
            with socket.create_connection((host, int(port)), SECONDS) as stranger:
                stranger.sendall(data)
                stranger.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    while stranger.recv(4096):
                        pass
        assert ask(lease, "POST", toolchain_path(NOWHERE))[0] == 200
