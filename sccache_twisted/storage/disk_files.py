"""The files of a cache on disk: one an entry, for any number of daemons at once.

An entry is ``a/b/KEY`` below the directory, by the key's first two digits. It is written whole beside its place, in
``writing/``, and then renamed, so a reader sees all of it or nothing, whoever is killed when. The time of a file is
that of its last use; when room is needed, the longest unused go first.

How much the directory holds is known without looking through it: ``size`` has a number that is never too small. Under
its lock a writer adds first and claims the space in its draft then, and whoever removes something subtracts last: who
is killed in between leaves too large a number, which the next cleaning corrects, since it counts. One process cleans
at a time, and nobody waits for it; who removes on a person's order does so in its place.

The lock of a draft in ``writing/`` is held by its writer, so what a dead one left behind can be told and removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import frozen

from sccache_twisted.errors import StorageError
from sccache_twisted.interfaces import Removed, Survey
from sccache_twisted.storage.copying import write_all
from sccache_twisted.storage.entries import MAX_ENTRY_BYTES, check_key, check_size

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_DRAFT = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_LOCK = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_BLOCK = 4096
_CLEAN_FROM, _CLEAN_TO = 0.95, 0.8
"""Cleaning begins when this part of the capacity is taken, and ends when so much is left."""

_HEX = "0123456789abcdef"
_TRIES = 3


@frozen
class _Found:
    """A file that cleaning has seen."""

    used_ns: int
    path: bytes
    size: int


class DiskDirectory:
    """The files. Blocks, for a moment to read and for a second to clean. May be used from many threads.

    StorageError when the directory can't be made.
    """

    def __init__(self, directory: bytes, capacity_bytes: int) -> None:
        self.path = os.path.abspath(directory)
        self._capacity = capacity_bytes
        self._writing = self.path + b"/writing"
        try:
            self._make()
            self._sweep_drafts()
        except OSError as problem:
            raise _failure(self.path, problem) from problem

    def size(self) -> int:
        """Bytes of disk taken, in whole blocks; never less than there are. The first answer may take a count."""
        try:
            if self._counted() > self._capacity:
                # More than there may be: it was counted while much was being replaced.
                self._clean(remove=False)
            return self._counted()
        except OSError as problem:
            raise _failure(self.path, problem) from problem

    def open(self, key: str) -> tuple[int, int] | None:
        """A descriptor of an entry, for the caller to close, and its size; None if there is none. It counts as used."""
        check_key(key)
        try:
            descriptor = os.open(self._place(key), _READ)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as problem:
            raise _failure(self._place(key), problem) from problem
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_ENTRY_BYTES:
            os.close(descriptor)
            raise StorageError(f"{os.fsdecode(self._place(key))} is no entry of a cache.")
        # On a disk that is read-only, or another user's, the order of use stays as it is.
        with suppress(OSError):
            os.utime(descriptor)
        return descriptor, found.st_size

    def put(self, key: str, entry: bytes) -> None:
        """Store an entry; StorageError when it can't be, and then there is nothing of it."""
        check_key(key)
        check_size(entry, min(MAX_ENTRY_BYTES, self._capacity))
        place = self._place(key)
        try:
            for left in reversed(range(_TRIES)):
                try:
                    self._write(place, entry)
                except FileNotFoundError:
                    # Somebody has removed our directories.
                    if not left:
                        raise
                    self._make(os.path.dirname(place))
                else:
                    break
        except OSError as problem:
            raise _failure(place, problem) from problem

    def delete(self, key: str) -> None:
        """Remove an entry, if it is there."""
        check_key(key)
        place = self._place(key)
        try:
            with self._ledger() as ledger:
                ledger.add(-_unlink(place))
        except OSError as problem:
            raise _failure(place, problem) from problem

    def survey(self) -> Survey:
        """Count the entries, in whole blocks of disk."""
        entries = size = 0
        oldest: int | None = None
        newest: int | None = None
        try:
            for one in self._entries():
                entries += 1
                size += one.size
                oldest = one.used_ns if oldest is None else min(oldest, one.used_ns)
                newest = one.used_ns if newest is None else max(newest, one.used_ns)
        except OSError as problem:
            raise _failure(self.path, problem) from problem
        return Survey(entries, size, oldest, newest)

    def evict(self, before_ns: int | None = None) -> Removed:
        """Remove the entries that were last used before then, or all of them, and what dead writers left.

        What is stored or used while this goes on stays.
        """
        entries = size = 0
        try:
            self._counted()
            with self._cleaning_lock(wait=True):
                self._sweep_drafts()
                for one in list(self._entries()):
                    if before_ns is None or one.used_ns < before_ns:
                        freed = self._remove_unused(one, before_ns)
                        entries += freed > 0
                        size += freed
        except OSError as problem:
            raise _failure(self.path, problem) from problem
        return Removed(entries, size)

    # --- its own ---

    def _remove_unused(self, one: _Found, before_ns: int | None) -> int:
        # Writers put their entries in place under this lock, so what is judged here is what goes.
        with self._ledger() as ledger:
            try:
                now = os.lstat(one.path)
            except FileNotFoundError:
                return 0
            if now.st_mtime_ns != one.used_ns and (before_ns is None or now.st_mtime_ns >= before_ns):
                return 0
            freed = _unlink(one.path)
            ledger.add(-freed)
            return freed

    @contextmanager
    def _cleaning_lock(self, *, wait: bool) -> Iterator[bool]:
        """One process cleans at a time; False where another does and nobody is to wait for it."""
        lock = os.open(self.path + b"/cleaning", _LOCK, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    def _place(self, key: str) -> bytes:
        name = key.encode()
        return b"%b/%b/%b/%b" % (self.path, name[:1], name[1:2], name)

    def _make(self, *more: bytes) -> None:
        for directory in (self.path, self._writing, *more):
            os.makedirs(directory, 0o700, exist_ok=True)

    def _write(self, place: bytes, entry: bytes) -> None:
        needed = _on_disk(len(entry))
        draft = b"%b/%d-%b" % (self._writing, os.getpid(), os.urandom(8).hex().encode())
        claimed = False
        descriptor: int | None = None
        self._counted()
        try:
            with self._ledger() as ledger:
                # Nobody sweeps meanwhile: a draft that is not locked would be taken for a dead writer's.
                descriptor = os.open(draft, _DRAFT, 0o600)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                total = ledger.add(needed)
                claimed = True
                os.ftruncate(descriptor, len(entry))
            self._make_room(total)
            write_all(descriptor, entry)
            with self._ledger() as ledger:
                before = _size_at(place)
                os.rename(draft, place)
                ledger.add(-before)
        except BaseException:
            with self._ledger() as ledger:
                with suppress(FileNotFoundError):
                    os.unlink(draft)
                if claimed:
                    ledger.add(-needed)
            raise
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _make_room(self, total: int) -> None:
        """Clean when it is time to; StorageError when there is no room yet."""
        if total > self._capacity * _CLEAN_FROM:
            self._clean()
            if self._counted() > self._capacity:
                raise StorageError(f"the cache in {os.fsdecode(self.path)} is full and being cleaned.")

    def _counted(self) -> int:
        """The number in ``size``; where there is none, somebody counts first."""
        with self._ledger() as ledger:
            total = ledger.total()
        if total is None:
            self._clean(wait=True)
            with self._ledger() as ledger:
                total = ledger.total()
        return total or 0

    @contextmanager
    def _ledger(self) -> Iterator[_Ledger]:
        try:
            descriptor = os.open(self.path + b"/size", _LOCK, 0o600)
        except FileNotFoundError:
            self._make()
            descriptor = os.open(self.path + b"/size", _LOCK, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield _Ledger(descriptor)
        finally:
            os.close(descriptor)

    def _clean(self, *, wait: bool = False, remove: bool = True) -> None:
        """Count, and ``remove`` the longest unused where too much is there. Where another is at it, only ``wait``."""
        with self._cleaning_lock(wait=False) as ours:
            if ours:
                self._count_and_clean(self._capacity * _CLEAN_TO if remove else None)
        if not ours and wait:
            with self._cleaning_lock(wait=True):
                return

    def _count_and_clean(self, most: float | None) -> None:
        self._sweep_drafts()
        with self._ledger() as ledger:
            before = ledger.added()
            drafts = sum(_size_at(self._writing + b"/" + name) for name in os.listdir(self._writing))
        found = sorted(self._entries(), key=lambda one: one.used_ns)
        held = drafts + sum(one.size for one in found)
        for one in found:
            if most is None or held <= most:
                break
            held -= _unlink(one.path)
        with self._ledger() as ledger:
            # What others have added meanwhile may or may not have been seen, so it counts. What they have removed does
            # not: it may have been gone before it was looked for.
            ledger.set(held + max(0, ledger.added() - before))

    def _entries(self) -> Iterator[_Found]:
        for first in _HEX:
            for second in _HEX:
                try:
                    entries = os.scandir(b"%b/%b/%b" % (self.path, first.encode(), second.encode()))
                except FileNotFoundError:
                    continue
                with entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):
                            one = entry.stat(follow_symlinks=False)
                            yield _Found(one.st_mtime_ns, entry.path, _on_disk(one.st_size))

    def _sweep_drafts(self) -> None:
        """Remove the drafts whose writers are dead."""
        for name in os.listdir(self._writing):
            draft = self._writing + b"/" + name
            try:
                descriptor = os.open(draft, _READ)
            except FileNotFoundError:
                continue
            try:
                with self._ledger() as ledger:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    ledger.add(-_unlink(draft))
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)


class _Ledger:
    """The file ``size``, while it is locked: the bytes that are taken, and all that were ever added."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def total(self) -> int | None:
        """The bytes taken; None where nobody knows, so that somebody must count."""
        numbers = os.pread(self._descriptor, 64, 0).split()
        return int(numbers[0]) if numbers and numbers[0].isdigit() else None

    def added(self) -> int:
        """The bytes that were ever added: what is more of them later was added meanwhile."""
        numbers = os.pread(self._descriptor, 64, 0).split()
        return int(numbers[1]) if len(numbers) == 2 and numbers[1].isdigit() else 0

    def add(self, count: int) -> int:
        """Add to the bytes, and give them; from a number that isn't there nothing is taken, so it is counted."""
        total = self.total()
        if total is None and count <= 0:
            return 0
        return self._write((total or 0) + count, self.added() + max(0, count))

    def set(self, total: int) -> int:
        """Write what was counted."""
        return self._write(total, self.added())

    def _write(self, total: int, added: int) -> int:
        os.pwrite(self._descriptor, b"%020d %020d\n" % (max(0, total), added), 0)
        return total


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _size_at(path: bytes) -> int:
    try:
        return _on_disk(os.lstat(path).st_size)
    except FileNotFoundError:
        return 0


def _unlink(path: bytes) -> int:
    """Remove a file; the bytes of disk that were its own, none if it wasn't there."""
    try:
        size = _size_at(path)
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return size


def _failure(path: bytes, problem: OSError) -> StorageError:
    full = problem.errno in {errno.ENOSPC, errno.EDQUOT}
    what = "the disk is full" if full else problem.strerror or str(problem)
    return StorageError(f"{os.fsdecode(path)}: {what}.")
