"""A worker that is attacked, in a process of its own: run as root or as an ordinary user, told what to do line by line.

``attack_bench.py DIRECTORY`` reads one JSON object a line and answers each with one. It holds a whole WorkerService and
a client of its over real TLS. In one slot another's job runs all the time; the attacks get the other.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import ssl
import sys
from base64 import b64encode
from pathlib import Path

import zstandard
from attack_requests import tiny_tar
from attack_table import ATTACKS
from support.processes import below, command_line
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.threads import deferToThread
from worker_confinement_kit import until
from worker_kit import digest_of
from worker_service_kit import Client, Phases

from sccache_twisted.config import WorkerSettings
from sccache_twisted.errors import SccacheTwistedError
from sccache_twisted.model import Action, Digest, DirectoryInput, FileInput
from sccache_twisted.wire.frames import FrameDecoder
from sccache_twisted.wire.http import job_path, toolchain_path
from sccache_twisted.wire.jobs import decode_answer
from sccache_twisted.worker import limits, sampler
from sccache_twisted.worker.service import WorkerService

PROCESSES = 48
SETTINGS = {
    "slots": 2,
    "job_memory_bytes": 200 << 20,
    "job_processes": PROCESSES,
    "job_disk_bytes": 32 << 20,
    "max_stream_bytes": 256 << 10,
    "max_output_bytes": 16 << 20,
    "max_job_bytes": 32 << 20,
    "max_job_plain_bytes": 64 << 20,
    "max_inputs": 1000,
    "max_toolchain_bytes": 1 << 30,
    "max_toolchain_members": 2000,
    "toolchain_cache_size": 2 << 30,
    "blob_cache_size": 256 << 20,
    "progress_seconds": 0.2,
    "slot_uids": "2000064000-2000064999",
}


def pids_of(program: bytes) -> list[int]:
    """The pids of this worker's jobs that run a program."""
    return [one.pid for one in below(os.getpid()) if command_line(one.pid)[:1] == (program,)]


class Blobs(dict):
    """A client's files by digest."""

    def add(self, content: bytes) -> Digest:
        digest = digest_of(content)
        self[digest] = content
        return digest

    def read(self, digest: Digest) -> bytes:
        return self[digest]


class Bench:
    """What an attack has at its hands: a client of the worker, and the actions of honest jobs to make worse."""

    def __init__(self, directory: Path, told) -> None:
        self.directory = directory
        self.src = os.fsencode(directory / "src")
        self.outside = os.fsencode(directory / "outside")
        self.blobs = Blobs()
        self.gcc = Digest(told["gcc"])
        self.target: tuple[bytes, ...] = ()
        self.worker = WorkerService(
            reactor,
            WorkerSettings(
                name="target", listen="tcp:0:interface=127.0.0.1", directory=str(directory / "worker"), **SETTINGS
            ),
        )
        self.tiny = self.store(tiny_tar())
        self.program = (directory / "attack").read_bytes()

    def store(self, raw: bytes, digest: str | None = None) -> Digest:
        """Put a toolchain into the worker's store; what the store says of it is raised."""
        intake = self.worker.jobs.toolchains.begin(digest or digest_of(raw))
        intake.write(zstandard.ZstdCompressor().compress(raw))
        return intake.finish().digest

    async def start(self, told) -> dict[str, object]:
        intake = self.worker.jobs.toolchains.begin(self.gcc)
        intake.write(Path(told["archive"]).read_bytes())  # noqa: ASYNC240  a test has nothing else to do
        intake.finish()
        self.worker.startService()
        self.client = Client(reactor, self.worker)
        owners = self.worker._open.workshop.owners
        return {"pid": os.getpid(), "uids": [owner.uid for owner in owners] or [os.getuid()] * 2}

    async def aim(self, told) -> dict[str, object]:
        """Hear of what there is outside, and begin the other's job."""
        self.target = tuple(str(told[name]).encode() for name in ("outside", "canary", "port", "abstract"))
        self.target += (os.fsencode(self.directory / "worker"), b"%d" % os.getpid())
        self.victim = self.run(self.action("victim", name="victim"))
        self.victim.addErrback(lambda failure: failure.trap(CancelledError, SccacheTwistedError))
        await until(reactor, lambda: pids_of(b"/bin/victim"))
        return {"victim": pids_of(b"/bin/victim")[0]}

    def file(self, path: bytes, content: bytes, *, executable: bool = False) -> FileInput:
        """An input."""
        return FileInput(path, self.blobs.add(content), len(content), 1_600_000_000_000_000_000, executable)

    def sources(self) -> tuple:
        """What the honest job reads."""
        return (
            *(
                self.file(self.src + b"/" + name, (self.directory / "src" / name.decode()).read_bytes())
                for name in (b"a.c", b"own.h")
            ),
            DirectoryInput(self.src),
            DirectoryInput(self.src + b"/sub"),
        )

    def action(self, attack: str, *, name: str = "attack", more=(), outputs=()) -> Action:
        """A job whose compiler is a hostile program; the place is the one where the honest job compiles."""
        path = b"/bin/" + name.encode()
        return Action(
            toolchain=self.tiny,
            executable=path,
            argv=(path, attack.encode(), *self.target),
            cwd=self.src,
            env=((b"LANG", b"C.UTF-8"),),
            inputs=(
                self.file(path, self.program, executable=True),
                self.file(b"/in/a.h", b"int a;\n"),
                *self.sources(),
                *more,
            ),
            outputs=(
                *(self.src + b"/" + one for one in (b"a.o", b"a.d", b"a.su", b"sub/b.o")),
                b"/opt/tool/x",
                *outputs,
            ),
        )

    def compile(self, *flags: bytes, more=()) -> Action:
        """The honest job."""
        return Action(
            toolchain=self.gcc,
            executable=b"/usr/bin/gcc",
            argv=(b"gcc", *flags, b"-g", b"-O1", b"-MMD", b"-c", b"a.c", b"-o", b"a.o"),
            cwd=self.src,
            env=((b"PATH", b"/usr/local/bin:/usr/bin:/bin"), (b"LANG", b"C.UTF-8")),
            inputs=(*self.sources(), *more),
            outputs=tuple(self.src + b"/" + name for name in (b"a.o", b"a.d", b"a.su")),
        )

    def run(self, action: Action):
        """Lease a slot and run a job, as a client does; its Deferred."""
        lease = self.client.lease(action.toolchain)
        return self.client.connections.run(lease, action, self.blobs, Phases())

    async def hang_up(self, action: Action, count: int) -> None:
        """Run a job, and go away when it has so many processes."""
        running = self.run(action)
        await until(reactor, lambda: len(pids_of(b"/bin/attack")) >= count)
        running.cancel()
        await running

    async def request(self, method: str, path: str, body: bytes, allocation) -> None:
        """Send bytes of one's own making; raises what the worker answers."""
        answer = await deferToThread(self._request, method, path, body, allocation)
        if isinstance(answer, SccacheTwistedError):
            raise answer

    def _request(self, method, path, body, allocation):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", self.worker.port, timeout=30, context=context)
        attempt = allocation.attempt
        headers = {
            "Authorization": f"Bearer {allocation.token}",
            "X-Job": f"{attempt.job_id}/{attempt.attempt}",
        }
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.headers["Content-Type"] == "application/json":
            said = json.loads(data)
            error = SccacheTwistedError(said["sentence"]) if "sentence" in said else None
            if error is not None:
                error.code = said["code"]
            return error
        *_, (kind, payload) = FrameDecoder(1 << 20).feed(data)
        try:
            decode_answer(kind, payload, 1 << 24)
        except SccacheTwistedError as said:
            return said
        return None

    async def post(self, body: bytes) -> None:
        """Send bytes as a job."""
        lease = self.client.lease(self.tiny)
        await self.request("POST", job_path(lease.attempt), body, lease)

    async def upload(self, raw: bytes, *, digest: str | None = None, packed: bytes | None = None) -> None:
        """Send a toolchain, as a client does but with bytes of one's own."""
        named = Digest(digest or digest_of(raw))
        lease = self.client.lease(named)
        try:
            body = zstandard.ZstdCompressor().compress(raw) if packed is None else packed
            await self.request("PUT", toolchain_path(named), body, lease)
        finally:
            self.worker.jobs.cancel(lease.attempt)

    async def attack(self, told) -> dict[str, object]:
        """Do one attack; what came of it."""
        one = next(attack for attack in ATTACKS if attack.name == told["name"])
        return await self.outcome(one.run(self) if one.run else self.run(self.action(one.name)))

    async def outcome(self, running) -> dict[str, object]:
        """How a job or request ended, and that its slot is free."""
        answer: dict[str, object] = {
            "code": "ok",
            "sentence": "",
            "stdout": "",
            "stderr": "",
            "outputs": {},
            "undeclared": [],
        }
        try:
            result = await running
        except CancelledError:
            answer["code"] = "hung_up"
        except SccacheTwistedError as problem:
            answer |= {"code": problem.code, "sentence": str(problem)}
        else:
            if result is not None:
                answer |= {
                    "code": "ok" if result.exit_code == 0 else f"exit {result.exit_code}",
                    "stdout": result.stdout.decode("utf-8", "backslashreplace"),
                    "stderr": result.stderr.decode("utf-8", "backslashreplace"),
                    "outputs": {
                        one.path.removeprefix(self.src + b"/").decode(): [one.mode, b64encode(one.data).decode()]
                        for one in result.outputs
                    },
                    "undeclared": [one.decode("utf-8", "backslashreplace") for one in result.undeclared],
                }
        await until(reactor, lambda: self.worker.jobs.slots.taken == 1)
        return answer

    async def compiled(self, _told) -> dict[str, object]:
        """Run the honest job, and say what it gave."""
        return await self.outcome(self.run(self.compile()))

    async def verified(self, _told) -> dict[str, object]:
        """Whether the worker believes its stores."""
        jobs = self.worker.jobs
        return {"toolchains": sorted(one for one in jobs.toolchains.digests() if jobs.toolchains.verify(one))}

    async def stop(self, _told) -> dict[str, object]:
        """End in order."""
        self.victim.cancel()
        await self.client.connections.close()
        await self.worker.stopService()
        return {"jobs": os.listdir(self.directory / "worker" / "jobs"), "taken": self.worker.jobs.slots.taken}


def hold_a_key() -> None:
    """A session keyring with a secret in it, as a login or a service manager gives it to a daemon."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call(250, 1, 0, 0, 0)  # keyctl(KEYCTL_JOIN_SESSION_KEYRING)
    call(248, b"user", b"canary", b"of the worker's session", 23, -3)  # add_key(…, KEY_SPEC_SESSION_KEYRING)


class Orders(Protocol):
    """One order a line, one answer a line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bench: Bench | None = None
        self.said = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, self.said = (self.said + data).split(b"\n")
        for line in lines:
            Deferred.fromCoroutine(self.obey(json.loads(line))).addErrback(self.failed)

    async def obey(self, told) -> None:
        if self.bench is None:
            self.bench = Bench(self.directory, told)
        answer = await getattr(self.bench, told["do"])(told)
        self.transport.write(json.dumps(answer).encode() + b"\n")

    def failed(self, failure) -> None:
        self.transport.write(json.dumps({"failed": failure.getTraceback()}).encode() + b"\n")

    def connectionLost(self, reason) -> None:
        if reactor.running:
            reactor.stop()


if __name__ == "__main__":
    sampler.INTERVAL_SECONDS = 0.05
    limits._MOST_ENTRIES = 4000
    hold_a_key()
    reactor.callWhenRunning(lambda: StandardIO(Orders(Path(sys.argv[1]))))
    reactor.run()
