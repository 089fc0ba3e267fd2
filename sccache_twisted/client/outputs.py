"""Writing what a remote compiler wrote, as the local compiler would have written it.

Mode 0666 less the caller's umask; nothing half-written: every file is complete before the first one gets its name, the
object last. Until then it has no name at all where the file system can do that, so that a process that is killed leaves
nothing behind. Kinds differ in what happens to a symbolic link in the way, as measured: the assembler, objcopy and
clang's ``-c`` and ``-S`` replace it; gcc's ``-S``, depfiles and the small files beside the object are written through
it, and into a file that has more names; where a link leads nowhere, so is what the assembler and objcopy write. Writes
only paths that the client derived itself.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress

from attrs import define, frozen

from sccache_twisted.model import Compilation, CompilerFamily, Output, OutputFile, OutputKind

_REPLACED = {OutputKind.OBJECT, OutputKind.DWO}
_PIECE = 1 << 30
_OF_THE_KERNEL = (b"/proc/", b"/sys/")
_CANNOT_BE_NAMELESS = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}


@frozen
class Place:
    """An output and its absolute path, as spelled."""

    output: Output
    path: bytes


class Unwritable(Exception):
    """An output cannot be written, so the compiler itself shall say so."""


def places_of(compilation: Compilation, cwd: bytes) -> tuple[Place, ...]:
    """Where the outputs of a compilation go."""
    return tuple(Place(output, absolute(output.path, cwd)) for output in compilation.outputs)


def absolute(path: bytes, cwd: bytes) -> bytes:
    """A path that means the same from everywhere; ``..`` stays as it is spelled."""
    return path if path.startswith(b"/") else cwd.rstrip(b"/") + b"/" + path


def obstacle(places: Iterable[Place]) -> str:
    """Why an output can't be written by us: it is no regular file, or its directory is missing; empty if it can."""
    for place in places:
        if place.path.startswith(_OF_THE_KERNEL):
            return f"{os.fsdecode(place.path)} is the kernel's"
        directory = os.path.dirname(place.path)
        if not os.path.isdir(directory) or not os.access(directory, os.W_OK | os.X_OK):
            return f"{os.fsdecode(directory)} is not a directory that we may write"
        try:
            found = os.stat(place.path)
        except OSError:
            continue
        if not stat.S_ISREG(found.st_mode):
            return f"{os.fsdecode(place.path)} is not a regular file"
    return ""


def write_outputs(compilation: Compilation, places: Iterable[Place], files: Iterable[OutputFile], umask: int) -> None:
    """Write all outputs or none; Unwritable says which one failed and why. Blocks: call it in a thread."""
    found: Mapping[bytes, OutputFile] = {file.path: file for file in files}
    drafts: list[_Draft] = []
    try:
        for place in places:
            file = found.get(place.path)
            if file is not None:
                drafts.append(_draft(place.path, file.data, umask, replaces=_replaces(compilation, place)))
            elif place.output.required:
                raise Unwritable(f"{os.fsdecode(place.path)} did not come back from the worker")
        while drafts:
            drafts[-1].put()
            drafts.pop().close()
    except OSError as problem:
        raise Unwritable(f"{os.fsdecode(problem.filename or b'')}: {problem.strerror}") from problem
    finally:
        for draft in drafts:
            draft.close()


def _replaces(compilation: Compilation, place: Place) -> bool:
    kind, clang = place.output.kind, compilation.compiler.family is CompilerFamily.CLANG
    if clang and b"-fno-integrated-as" not in compilation.args:
        return kind in _REPLACED or kind is OutputKind.ASSEMBLY
    # The assembler and objcopy remove what they find, and behind a link that leads nowhere they find nothing.
    found = os.path.exists(place.path) or not os.path.islink(place.path)
    return (kind in _REPLACED and found) or (clang and kind is OutputKind.ASSEMBLY)


@define
class _Draft:
    """A file that is complete but for its name. ``name`` is a name of its own beside the target, or empty.

    ``through``: the target has more names, which all see what is written; then it is the target that is written.
    """

    descriptor: int
    directory: int
    target: bytes
    name: bytes = b""
    through: bool = False

    @classmethod
    def beside(cls, target: bytes) -> _Draft:
        """A new empty file in the target's directory."""
        directory = os.open(os.path.dirname(target), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            base = os.path.basename(target)
            try:
                return cls(
                    os.open(os.path.dirname(target), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), directory, base
                )
            except OSError as problem:
                if problem.errno not in _CANNOT_BE_NAMELESS:
                    raise
            name = _own_name()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            return cls(os.open(name, flags, 0o600, dir_fd=directory), directory, base, name)
        except OSError:
            os.close(directory)
            raise

    def write(self, data: bytes, mode: int) -> None:
        """Fill it."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.descriptor, view) :]
        os.fchmod(self.descriptor, mode)

    def put(self) -> None:
        """Give it the target's name, in the place of whatever has it now."""
        if self.through:
            self._copy()
            return
        if not self.name:
            for _ in range(2):
                with suppress(FileExistsError):
                    self._link(self.target)
                    return
                # As compilers do. Renaming over a file would have ext4 write this one out at once, which takes longer
                # than the rest of a hit.
                with suppress(FileNotFoundError):
                    os.unlink(self.target, dir_fd=self.directory)
            self.name = _own_name()
            self._link(self.name)
        os.replace(self.name, self.target, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        self.name = b""

    def _copy(self) -> None:
        """Write the target anew with what is in this file."""
        written = os.open(self.target, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, dir_fd=self.directory)
        try:
            offset = 0
            while sent := os.sendfile(written, self.descriptor, offset, _PIECE):
                offset += sent
        finally:
            os.close(written)

    def _link(self, name: bytes) -> None:
        # With a directory given Python follows the link in /proc, as open(2) says of O_TMPFILE.
        os.link(b"/proc/self/fd/%d" % self.descriptor, name, dst_dir_fd=self.directory)

    def close(self) -> None:
        """Let it go; nothing is left of it if it was never put in its place."""
        if self.name:
            with suppress(FileNotFoundError):
                os.unlink(self.name, dir_fd=self.directory)
            self.name = b""
        os.close(self.descriptor)
        os.close(self.directory)


def _own_name() -> bytes:
    return b".sccache-twisted-%b" % os.urandom(8).hex().encode()


def _draft(path: bytes, data: bytes, umask: int, *, replaces: bool) -> _Draft:
    """Write a file for its place. An existing file that is written through keeps its mode, as a truncated one would."""
    mode = 0o666 & ~umask
    target = path
    found = None
    if not replaces:
        target = os.path.realpath(path)
        try:
            found = os.stat(target)
        except FileNotFoundError:
            found = None
        if found is not None:
            mode = stat.S_IMODE(found.st_mode)
            if not os.access(target, os.W_OK):
                raise Unwritable(f"{os.fsdecode(target)}: Permission denied")
    draft = _Draft.beside(target)
    draft.through = not replaces and found is not None and found.st_nlink > 1
    try:
        draft.write(data, mode)
    except OSError as problem:
        draft.close()
        raise Unwritable(f"{os.fsdecode(path)}: {problem.strerror}") from problem
    return draft
