"""One deterministic archive out of a toolchain's files.

The digest is the blake3 of the uncompressed tar, so that neither the version nor the level of zstd matters.
"""

from __future__ import annotations

import errno
import os
import platform
import tempfile
from collections.abc import Mapping
from typing import BinaryIO

import blake3
import zstandard
from attrs import frozen

from sccache_twisted.errors import CompilerNotPackageable, StorageError, UserError
from sccache_twisted.model import Compiler, CompilerFamily, Digest
from sccache_twisted.toolchains.archive import END, member_header, padding
from sccache_twisted.toolchains.discover import ToolchainFiles, discover
from sccache_twisted.toolchains.probes import Runner, run_here
from sccache_twisted.toolchains.tree import Entry, EntryKind

_PIECE = 1 << 20


@frozen
class PackagedToolchain:
    """An archive ready to be sent.

    ``size`` is the tar's in bytes, ``archive_size`` that of the compressed file at ``path``. ``members`` counts
    entries. What a sandbox needs of it travels inside, so a client needs no more than this.
    """

    digest: Digest
    arch: str
    size: int
    archive_size: int
    members: int
    path: bytes


def package(files: ToolchainFiles, out_path: bytes, *, level: int = 1) -> PackagedToolchain:
    """Write the archive at ``out_path``, whole or not at all.

    Blocks: a quarter of a second for gcc, a second for clang; call it in a thread. CompilerNotPackageable when
    a file changed its size or vanished since it was discovered; StorageError when the archive can't be written.
    """
    directory = os.path.dirname(out_path) or b"."
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=b".packaging-", dir=directory)
    except OSError as problem:
        raise _unwritable(out_path, problem) from problem
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as out:
            sink = _Compressed(out_path, out, level)
            digest = _write(files.entries, sink)
            archive_size = os.fstat(out.fileno()).st_size
        os.chmod(temporary, 0o644)
        os.replace(temporary, out_path)
    except BaseException:
        os.unlink(temporary)
        raise
    return PackagedToolchain(digest, files.arch, sink.size, archive_size, len(files.entries), out_path)


def package_to(executable: bytes, out_path: bytes, *, run: Runner = run_here) -> PackagedToolchain:
    """Package the compiler that ``executable`` names, by path or on PATH, in this process's environment.

    Blocks. UserError when there is no such compiler; else as :func:`~sccache_twisted.toolchains.discover` and
    :func:`package`.
    """
    env = dict(os.environb)
    found = _on_path(executable, env)
    try:
        macros = run([found, b"-dM", b"-E", b"-x", b"c", b"/dev/null"], env)
    except OSError as problem:
        raise CompilerNotPackageable(f"{os.fsdecode(found)} cannot be run: {problem.strerror or problem}.") from problem
    if macros.status or b"#define __GNUC__" not in macros.stdout:
        raise CompilerNotPackageable(f"{os.fsdecode(found)} is no gcc and no clang.")
    family = CompilerFamily.CLANG if b"#define __clang__" in macros.stdout else CompilerFamily.GCC
    cplusplus = os.path.basename(found).rstrip(b"0123456789.-").endswith(b"++")
    compiler = Compiler(found, executable, family, version="", arch=platform.machine(), cplusplus=cplusplus)
    return package(discover(compiler, env, run), os.path.abspath(out_path))


def _on_path(executable: bytes, env: Mapping[bytes, bytes]) -> bytes:
    if b"/" in executable:
        return os.path.abspath(executable)
    for directory in env.get(b"PATH", b"/usr/bin:/bin").split(b":"):
        place = os.path.join(directory, executable)
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return os.path.abspath(place)
    raise UserError(f"{os.fsdecode(executable)} is not on PATH.")


class _Compressed:
    """Hashes what it is given and writes it compressed."""

    def __init__(self, out_path: bytes, out: BinaryIO, level: int) -> None:
        self._out_path = out_path
        self._hash = blake3.blake3()
        self._writer = zstandard.ZstdCompressor(level=level).stream_writer(out, closefd=False)
        self.size = 0

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        try:
            self._writer.write(data)
        except OSError as problem:
            raise _unwritable(self._out_path, problem) from problem

    def finish(self) -> Digest:
        try:
            self._writer.flush(zstandard.FLUSH_FRAME)
        except OSError as problem:
            raise _unwritable(self._out_path, problem) from problem
        return Digest(self._hash.hexdigest())


def _write(entries: tuple[Entry, ...], out: _Compressed) -> Digest:
    for entry in entries:
        out.write(member_header(entry))
        if entry.kind is EntryKind.FILE:
            _write_content(entry, out)
    out.write(END)
    return out.finish()


def _write_content(entry: Entry, out: _Compressed) -> None:
    try:
        with open(entry.stored, "rb", buffering=0) as source:
            left = entry.size
            while left:
                piece = source.read(min(left, _PIECE))
                if not piece:
                    raise CompilerNotPackageable(f"{os.fsdecode(entry.path)} shrank while it was packaged.")
                left -= len(piece)
                out.write(piece)
            if source.read(1):
                raise CompilerNotPackageable(f"{os.fsdecode(entry.path)} grew while it was packaged.")
    except OSError as problem:
        raise CompilerNotPackageable(f"{os.fsdecode(entry.path)} cannot be read: {problem.strerror}.") from problem
    out.write(padding(entry.size))


def _unwritable(path: bytes, problem: OSError) -> StorageError:
    what = "the disk is full" if problem.errno in {errno.ENOSPC, errno.EDQUOT} else problem.strerror or str(problem)
    return StorageError(f"the toolchain archive {os.fsdecode(path)} cannot be written: {what}.")
