"""Input blobs: verified, bounded, and sound whatever happens to the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import blake3
import pytest

from sccache_twisted.errors import DigestMismatch, MissingInputs, WorkerStorage
from sccache_twisted.model import Digest
from sccache_twisted.storage.blobs import SMALL, BlobStore

MIB = 1 << 20


def digest_of(data: bytes) -> Digest:
    return Digest(blake3.blake3(data).hexdigest())


def put(store: BlobStore, data: bytes) -> Digest:
    digest = digest_of(data)
    store.put(digest, data)
    return digest


@pytest.fixture
def place(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path / "blobs")


def overwrite(path: bytes, data: bytes, *, keep_time: bool = False) -> None:
    before = os.stat(path)
    os.chmod(path, 0o644)
    with open(path, "r+b") as out:
        out.write(data)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def files_in(place: bytes) -> list[bytes]:
    return [os.path.join(top, name) for top, _, names in os.walk(place) for name in names]


def test_a_blob_comes_back_as_it_went_in(place: bytes) -> None:
    """What is put is there, read-only, by its digest alone; what isn't is named as missing, in order."""
    store = BlobStore(place, 10 * MIB)
    small, large, empty = put(store, b"int a;\n"), put(store, b"x" * (SMALL + 1)), put(store, b"")
    other = digest_of(b"other")
    assert store.missing([other, small, large, empty]) == [other]
    assert store.read(small) == b"int a;\n"
    assert store.read(large) == b"x" * (SMALL + 1)
    assert store.read(empty) == b""
    assert os.stat(store.path(small)).st_mode & 0o777 == 0o444
    descriptor = store.open(small)
    assert os.read(descriptor, 100) == b"int a;\n"
    os.close(descriptor)
    with pytest.raises(MissingInputs):
        store.read(other)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_content_under_a_false_name_is_refused(place: bytes, digest: str) -> None:
    """A blob must have the digest it is announced with; a digest that is none names no file."""
    store = BlobStore(place, MIB)
    with pytest.raises(DigestMismatch):
        store.put(Digest(digest), b"content")
    with pytest.raises(DigestMismatch):
        store.put(digest_of(b"something else"), b"content")
    assert files_in(place) == []
    assert store.size == 0


def test_a_restart_keeps_what_was_stored(place: bytes) -> None:
    """Blobs outlive the process; leftovers of a killed one are swept."""
    digest = put(BlobStore(place, MIB), b"kept")
    Path(os.fsdecode(place), ".in-77").write_bytes(b"half")
    Path(os.fsdecode(place), "ab", "garbage").write_bytes(b"?")
    store = BlobStore(place, MIB)
    assert store.missing([digest]) == []
    assert store.read(digest) == b"kept"
    assert not os.path.exists(place + b"/.in-77")
    assert len(store) == 1


@pytest.mark.parametrize("restarted", [False, True])
def test_a_file_that_was_touched_is_read_again_and_dropped_if_wrong(place: bytes, restarted: bool) -> None:
    """A corrupt blob is never handed out: it counts as missing, and may be sent again."""
    store = BlobStore(place, MIB, memory_bytes=0)
    digest = put(store, b"right content")
    overwrite(store.path(digest), b"wrong")
    if restarted:
        store = BlobStore(place, MIB, memory_bytes=0)
    with pytest.raises(MissingInputs, match="corrupt"):
        store.read(digest)
    assert store.missing([digest]) == [digest]
    assert put(store, b"right content") == digest
    assert store.read(digest) == b"right content"


def test_a_file_that_was_touched_and_is_right_stays(place: bytes) -> None:
    """A new time alone costs one reading; then the blob is sealed again."""
    store = BlobStore(place, MIB, memory_bytes=0)
    digest = put(store, b"right")
    sealed = os.stat(store.path(digest)).st_mtime_ns
    os.utime(store.path(digest))
    assert store.read(digest) == b"right"
    assert os.stat(store.path(digest)).st_mtime_ns == sealed


def test_after_another_boot_every_blob_is_read_before_it_is_used(place: bytes) -> None:
    """A power cut may empty a file and keep its size and time: nothing of an earlier boot is believed unread."""
    store = BlobStore(place, MIB, boot="first")
    torn, whole = put(store, b"torn"), put(store, b"whole")
    overwrite(store.path(torn), b"\0\0\0\0", keep_time=True)
    after = BlobStore(place, MIB, boot="second")
    with pytest.raises(MissingInputs):
        after.read(torn)
    assert after.read(whole) == b"whole"


def test_a_file_that_vanished_is_missing(place: bytes) -> None:
    """A blob removed behind the store's back is sent again."""
    store = BlobStore(place, MIB, memory_bytes=0)
    digest = put(store, b"gone")
    os.unlink(store.path(digest))
    with pytest.raises(MissingInputs):
        store.open(digest)
    assert store.missing([digest]) == [digest]
    assert store.size == 0


def test_a_link_in_a_blobs_place_is_not_followed(place: bytes, tmp_path: Path) -> None:
    """A symbolic link or a FIFO where a blob should be makes it missing, and nobody waits."""
    (tmp_path / "secret").write_bytes(b"secret")
    store = BlobStore(place, MIB, memory_bytes=0)
    for make in (lambda path: os.symlink(tmp_path / "secret", path), os.mkfifo):
        digest = put(store, b"secret")
        os.unlink(store.path(digest))
        make(store.path(digest))
        with pytest.raises(MissingInputs):
            store.open(digest)


def test_the_longest_unused_makes_room(place: bytes) -> None:
    """The store stays within its capacity; a lookup counts as a use; what is pinned stays."""
    store = BlobStore(place, 40 << 10)
    digests = [put(store, bytes([index]) * 4096) for index in range(10)]
    assert store.missing([digests[0]]) == []
    assert store.pin([digests[1]]) == []
    put(store, b"new" * 4096)
    assert store.missing(digests) == digests[2:5]
    assert store.size <= 40 << 10
    assert len(files_in(place)) == len(store)


def test_a_store_full_of_pinned_blobs_says_so(place: bytes) -> None:
    """When everything is in use a new blob is refused, whole, and fits when a job has ended."""
    store = BlobStore(place, 8 << 10)
    held = [put(store, b"1"), put(store, b"2")]
    assert store.pin(held) == []
    with pytest.raises(WorkerStorage, match="in use"):
        put(store, b"3")
    store.unpin(held)
    assert store.missing([put(store, b"3")]) == []
    with pytest.raises(WorkerStorage):
        put(store, b"4" * 9000)


def test_a_pinned_put_is_pinned_from_the_first_moment(place: bytes) -> None:
    """What a running job sent is not evicted by what another sends."""
    store = BlobStore(place, 8 << 10)
    mine = digest_of(b"mine")
    store.put(mine, b"mine", pin=True)
    for index in range(5):
        put(store, b"other %d" % index)
    assert store.missing([mine]) == []
    store.unpin([mine])
    for index in range(5):
        put(store, b"more %d" % index)
    assert store.missing([mine]) == [mine]


def test_a_smaller_capacity_is_met_at_start(place: bytes) -> None:
    """A store reopened with less room evicts at once."""
    store = BlobStore(place, MIB)
    for index in range(50):
        put(store, b"%d" % index)
    assert BlobStore(place, 10 * 4096).size <= 10 * 4096
    assert len(files_in(place)) == 10


# --- copies ---


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "job").mkdir()
    descriptor = os.open(tmp_path / "job", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("size", [0, 1, 5000, SMALL, SMALL + 1, 3 * MIB + 7])
@pytest.mark.parametrize("memory", [0, 64 * MIB])
def test_a_copy_has_the_clients_time_and_mode_and_an_inode_of_its_own(
    place: bytes, target: int, size: int, memory: int
) -> None:
    """A job root gets its own file, whatever the umask, from memory or from disk."""
    store = BlobStore(place, 100 * MIB, memory_bytes=memory)
    data = os.urandom(size)
    digest = put(store, data)
    mask = os.umask(0o077)
    try:
        store.copy_to(digest, target, b"a.h", 1_234_567_890_123_456_789, 0o555)
        store.copy_to(digest, target, b"b.h", 5)
    finally:
        os.umask(mask)
    first, second = os.stat("a.h", dir_fd=target), os.stat("b.h", dir_fd=target)
    assert (first.st_mtime_ns, first.st_mode & 0o777) == (1_234_567_890_123_456_789, 0o555)
    assert (second.st_mtime_ns, second.st_mode & 0o777) == (5, 0o444)
    assert len({first.st_ino, second.st_ino, os.stat(store.path(digest)).st_ino}) == 3
    with open(os.open("a.h", os.O_RDONLY, dir_fd=target), "rb") as copy:
        assert copy.read() == data


def test_a_copy_follows_nothing_and_replaces_nothing(place: bytes, target: int, tmp_path: Path) -> None:
    """A link or a file by the name stays as it is."""
    store = BlobStore(place, MIB)
    digest = put(store, b"data")
    os.symlink(tmp_path / "elsewhere", "link", dir_fd=target)
    with pytest.raises(FileExistsError):
        store.copy_to(digest, target, b"link", 0)
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(MissingInputs):
        store.copy_to(digest_of(b"none"), target, b"x", 0)
    assert os.listdir(target) == ["link"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_a_full_disk_is_the_workers_failure_and_leaves_nothing(small_disk: Path) -> None:
    """Disk full: a sentence that says so, no half blob; old blobs still serve, and make way when nobody uses them."""
    store = BlobStore(os.fsencode(small_disk / "blobs"), 100 * MIB)
    kept = put(store, b"kept")
    assert store.pin([kept]) == []
    count = len(files_in(os.fsencode(small_disk)))
    with pytest.raises(WorkerStorage, match="full"):
        put(store, b"x" * (3 * MIB))
    assert len(files_in(os.fsencode(small_disk))) == count
    assert store.read(kept) == b"kept"
    for index in range(10):
        put(store, bytes([index]) * 400_000)  # each fits once others have made way
    assert store.missing([kept]) == []


@pytest.mark.root
def test_a_copy_to_a_full_disk_leaves_nothing(place: bytes, small_disk: Path) -> None:
    """A job root on a full disk is the worker's failure, from memory as from disk, and across filesystems."""
    store = BlobStore(place, 100 * MIB)
    directory = os.open(small_disk, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fits, large = put(store, b"y" * MIB), put(store, b"x" * (3 * MIB))
        store.copy_to(fits, directory, b"fits", 0)
        with pytest.raises(WorkerStorage, match="full"):
            store.copy_to(large, directory, b"large", 0)
        small = put(store, b"z" * SMALL)

        def fill() -> None:
            for index in range(100):
                store.copy_to(small, directory, b"%d" % index, 0)

        with pytest.raises(WorkerStorage, match="full"):
            fill()
        assert not (small_disk / "large").exists()
        assert all(one.stat().st_size in {SMALL, MIB} for one in small_disk.iterdir())
    finally:
        os.close(directory)


# --- many at once, and the end of the process ---


def test_many_threads_share_a_store(place: bytes) -> None:
    """Threads that put, read, pin and evict at once see right content or a missing blob, and the index stays true."""
    store = BlobStore(place, 40 * 4096, memory_bytes=10_000)
    blobs = {digest_of(b"%d" % index * 50): b"%d" % index * 50 for index in range(80)}
    wrong: list[object] = []

    def work(offset: int) -> None:
        items = list(blobs.items())
        for turn in range(300):
            digest, data = items[(turn * 7 + offset) % len(items)]
            try:
                if turn % 3 == 0:
                    store.put(digest, data, pin=True)
                    store.unpin([digest])
                elif store.read(digest) != data:
                    wrong.append(digest)
            except MissingInputs:
                continue
            except Exception as problem:  # noqa: BLE001  any other failure is what this test is for
                wrong.append(problem)

    threads = [threading.Thread(target=work, args=(index * 11,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert store.size <= 40 * 4096
    assert len(files_in(place)) == len(store) == store.size // 4096


WRITER = """
import sys, os, blake3
from sccache_twisted.storage.blobs import BlobStore
store = BlobStore(os.fsencode(sys.argv[1]), 1 << 30)
for index in range(1 << 30):
    data = index.to_bytes(8, "big") * 4000
    store.put(blake3.blake3(data).hexdigest(), data)
    if index == 20:
        print("running", flush=True)
"""


def test_kill_9_leaves_whole_blobs_only(place: bytes) -> None:
    """A worker killed while it stores has, when it comes back, only blobs that are what their name says."""
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, place], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
        store = BlobStore(place, 1 << 30)
        assert len(store) > 20
        assert len(files_in(place)) == len(store)
        for path in files_in(place):
            with open(path, "rb") as stream:
                assert digest_of(stream.read()) == os.path.basename(path).decode()


def test_lookups_of_a_job_cost_less_than_a_millisecond(place: bytes) -> None:
    """250 lookups, pins and unpins of a warm job stay below a millisecond together."""
    store = BlobStore(place, 100 * MIB)
    digests = [put(store, b"%d" % index) for index in range(250)]

    def once() -> float:
        began = time.thread_time()
        assert store.missing(digests) == []
        assert store.pin(digests) == []
        store.unpin(digests)
        return time.thread_time() - began

    assert min(once() for _ in range(50)) < 0.001
