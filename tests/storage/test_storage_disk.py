"""The store on disk: the contract, several at once, a bound that holds, and whatever ends its processes or its disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
from contracts.cache_store import CacheStoreContract, key_of
from twisted.internet import reactor

from sccache_twisted.errors import StorageError
from sccache_twisted.storage.disk import DiskStore
from sccache_twisted.storage.disk_files import DiskDirectory

MIB = 1 << 20
BLOCK = 4096


class TestDisk(CacheStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path):
        return lambda: DiskStore(reactor, os.fsencode(tmp_path / "cache"), self.capacity)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files_of(place: Path) -> DiskDirectory:
    return DiskDirectory(os.fsencode(place), 100 * BLOCK)


def entries_in(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file() and len(path.name) == 64]


def taken(place: Path) -> int:
    """The bytes that really are there, drafts and all, in whole blocks."""
    there = [path for path in place.rglob("*") if path.is_file() and path.name not in {"size", "cleaning"}]
    return sum(-(-path.stat().st_size // BLOCK) * BLOCK for path in there)


def read(files: DiskDirectory, key: str) -> bytes | None:
    opened = files.open(key)
    if opened is None:
        return None
    with os.fdopen(opened[0], "rb") as stream:
        return stream.read()


def set_last_use(place: Path, key: str, second: int) -> None:
    os.utime(place / key[0] / key[1] / key, (second, second))


def test_the_longest_unused_go_first_and_reading_is_use(place: Path) -> None:
    """Cleaning begins before the bound is reached, removes by last use, and says how much is left."""
    files = files_of(place)
    keys = [key_of(str(number)) for number in range(95)]
    for second, key in enumerate(keys):
        files.put(key, b"x" * BLOCK)
        set_last_use(place, key, 1_000_000 + second)
    assert len(entries_in(place)) == 95
    assert read(files, keys[0]) == b"x" * BLOCK
    files.put(key_of("one more"), b"y" * BLOCK)
    left = {path.name for path in entries_in(place)}
    assert keys[0] in left
    assert key_of("one more") in left
    assert left.isdisjoint(keys[1:17])
    assert set(keys[17:]) <= left
    assert files.size() == taken(place) <= 80 * BLOCK


def test_an_entry_that_fits_nowhere_is_refused(place: Path) -> None:
    """What is larger than the whole cache displaces nothing."""
    files = files_of(place)
    files.put(key_of("small"), b"s")
    with pytest.raises(StorageError, match="larger"):
        files.put(key_of("large"), b"l" * 101 * BLOCK)
    assert read(files, key_of("small")) == b"s"
    assert files.size() == BLOCK


def test_a_directory_that_is_removed_under_a_store_is_made_again(place: Path) -> None:
    """Whoever removes the cache's files has an empty cache, not a broken one."""
    files = files_of(place)
    files.put(key_of("before"), b"1")
    subprocess.run(["rm", "-r", str(place)], check=True)
    assert read(files, key_of("before")) is None
    files.put(key_of("after"), b"2")
    assert read(files, key_of("after")) == b"2"
    assert files.size() == BLOCK


def test_a_size_that_nobody_wrote_down_is_counted(place: Path) -> None:
    """A lost or damaged number costs one count, and the bound holds all the same."""
    files = files_of(place)
    for number in range(10):
        files.put(key_of(str(number)), b"x")
    for damage in (b"", b"garbage"):
        (place / "size").write_bytes(damage)
        assert files_of(place).size() == 10 * BLOCK
    (place / "size").unlink()
    files.put(key_of("11th"), b"x")
    assert files.size() == 11 * BLOCK
    (place / "size").unlink()
    files.delete(key_of("11th"))
    assert files.size() == 10 * BLOCK


def test_what_a_dead_writer_left_is_removed_and_what_a_living_one_writes_is_not(place: Path) -> None:
    """A draft is its writer's for as long as the writer lives."""
    files_of(place)
    script = (
        "import sys, fcntl, os, time\n"
        "one = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\nfcntl.flock(one, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\nsys.stdin.read()\n"
    )
    draft = place / "writing" / "1-abc"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(draft)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        files_of(place)
        assert draft.exists()
        writer.kill()
    files_of(place)
    assert not draft.exists()


WRITER = """
import os, sys
from sccache_twisted.storage.disk_files import DiskDirectory
from sccache_twisted.errors import StorageError
files = DiskDirectory(os.fsencode(sys.argv[1]), int(sys.argv[2]))
print("begun", flush=True)
number = 0
while True:
    key = f"{number % 500:064x}"
    try:
        files.put(key, key.encode() * (1 + number * 37 % 400))
    except StorageError as problem:
        if "full" not in str(problem):
            raise
    number += 1
"""


def killed_writers(place: Path, rounds: int, at_once: int) -> None:
    """Writers into one directory, killed at moments that nobody chose; after each round the directory is judged."""
    capacity = 300 * BLOCK
    command = [sys.executable, "-c", WRITER, str(place), str(capacity)]
    for number in range(rounds):
        writers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(at_once)]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"begun\n"
        # Busy with anything for a while that differs: how far the writers come is what varies.
        for _ in range(1 + number * 7 % 23):
            list(os.scandir(place))
            os.sched_yield()
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
        files = DiskDirectory(os.fsencode(place), capacity)
        assert os.listdir(place / "writing") == []
        entries = entries_in(place)
        for path in entries:
            data = path.read_bytes()
            assert data
            assert data == path.name.encode() * (len(data) // 64)
        assert taken(place) <= files.size() <= capacity


def test_writers_that_are_killed_leave_whole_entries_and_keep_the_bound(place: Path) -> None:
    """SIGKILL at any moment, of two daemons on one directory: no bad entry, no draft, no bytes past the bound."""
    killed_writers(place, rounds=6, at_once=2)
    assert entries_in(place)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_thousand_killed_writers(place: Path) -> None:
    """The same a thousand times."""
    killed_writers(place, rounds=500, at_once=2)


@pytest.fixture
def small_disk(tmp_path: Path):
    mounted = tmp_path / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mounted)], check=True)
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


@pytest.mark.root
@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_an_error_that_leaves_nothing_behind(small_disk: Path) -> None:
    """A put on a full disk fails as a store fails; what was there stays, and room makes it work again."""
    store = DiskStore(reactor, os.fsencode(small_disk / "cache"), 100 * MIB)
    await store.put(key_of("kept"), b"k" * 1000)
    with pytest.raises(StorageError, match="the disk is full"):
        await store.put(key_of("large"), os.urandom(MIB))
    assert await store.get(key_of("large")) is None
    assert await store.get(key_of("kept")) == b"k" * 1000
    assert os.listdir(small_disk / "cache" / "writing") == []
    assert await store.size() == BLOCK
    await store.put(key_of("small"), b"s" * 20_000)
    assert await store.get(key_of("small")) == b"s" * 20_000
    await store.close()


@pytest_twisted.ensureDeferred
async def test_two_stores_on_one_directory_share_entries_and_the_bound(place: Path) -> None:
    """Daemons that know nothing of each other stay below one bound together."""
    capacity = 60 * BLOCK
    stores = [DiskStore(reactor, os.fsencode(place), capacity) for _ in range(2)]
    for number in range(150):
        await stores[number % 2].put(key_of(str(number)), b"x" * 3000)
        assert await stores[(number + 1) % 2].get(key_of(str(number))) == b"x" * 3000
        assert taken(place) <= capacity
    for store in stores:
        assert await store.size() == taken(place)
        await store.close()


@pytest_twisted.ensureDeferred
async def test_closing_waits_for_what_is_being_written(place: Path) -> None:
    """A store that is closed at once after a put has stored it."""
    store = DiskStore(reactor, os.fsencode(place), 100 * MIB)
    writing = store.put(key_of("last"), b"z" * MIB)
    await store.close()
    await writing
    assert (place / key_of("last")[0] / key_of("last")[1] / key_of("last")).stat().st_size == MIB
