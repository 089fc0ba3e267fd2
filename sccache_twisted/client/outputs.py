"""Writing what a remote compiler wrote, as the local compiler would have written it.

Mode 0666 less the caller's umask; nothing half-written: every file is complete beside its place before the first
one is moved there, the object last. Kinds differ in what happens to a symbolic link in the way, as measured: the
assembler, objcopy and clang's ``-c`` and ``-S`` replace it; gcc's ``-S``, depfiles and the small files beside the
object are written through it. Writes only paths that the client derived itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

from attrs import frozen

from sccache_twisted.model import Compilation, CompilerFamily, Output, OutputFile, OutputKind

_REPLACED = {OutputKind.OBJECT, OutputKind.DWO}


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
    drafts: list[tuple[bytes, bytes]] = []
    try:
        for place in places:
            file = found.get(place.path)
            if file is not None:
                drafts.append(_draft(place.path, file.data, umask, replaces=_replaces(compilation, place)))
            elif place.output.required:
                raise Unwritable(f"{os.fsdecode(place.path)} did not come back from the worker")
        while drafts:
            draft, target = drafts[-1]
            os.replace(draft, target)
            drafts.pop()
    except OSError as problem:
        raise Unwritable(f"{os.fsdecode(problem.filename or b'')}: {problem.strerror}") from problem
    finally:
        for draft, _ in drafts:
            _remove(draft)


def _replaces(compilation: Compilation, place: Place) -> bool:
    kind = place.output.kind
    return kind in _REPLACED or (kind is OutputKind.ASSEMBLY and compilation.compiler.family is CompilerFamily.CLANG)


def _draft(path: bytes, data: bytes, umask: int, *, replaces: bool) -> tuple[bytes, bytes]:
    """Write a file beside its place; the draft's name, and the name that it is to get.

    An existing file that is written through keeps its mode, as one that was truncated would.
    """
    mode = 0o666 & ~umask
    target = path
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
    draft = os.path.dirname(target) + b"/.sccache-twisted-%b" % os.urandom(8).hex().encode()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, mode)
    except OSError as problem:
        _remove(draft)
        raise Unwritable(f"{os.fsdecode(path)}: {problem.strerror}") from problem
    finally:
        os.close(descriptor)
    return draft, target


def _remove(draft: bytes) -> None:
    try:
        os.unlink(draft)
    except FileNotFoundError:
        return
