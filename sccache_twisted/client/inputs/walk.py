"""Walking a path component by component, as the kernel does, and noting what is on the way.

``x/..`` is never folded: ``x`` must exist and may be a link to elsewhere. What comes out lies at physical places
only, so that a worker can build links, directories and files in any order and never through a link.
"""

from __future__ import annotations

import os
import stat

from sccache_twisted.model import DirectoryInput, Input, LinkInput

_MOST_LINKS = 40


class Walk:
    """The links and directories that one job's paths lead through. For one job and one thread."""

    def __init__(self) -> None:
        self.links: dict[bytes, LinkInput] = {}
        self.directories: dict[bytes, DirectoryInput] = {}
        self._spelled: dict[bytes, bytes | None] = {b"": b"", b"/": b""}
        self._nodes: dict[bytes, bytes | None] = {}

    def inputs(self) -> list[Input]:
        """Everything noted so far."""
        return [*self.links.values(), *self.directories.values()]

    def visited(self) -> frozenset[bytes]:
        """The physical places of all directories and links that were passed, and of what stood in the way."""
        return frozenset(self._nodes).union(self.links)

    def directory(self, path: bytes, depth: int = 0) -> bytes | None:
        """The physical place of an absolute directory path (empty for the root), or None if it is no directory."""
        try:
            return self._spelled[path]
        except KeyError:
            pass
        head, _, name = path.rpartition(b"/")
        parent = self.directory(head, depth)
        found: bytes | None
        if parent is None or name in {b"", b"."}:
            found = parent
        elif name == b"..":
            self.must_exist(parent)
            found = parent.rpartition(b"/")[0]
        else:
            found = self._node(parent + b"/" + name, parent, depth)
        self._spelled[path] = found
        return found

    def must_exist(self, place: bytes) -> None:
        """Note that a physical directory must be there."""
        if place and place not in self.directories:
            self.directories[place] = DirectoryInput(place)

    def file(self, path: bytes, depth: int = 0) -> tuple[bytes, os.stat_result] | None:
        """The physical place of what an absolute path names, and its stat; None if there is nothing."""
        head, _, name = path.rpartition(b"/")
        try:
            parent = self._spelled[head]
        except KeyError:
            parent = self.directory(head)
        if parent is None:
            return None
        place = parent + b"/" + name
        try:
            found = os.lstat(place)
        except OSError:
            return None
        if stat.S_ISLNK(found.st_mode):
            target = self._link(place, parent, depth)
            return self.file(target, depth + 1) if target is not None else None
        return place, found

    def _node(self, place: bytes, parent: bytes, depth: int) -> bytes | None:
        try:
            return self._nodes[place]
        except KeyError:
            pass
        try:
            mode = os.lstat(place).st_mode
        except OSError:
            mode = 0
        found: bytes | None = None
        if stat.S_ISDIR(mode):
            found = place
        elif stat.S_ISLNK(mode):
            target = self._link(place, parent, depth)
            found = self.directory(target, depth + 1) if target is not None else None
        self._nodes[place] = found
        return found

    def _link(self, place: bytes, parent: bytes, depth: int) -> bytes | None:
        """Note a link; the absolute path that it leads to, or None when there are too many on the way."""
        if depth >= _MOST_LINKS:
            return None
        known = self.links.get(place)
        if known is None:
            try:
                known = self.links[place] = LinkInput(place, os.readlink(place))
            except OSError:
                return None
        return known.target if known.target.startswith(b"/") else parent + b"/" + known.target
