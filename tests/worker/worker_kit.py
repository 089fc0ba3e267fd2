"""What tests of the worker share: a workshop on a real disk, and actions out of real command lines."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import blake3
import zstandard

from sccache_twisted.logs import EventLog
from sccache_twisted.model import Action, Digest, DirectoryInput, FileInput, JobId, LinkInput, Try
from sccache_twisted.storage.blobs import BlobStore
from sccache_twisted.toolchains import Entry, EntryKind, ToolchainStore
from sccache_twisted.toolchains.archive import END, member_header, padding
from sccache_twisted.toolchains.tree import Collector
from sccache_twisted.worker.bubblewrap import Bubblewrap
from sccache_twisted.worker.executor import Executor, Workshop
from sccache_twisted.worker.limits import JobLimits
from sccache_twisted.worker.starter import starter_program
from sccache_twisted.worker.threads import Threads

ENV = ((b"PATH", b"/usr/local/bin:/usr/bin:/bin"), (b"LANG", b"C.UTF-8"))
TRY = Try(JobId("01920000-0000-7000-8000-000000000001"), 1)
LIMITS = JobLimits(1 << 30, 64, 60.0, 60.0, 64 << 20)


def digest_of(data: bytes) -> Digest:
    return Digest(blake3.blake3(data).hexdigest())


def open_directory() -> Path:
    """A directory that every uid may traverse, which pytest's are not."""
    made = Path(tempfile.mkdtemp(prefix="sccache-twisted-test-", dir="/var/tmp"))
    made.chmod(0o711)
    return made


class Shop:
    """An executor over stores in a directory."""

    def __init__(self, reactor, directory: Path, owners=(), groups=(), limits=LIMITS, **bounds):
        self.directory = directory
        for name in ("jobs", "toolchains", "blobs"):
            (directory / name).mkdir(exist_ok=True)
            (directory / name).chmod(0o711)
        self.toolchains = ToolchainStore(os.fsencode(directory / "toolchains"), 4 << 30)
        self.blobs = BlobStore(os.fsencode(directory / "blobs"), 1 << 30)
        starter = directory / "starter"
        starter.unlink(missing_ok=True)
        starter.write_bytes(starter_program(os.uname().machine, limits.processes, os.uname().release))
        starter.chmod(0o755)
        self.threads = Threads(reactor, 8)
        self.threads.start()
        self.executor = Executor(
            reactor,
            self.threads,
            Workshop(
                toolchains=self.toolchains,
                blobs=self.blobs,
                jobs=os.fsencode(directory / "jobs"),
                bubblewrap=Bubblewrap.find("bwrap"),
                owners=owners,
                starter=os.fsencode(starter),
                limits=limits,
                max_stream_bytes=bounds.get("max_stream_bytes", 1 << 20),
                max_output_bytes=bounds.get("max_output_bytes", 16 << 20),
            ),
            EventLog.of("test"),
        )
        self.executor.start(groups)

    def add_toolchain(self, digest: Digest, archive: bytes) -> None:
        if self.toolchains.get(digest) is None:
            intake = self.toolchains.begin(digest)
            intake.write(Path(os.fsdecode(archive)).read_bytes())
            intake.finish()

    def leftovers(self) -> list[str]:
        return os.listdir(self.directory / "jobs")

    def close(self) -> None:
        self.threads.stop()


def inputs_of(paths, blobs: BlobStore):
    """Inputs as a client would give them: every link and directory on the way, every file with its content stored."""
    around = Collector()
    for path in paths:
        around.add(path)
    found = []
    for place, entry in around.entries.items():
        if entry.kind is EntryKind.LINK:
            found.append(LinkInput(place, entry.target))
        elif entry.kind is EntryKind.DIRECTORY:
            found.append(DirectoryInput(place))
        else:
            data = Path(os.fsdecode(place)).read_bytes()
            blobs.put(digest_of(data), data)
            about = os.stat(place)
            found.append(FileInput(place, digest_of(data), len(data), about.st_mtime_ns, bool(about.st_mode & 0o100)))
    return tuple(found)


def action_of(toolchain: Digest, argv, cwd: Path, outputs, blobs: BlobStore, env=ENV) -> Action:
    """A compilation as a client would send it. ``outputs`` are relative to the cwd; argv[0] is found in /usr/bin."""
    here = os.fsencode(cwd)
    argv = tuple(word.encode() for word in argv)
    at = argv.index(b"-o") if b"-o" in argv else len(argv)
    listing = [*argv[:at], *argv[at + 2 :], b"-M", b"-MF", b"-", b"-MT", b"x"]
    listed = subprocess.run(listing, cwd=cwd, env=dict(env), capture_output=True, check=True)
    words = listed.stdout.replace(b"\\\n", b" ").partition(b":")[2].split()
    paths = [os.path.join(here, word) for word in words]
    return Action(
        toolchain=toolchain,
        executable=os.fsencode(shutil.which(os.fsdecode(argv[0]), path="/usr/bin:/bin")),
        argv=argv,
        cwd=here,
        env=tuple(env),
        inputs=(*inputs_of([*paths, here], blobs), DirectoryInput(here)),
        outputs=tuple(os.path.join(here, name.encode()) for name in outputs),
    )


def program_in(shop: Shop, source: str, cwd: bytes = b"/w", outputs=(), argv=(), name="probe") -> Action:
    """An action that runs a small C program of the test's own, statically linked, in an empty world."""
    work = shop.directory / "programs"
    work.mkdir(exist_ok=True)
    binary = work / digest_of(source.encode())
    if not binary.exists():
        subprocess.run(["gcc", "-static", "-O1", "-x", "c", "-", "-o", str(binary)], input=source.encode(), check=True)
    data = binary.read_bytes()
    shop.blobs.put(digest_of(data), data)
    path = f"/bin/{name}".encode()
    return Action(
        toolchain=tiny_toolchain(shop),
        executable=path,
        argv=(path, *argv),
        cwd=cwd,
        env=(),
        inputs=(FileInput(path, digest_of(data), len(data), 0, True), DirectoryInput(cwd)),
        outputs=tuple(outputs),
    )


def tiny_tar() -> bytes:
    """The archive of a toolchain that holds one file, /opt/tool/sealed."""
    content = b"sealed"
    members = [Entry(b"/opt", EntryKind.DIRECTORY), Entry(b"/opt/tool", EntryKind.DIRECTORY)]
    sealed = Entry(b"/opt/tool/sealed", EntryKind.FILE, 0o444, size=len(content))
    return b"".join(map(member_header, [*members, sealed])) + content + padding(len(content)) + END


def tiny_toolchain(shop: Shop) -> Digest:
    """That toolchain in a shop's store."""
    digest = digest_of(tiny_tar())
    if shop.toolchains.get(digest) is None:
        intake = shop.toolchains.begin(digest)
        intake.write(zstandard.ZstdCompressor().compress(tiny_tar()))
        intake.finish()
    return digest
