"""Which of the names that a search path could lead to are there, kept up to date by a stat for each directory.

One for each search path and working directory, shared by all compilations that have these. Knows names and
directories; refuses to know what is in a file. In threads, under its owner's lock.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress

from attrs import Factory, define

from sccache_twisted.client.inputs.memo import Signature, signature_of

_HOT_NS = 2_000_000_000
"""What changed within the last seconds may change again without showing it."""

_FEW = 8
_NOWHERE: Signature = (0, 0, 0, 0, 0)


@define
class _Directory:
    """The names that matter in a directory, and those of them that are files. ``signature`` None: look again."""

    path: bytes
    names: set[bytes] = Factory(set)
    there: frozenset[bytes] = frozenset()
    signature: Signature | None = None


class Surroundings:
    """``cwd`` is where relative names begin. ``epoch`` counts how often something has come or gone."""

    def __init__(self, cwd: bytes) -> None:
        self.epoch = 0
        self._prefix = cwd.rstrip(b"/") + b"/"
        self._directories: dict[bytes, _Directory] = {}

    def watch(self, paths: Iterable[bytes]) -> None:
        """Know from now on whether these paths, as spelled, are files."""
        for path in paths:
            head, slash, name = path.rpartition(b"/")
            known = self._directories.get(head + slash)
            if known is None:
                known = self._directories[head + slash] = _Directory(head + slash)
            if name not in known.names:
                known.names.add(name)
                known.signature = None

    def refresh(self) -> None:
        """Look at every directory that has changed."""
        for directory in self._directories.values():
            signature = self._signature(directory.path)
            if signature != directory.signature:
                self._look(directory, signature)

    def is_there(self, path: bytes) -> bool:
        """Whether a watched path was a file at the last refresh."""
        head, slash, name = path.rpartition(b"/")
        return name in self._directories[head + slash].there

    def place_of(self, path: bytes) -> bytes:
        """Where a file really lies."""
        return os.path.realpath(self._absolute(path))

    def _signature(self, path: bytes) -> Signature:
        try:
            found = os.stat(self._absolute(path))
        except (OSError, ValueError):
            return _NOWHERE
        return signature_of(found) if stat.S_ISDIR(found.st_mode) else _NOWHERE

    def _absolute(self, path: bytes) -> bytes:
        return path if path[:1] == b"/" else self._prefix + path

    def _look(self, directory: _Directory, signature: Signature) -> None:
        base = self._absolute(directory.path)
        named: Iterable[bytes] = () if signature == _NOWHERE else directory.names
        if len(directory.names) > _FEW and named:
            with suppress(OSError):  # a directory may be searched without being read
                named = directory.names.intersection(os.listdir(base))
        there = frozenset(name for name in named if os.path.isfile(base + name))
        if there != directory.there:
            directory.there = there
            self.epoch += 1
        # A link to nothing may begin to lead somewhere, of which this directory shows nothing.
        dangling = any(name not in there and os.path.lexists(base + name) for name in named)
        hot = time.time_ns() - signature[4] < _HOT_NS
        directory.signature = None if hot or dangling else signature
