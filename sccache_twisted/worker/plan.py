"""A job's world as a pure tree in which symbolic links are nodes: planned and checked before a byte is written.

Paths are walked as the kernel would walk them inside the finished root: links are followed, ``x/..`` asks for
``x`` to be a directory and is never folded, loops are refused. Directories on the way to an input exist because
the client opened that very path. Knows no disk; :mod:`sccache_twisted.worker.jobroot` builds what is planned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from attrs import frozen

from sccache_twisted.errors import BadAction
from sccache_twisted.model import Action, DirectoryInput, FileInput, LinkInput
from sccache_twisted.toolchains import Entry, EntryKind

PRIVATE: Final = b"/.sccache-twisted"
"""Where a job finds what belongs to its sandbox alone; no path of a client's may lie there."""

TEMPORARY: Final = PRIVATE + b"/tmp"
"""The job's TMPDIR."""

STARTER: Final = PRIVATE + b"/exec"
"""Runs first in the sandbox; see :mod:`sccache_twisted.worker.starter`."""

_MOST_LINKS: Final = 40
_LONGEST_PATH: Final = 4095
_LONGEST_NAME: Final = 255
_DEEPEST: Final = 200
_MOUNTED: Final = (b"proc", b"dev")
_WORTH_A_MOUNT: Final = 6


@frozen
class ToolchainFile:
    """A file of the toolchain, to be linked from where the store has it."""

    stored: bytes


@frozen
class Link:
    """A symbolic link."""

    target: bytes


@frozen
class Mounted:
    """A directory that something is mounted on."""


class Directory:
    """A directory and what is in it.

    ``stored`` is where a toolchain's store has the very same directory; such a one belongs to many plans, is copied
    before it is changed, and has ``weight`` members at any depth. ``marks`` belong to whoever builds it: by name, what
    tells that a file is still the one that was put there.
    """

    __slots__ = ("children", "marks", "stored", "weight", "writable")

    def __init__(self, children: dict[bytes, Node] | None = None, *, stored: bytes = b"") -> None:
        self.children: dict[bytes, Node] = {} if children is None else children
        self.stored = stored
        self.weight = 0
        self.writable = False
        self.marks: dict[bytes, tuple[int, int]] = {}


Node = ToolchainFile | FileInput | Link | Mounted | Directory


@frozen
class PlannedOutput:
    """A declared output, and where it will lie; () when its directory does not exist."""

    path: bytes
    place: tuple[bytes, ...]


@frozen
class Plan:
    """A whole root, and what is mounted over it, as physical paths.

    ``writable`` are the outermost directories that the job may write to, ``sealed`` files of the toolchain below them,
    which may not be changed all the same. ``stored`` are directories that belong to the toolchain altogether, as
    (path, where the store has it): a mount is cheaper than a link for each file.
    """

    root: Directory
    outputs: tuple[PlannedOutput, ...]
    writable: tuple[bytes, ...] = ()
    sealed: tuple[bytes, ...] = ()
    stored: tuple[tuple[bytes, bytes], ...] = ()


class _Place(NamedTuple):
    """The end of a walk: a directory with the way to it, and the last name in it ("" for the directory itself)."""

    way: list[tuple[bytes, Directory]]
    name: bytes
    node: Node | None


def toolchain_tree(entries: Iterable[Entry], stored: bytes) -> Directory:
    """A toolchain's entries as a tree that many plans may share; ``stored`` is where the store has its root."""
    root = Directory(stored=stored)
    for entry in entries:
        *parents, name = entry.path.split(b"/")[1:]
        way = [root]
        for part in parents:
            inside = way[-1].children.get(part)
            if not isinstance(inside, Directory):
                raise BadAction(f"{_show(entry.path)} of the toolchain lies below something that is no directory")
            way.append(inside)
        for directory in way:
            directory.weight += 1
        here = way[-1]
        if entry.kind is EntryKind.DIRECTORY:
            here.children[name] = Directory(stored=stored + entry.path)
        elif entry.kind is EntryKind.LINK:
            here.children[name] = Link(entry.target)
        else:
            here.children[name] = ToolchainFile(entry.stored)
    return root


def plan(action: Action, toolchain: Directory, starter: ToolchainFile | None) -> Plan:
    """The world of an action; raises BadAction with the path that is wrong.

    ``starter`` is the file that is to be :data:`STARTER`, where there is one.
    """
    return _Planner(action, toolchain).plan(starter)


class _Planner:
    def __init__(self, action: Action, toolchain: Directory) -> None:
        self._action = action
        self._root = Directory(dict(toolchain.children))
        self._links: dict[bytes, LinkInput] = {}
        for entry in action.inputs:
            if isinstance(entry, LinkInput) and self._links.setdefault(entry.path, entry) != entry:
                raise BadAction(f"the link {_show(entry.path)} is given with two targets")
        self._parents: dict[bytes, Directory] = {}

    def plan(self, starter: ToolchainFile | None) -> Plan:
        root, action = self._root, self._action
        for name in _MOUNTED:
            root.children[name] = Mounted()
        for link in self._links.values():
            self._add_link(link)
        for entry in action.inputs:
            if isinstance(entry, FileInput):
                self._add_file(entry)
            elif isinstance(entry, DirectoryInput):
                self._directory(entry.path)
        self._directory(action.cwd)
        if not isinstance(self._walk(action.cwd, make=False, follow=True).node, Directory):
            raise BadAction(f"the working directory {_show(action.cwd)} cannot be: a part of the sandbox is there")
        for executable in (action.executable, *(further for further, _ in action.then)):
            found = self._walk(executable, make=False, follow=True).node
            if not isinstance(found, ToolchainFile | FileInput):
                raise BadAction(f"{_show(executable)}, which the job wants to run, is not in its toolchain")
        outputs = tuple(self._output(path) for path in action.outputs)
        if PRIVATE[1:] in root.children:
            raise BadAction(f"{_show(PRIVATE)} is reserved for the sandbox")
        private = root.children[PRIVATE[1:]] = Directory()
        private.children[TEMPORARY.rpartition(b"/")[2]] = Mounted()
        if starter is not None:
            private.children[STARTER.rpartition(b"/")[2]] = starter
        mounts = _Mounts()
        mounts.find(root, b"", inside=False)
        return Plan(root, outputs, tuple(mounts.writable), tuple(mounts.sealed), tuple(mounts.stored))

    def _add_link(self, link: LinkInput) -> None:
        _check_target(link)
        place = self._walk(link.path, make=True, follow=False)
        match place.node:
            case Link(target) if target == link.target:
                return
            case None:
                self._own(place.way).children[place.name] = Link(link.target)
            case _:
                raise _conflict(link.path, "a symbolic link", place.node)

    def _add_file(self, entry: FileInput) -> None:
        path = entry.path
        parent, _, name = path.rpartition(b"/")
        directory = self._parents.get(parent)
        if directory is None:
            place = self._walk(parent + b"/", make=True, follow=True)
            if not isinstance(place.node, Directory):
                raise _conflict(path, "a file", place.node)
            directory = self._parents[parent] = self._own(place.way)
        if name in {b"", b".", b".."}:
            raise _conflict(path, "a file", directory)
        if name not in directory.children:
            # The usual case, a header among headers.
            _check(path)
            directory.children[name] = entry
            return
        place = self._walk(path, make=True, follow=True)
        match place.node:
            case None | ToolchainFile() if place.name:
                # What the client says of a file of its toolchain is newer than the toolchain, and has its times.
                self._own(place.way).children[place.name] = entry
            case FileInput(_, digest, _, mtime_ns, executable):
                if (digest, mtime_ns, executable) != (entry.digest, entry.mtime_ns, entry.executable):
                    raise BadAction(f"{_show(path)} and another input are one file with two contents")
            case _:
                raise _conflict(path, "a file", place.node)

    def _directory(self, path: bytes) -> None:
        place = self._walk(path, make=True, follow=True)
        if place.node is None:
            self._own(place.way).children[place.name] = Directory()
        elif not isinstance(place.node, Directory | Mounted):
            raise _conflict(path, "a directory", place.node)

    def _output(self, path: bytes) -> PlannedOutput:
        """Where an output will lie; from now on its directory is writable, if it exists."""
        _check(path)
        parent, _, name = path.rpartition(b"/")
        if name in {b"", b".", b".."}:
            raise BadAction(f"the output {_show(path)} names no file")
        place = self._walk(parent + b"/", make=False, follow=True)
        if isinstance(place.node, Mounted):
            raise BadAction(f"the output {_show(path)} would lie on a part of the sandbox")
        if not isinstance(place.node, Directory):
            return PlannedOutput(path, ())
        self._own(place.way).writable = True
        return PlannedOutput(path, (*(part for part, _ in place.way[1:]), name))

    def _own(self, way: list[tuple[bytes, Directory]]) -> Directory:
        """The directory at a way's end, made this plan's own all along the way."""
        here = way[0][1]
        for index in range(1, len(way)):
            name, inside = way[index]
            if inside.stored:
                inside = Directory(dict(inside.children))
                here.children[name] = inside
                way[index] = (name, inside)
            here = inside
        return here

    def _walk(self, path: bytes, *, make: bool, follow: bool) -> _Place:
        """Walk an absolute path; ``make`` creates missing directories on the way, ``follow`` follows a link at its end.

        The last component itself is never created, unless a ``/`` or ``.`` behind it says that it is a directory.
        """
        _check(path)
        way: list[tuple[bytes, Directory]] = [(b"", self._root)]
        pending = _parts(path)
        links = 0
        while pending:
            part = pending.pop()
            if part == b".":
                continue
            if part == b"..":
                if len(way) > 1:
                    way.pop()
                continue
            here = way[-1][1]
            node = here.children.get(part)
            if node is None and self._links:
                given = self._links.get(b"/".join([name for name, _ in way]) + b"/" + part)
                if given is not None:
                    _check_target(given)
                    node = self._own(way).children[part] = Link(given.target)
            if len(way) > _DEEPEST:
                raise BadAction(f"{_show(path)} is too deep")
            if isinstance(node, Directory):
                way.append((part, node))
            elif isinstance(node, Link):
                if not pending and not follow:
                    return _Place(way, part, node)
                links += 1
                if links > _MOST_LINKS:
                    raise BadAction(f"{_show(path)} leads through too many symbolic links")
                if node.target.startswith(b"/"):
                    del way[1:]
                pending += _parts(node.target)
            elif isinstance(node, Mounted):
                if make and not follow:
                    raise _conflict(path, "a symbolic link", node)
                return _Place(way, b"", node)
            elif node is not None:
                if pending:
                    if make:
                        raise BadAction(f"{_show(path)} leads through {_show(part)}, which is no directory")
                    return _Place(way, part, None)
                return _Place(way, part, node)
            elif pending and make:
                made = Directory()
                self._own(way).children[part] = made
                way.append((part, made))
            else:
                return _Place(way, part, None)
        return _Place(way, b"", way[-1][1])


class _Mounts:
    """What is to be mounted over a root. Directories to be taken from the store become mount points in the tree."""

    def __init__(self) -> None:
        self.writable: list[bytes] = []
        self.sealed: list[bytes] = []
        self.stored: list[tuple[bytes, bytes]] = []

    def find(self, here: Directory, path: bytes, *, inside: bool) -> None:
        """Search at and below a directory of the plan's own; ``inside``: it or something above is writable."""
        if here.writable and not inside:
            self.writable.append(path or b"/")
            inside = True
        for name, node in here.children.items():
            place = path + b"/" + name
            if isinstance(node, ToolchainFile):
                if inside:
                    self.sealed.append(place)
            elif isinstance(node, Directory):
                if not node.stored:
                    self.find(node, place, inside=inside)
                elif inside or node.weight >= _WORTH_A_MOUNT:
                    self.stored.append((place, node.stored))
                    here.children[name] = Mounted()


def _parts(path: bytes) -> list[bytes]:
    """A path's components, last one first; a slash at its end counts as ``.``, which asks for a directory."""
    parts = [part for part in reversed(path.split(b"/")) if part]
    if path.endswith(b"/") and parts:
        parts.insert(0, b".")
    return parts


def _check(path: bytes) -> None:
    if not path.startswith(b"/"):
        raise BadAction(f"the path {_show(path)!r} is not absolute")
    if len(path) > _LONGEST_PATH or b"\0" in path or max(map(len, path.split(b"/"))) > _LONGEST_NAME:
        raise BadAction(f"the path {_show(path[:80])!r} is too long or holds a zero byte")


def _check_target(link: LinkInput) -> None:
    target = link.target
    if not 0 < len(target) <= _LONGEST_PATH or b"\0" in target or max(map(len, target.split(b"/"))) > _LONGEST_NAME:
        raise BadAction(f"the link {_show(link.path)} has a target that is empty, too long or holds a zero byte")


def _conflict(path: bytes, wanted: str, there: Node | None) -> BadAction:
    kinds = {Link: "a symbolic link", Directory: "a directory", Mounted: "a part of the sandbox", type(None): "nothing"}
    return BadAction(f"{_show(path)} cannot be {wanted}: there is {kinds.get(type(there), 'a file')}")


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
