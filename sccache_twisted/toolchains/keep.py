"""A worker's toolchains on disk: complete or absent, verified, pinned while jobs use them, evicted when not.

An upload is unpacked into a directory of its own beside the others and renamed into place when its digest
is right, so kill -9 at any moment leaves a whole toolchain or a leftover, and leftovers are swept at start.
The directory belongs to one worker. All objects but :class:`Intake` may be shared between threads; whatever
reads or writes files blocks, so call it in a thread.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable

import blake3
from attrs import define, evolve, field, frozen

from sccache_twisted.errors import BadArchive, WorkerStorage
from sccache_twisted.model import Digest
from sccache_twisted.toolchains.archive import ArchiveLimits
from sccache_twisted.toolchains.intake import Intake
from sccache_twisted.toolchains.record import NAME, Record, Toolchain, boot_id, read_record, write_record
from sccache_twisted.toolchains.tree import Entry
from sccache_twisted.toolchains.unpack import PASSABLE, Seal, storage_failure

__all__ = ["Intake", "StoreChanges", "Toolchain", "ToolchainStore"]

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_LEFTOVER = b".in-"


@frozen
class StoreChanges:
    """Which toolchains came and went since the last time anybody asked: what a heartbeat tells the scheduler."""

    added: frozenset[Digest]
    dropped: frozenset[Digest]


_Expected = list[tuple[bytes, list[tuple[int, bytes, tuple[int, int, int]]]]]


@define
class _Kept:
    """One toolchain in the store. ``used`` orders by last use; ``fresh``: verified in this boot.

    ``expected`` is what each file's stat should say, made at the first check; ``reading`` lets one of several
    jobs read the files again for all.
    """

    record: Record
    used: int
    pins: int = 0
    fresh: bool = True
    expected: _Expected = field(factory=list)
    reading: threading.Lock = field(factory=threading.Lock)


class ToolchainStore:
    """Toolchains below one directory, at most ``capacity_bytes`` of them, uploads in progress included.

    ``dropped`` is told, in whatever thread, which one is no longer kept and why. WorkerStorage when the directory can't
    be made or read.
    """

    def __init__(self, directory: bytes, capacity_bytes: int, limits: ArchiveLimits | None = None) -> None:
        self.dropped: Callable[[Digest, str], None] = lambda _digest, _reason: None
        self._directory = os.path.abspath(directory)
        self._capacity = capacity_bytes
        limits = limits or ArchiveLimits()
        self._limits = evolve(limits, unpacked_bytes=min(limits.unpacked_bytes, capacity_bytes))
        self._lock = threading.RLock()
        self._kept: dict[Digest, _Kept] = {}
        self._size = 0
        self._clock = 0
        self._added: set[Digest] = set()
        self._dropped: set[Digest] = set()
        self._boot = boot_id()
        try:
            os.makedirs(self._directory, exist_ok=True)
            os.chmod(self._directory, PASSABLE)  # jobs run as other uids and must pass
            self._load()
        except OSError as problem:
            raise storage_failure(self._directory, problem) from problem

    # --- asking ---

    def digests(self) -> frozenset[Digest]:
        """All toolchains in the store."""
        with self._lock:
            return frozenset(self._kept)

    @property
    def size(self) -> int:
        """Bytes taken, uploads in progress included."""
        return self._size

    def get(self, digest: Digest) -> Toolchain | None:
        """A toolchain, if it is here; counts as a use. Reads nothing: see :meth:`verify`."""
        with self._lock:
            kept = self._kept.get(digest)
            if kept is None:
                return None
            self._touch(kept)
            return kept.record.toolchain

    def take_changes(self) -> StoreChanges:
        """What came and went since the last call. One that did both appears in neither."""
        with self._lock:
            changes = StoreChanges(frozenset(self._added), frozenset(self._dropped))
            self._added, self._dropped = set(), set()
            return changes

    # --- while jobs use it ---

    def pin(self, digest: Digest) -> bool:
        """Keep a toolchain from being evicted until as many :meth:`unpin`; False when it isn't here."""
        with self._lock:
            kept = self._kept.get(digest)
            if kept is None:
                return False
            kept.pins += 1
            self._touch(kept)
        try:
            os.utime(os.path.join(self.place(digest), NAME))  # the order of use, for the next start
        except OSError:
            return digest in self._kept
        return True

    def unpin(self, digest: Digest) -> None:
        """Take back one :meth:`pin`; nothing if the toolchain was found corrupt and dropped meanwhile."""
        with self._lock:
            kept = self._kept.get(digest)
            if kept is not None and kept.pins:
                kept.pins -= 1

    def verify(self, digest: Digest) -> bool:
        """Whether a toolchain is here and whole: call it before every job.

        Costs a stat a file, 0.8 ms for gcc. A file whose inode, size or time differ from the record is read
        and compared; so is every file at the first use in another boot. A toolchain with a wrong file is
        dropped, even if pinned: what runs has its own links, what would start must not.
        """
        with self._lock:
            kept = self._kept.get(digest)
            if kept is None:
                return False
        if not _stale(kept):
            return True
        with kept.reading:
            return self._read_again(digest, kept)

    def _read_again(self, digest: Digest, kept: _Kept) -> bool:
        sealed = kept.record.sealed()
        seals = list(kept.record.seals)
        for index in _stale(kept):
            seal = _reread(*sealed[index])
            if seal is None:
                self.drop(digest)
                return False
            seals[index] = seal
        with self._lock:
            if self._kept.get(digest) is not kept:
                return False
            kept.record, kept.fresh = evolve(kept.record, seals=tuple(seals), boot=self._boot), True
            kept.expected = []
        try:
            write_record(kept.record, self.place(digest))
        except OSError:
            return True  # the files are right; only the next start will have to read them again
        return True

    def drop(self, digest: Digest) -> None:
        """Remove a toolchain, pinned or not."""
        with self._lock:
            kept = self._kept.pop(digest, None)
            if kept is None:
                return
            self._size -= kept.record.toolchain.size
            self._note(digest, gone=True)
            doomed = self._set_aside(digest)
        self.dropped(digest, "a file of it is damaged")
        shutil.rmtree(doomed, ignore_errors=True)

    # --- receiving ---

    def begin(self, digest: Digest) -> Intake:
        """Start to receive a toolchain. BadArchive for a digest that is none; WorkerStorage."""
        if not _DIGEST.match(digest):
            raise BadArchive(f"{digest[:80]!r} is no digest.")
        try:
            directory = tempfile.mkdtemp(prefix=_LEFTOVER, dir=self._directory)
            return Intake(self, digest, directory, self._limits)
        except OSError as problem:
            raise storage_failure(self._directory, problem) from problem

    def reserve(self, size: int) -> None:
        """Make room for an upload, evicting the longest unused; WorkerStorage when the rest is pinned."""
        with self._lock:
            self._size += size
            doomed = {}
            for digest, kept in sorted(self._kept.items(), key=lambda item: item[1].used):
                if self._size <= self._capacity:
                    break
                if not kept.pins:
                    del self._kept[digest]
                    self._size -= kept.record.toolchain.size
                    self._note(digest, gone=True)
                    doomed[digest] = self._set_aside(digest)
            fits = self._size <= self._capacity
            if not fits:
                self._size -= size
        for digest, directory in doomed.items():
            self.dropped(digest, "its room is needed")
            shutil.rmtree(directory, ignore_errors=True)
        if not fits:
            raise WorkerStorage("the worker's toolchain store is full of toolchains in use.")

    def release(self, size: int) -> None:
        """Give back what an upload had reserved."""
        with self._lock:
            self._size -= size

    def accept(self, record: Record, directory: bytes, reserved: int) -> Toolchain:
        """Rename a whole toolchain into place; if another upload of it was faster, that one stays."""
        digest = record.toolchain.digest
        final = self.place(digest)
        with self._lock:
            kept = self._kept.get(digest)
            if kept is None:
                if os.path.lexists(final):  # what an earlier rename could not set aside
                    shutil.rmtree(final)
                os.rename(directory, final)
                kept = self._kept[digest] = _Kept(record, 0)
                self._size += record.toolchain.size - reserved
                self._note(digest, gone=False)
            else:
                self._size -= reserved
            self._touch(kept)
            return kept.record.toolchain

    # --- its own ---

    def place(self, digest: Digest) -> bytes:
        """The directory that a toolchain has or would have."""
        return os.path.join(self._directory, digest.encode())

    def _touch(self, kept: _Kept) -> None:
        self._clock += 1
        kept.used = self._clock

    def _note(self, digest: Digest, *, gone: bool) -> None:
        one, other = (self._dropped, self._added) if gone else (self._added, self._dropped)
        if digest in other:
            other.discard(digest)
        else:
            one.add(digest)

    def _set_aside(self, digest: Digest) -> bytes:
        """Make a toolchain a leftover in one step, so that no half of it is ever taken for the whole.

        A rename needs no room, so this works on a full disk too.
        """
        self._clock += 1
        doomed = os.path.join(self._directory, _LEFTOVER + b"%d-%s" % (self._clock, digest.encode()))
        try:
            os.rename(self.place(digest), doomed)
        except OSError:
            return self.place(digest)
        return doomed

    def _load(self) -> None:
        found = []
        for name in os.listdir(self._directory):
            place = os.path.join(self._directory, name)
            digest = Digest(os.fsdecode(name))
            record = read_record(digest, place) if _DIGEST.match(digest) else None
            if record is not None:
                found.append((os.stat(os.path.join(place, NAME)).st_mtime_ns, record))
            elif name.startswith(_LEFTOVER) or _DIGEST.match(digest):
                shutil.rmtree(place)
        for _, record in sorted(found, key=lambda item: item[0]):
            kept = _Kept(record, 0, fresh=record.boot == self._boot)
            self._touch(kept)
            self._kept[record.toolchain.digest] = kept
            self._size += record.toolchain.size
        self.reserve(0)
        self.take_changes()


def _stale(kept: _Kept) -> list[int]:
    """The files that must be read again, as indices into ``sealed()``."""
    if not kept.fresh:
        return list(range(len(kept.record.seals)))
    if not kept.expected:
        kept.expected = _expectations(kept.record)
    stale = []
    for directory, files in kept.expected:
        # One descriptor a directory: a stat by a long path costs twice as much.
        try:
            inside = os.open(directory, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            stale += [index for index, _, _ in files]
            continue
        try:
            for index, name, expected in files:
                try:
                    found = os.stat(name, dir_fd=inside, follow_symlinks=False)
                except OSError:
                    stale.append(index)
                    continue
                if (found.st_ino, found.st_mtime_ns, found.st_size) != expected:
                    stale.append(index)
        finally:
            os.close(inside)
    return stale


def _expectations(record: Record) -> _Expected:
    """What a stat of each file should say, by directory."""
    found: dict[bytes, list[tuple[int, bytes, tuple[int, int, int]]]] = {}
    for index, (entry, seal) in enumerate(record.sealed()):
        directory, _, name = entry.stored.rpartition(b"/")
        found.setdefault(directory, []).append((index, name, (seal.inode, seal.mtime_ns, entry.size)))
    return list(found.items())


def _reread(entry: Entry, seal: Seal) -> Seal | None:
    """A new seal for a file whose content is still right, else None."""
    try:
        descriptor = os.open(entry.stored, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
                return None
            content = blake3.blake3()
            while piece := stream.read(1 << 20):
                content.update(piece)
            if stat.S_IMODE(found.st_mode) != entry.mode:
                os.fchmod(descriptor, entry.mode)
    except OSError:
        return None
    if content.hexdigest() != seal.digest:
        return None
    return Seal(seal.digest, found.st_ino, found.st_mtime_ns)
