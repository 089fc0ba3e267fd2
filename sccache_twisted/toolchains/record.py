"""What a worker's store remembers of one unpacked toolchain, on disk beside it and in memory.

A record is checked by its own blake3, so one that a crash tore is no record. It names the boot it was verified
in: after a power cut a file may have lost its content and kept its inode, size and time, so the first use in
another boot reads every file again.
"""

from __future__ import annotations

import os
import tempfile

import blake3
import msgpack
from attrs import frozen

from sccache_twisted.model import Digest
from sccache_twisted.toolchains.tree import Entry, EntryKind
from sccache_twisted.toolchains.unpack import Made, Seal

_VERSION = 1
_HASH = 32
NAME = b"record"
TREE = b"root"


@frozen
class Toolchain:
    """A toolchain in a worker's store.

    ``root`` is the directory below which it lies as it would below ``/``; ``entries`` are in the order of their paths,
    parents first, each file's ``stored`` naming the file to link or bind. ``size`` is what it takes of the
    store, in bytes.
    """

    digest: Digest
    root: bytes
    entries: tuple[Entry, ...]
    size: int


@frozen
class Record:
    """A toolchain with the seals of its files, in the order of the entries that are files."""

    toolchain: Toolchain
    seals: tuple[Seal, ...]
    boot: str

    def sealed(self) -> list[tuple[Entry, Seal]]:
        """Every file with its seal."""
        files = [entry for entry in self.toolchain.entries if entry.kind is EntryKind.FILE]
        return list(zip(files, self.seals, strict=True))


def boot_id() -> str:
    """Names this boot of the machine; empty where the kernel doesn't tell, which then counts as one long boot."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def record_of(digest: Digest, directory: bytes, made: list[Made], boot: str) -> Record:
    """The record of what was just unpacked and will lie in ``directory``."""
    made = sorted(made, key=lambda one: one.entry.path)
    root = os.path.join(directory, TREE)
    entries = tuple(_stored(one.entry, root) for one in made)
    return Record(
        Toolchain(digest, root, entries, disk_size(entries)), tuple(one.seal for one in made if one.seal), boot
    )


def disk_size(entries: tuple[Entry, ...]) -> int:
    """What entries take of a disk: whole blocks of 4 KiB, at least one each."""
    return sum(member_size(entry.size) for entry in entries)


def member_size(size: int) -> int:
    """What one member takes of a disk."""
    return max(1, -(-size // 4096)) * 4096


def write_record(record: Record, directory: bytes) -> None:
    """Put a record into its toolchain's directory, replacing what was there at once; OSError."""
    rows = [(e.path, e.kind.value, e.mode, e.target, e.size) for e in record.toolchain.entries]
    seals = [(seal.digest, seal.inode, seal.mtime_ns) for seal in record.seals]
    body = msgpack.packb((_VERSION, record.toolchain.digest, record.boot, rows, seals), use_bin_type=True)
    descriptor, temporary = tempfile.mkstemp(prefix=b".record-", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(blake3.blake3(body).digest() + body)
        os.replace(temporary, os.path.join(directory, NAME))
    except BaseException:
        os.unlink(temporary)
        raise


def read_record(digest: Digest, directory: bytes) -> Record | None:
    """The record in a toolchain's directory; None when it isn't there, is damaged, or is another toolchain's."""
    try:
        with open(os.path.join(directory, NAME), "rb") as stream:
            raw = stream.read()
        if blake3.blake3(raw[_HASH:]).digest() != raw[:_HASH]:
            return None
        version, named, boot, rows, seals = msgpack.unpackb(raw[_HASH:])
        if version != _VERSION or named != digest:
            return None
        root = os.path.join(directory, TREE)
        entries = tuple(
            _stored(Entry(path, EntryKind(kind), mode, target, size, path.lstrip(b"/")), root)
            for path, kind, mode, target, size in rows
        )
        return Record(Toolchain(digest, root, entries, disk_size(entries)), tuple(Seal(*seal) for seal in seals), boot)
    except (OSError, ValueError, TypeError, msgpack.UnpackException):
        return None


def _stored(entry: Entry, root: bytes) -> Entry:
    stored = os.path.join(root, entry.path.lstrip(b"/")) if entry.kind is EntryKind.FILE else b""
    return Entry(entry.path, entry.kind, entry.mode, entry.target, entry.size, stored)
