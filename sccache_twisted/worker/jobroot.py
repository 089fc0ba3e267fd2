"""A slot's root on disk: built as planned out of what the last job left, and put in order behind each job.

From one source of a project to the next hardly an input changes, so what two plans have in common stays where it is.
A job cannot change what is read-only to it; where it can write, everything is looked at again, and what is not exactly
as it was put there goes. Everything is reached through directory descriptors, one component at a time, no link ever
followed. Blocks on disk: call it in a thread. Refuses to know processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from attrs import frozen

from sccache_twisted.errors import SccacheTwistedError
from sccache_twisted.model import FileInput
from sccache_twisted.worker.files import opened, remove, storage
from sccache_twisted.worker.plan import Directory, Link, Mounted, Node, Plan, ToolchainFile

_PASSABLE: Final = 0o755

Copier = Callable[[FileInput, int, bytes], None]
"""Puts an input's content, with its time and mode, under a name in the directory of a descriptor."""


@frozen
class Owner:
    """Who a job runs as on this machine."""

    uid: int
    gid: int


class JobRoot:
    """The root of one slot, in a directory of its own. One thread at a time."""

    def __init__(self, directory: bytes, owner: Owner | None) -> None:
        self.directory = directory
        self.root = directory + b"/root"
        self.temporary = directory + b"/tmp"
        self._trash = directory + b"/trash"
        self._owner = owner
        self._plan: Plan | None = None

    def build(self, plan: Plan, copy: Copier) -> None:
        """Make the root as planned. WorkerStorage, SandboxFailed and whatever ``copy`` raises; then it is empty."""
        before, self._plan = self._plan, None
        try:
            with storage(self.directory):
                if before is None:
                    self._begin()
                with opened(self.root, None) as fd:
                    old = Directory() if before is None else before.root
                    _Builder(copy, self._owner).update(old, plan.root, fd, inside=False)
        except BaseException:
            self.discard()
            raise
        self._plan = plan

    def settle(self) -> None:
        """Remove what the ended job wrote. What cannot be put in order is removed altogether."""
        plan = self._plan
        if plan is None:
            return
        try:
            with storage(self.directory):
                with opened(self.root, None) as fd:
                    for path in plan.writable:
                        self._settle_at(path, plan.root, fd)
                if os.listdir(self.temporary) or _strange(self.temporary):
                    remove(self.temporary)
                    self._own_directory(self.temporary)
                remove(self._trash)
        except (SccacheTwistedError, _SpoiledError):
            self.discard()

    def discard(self) -> None:
        """Remove everything. WorkerStorage."""
        self._plan = None
        with storage(self.directory):
            remove(self.directory)

    def _begin(self) -> None:
        remove(self.directory)
        self._own_directory(self.directory)
        self._own_directory(self.temporary)
        os.mkdir(self.root)

    def _own_directory(self, path: bytes) -> None:
        os.mkdir(path, 0o700)
        if self._owner is not None:
            os.chown(path, self._owner.uid, self._owner.gid)

    def _settle_at(self, path: bytes, node: Directory, fd: int) -> None:
        """Walk to a writable directory, through what no job can change, and put it in order."""
        name, _, rest = path.lstrip(b"/").partition(b"/")
        if not name:
            self._settle(node, fd)
            return
        child = node.children[name]
        if isinstance(child, Directory):
            with opened(name, fd) as inside:
                self._settle_at(rest, child, inside)

    def _settle(self, node: Directory, fd: int) -> None:
        if _strange(fd):
            raise _SpoiledError
        os.fchmod(fd, _PASSABLE)
        with os.scandir(fd) as entries:
            # Names by descriptor come as text, undecodable bytes as surrogates.
            found = [(os.fsencode(entry.name), entry) for entry in entries]
        gone = set(node.children)
        for name, entry in found:
            planned = node.children.get(name)
            if not self._is_intact(planned, name, entry, node, fd):
                self._throw_away(name, fd, directory=entry.is_dir(follow_symlinks=False))
                continue
            gone.discard(name)
            if isinstance(planned, Directory):
                os.chmod(name, 0o700, dir_fd=fd)
                with opened(name, fd) as inside:
                    self._settle(planned, inside)
        for name in gone:
            del node.children[name]

    def _is_intact(self, planned: Node | None, name: bytes, entry: os.DirEntry[str], node: Directory, fd: int) -> bool:
        match planned:
            case FileInput():
                # The kernel sets an inode's change time, and nobody else; a job that is our own uid gets new files.
                about = entry.stat(follow_symlinks=False)
                return self._owner is not None and node.marks.get(name) == (about.st_ino, about.st_ctime_ns)
            case Link(target):
                return entry.is_symlink() and os.readlink(name, dir_fd=fd) == target
            case ToolchainFile(stored):
                return entry.is_file(follow_symlinks=False) and entry.inode() == os.stat(stored).st_ino
            case Directory() | Mounted():
                return entry.is_dir(follow_symlinks=False)
            case None:
                return False

    def _throw_away(self, name: bytes, fd: int, *, directory: bool) -> None:
        if not directory:
            os.unlink(name, dir_fd=fd)
            return
        with suppress(FileExistsError):
            os.mkdir(self._trash, 0o700)
        os.chmod(name, 0o700, dir_fd=fd)
        os.rename(name, b"%s/%d" % (self._trash, len(os.listdir(self._trash))), src_dir_fd=fd)


class _SpoiledError(Exception):
    """A job gave a directory attributes that would concern the next one."""


def _strange(place: bytes | int) -> bool:
    """Whether a directory has access lists or other attributes, which files made in it would inherit."""
    try:
        return any(not name.startswith("security.") for name in os.listxattr(place))
    except OSError:
        return False


class _Builder:
    """Turns one planned tree on disk into another."""

    def __init__(self, copy: Copier, owner: Owner | None) -> None:
        self._copy = copy
        self._owner = owner

    def update(self, old: Directory, new: Directory, fd: int, *, inside: bool) -> None:
        """Turn a directory as ``old`` describes it into ``new``. ``inside``: a directory above is writable."""
        inside = inside or new.writable
        for name, node in old.children.items():
            if not _may_stay(node, new.children.get(name)):
                _remove_planned(node, name, fd)
        for name, node in new.children.items():
            there = old.children.get(name)
            if isinstance(node, Directory):
                if not isinstance(there, Directory):
                    there = self._make(name, fd)
                if there is not node:
                    with opened(name, fd) as below:
                        self.update(there, node, below, inside=inside)
            elif there is None or not _may_stay(there, node):
                self._put(node, name, fd)
        if old.writable != new.writable and self._owner is not None:
            owner = self._owner if new.writable else Owner(os.getuid(), os.getgid())
            os.fchown(fd, owner.uid, owner.gid)
        new.marks = _marks(new, fd) if inside and self._owner is not None else {}

    def _make(self, name: bytes, fd: int) -> Directory:
        # Modes are set by name and not by umask: a daemon's umask is 077, and the job's uid must pass.
        os.mkdir(name, dir_fd=fd)
        os.chmod(name, _PASSABLE, dir_fd=fd)
        return Directory()

    def _put(self, node: Node, name: bytes, fd: int) -> None:
        match node:
            case ToolchainFile(stored):
                os.link(stored, name, dst_dir_fd=fd, follow_symlinks=False)
            case FileInput():
                self._copy(node, fd, name)
            case Link(target):
                os.symlink(target, name, dir_fd=fd)
            case _:
                self._make(name, fd)


def _may_stay(old: Node, new: Node | None) -> bool:
    """Whether what is there for ``old`` serves for ``new``."""
    match old, new:
        case FileInput(_, digest, _, mtime_ns, executable), FileInput():
            return (digest, mtime_ns, executable) == (new.digest, new.mtime_ns, new.executable)
        case ToolchainFile(), ToolchainFile():
            # The very same, and not its like: a toolchain that was sent again has other files of the same names.
            return old is new
        case _:
            return type(old) is type(new) and (isinstance(old, Directory) or old == new)


def _remove_planned(node: Node, name: bytes, fd: int) -> None:
    """Remove what a plan put there and no job could change."""
    if isinstance(node, Directory):
        with opened(name, fd) as inside:
            for child, below in node.children.items():
                _remove_planned(below, child, inside)
        os.rmdir(name, dir_fd=fd)
    elif isinstance(node, Mounted):
        os.rmdir(name, dir_fd=fd)
    else:
        os.unlink(name, dir_fd=fd)


def _marks(directory: Directory, fd: int) -> dict[bytes, tuple[int, int]]:
    marks = {}
    for name, node in directory.children.items():
        if isinstance(node, FileInput):
            about = os.stat(name, dir_fd=fd, follow_symlinks=False)
            marks[name] = (about.st_ino, about.st_ctime_ns)
    return marks
