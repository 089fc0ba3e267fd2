"""What a job wrote: declared outputs, read without trusting anything about them, and the names of all the rest.

Blocks on disk: call it in a thread, when nothing of the job lives any more.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

from sccache_twisted.errors import BadOutput
from sccache_twisted.model import OutputFile
from sccache_twisted.worker.files import DIRECTORY, storage
from sccache_twisted.worker.plan import Directory, Plan, PlannedOutput

_OUTPUT: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_MOST_UNDECLARED: Final = 1000


def collect(root: bytes, outputs: Sequence[PlannedOutput], limit: int) -> tuple[OutputFile, ...]:
    """Read the declared outputs that exist. BadOutput for what is no regular file or over ``limit`` bytes together."""
    found = []
    for output in outputs:
        if output.place:
            with storage(root):
                one = _collect(root, output, limit)
            if one is not None:
                found.append(one)
                limit -= len(one.data)
    return tuple(found)


def _collect(root: bytes, output: PlannedOutput, limit: int) -> OutputFile | None:
    path = os.fsdecode(output.path)
    fd = os.open(root, DIRECTORY)
    try:
        for index, part in enumerate(output.place):
            last = index == len(output.place) - 1
            inside = os.open(part, _OUTPUT if last else DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inside
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise BadOutput(f"the job left something other than a regular file as {path}")
        if about.st_size > limit:
            raise BadOutput(f"the job's outputs are over the limit: {path} has {about.st_size} bytes")
        data = _read(fd, about.st_size)
        return OutputFile(output.path, data, stat.S_IMODE(about.st_mode) & 0o777)
    except FileNotFoundError:
        return None
    except OSError as problem:
        if problem.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EACCES}:
            # A link, a link or file on the way, a socket, a file that its owner made unreadable.
            raise BadOutput(f"the job left something that cannot be read as {path}: {problem.strerror}") from problem
        raise
    finally:
        os.close(fd)


def _read(fd: int, size: int) -> bytes:
    pieces = []
    while size > 0:
        piece = os.read(fd, size)
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def undeclared(root: bytes, plan: Plan) -> tuple[bytes, ...]:
    """Files in writable directories that were neither planned nor declared; the first thousand of them."""
    declared = {b"/" + b"/".join(output.place) for output in plan.outputs}
    found: list[bytes] = []
    for top in plan.writable:
        node = plan.root
        for part in top.split(b"/"):
            child = node.children.get(part) if part else node
            node = child if isinstance(child, Directory) else Directory()
        _undeclared(root, b"" if top == b"/" else top, node, declared, found)
    return tuple(found)


def _undeclared(root: bytes, path: bytes, planned: Directory, declared: set[bytes], found: list[bytes]) -> None:
    try:
        with os.scandir(root + path) as entries:
            for entry in entries:
                place = path + b"/" + entry.name
                node = planned.children.get(entry.name)
                if node is None and place not in declared:
                    found.append(place)
                elif isinstance(node, Directory) and entry.is_dir(follow_symlinks=False):
                    _undeclared(root, place, node, declared, found)
                if len(found) >= _MOST_UNDECLARED:
                    return
    except OSError:
        return  # the job closed the directory to itself, so there is nothing that it could want back
