"""What bad input is tried with: a client of one's own, peers that say what they like, and a job that must not notice.

``Client`` is a user's side with a configuration, a daemon and a log of its own. ``ScriptedPeer`` speaks AMP over TLS
on a plain socket, as any stranger could. ``bystander`` is a compilation that runs on a worker, held still there while
the bad input comes, and has to finish with the right object afterwards.
"""

import contextlib
import functools
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen
from support.cluster import PROGRAM, Cluster, wait_for
from support.trees.commands import clean_environment
from twisted.protocols import amp
from typing_extensions import Self

from sccache_twisted.cli.home import toml
from sccache_twisted.interfaces import PROTOCOL_VERSION
from sccache_twisted.wire import scheduling as messages

SECONDS = 60
TWISTD = Path(sys.executable).parent / "twistd"
QUICK = {"scheduler_grace_seconds": 0.8, "connect_seconds": 0.5}
"""Timers of a client that shall not wait long for what does not come, but long enough to know why it does not."""
SOURCE = "int answer(int x) { return x + 42; }\n"


@frozen
class Said:
    """What a command left: status, and its streams as text."""

    status: int
    stdout: str
    stderr: str


def finish(argv, *, env: Mapping[str, str], cwd="/", stdin: str | None = None) -> Said:
    """Run a command to its end, its streams in files, since a daemon that it starts must not keep us waiting."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        done = subprocess.run(
            [str(word) for word in argv],
            env=dict(env),
            cwd=cwd,
            input=None if stdin is None else stdin.encode(),
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=out,
            stderr=err,
            timeout=SECONDS,
            check=False,
        )
        out.seek(0)
        err.seek(0)
        said = Said(done.returncode, out.read().decode(errors="replace"), err.read().decode(errors="replace"))
    assert "Traceback" not in said.stdout + said.stderr, said.stderr
    return said


class Client:
    """A user with a directory of his own, short enough for sockets; a context manager that ends his daemon."""

    def __init__(self, tables: Mapping[str, Mapping[str, object]] | str, env: Mapping[str, str] | None = None) -> None:
        self._tables = tables
        self._extra = dict(env or {})
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.root = Path(self._ends.enter_context(tempfile.TemporaryDirectory(prefix="sctb-", dir="/tmp")))
        self.config = self.root / "client.toml"
        if isinstance(self._tables, str):
            self.config.write_text(self._tables)
        else:
            log = {"format": "json", "file": str(self.root / "client.log")}
            self.config.write_text(toml({**self._tables, "log": log}))
        self.config.chmod(0o600)
        self.env = clean_environment(
            {
                "SCCACHE_CONF": str(self.config),
                "SCCACHE_SERVER_UDS": str(self.root / "d.sock"),
                "SCCACHE_DIST_CACHE_DIR": str(self.root / "cache"),
                "SCCACHE_CACHE_SIZE": "0",
                "HOME": str(self.root),
                **self._extra,
            }
        )
        self.work = self.root / "work"
        self.work.mkdir()
        (self.work / "a.c").write_text(SOURCE)
        self._ends.callback(self._end)
        return self

    def __exit__(self, kind, problem, trace) -> None:
        if kind is not None:
            sys.stderr.write(f"--- the end of the client's log\n{self.log()[-4000:]}\n")
        self._ends.close()

    def command(self, *words, **env) -> Said:
        """One of our own commands."""
        return finish([PROGRAM, *words], env={**self.env, **env}, cwd=self.work)

    def call(self, *argv, **env) -> Said:
        """A compiler's command line behind the launcher."""
        return finish([PROGRAM, *argv], env={**self.env, **env}, cwd=self.work)

    def plain(self, *argv) -> Said:
        """The same without us."""
        return finish(argv, env=self.env, cwd=self.work)

    def stats(self) -> dict:
        return json.loads(self.command("--show-stats", "--stats-format", "json").stdout)["stats"]

    def log(self) -> str:
        """All that the daemon logged, and what it or a launcher printed outside its log."""
        found = [self.root / "client.log", self.root / "d.sock.log"]
        return "".join(path.read_text(errors="replace") for path in found if path.exists())

    def events(self, name: str) -> list[dict]:
        """The events of a name in the daemon's log."""
        path = self.root / "client.log"
        whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        return [found for line in whole if (found := json.loads(line)).get("event") == name]

    def compiles_here(self, reason: str, sentence: str, source: str = "a.c") -> None:
        """A call compiles here as if we were not there, for one reason, which the log explains."""
        plain = self.plain("gcc", "-c", source, "-o", "plain.o")
        ours = self.call("gcc", "-c", source, "-o", "ours.o")
        assert ours == plain
        assert (self.work / "ours.o").read_bytes() == (self.work / "plain.o").read_bytes()
        assert self.stats()["local_compiles"] == {reason: 1}
        found = [event for event in self.events("job_local") if event["reason"] == reason]
        assert len(found) == 1, self.log()
        assert sentence in found[0]["sentence"]
        self.left_only("a.c", "plain.o", "ours.o")

    def left_only(self, *names: str) -> None:
        """Nothing lies in the working directory but these, and no log holds a traceback."""
        assert sorted(os.listdir(self.work)) == sorted(names)
        assert "Traceback" not in self.log()
        assert '"traceback"' not in self.log()

    def _end(self) -> None:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.command("--stop-server")


def tables_of(cluster: Cluster, **dist: object) -> dict[str, dict[str, object]]:
    """The client's tables of a cluster, with more keys in ``dist``."""
    import tomllib

    found = tomllib.loads((cluster.directory / "client.toml").read_text())
    auth = found["dist"].pop("auth")
    return {"dist": {**found["dist"], **dist}, "dist.auth": auth}


# --- a job that must not notice ---------------------------------------------------------------------

SLOW = """\
constexpr unsigned long spin(unsigned long n)
{
    unsigned long x = 1;
    for (unsigned long i = 0; i < n; ++i) x = x * 6364136223846793005ul + i;
    return x;
}
constexpr unsigned long value = spin(120000);
unsigned long answer() { return value; }
"""
SLOW_FLAGS = ("-std=c++17", "-fconstexpr-loop-limit=100000000", "-fconstexpr-ops-limit=1000000000")

SLOW_COMMAND = ("g++", *SLOW_FLAGS, "-c", "slow.cc", "-o")


@functools.cache
def _plain_object() -> bytes:
    """What the compiler alone makes of it; without debug information no directory is in it."""
    with tempfile.TemporaryDirectory(prefix="sctb-", dir="/tmp") as directory:
        (Path(directory) / "slow.cc").write_text(SLOW)
        subprocess.run([*SLOW_COMMAND, "plain.o"], cwd=directory, check=True)
        return (Path(directory) / "plain.o").read_bytes()


@contextlib.contextmanager
def bystander(cluster: Cluster, *more_workers: int) -> Iterator[None]:
    """Another job's compiler is stopped on a worker while the block runs, then goes on; it must end as if alone.

    ``more_workers``: pids of workers that the cluster did not start itself.
    """
    workers = {worker.pid for worker in cluster.status().workers.values()} | set(more_workers)
    with tempfile.TemporaryDirectory(prefix="sctb-", dir="/tmp") as directory:
        source = Path(directory) / "slow.cc"
        source.write_text(SLOW)
        before = cluster.stats()
        process = subprocess.Popen(
            [str(PROGRAM), *SLOW_COMMAND, "ours.o"],
            cwd=directory,
            env={**cluster.env, "SCCACHE_RECACHE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            # Our own process handle, so that another's can't be stopped by mistake.
            compiler = os.pidfd_open(wait_for(lambda: _compiler_below(workers, b"slow.cc"), "the compiler runs there"))
            try:
                signal.pidfd_send_signal(compiler, signal.SIGSTOP)
                try:
                    yield
                    assert process.poll() is None, "the bystander's call ended although its compiler stands still"
                finally:
                    signal.pidfd_send_signal(compiler, signal.SIGCONT)
            finally:
                os.close(compiler)
            said = process.communicate(timeout=SECONDS)[1]
            assert (process.returncode, said) == (0, b"")
        finally:
            process.kill()
            process.communicate()
        assert (Path(directory) / "ours.o").read_bytes() == _plain_object()
        after = cluster.stats()
        assert sum(after.dist_compiles.values()) > sum(before.dist_compiles.values())
        assert after.local_compiles == before.local_compiles
        assert after.dist_retries == before.dist_retries


def _compiler_below(ancestors: set[int], source: bytes) -> int:
    """A cc1plus that compiles ``source`` and descends from one of these processes; 0 if there is none."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        words = _read(f"{entry.path}/cmdline").split(b"\0")
        if words[0].endswith(b"cc1plus") and source in words and _descends(int(entry.name), ancestors):
            return int(entry.name)
    return 0


def _descends(pid: int, ancestors: set[int]) -> bool:
    while pid > 1 and pid not in ancestors:
        found = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        pid = int(found[1]) if found else 0
    return pid in ancestors


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


# --- peers that say what they like ------------------------------------------------------------------


class PeerRefused(Exception):
    """The other side answered with an error: its code and sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class HungUp(Exception):
    """The other side closed the connection."""


def strangers_tls() -> ssl.SSLContext:
    """A TLS client that believes anybody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class ScriptedPeer:
    """One end of an AMP link on a blocking TLS socket. ``call`` answers pings while it waits."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        raw = socket.create_connection((host, int(port)), SECONDS)
        self.socket = strangers_tls().wrap_socket(raw)
        self._asked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def hello(self, role: str, token: str, version: int = PROTOCOL_VERSION, name: str = "client-scripted") -> dict:
        return self.call(messages.SayHello, version=version, role=role, token=token, name=name)

    def call(self, command: type[amp.Command], **arguments: object) -> dict:
        """Call the other side; PeerRefused for an error, HungUp when it closes."""
        self._asked += 1
        box = command.makeArguments(arguments, None)
        box[amp.ASK] = b"%d" % self._asked
        box[amp.COMMAND] = command.commandName
        self.send(box.serialize())
        while True:
            heard = self.box()
            if amp.ANSWER in heard:
                return command.parseResponse(heard, None)
            if amp.ERROR in heard:
                raise PeerRefused(heard[amp.ERROR_CODE].decode(), heard[amp.ERROR_DESCRIPTION].decode())
            if amp.ASK in heard:
                self.send(amp.AmpBox({amp.ANSWER: heard[amp.ASK]}).serialize())

    def send(self, data: bytes) -> None:
        """Send bytes as they are; that the other side has hung up already is found out when its answer is read."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.socket.sendall(data)

    def box(self) -> amp.AmpBox:
        """The next box."""
        found = amp.AmpBox()
        while length := int.from_bytes(self._exactly(2), "big"):
            key = self._exactly(length)
            found[key] = self._exactly(int.from_bytes(self._exactly(2), "big"))
        return found

    def must_be_hung_up_on(self) -> None:
        """Read until the other side closes; it must, and soon."""
        with contextlib.suppress(HungUp):
            while True:
                self._exactly(1)

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                part = self.socket.recv(length - len(data))
            except (ConnectionResetError, ssl.SSLError) as gone:
                if isinstance(gone, TimeoutError):
                    raise
                raise HungUp from gone
            if not part:
                raise HungUp
            data += part
        return data


def https(address: str, server_id: str, timeout: float = SECONDS) -> http.client.HTTPSConnection:
    """A connection to a worker as a stranger would make it."""
    host, _, port = address.rpartition(":")

    class Connection(http.client.HTTPSConnection):
        def connect(self) -> None:
            raw = socket.create_connection((host, int(port)), timeout)
            self.sock = strangers_tls().wrap_socket(raw, server_hostname=f"{server_id}.worker.sccache-twisted")

    return Connection(f"{server_id}.worker.sccache-twisted", timeout=timeout)


@contextlib.contextmanager
def listening(serve=None, backlog: int = 16) -> Iterator[int]:
    """A TCP port on loopback. ``serve`` gets each connection, in a thread; without it nobody accepts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError, HungUp, ssl.SSLError):
                    serve(connection)

        thread = threading.Thread(target=accept) if serve is not None else None
        if thread is not None:
            thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            if thread is not None:
                thread.join(SECONDS)
                assert not thread.is_alive()


@contextlib.contextmanager
def blackhole() -> Iterator[int]:
    """A loopback port that drops every SYN, as a firewall does: its queue of one is full and nobody accepts."""
    with listening(backlog=0) as port, contextlib.ExitStack() as taken:
        while True:
            knocking = taken.enter_context(socket.socket())
            knocking.settimeout(0.3)
            try:
                knocking.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        yield port


# --- disks ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def tiny_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of ``size`` bytes at ``path``."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        # Lazily: what a process of the test still has open is its own business.
        subprocess.run(["umount", "-l", str(path)], check=True)


# --- other users ------------------------------------------------------------------------------------

STRANGER = 61234


def as_stranger(*argv: object) -> list[str]:
    """The words that run a command as an ordinary uid, with a Python that it can reach wherever that lies.

    Python may live below a home that strangers can't enter: in a mount namespace of its own only that part is left.
    """
    base = Path(sys.base_prefix).resolve()
    top = "/" + base.parts[1]
    keep = shlex.quote(str(base))
    script = 'exec setpriv --reuid="$0" --regid="$0" --clear-groups -- "$@"'
    if any(not directory.stat().st_mode & 0o001 for directory in base.parents):
        script = (
            f"aside=$(mktemp -d /tmp/sctb-XXXXXX) && mount --bind {keep} $aside && "
            f"mount -t tmpfs -o mode=755 tmpfs {top} && mkdir -p {keep} && mount --bind $aside {keep} && "
            f"umount $aside && rmdir $aside && {script}"
        )
    inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    return [*inside, str(STRANGER), *(str(word) for word in argv)]


def belongs_to_stranger(directory: Path) -> None:
    """Give a directory and all in it to the stranger."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


def has_root_and_setpriv() -> bool:
    return os.getuid() == 0 and shutil.which("setpriv") is not None
