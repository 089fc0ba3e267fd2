"""A worker's inputs on disk: files named by the blake3 of their content.

A blob is verified when it comes in, and sealed: its time is set to a number that follows from its digest, its
size and this boot of the machine. So a file whose (inode, size, time) is not what the index says, or whose time
is not its seal after a restart, has been touched or torn and is read again before it is used; after a power cut
all are. No index file is needed, and kill -9 at any moment loses nothing but the blob being written.

The directory belongs to one worker. The store may be shared between threads; what reads or writes files blocks,
so call it in a thread. :meth:`BlobStore.missing`, ``pin`` and ``unpin`` touch no file.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

import blake3
from attrs import define

from sccache_twisted.errors import DigestMismatch, MissingInputs, WorkerStorage
from sccache_twisted.model import Digest
from sccache_twisted.storage.copying import Copier, write_all
from sccache_twisted.storage.lru import LruLedger

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_LEFTOVER = b".in-"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = {errno.ENOSPC, errno.EDQUOT}
_BLOCK = 4096
SMALL = 64 << 10
"""Blobs up to this size are held in memory while there is room, and written from there."""


@define
class _Blob:
    """What the index knows of a file. ``sound``: verified, and nothing has happened to it if its stat is this."""

    size: int
    inode: int
    mtime_ns: int
    sound: bool


class BlobStore:
    """At most ``capacity_bytes`` of blobs on disk, and ``memory_bytes`` of small ones in memory as well.

    WorkerStorage when the directory can't be made or read. ``boot`` names this boot of the machine. ``damaged`` is
    told, in whatever thread, which blob was found damaged.
    """

    def __init__(
        self, directory: bytes, capacity_bytes: int, memory_bytes: int = 64 << 20, boot: str | None = None
    ) -> None:
        self.damaged: Callable[[Digest], None] = lambda _digest: None
        self._directory = os.path.abspath(directory)
        self._capacity = capacity_bytes
        self._boot = _boot_id() if boot is None else boot
        self._lock = threading.Lock()
        self._ledger: LruLedger[Digest] = LruLedger()
        self._blobs: dict[Digest, _Blob] = {}
        self._memory = _Memory(memory_bytes)
        self._copier = Copier()
        self._serial = 0
        self._incoming = 0
        try:
            self._load()
        except OSError as problem:
            raise _failure(self._directory, problem) from problem

    @property
    def size(self) -> int:
        """Bytes of disk taken, in whole blocks."""
        return self._ledger.total

    def __len__(self) -> int:
        return len(self._blobs)

    # --- without touching a file ---

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        """Those that are not here, in their order; the others count as used."""
        with self._lock:
            touch = self._ledger.touch
            return [digest for digest in digests if not touch(digest)]

    def pin(self, digests: Iterable[Digest]) -> list[Digest]:
        """Keep blobs from being evicted until as many :meth:`unpin`; answers those that aren't here, unpinned."""
        with self._lock:
            pin = self._ledger.pin
            return [digest for digest in digests if not pin(digest)]

    def unpin(self, digests: Iterable[Digest]) -> None:
        """Take back one pin of each; nothing for one that is gone."""
        with self._lock:
            for digest in digests:
                self._ledger.unpin(digest)

    # --- in a thread ---

    def put(self, digest: Digest, data: bytes, *, pin: bool = False) -> None:
        """Store a blob, whole or not at all; ``pin``: as :meth:`pin` would, with no moment in between.

        DigestMismatch when the content isn't what it is announced as; WorkerStorage when the disk or the store is full.
        """
        with self._lock:
            if self._ledger.pin(digest) if pin else self._ledger.touch(digest):
                return
        if not _DIGEST.match(digest) or blake3.blake3(data).hexdigest() != digest:
            raise DigestMismatch(f"a blob announced as {digest[:80]} is {blake3.blake3(data).hexdigest()}.")
        needed = _on_disk(len(data))
        self._reserve(needed)
        try:
            self._store(digest, data, pin=pin)
        except OSError as problem:
            # Others may have filled the disk: what nobody uses makes way, once.
            if problem.errno not in _FULL or not self._evict(max(self._capacity // 8, 2 * needed)):
                raise _failure(self.path(digest), problem) from problem
            try:
                self._store(digest, data, pin=pin)
            except OSError as again:
                raise _failure(self.path(digest), again) from again
        finally:
            with self._lock:
                self._incoming -= needed

    def path(self, digest: Digest) -> bytes:
        """Where a blob lies or would lie."""
        name = digest.encode()
        return b"%s/%s/%s" % (self._directory, name[:2], name)

    def open(self, digest: Digest) -> int:
        """A descriptor of a verified blob, for the caller to close. MissingInputs when it isn't here or is corrupt."""
        descriptor, _ = self._open(digest)
        return descriptor

    def read(self, digest: Digest) -> bytes:
        """A verified blob's content. MissingInputs when it isn't here or is corrupt; WorkerStorage."""
        held = self._memory.get(digest)
        if held is not None:
            return held
        descriptor, size = self._open(digest)
        try:
            data = _read_all(descriptor, size)
        except OSError as problem:
            raise _failure(self.path(digest), problem) from problem
        finally:
            os.close(descriptor)
        if size <= SMALL:
            self._memory.put(digest, data)
        return data

    def copy_to(self, digest: Digest, directory: int, name: bytes, mtime_ns: int, mode: int = 0o444) -> None:
        """Create ``name`` in the directory open as ``directory`` with a blob's content, this time and this mode.

        The copy has an inode of its own. MissingInputs when the blob isn't here or is corrupt; WorkerStorage when
        the disk is full; FileExistsError when there is something by that name. In each case nothing is left.
        """
        try:
            data = self._memory.get(digest)
            if data is None:
                known = self._blobs.get(digest)
                if known is not None and known.size <= SMALL:
                    data = self.read(digest)
            if data is not None:
                self._copier.write(data, directory, name, mtime_ns, mode)
                return
            source, size = self._open(digest)
            try:
                self._copier.copy(source, size, directory, name, mtime_ns, mode)
            finally:
                os.close(source)
        except FileExistsError:
            raise
        except OSError as problem:
            raise _failure(name, problem) from problem

    def drop(self, digest: Digest) -> None:
        """Remove a blob, pinned or not."""
        with self._lock:
            self._forget(digest)

    # --- its own ---

    def _open(self, digest: Digest) -> tuple[int, int]:
        known = self._blobs.get(digest)
        if known is None:
            raise MissingInputs(f"the input {digest[:80]} is not here.")
        try:
            descriptor = os.open(self.path(digest), _READ)
        except OSError as problem:
            if problem.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                raise _failure(self.path(digest), problem) from problem
            self.drop(digest)
            raise MissingInputs(f"the input {digest} is no longer here.") from problem
        try:
            found = os.fstat(descriptor)
            if not known.sound or (found.st_ino, found.st_size, found.st_mtime_ns) != (
                known.inode,
                known.size,
                known.mtime_ns,
            ):
                self._verify(digest, descriptor, found)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, found.st_size

    def _verify(self, digest: Digest, descriptor: int, found: os.stat_result) -> None:
        """Read a blob that may have been touched; seal it again if it is right, else drop it: MissingInputs."""
        content, done = blake3.blake3(), 0
        try:
            while stat.S_ISREG(found.st_mode) and (piece := os.pread(descriptor, 1 << 20, done)):
                content.update(piece)
                done += len(piece)
        except OSError as problem:
            raise _failure(self.path(digest), problem) from problem
        if content.hexdigest() != digest:
            self.drop(digest)
            self.damaged(digest)
            raise MissingInputs(f"the input {digest} was corrupt on the worker's disk.")
        sealed = seal_ns(digest, found.st_size, self._boot)
        try:
            os.utime(descriptor, ns=(found.st_atime_ns, sealed))
        except OSError:
            sealed = found.st_mtime_ns  # not ours to seal: this process remembers it, the next reads again
        with self._lock:
            if digest in self._ledger:
                self._ledger.admit(digest, _on_disk(found.st_size))
                self._blobs[digest] = _Blob(found.st_size, found.st_ino, sealed, sound=True)

    def _store(self, digest: Digest, data: bytes, *, pin: bool) -> None:
        with self._lock:
            self._serial += 1
            temporary = b"%s/%s%d" % (self._directory, _LEFTOVER, self._serial)
        sealed = seal_ns(digest, len(data), self._boot)
        out = os.open(temporary, _NEW, 0o444)
        try:
            try:
                write_all(out, data)
                os.utime(out, ns=(sealed, sealed))
                found = os.fstat(out)
            finally:
                os.close(out)
            with self._lock:
                os.rename(temporary, self.path(digest))
                self._blobs[digest] = _Blob(len(data), found.st_ino, found.st_mtime_ns, sound=True)
                self._ledger.admit(digest, _on_disk(len(data)))
                if pin:
                    self._ledger.pin(digest)
        except BaseException:
            os.unlink(temporary)
            raise
        if len(data) <= SMALL:
            self._memory.put(digest, data)

    def _reserve(self, needed: int) -> None:
        """Make room on paper and on disk; WorkerStorage when what is pinned leaves none."""
        with self._lock:
            self._incoming += needed
            over = self._ledger.total + self._incoming - self._capacity
            if over > 0:
                for digest in self._ledger.victims(over):
                    self._forget(digest)
            if self._ledger.total + self._incoming > self._capacity:
                self._incoming -= needed
                raise WorkerStorage("the worker's store of inputs is full of inputs in use.")

    def _evict(self, size: int) -> int:
        with self._lock:
            victims = self._ledger.victims(size)
            for digest in victims:
                self._forget(digest)
            return len(victims)

    def _forget(self, digest: Digest) -> None:
        """Remove a blob; the lock is held, so that no new file of that name can be what is removed."""
        self._ledger.forget(digest)
        self._memory.forget(digest)
        if self._blobs.pop(digest, None) is not None:
            try:
                os.unlink(self.path(digest))
            except OSError:
                return  # gone already, or a disk that takes nothing: the next start will see

    def _load(self) -> None:
        os.makedirs(self._directory, exist_ok=True)
        for name in os.listdir(self._directory):
            if name.startswith(_LEFTOVER):
                os.unlink(b"%s/%s" % (self._directory, name))
        found: list[tuple[int, Digest, os.stat_result]] = []
        for number in range(256):
            shard = b"%s/%02x" % (self._directory, number)
            try:
                os.mkdir(shard, 0o700)
            except FileExistsError:
                with os.scandir(shard) as entries:
                    found += [
                        (one.st_atime_ns, Digest(os.fsdecode(entry.name)), one)
                        for entry in entries
                        if _DIGEST.match(os.fsdecode(entry.name))
                        and stat.S_ISREG((one := entry.stat(follow_symlinks=False)).st_mode)
                    ]
        for _, digest, one in sorted(found, key=lambda item: item[0]):
            sound = one.st_mtime_ns == seal_ns(digest, one.st_size, self._boot)
            self._blobs[digest] = _Blob(one.st_size, one.st_ino, one.st_mtime_ns, sound)
            self._ledger.admit(digest, _on_disk(one.st_size))
        self._reserve(0)


class _Memory:
    """Small blobs by digest, the longest unused dropped first. Shared between threads."""

    def __init__(self, capacity: int) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[Digest, bytes] = OrderedDict()
        self._free = capacity

    def get(self, digest: Digest) -> bytes | None:
        with self._lock:
            data = self._held.get(digest)
            if data is not None:
                self._held.move_to_end(digest)
            return data

    def put(self, digest: Digest, data: bytes) -> None:
        with self._lock:
            if digest in self._held:
                return
            self._held[digest] = data
            self._free -= len(data)
            while self._free < 0 and self._held:
                self._free += len(self._held.popitem(last=False)[1])

    def forget(self, digest: Digest) -> None:
        with self._lock:
            self._free += len(self._held.pop(digest, b""))


def seal_ns(digest: Digest, size: int, boot: str) -> int:
    """The time that a verified blob has: whole seconds before 2004, which no write leaves behind."""
    mark = blake3.blake3(f"{digest} {size} {boot}".encode()).digest(4)
    return (int.from_bytes(mark, "big") & 0x3FFFFFFF) * 1_000_000_000


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def _on_disk(size: int) -> int:
    return max(1, -(-size // _BLOCK)) * _BLOCK


def _read_all(descriptor: int, size: int) -> bytes:
    pieces, done = [], 0
    while done < size and (piece := os.pread(descriptor, size - done, done)):
        pieces.append(piece)
        done += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _failure(path: bytes, problem: OSError) -> WorkerStorage:
    what = "the disk is full" if problem.errno in _FULL else problem.strerror or str(problem)
    return WorkerStorage(f"{os.fsdecode(path)} cannot be stored: {what}.")
