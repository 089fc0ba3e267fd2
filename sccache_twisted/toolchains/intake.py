"""One toolchain being received: decompressed, hashed, read and unpacked as it comes in.

Nothing is kept of what comes but what lies on disk, and every bound is enforced while decoding.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import BinaryIO, Protocol, cast

import blake3
import zstandard
from attrs import frozen

from sccache_twisted.errors import BadArchive, DigestMismatch, SccacheTwistedError
from sccache_twisted.model import Digest
from sccache_twisted.toolchains.archive import ArchiveLimits, ArchiveReader
from sccache_twisted.toolchains.record import TREE, Record, Toolchain, boot_id, member_size, record_of, write_record
from sccache_twisted.toolchains.unpack import PASSABLE, Unpacker, storage_failure

_WINDOW = 1 << 27
_PIECE = 1 << 17


class IntakeRoom(Protocol):
    """The store that an intake fills."""

    def place(self, digest: Digest) -> bytes:
        """The directory that a toolchain will have."""

    def reserve(self, size: int) -> None:
        """Take bytes of the store's capacity; WorkerStorage when there are none."""

    def release(self, size: int) -> None:
        """Give reserved bytes back."""

    def accept(self, record: Record, directory: bytes, reserved: int) -> Toolchain:
        """Take what lies in ``directory`` into the store, in place of the bytes reserved; OSError."""


class Intake:
    """One upload being unpacked. Its methods are called by one thread at a time, in pieces of any size.

    After a failure it holds nothing on disk, and further pieces fail in the same way.
    """

    def __init__(self, room: IntakeRoom, digest: Digest, directory: bytes, limits: ArchiveLimits) -> None:
        self.digest = digest
        self._room = room
        self._directory = directory
        self._reserved = 0
        self._failure: SccacheTwistedError | None = None
        self._done = False
        self._hash = blake3.blake3()
        root = os.path.join(directory, TREE)
        os.chmod(directory, PASSABLE)
        os.mkdir(root)
        os.chmod(root, PASSABLE)
        self._unpacker = Unpacker(root, self._reserve)
        self._reader = ArchiveReader(self._unpacker, limits)
        self._zstd = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_writer(
            cast("BinaryIO", _Decoded(self._decoded)), write_size=_PIECE
        )

    def write(self, chunk: bytes) -> None:
        """Unpack the next piece of the compressed archive.

        BadArchive, TooLarge: the sender's doing; WorkerStorage: this machine's. Memory stays within a window
        of 128 MiB and a piece of 128 KiB, however far the chunk expands.
        """
        if self._failure is not None:
            raise self._failure
        if self._done:
            raise BadArchive("the toolchain was already received.")
        try:
            self._zstd.write(chunk)
        except SccacheTwistedError as failure:
            self._fail(failure)
            raise
        except zstandard.ZstdError as problem:
            damaged = BadArchive(f"the toolchain is no zstd stream, or damaged ({problem}).")
            self._fail(damaged)
            raise damaged from problem

    def finish(self) -> Toolchain:
        """Verify the digest and take the toolchain into the store.

        BadArchive when the archive ends too early, DigestMismatch, WorkerStorage; then nothing is left.
        """
        if self._failure is not None:
            raise self._failure
        try:
            if not self._reader.complete:
                raise BadArchive("the toolchain archive is cut short.")
            if self._hash.hexdigest() != self.digest:
                raise DigestMismatch(f"the toolchain announced as {self.digest} is {self._hash.hexdigest()}.")
            self._unpacker.close()
            record = record_of(self.digest, self._room.place(self.digest), self._unpacker.made, boot_id())
            write_record(record, self._directory)
            toolchain = self._room.accept(record, self._directory, self._reserved)
        except SccacheTwistedError as failure:
            self._fail(failure)
            raise
        except OSError as problem:
            failed = storage_failure(self._directory, problem)
            self._fail(failed)
            raise failed from problem
        self._reserved = 0
        self._done = True
        shutil.rmtree(self._directory, ignore_errors=True)  # there only if another upload was faster
        return toolchain

    def abort(self) -> None:
        """Throw away what was received; harmless after :meth:`finish`, after a failure, and twice."""
        if not self._done and self._failure is None:
            self._fail(BadArchive("the upload was given up."))

    def _decoded(self, data: bytes) -> None:
        self._hash.update(data)
        self._reader.feed(data)

    def _reserve(self, size: int) -> None:
        """A member comes: room for it on the disk, or WorkerStorage."""
        needed = member_size(size)
        self._room.reserve(needed)
        self._reserved += needed

    def _fail(self, failure: SccacheTwistedError) -> None:
        self._failure = failure
        self._unpacker.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._room.release(self._reserved)
        self._reserved = 0


@frozen
class _Decoded:
    """What the decompressor writes to."""

    take: Callable[[bytes], None]

    def write(self, data: bytes) -> int:
        """Pass a piece on."""
        self.take(data)
        return len(data)
