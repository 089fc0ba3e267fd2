"""What is known of a file for as long as its stat stays the same: its digest, and what its text mentions.

Shared by all jobs and by the threads that gather for them: an entry is replaced whole, never changed.
"""

from __future__ import annotations

import os
import stat

from attrs import Factory, define

from sccache_twisted.compilers.scan import NOTHING, Operand, ScanResult, scan, without_comments, wrapped_operands
from sccache_twisted.hashing.digests import digest_of, read_open_file
from sccache_twisted.model import Digest, FileInput

Signature = tuple[int, int, int, int, int]
"""(device, inode, size, mtime_ns, ctime_ns)."""

_MOST_FILES = 200_000
_LARGEST_SCANNED = 64 << 20


def signature_of(found: os.stat_result) -> Signature:
    """What tells a changed file from an unchanged one."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Changed(Exception):
    """A file changed while it was read."""


@define
class FileFacts:
    """A file as it was read.

    ``tells``: its text mentions files that no dependency list tells, or may. ``wrapped`` remembers what macros of
    other files are called with in this one, and which macros of this one stand for them, ``bare`` the digest of its
    text without comments.
    """

    signature: Signature
    input: FileInput
    mentions: ScanResult
    tells: bool
    wrapped: dict[frozenset[bytes], tuple[tuple[Operand, ...], frozenset[bytes]]] = Factory(dict)
    bare: Digest | None = None


class FileMemo:
    """Facts by physical path."""

    def __init__(self) -> None:
        self._facts: dict[bytes, FileFacts] = {}

    def facts(self, path: bytes, found: os.stat_result) -> FileFacts:
        """The facts of the regular file at ``path``, whose ``lstat`` was just ``found``.

        OSError if it can't be read; Changed if it is not the same file after reading.
        """
        signature = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._facts.get(path)
        if known is not None and known.signature == signature:
            return known
        data = read_unchanged(path, signature)
        entry = FileInput(path, digest_of(data), len(data), found.st_mtime_ns, bool(found.st_mode & 0o111))
        mentions = scan(data) if len(data) <= _LARGEST_SCANNED else NOTHING
        if len(self._facts) >= _MOST_FILES:
            self._facts.clear()
        self._facts[path] = facts = FileFacts(signature, entry, mentions, mentions.tells_more)
        return facts

    def wrapped(self, facts: FileFacts, wrappers: frozenset[bytes]) -> tuple[tuple[Operand, ...], frozenset[bytes]]:
        """What the macros ``wrappers`` are called with in a file, and which of its own stand for them.

        OSError, Changed as above.
        """
        found = facts.wrapped.get(wrappers)
        if found is None:
            data = read_unchanged(facts.input.path, facts.signature)
            found = facts.wrapped[wrappers] = wrapped_operands(data, wrappers)
        return found

    def bare(self, facts: FileFacts) -> Digest:
        """The digest of a file's text without comments; of all of it where it can't be read again."""
        if facts.bare is None:
            try:
                facts.bare = digest_of(without_comments(read_unchanged(facts.input.path, facts.signature)))
            except (Changed, OSError):
                return facts.input.digest
        return facts.bare


def read_unchanged(path: bytes, signature: Signature) -> bytes:
    """The content of a file that must be the one with this signature before and after reading."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        opened = os.fstat(descriptor)
        if signature_of(opened) != signature or not stat.S_ISREG(opened.st_mode):
            raise Changed(os.fsdecode(path))
        data = read_open_file(descriptor, opened.st_size)
        if signature_of(os.fstat(descriptor)) != signature:
            raise Changed(os.fsdecode(path))
        return data
    finally:
        os.close(descriptor)
