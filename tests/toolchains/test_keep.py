"""A worker's toolchains are complete or absent, pinned or evictable, and what they were when they came."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import blake3
import pytest
import zstandard

from sccache_twisted.errors import BadArchive, DigestMismatch, WorkerStorage
from sccache_twisted.model import Digest
from sccache_twisted.toolchains import EntryKind, PackagedToolchain, StoreChanges, Toolchain, ToolchainStore

MIB = 1 << 20


def archive(files: dict[str, bytes]) -> tuple[Digest, bytes]:
    """A small toolchain: its digest and its compressed archive."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        top = tarfile.TarInfo("usr")
        top.type = tarfile.DIRTYPE
        tar.addfile(top)
        for name, content in files.items():
            member = tarfile.TarInfo(f"usr/{name}")
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
        end = raw.tell()
    data = raw.getvalue()[:end] + bytes(1024)
    return Digest(blake3.blake3(data).hexdigest()), zstandard.ZstdCompressor().compress(data)


def receive(store: ToolchainStore, digest: Digest, data: bytes, piece: int = 1 << 16) -> Toolchain:
    intake = store.begin(digest)
    for start in range(0, len(data), piece):
        intake.write(data[start : start + piece])
    return intake.finish()


def keep(store: ToolchainStore, number: int, size: int = 10) -> Digest:
    digest, data = archive({"cc": bytes([number]) * size})
    receive(store, digest, data)
    return digest


@pytest.fixture
def place(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path / "toolchains")


def test_a_toolchain_comes_out_as_it_went_in(place: bytes, packaged_gcc: PackagedToolchain) -> None:
    """An upload in pieces of any size becomes a tree that others may read and nobody may write."""
    store = ToolchainStore(place, 1 << 30)
    toolchain = receive(store, packaged_gcc.digest, Path(os.fsdecode(packaged_gcc.path)).read_bytes(), 7919)
    assert store.get(packaged_gcc.digest) == toolchain
    assert store.digests() == {packaged_gcc.digest}
    assert store.verify(packaged_gcc.digest)
    assert store.size == toolchain.size
    for entry in toolchain.entries:
        if entry.kind is EntryKind.FILE:
            assert os.stat(entry.stored).st_mode & 0o7777 in {0o444, 0o555}
        if entry.kind is EntryKind.DIRECTORY:
            assert os.stat(toolchain.root + entry.path).st_mode & 0o7777 == 0o755
        if entry.kind is EntryKind.LINK:
            assert os.readlink(toolchain.root + entry.path) == entry.target


@pytest.mark.root
def test_another_uid_can_run_from_the_store(place: bytes, tmp_path: Path) -> None:
    """Jobs run as other users: they can read and execute a toolchain's files, even when the umask is tight."""
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.getuid() and parent.parts[1:2] == ("tmp",) and len(parent.parts) > 2:
            parent.chmod(0o755)
    mask = os.umask(0o077)
    try:
        store = ToolchainStore(place, MIB)
        digest, data = archive({"hello": b"#!/bin/sh\necho hello\n"})
        toolchain = receive(store, digest, data)
    finally:
        os.umask(mask)
    program = next(entry.stored for entry in toolchain.entries if entry.kind is EntryKind.FILE)
    ran = subprocess.run(["setpriv", "--reuid=12345", "--clear-groups", program], capture_output=True, check=False)
    assert ran.stdout == b"hello\n"


def test_a_restart_keeps_toolchains_and_sweeps_leftovers(place: bytes) -> None:
    """A new worker process has the old one's toolchains, entries and all, and nothing of what was half received."""
    store = ToolchainStore(place, MIB)
    digest = keep(store, 1)
    entries = store.get(digest)
    half = store.begin(archive({"other": b"x" * 100_000})[0])
    half.write(b"\x28\xb5\x2f\xfd")
    os.mkdir(os.path.join(place, b"f" * 64))  # a directory by a digest's name, without a record
    again = ToolchainStore(place, MIB)
    assert again.digests() == {digest}
    assert again.get(digest) == entries
    assert again.verify(digest)
    assert os.listdir(place) == [digest.encode()]


def test_changes_are_told_once(place: bytes) -> None:
    """A heartbeat learns what came and what went since the last; what did both is no news."""
    store = ToolchainStore(place, MIB)
    first, second = keep(store, 1), keep(store, 2)
    assert store.take_changes() == StoreChanges(frozenset({first, second}), frozenset())
    store.drop(first)
    keep(store, 3)
    store.drop(keep(store, 4))
    changes = store.take_changes()
    assert changes.dropped == {first}
    assert len(changes.added) == 1
    assert store.take_changes() == StoreChanges(frozenset(), frozenset())


def test_the_longest_unused_makes_room_and_the_pinned_stays(place: bytes) -> None:
    """An upload evicts what nobody uses, oldest use first; pins are counted."""
    store = ToolchainStore(place, 4 * 8192)
    one, two, three, four = (keep(store, number) for number in range(4))
    assert store.pin(one)
    assert store.pin(one)
    store.unpin(one)
    assert store.get(two) is not None
    five = keep(store, 5)
    assert store.digests() == {one, two, four, five}
    assert store.take_changes().dropped == frozenset()
    assert not store.pin(three)
    store.unpin(one)
    keep(store, 6)
    assert one not in store.digests() or four not in store.digests()
    assert store.size <= 4 * 8192
    assert len(os.listdir(place)) == 4


def test_the_order_of_use_survives_a_restart(place: bytes) -> None:
    """After a restart the toolchain last pinned is not the first to go."""
    store = ToolchainStore(place, MIB)
    one, two, three = (keep(store, number) for number in range(3))
    for position, digest in enumerate((one, two, three)):
        os.utime(os.path.join(place, digest.encode(), b"record"), (position, position))
    assert store.pin(one)
    again = ToolchainStore(place, 3 * 8192)
    keep(again, 9)
    assert two not in again.digests()
    assert {one, three} <= again.digests()


def test_a_store_full_of_toolchains_in_use_says_so(place: bytes) -> None:
    """When everything is pinned an upload is refused with a sentence, and leaves nothing."""
    store = ToolchainStore(place, 2 * 8192)
    for number in (1, 2):
        assert store.pin(keep(store, number))
    digest, data = archive({"cc": b"new"})
    with pytest.raises(WorkerStorage, match="in use"):
        receive(store, digest, data)
    assert len(os.listdir(place)) == 2
    assert store.size == 2 * 8192


def test_uploads_of_one_toolchain_at_once_give_one(place: bytes) -> None:
    """Two uploads of the same digest both end well; the store counts it once."""
    store = ToolchainStore(place, MIB)
    digest, data = archive({"cc": b"same"})
    first, second = store.begin(digest), store.begin(digest)
    first.write(data)
    second.write(data)
    assert first.finish() == second.finish()
    assert store.size == 8192
    assert os.listdir(place) == [digest.encode()]
    assert store.verify(digest)


# --- corruption ---


def only_file(toolchain: Toolchain | None) -> bytes:
    assert toolchain is not None
    return next(entry.stored for entry in toolchain.entries if entry.kind is EntryKind.FILE)


@pytest.mark.parametrize("harm", ["overwrite", "truncate", "remove", "replace by link", "replace by fifo"])
def test_a_harmed_toolchain_is_dropped_before_a_job_uses_it(place: bytes, harm: str, tmp_path: Path) -> None:
    """A file that is not what it was makes the toolchain absent, pinned or not, so that it is sent again."""
    store = ToolchainStore(place, MIB)
    digest = keep(store, 1, size=5000)
    assert store.pin(digest)
    path = only_file(store.get(digest))
    if harm == "overwrite":
        with open(path, "r+b") as out:
            out.write(b"!")
    elif harm == "truncate":
        os.truncate(path, 10)
    else:
        os.unlink(path)
        if harm == "replace by link":
            (tmp_path / "same").write_bytes(b"\x01" * 5000)
            os.symlink(tmp_path / "same", path)
        elif harm == "replace by fifo":
            os.mkfifo(path)
    assert not store.verify(digest)
    assert store.get(digest) is None
    assert not store.verify(digest)
    assert os.listdir(place) == []
    store.unpin(digest)
    assert keep(store, 1, size=5000) == digest
    assert store.verify(digest)


def test_a_touched_toolchain_that_is_right_stays(place: bytes) -> None:
    """A new time or inode alone costs one reading, and the next start believes it."""
    store = ToolchainStore(place, MIB)
    digest = keep(store, 1)
    path = only_file(store.get(digest))
    os.utime(path, (5, 5))
    assert store.verify(digest)
    content = Path(os.fsdecode(path)).read_bytes()
    os.unlink(path)
    Path(os.fsdecode(path)).write_bytes(content)
    assert store.verify(digest)
    again = ToolchainStore(place, MIB)
    assert again.verify(digest)


def test_after_another_boot_every_file_is_read(place: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a file may be empty under its old size and time; the first use finds out."""
    monkeypatch.setattr("sccache_twisted.toolchains.intake.boot_id", lambda: "an earlier boot")
    store = ToolchainStore(place, MIB)
    torn, whole = keep(store, 1), keep(store, 2)
    path = only_file(store.get(torn))
    before = os.stat(path)
    with open(path, "r+b") as out:
        out.write(bytes(10))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = ToolchainStore(place, MIB)
    assert again.verify(whole)
    assert not again.verify(torn)
    assert again.digests() == {whole}


@pytest.mark.parametrize("content", [b"", b"x" * 100, None])
def test_a_torn_record_makes_a_toolchain_absent(place: bytes, content: bytes | None) -> None:
    """A record that is cut or damaged is none: the toolchain is swept, and can be sent again."""
    digest = keep(ToolchainStore(place, MIB), 1)
    record = Path(os.fsdecode(place), digest, "record")
    record.write_bytes(record.read_bytes()[:-3] if content is None else content)
    store = ToolchainStore(place, MIB)
    assert store.digests() == set()
    assert os.listdir(place) == []
    assert keep(store, 1) == digest


# --- the end of the process, the end of the disk ---


UNPACKER = """
import os, sys
from sccache_twisted.toolchains import ToolchainStore
store = ToolchainStore(os.fsencode(sys.argv[1]), 1 << 30)
data = open(sys.argv[2], "rb").read()
stop_at = len(data) * int(sys.argv[4]) // 10
while True:
    intake = store.begin(sys.argv[3])
    for start in range(0, len(data), 1 << 16):
        intake.write(data[start:start + (1 << 16)])
        if start >= stop_at:
            print("there", flush=True)
            stop_at = 1 << 60
    intake.finish()
    store.drop(sys.argv[3])
"""


@pytest.mark.parametrize("tenths", [0, 3, 6, 9])
def test_kill_9_while_unpacking_leaves_whole_toolchains_only(
    place: bytes, packaged_gcc: PackagedToolchain, tenths: int
) -> None:
    """A worker killed at any moment of an upload comes back with the whole toolchain or none, and no leftover."""
    argv = [sys.executable, "-c", UNPACKER, place, packaged_gcc.path, packaged_gcc.digest, str(tenths)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as unpacker:
        assert unpacker.stdout is not None
        assert unpacker.stdout.readline() == b"there\n"
        unpacker.send_signal(signal.SIGKILL)
    store = ToolchainStore(place, 1 << 30)
    assert set(map(os.fsencode, store.digests())) == set(os.listdir(place))
    for digest in store.digests():
        assert store.verify(digest)
    receive(store, packaged_gcc.digest, Path(os.fsdecode(packaged_gcc.path)).read_bytes())
    assert store.verify(packaged_gcc.digest)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_a_full_disk_is_the_workers_failure(small_disk: Path, packaged_gcc: PackagedToolchain) -> None:
    """Disk full during an upload: a sentence that says so, nothing left, and the other toolchains unharmed."""
    store = ToolchainStore(os.fsencode(small_disk / "t"), 1 << 30)
    kept = keep(store, 1)
    with pytest.raises(WorkerStorage, match="full"):
        receive(store, packaged_gcc.digest, Path(os.fsdecode(packaged_gcc.path)).read_bytes())
    assert store.digests() == {kept}
    assert os.listdir(small_disk / "t") == [kept]
    assert store.verify(kept)
    assert store.size == 8192


def test_an_upload_given_up_leaves_nothing(place: bytes) -> None:
    """``abort`` removes what was received, may be called twice, and harms nothing after the end."""
    store = ToolchainStore(place, MIB)
    digest, data = archive({"cc": b"x" * 5000})
    intake = store.begin(digest)
    intake.write(data[: len(data) // 2])
    intake.abort()
    intake.abort()
    assert os.listdir(place) == []
    assert store.size == 0
    with pytest.raises(BadArchive):
        intake.write(data)
    with pytest.raises(BadArchive):
        intake.finish()
    done = store.begin(digest)
    done.write(data)
    done.finish()
    done.abort()
    assert store.verify(digest)


def test_content_under_another_digest_is_refused(place: bytes) -> None:
    """An archive must be what it was announced as."""
    store = ToolchainStore(place, MIB)
    _, data = archive({"cc": b"one"})
    with pytest.raises(DigestMismatch):
        receive(store, archive({"cc": b"two"})[0], data)
    assert os.listdir(place) == []
    with pytest.raises(BadArchive, match="no digest"):
        store.begin(Digest("../../etc"))


def test_many_threads_share_a_store(place: bytes) -> None:
    """Uploads, uses and evictions from many threads at once leave an index that tells the truth."""
    store = ToolchainStore(place, 5 * 8192)
    archives = [archive({"cc": bytes([number]) * 100}) for number in range(12)]
    wrong: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            for turn in range(20):
                digest, data = archives[(turn * 5 + offset) % 12]
                if store.pin(digest):
                    assert store.verify(digest)
                    store.unpin(digest)
                else:
                    receive(store, digest, data)
        except WorkerStorage:
            return  # everything else was in use at that moment
        except BaseException as problem:  # noqa: BLE001  what this test is for
            wrong.append(problem)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert set(os.listdir(place)) == {digest.encode() for digest in store.digests()}
    assert store.size == 8192 * len(store.digests()) <= 5 * 8192
