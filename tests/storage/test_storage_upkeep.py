"""Counting and removing entries on disk: what goes, what stays, and what others do meanwhile."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import pytest_twisted
from contracts.cache_store import key_of
from twisted.internet import reactor

from sccache_twisted.errors import StorageError
from sccache_twisted.interfaces import Removed, Survey
from sccache_twisted.storage import disk_files
from sccache_twisted.storage.disk import DiskStore
from sccache_twisted.storage.disk_files import DiskDirectory
from sccache_twisted.storage.memory import MemoryStore

BLOCK = 4096
SECOND = 1_000_000_000


@pytest.fixture
def files(tmp_path: Path) -> DiskDirectory:
    return DiskDirectory(os.fsencode(tmp_path / "cache"), 10_000 * BLOCK)


def stored(files: DiskDirectory, **seconds: int) -> None:
    """Store an entry of one block for each name, last used at that second."""
    for name, second in seconds.items():
        key = key_of(name)
        files.put(key, b"x")
        os.utime(f"{os.fsdecode(files.path)}/{key[0]}/{key[1]}/{key}", (second, second))


def there(files: DiskDirectory, names: str) -> str:
    """Those of the names that have an entry."""
    found = ""
    for name in names:
        opened = files.open(key_of(name))
        if opened is not None:
            os.close(opened[0])
            found += name
    return found


def test_a_survey_counts_what_is_there(files: DiskDirectory) -> None:
    """Entries, their bytes in whole blocks, the oldest and the newest last use; nothing of an empty store."""
    assert files.survey() == Survey()
    stored(files, a=100, b=300, c=200)
    assert files.survey() == Survey(3, 3 * BLOCK, 100 * SECOND, 300 * SECOND)
    assert files.size() == 3 * BLOCK


def test_what_was_last_used_before_a_time_goes(files: DiskDirectory) -> None:
    """Exactly the entries that were last used before then; reading one is using it."""
    stored(files, a=100, b=200, c=300, d=100)
    assert there(files, "d") == "d"
    assert files.evict(200 * SECOND) == Removed(1, BLOCK)
    assert there(files, "abcd") == "bcd"
    assert files.size() == 3 * BLOCK
    assert files.evict(100 * SECOND) == Removed()


def test_clearing_removes_every_entry_and_what_dead_writers_left(files: DiskDirectory) -> None:
    """Afterwards nothing is there, the size is 0, and the store goes on."""
    stored(files, a=100, b=200)
    draft = os.path.join(files.path, b"writing/99-dead")
    Path(os.fsdecode(draft)).write_bytes(b"half")
    assert files.evict() == Removed(2, 2 * BLOCK)
    assert (there(files, "ab"), files.size(), files.survey(), os.path.exists(draft)) == ("", 0, Survey(), False)
    files.put(key_of("a"), b"new")
    assert (there(files, "a"), files.size()) == ("a", BLOCK)


def test_no_draft_is_taken_for_a_dead_writer_s(files: DiskDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for what dead writers left, between a draft's making and its lock, leaves it to its writer."""
    stored(files, a=100)
    monkeypatch.setattr(disk_files, "_TRIES", 1)
    real, writer, looking = fcntl.flock, threading.current_thread(), threading.Event()
    sweeper = threading.Thread(target=files._sweep_drafts)

    def flock(descriptor: int, operation: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if threading.current_thread() is writer and "/writing/" in name:
            sweeper.start()
            assert looking.wait(30)
        elif threading.current_thread() is sweeper and name.endswith("/size"):
            looking.set()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    files.put(key_of("a"), bytes(2 * BLOCK))
    sweeper.join(30)
    assert (files.size(), files.survey().size, files.survey().entries) == (2 * BLOCK, 2 * BLOCK, 1)


_WRITER = """\
import os, sys
sys.path[:0] = sys.argv[2].split(os.pathsep)
from contracts.cache_store import key_of
from sccache_twisted.storage import disk_files
from sccache_twisted.storage.disk_files import DiskDirectory
disk_files._TRIES = 2  # once for a directory that is not there yet: no draft is swept before it is locked
files = DiskDirectory(os.fsencode(sys.argv[1]), 10_000 * 4096)
for number in range(400):
    files.put(key_of(f"{sys.argv[3]}-{number % 40}"), b"x" * (number % 9000))
print("done", flush=True)
"""


def test_writers_and_evictions_of_several_processes_keep_the_count_exact(files: DiskDirectory) -> None:
    """While two processes store, everything is removed again and again: the size stays what is there."""
    words = [sys.executable, "-c", _WRITER, files.path, os.pathsep.join(sys.path)]
    writers = [subprocess.Popen([*words, name], stdout=subprocess.PIPE) for name in ("first", "second")]
    removed = 0
    try:
        while any(writer.poll() is None for writer in writers):
            removed += files.evict().entries
        assert [writer.communicate()[0] for writer in writers] == [b"done\n", b"done\n"]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert removed > 0
    assert files.size() == files.survey().size
    files.evict()
    assert (files.size(), files.survey()) == (0, Survey())


@pytest_twisted.ensureDeferred
async def test_what_is_stored_during_an_eviction_stays(tmp_path: Path) -> None:
    """An old entry that is replaced, or used, after the eviction has looked at it is not removed."""
    files = DiskDirectory(os.fsencode(tmp_path / "cache"), 10_000 * BLOCK)
    stored(files, a=100, b=100, c=100)
    looked = files._entries

    def then_used():
        found = list(looked())
        files.put(key_of("a"), b"again")
        assert there(files, "b") == "b"
        return found

    files._entries = then_used  # type: ignore[method-assign]  # the moment between looking and removing
    assert files.evict(200 * SECOND) == Removed(1, BLOCK)
    assert there(files, "abc") == "ab"


@pytest_twisted.ensureDeferred
async def test_stores_of_this_machine_survey_and_evict(tmp_path: Path) -> None:
    """The disk's store does so in a thread; the memory's keeps no times, says so, and can be cleared."""
    disk = DiskStore(reactor, os.fsencode(tmp_path / "cache"), 100 * BLOCK)
    await disk.put(key_of("a"), b"x")
    assert (await disk.survey()).entries == 1
    assert await disk.evict(0) == Removed()
    assert await disk.evict(None) == Removed(1, BLOCK)
    await disk.close()
    memory = MemoryStore(1000)
    await memory.put(key_of("a"), b"xyz")
    assert await memory.survey() == Survey(1, 3)
    with pytest.raises(StorageError, match="no times"):
        await memory.evict(5)
    assert await memory.evict(None) == Removed(1, 3)
    assert await memory.get(key_of("a")) is None
    assert memory.size == 0


def test_a_directory_that_cannot_be_read_is_a_sentence(files: DiskDirectory) -> None:
    """What keeps a survey from its answer is a StorageError that names the place."""
    place = Path(os.fsdecode(files.path)) / "0"
    place.mkdir()
    (place / "0").write_text("no directory")
    with pytest.raises(StorageError, match="cache"):
        files.survey()
    with pytest.raises(StorageError, match="cache"):
        files.evict()
