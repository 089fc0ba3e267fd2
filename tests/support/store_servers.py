"""Real servers of the cache's remote stores, each a process of its own on a free port, and one that talks nonsense."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.protocol import Factory, Protocol
from typing_extensions import Self

READY_SECONDS = 20.0


def free_port() -> int:
    """A port on which nobody listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _drain(reading: int) -> None:
    while os.read(reading, 65536):
        pass
    os.close(reading)


class ServerProcess:
    """A server that says ``ready`` on stdout or stderr when it listens. It may be killed, stopped and started again.

    ``inside`` are words before its command: those that enter another host of a farm's.
    """

    def __init__(
        self,
        argv: list[str],
        ready: bytes,
        directory: Path,
        env: dict[str, str] | None = None,
        inside: Sequence[str] = (),
    ) -> None:
        # A test run that is killed leaves no server behind.
        self._argv = ["setpriv", "--pdeathsig", "KILL", *inside, *argv]
        self._ready = ready
        self._directory = directory
        self._env = {**os.environ, **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, cwd=self._directory, env=self._env
        )
        os.close(writing)
        said = b""
        ends = time.monotonic() + READY_SECONDS
        while self._ready not in said:
            heard = select.select([reading], [], [], max(0.0, ends - time.monotonic()))[0]
            more = os.read(reading, 65536) if heard else b""
            if not more:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"{self._argv[0]} did not become ready: {said!r}")
            said += more
        # It goes on saying things, and a full pipe would stop it.
        self._draining = threading.Thread(target=_drain, args=(reading,), daemon=True)
        self._draining.start()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._draining.join()
            self.process = None

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        # Only when the kernel says that it stands still does it.
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()


class RedisServer(ServerProcess):
    """redis-server, by default without password and TLS, and for this machine alone."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        tls: SelfSigned | None = None,
        port: int = 0,
        bind: str = "127.0.0.1",
        inside: Sequence[str] = (),
    ) -> None:
        self.port = port or free_port()
        ports = ["--port", str(self.port)]
        if tls is not None:
            ports = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            ports += ["--tls-cert-file", str(tls.certificate), "--tls-key-file", str(tls.key)]
        argv = ["redis-server", *ports, "--bind", bind, "--save", "", "--dir", str(directory), *options]
        super().__init__(argv, b"Ready to accept connections", directory, inside=inside)


class MemcachedServer(ServerProcess):
    """memcached; ``options`` such as ``-I 8m``."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        argv = ["memcached", "-v", "-v", "-U", "0", "-l", "127.0.0.1", "-p", str(self.port), *options]
        argv += ["-u", "root"] if os.geteuid() == 0 else []
        super().__init__(argv, b"server listening", directory)


class DavServer(ServerProcess):
    """nginx with its DAV module. ``rules`` stand in the location; MKCOL is needed, since it makes no directories."""

    def __init__(
        self, directory: Path, rules: str = "", methods: str = "PUT DELETE MKCOL", tls: SelfSigned | None = None
    ) -> None:
        self.port = free_port()
        ssl = f" ssl; ssl_certificate {tls.certificate}; ssl_certificate_key {tls.key}" if tls is not None else ""
        self.root = directory / "root"
        for name in ("root", "bodies"):
            (directory / name).mkdir()
            (directory / name).chmod(0o777)
        (directory / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr notice; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {directory}/bodies; client_max_body_size 64m;\n"
            f"proxy_temp_path {directory}/bodies; fastcgi_temp_path {directory}/bodies;\n"
            f"uwsgi_temp_path {directory}/bodies; scgi_temp_path {directory}/bodies;\n"
            f"server {{ listen 127.0.0.1:{self.port}{ssl}; location / {{ root {self.root};\n"
            f"dav_methods {methods}; {rules} }} }} }}\n",
            encoding="utf-8",
        )
        nginx = "/usr/sbin/nginx"
        super().__init__([nginx, "-p", str(directory), "-c", "nginx.conf", "-e", "stderr"], b"getrlimit", directory)


# moto answers 500 to two simultaneous writes of one object: it was made for one caller at a time.
_ONE_AT_A_TIME = """
import sys, threading
from moto import server
turn = threading.Lock()
run_simple = server.run_simple
def in_turn(host, port, app, **named):
    def one(environ, start_response):
        with turn:
            return app(environ, start_response)
    run_simple(host, port, one, **named)
server.run_simple = in_turn
server.main(sys.argv[1:])
"""


class S3Server(ServerProcess):
    """moto's S3, which believes every signature until it is told otherwise."""

    def __init__(self, directory: Path, bind: str = "127.0.0.1", inside: Sequence[str] = ()) -> None:
        self.port = free_port()
        argv = [sys.executable, "-u", "-c", _ONE_AT_A_TIME, "-H", bind, "-p", str(self.port)]
        super().__init__(argv, b"Running on", directory, inside=inside)


class SelfSigned:
    """A certificate for localhost and 127.0.0.1 that signs itself, as files."""

    def __init__(self, directory: Path) -> None:
        self.certificate = directory / "certificate.pem"
        self.key = directory / "key.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a store")])
        now = dt.datetime.now(dt.timezone.utc)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.key.chmod(0o644)


class Nonsense(Protocol):
    """Answers whatever it hears with ``words``."""

    words = b"\x00\xff nonsense\r\n" * 4

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.words)


def listen_nonsense(reactor, port: int, words: bytes):
    """A server of nonsense on a port; the listening port, to be stopped."""
    factory = Factory.forProtocol(type("Nonsense", (Nonsense,), {"words": words}))
    return reactor.listenTCP(port, factory, interface="127.0.0.1")
