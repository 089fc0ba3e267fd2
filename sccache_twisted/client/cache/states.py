"""How files are now, for what a manifest asks: contents by digest, names that are absent. In threads.

Most questions cost a stat: a digest is remembered by the signature of its inode, the names in a directory by the
directory's. A time may lag behind what it stands for: what changed within the last seconds may change again unseen, so
about that nothing is remembered. What packages have installed costs not even a stat
(:mod:`~sccache_twisted.client.cache.steady`).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Sequence

from sccache_twisted.client.cache.steady import INSTALLED, Steady
from sccache_twisted.client.inputs.memo import Changed, FileFacts, Signature, read_unchanged, signature_of
from sccache_twisted.compilers.sharing import BOUND, Place
from sccache_twisted.hashing.digests import digest_of
from sccache_twisted.hashing.manifest import Names

_HOT_NS = 2_000_000_000
"""Some file systems tell whole seconds only."""

_MOST_FILES = 400_000
_MOST_DIRECTORIES = 20_000
_LARGEST_DIRECTORY = 100_000
_NOTHING: frozenset[bytes] = frozenset()


class FileStates:
    """What is remembered of files and directories. Shared between threads: an entry is replaced whole.

    Below ``installed`` directories nobody looks again while the kernel tells of no change.
    """

    def __init__(self, installed: Sequence[bytes] = INSTALLED) -> None:
        self.steady = Steady(self.digest, self.names, installed)
        self._digests: dict[Signature, str] = {}
        self._names: dict[bytes, tuple[Signature, frozenset[bytes]]] = {}
        self._silent: set[tuple[bytes, str]] = set()

    def digest(self, path: bytes) -> str | None:
        """The digest of the file at an absolute path, links followed; None if there is no file that can be read."""
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                return None
            signature = signature_of(found)
            known = self._digests.get(signature)
            if known is not None:
                return known
            digest = digest_of(read_unchanged(os.path.realpath(path), signature))
        except (OSError, Changed):
            return None
        self.learn(signature, digest)
        return digest

    def learn(self, signature: Signature, digest: str) -> None:
        """Remember a digest, unless the file is so young that it could change without showing it."""
        if time.time_ns() - signature[4] > _HOT_NS:
            if len(self._digests) >= _MOST_FILES:
                self._digests.clear()
            self._digests[signature] = digest

    def any_mentions(self, word: bytes, files: Iterable[FileFacts]) -> bool:
        """Whether a word stands in any of these files, or may: what can't be read again may hold anything."""
        for facts in files:
            known = (word, str(facts.input.digest))
            if known in self._silent:
                continue
            try:
                if word in read_unchanged(facts.input.path, facts.signature):
                    return True
            except (OSError, Changed):
                return True
            if len(self._silent) >= _MOST_FILES:
                self._silent.clear()
            self._silent.add(known)
        return False

    def names(self, directory: bytes) -> frozenset[bytes] | None:
        """The names in a directory, none if there is no such directory; None where that can't be told for all."""
        try:
            found = os.stat(directory)
        except (FileNotFoundError, NotADirectoryError):
            return _NOTHING
        except OSError:
            return None
        if not stat.S_ISDIR(found.st_mode):
            return _NOTHING
        signature = signature_of(found)
        known = self._names.get(directory)
        if known is not None and known[0] == signature:
            return known[1]
        if time.time_ns() - found.st_ctime_ns < _HOT_NS:
            return None
        try:
            names = frozenset(os.listdir(directory))
            if signature_of(os.stat(directory)) != signature or len(names) > _LARGEST_DIRECTORY:
                return None
        except OSError:
            return None
        if len(self._names) >= _MOST_DIRECTORIES:
            self._names.clear()
        self._names[directory] = (signature, names)
        return names


class View:
    """The files as one call sees them, from its working directory. For one thread; each question is answered once.

    With a ``place``, paths may be relative to it, and conditions bound to the call whose manifest would be ``own_key``.
    """

    def __init__(self, states: FileStates, cwd: bytes, place: Place | None = None, own_key: str = "") -> None:
        self._states = states
        self._place = place
        self._own_key = own_key
        self._prefix = cwd.rstrip(b"/") + b"/"
        self._listings: dict[bytes, frozenset[bytes] | None] = {}
        self._files: dict[bytes, bool] = {}
        self._granted = states.steady.granted()
        self._looked_at: list[bytes] = []
        self._listed: list[bytes] = []

    def absolute(self, path: bytes) -> bytes:
        """A path as spelled, from the root on."""
        return path if path[:1] == b"/" else self._prefix + path

    def digest(self, path: bytes) -> str | None:
        """The digest of a file as spelled, or None."""
        known = self._granted.digests.get(path)
        if known is not None:
            return known
        if path[:1] == b"\0":
            if path == BOUND:
                return self._own_key
            here = self._localised(path)
            if here is None:
                return None
            path = here
        elif self._states.steady.concerns(path):
            self._looked_at.append(path)
        return self._states.digest(path if path[:1] == b"/" else self._prefix + path)

    def share(self) -> None:
        """Have remembered for later calls what had to be looked at for this one."""
        self._states.steady.learn(self._looked_at, self._listed)

    def any_there(self, group: Names) -> bool:
        """Whether any of the names in a directory is a file; the empty name asks for the directory itself."""
        directory, names = group
        if directory[:1] == b"\0":
            here = self._localised(directory)
            if here is None:
                return True  # not a question of this place
            directory = here
        if names[:1] == (b"",) and os.path.isdir(self._base(directory)):
            return True
        listing = self._listing(directory)
        there: Iterable[bytes] = names if listing is None else listing.intersection(names)
        base = self._base(directory)
        return any(self._is_file(base + name) for name in there)

    def is_file(self, path: bytes) -> bool:
        """Whether there is a file at a path as spelled."""
        known = self._files.get(path)
        if known is None:
            directory, slash, name = path.rpartition(b"/")
            directory = directory or slash
            listing = self._listing(directory)
            known = (listing is None or name in listing) and self._is_file(self._base(directory) + name)
            self._files[path] = known
        return known

    def _localised(self, path: bytes) -> bytes | None:
        return None if self._place is None else self._place.localised(path)

    def _listing(self, directory: bytes) -> frozenset[bytes] | None:
        known = self._granted.names.get(directory)
        if known is not None:
            return known
        try:
            return self._listings[directory]
        except KeyError:
            if self._states.steady.concerns(directory):
                self._listed.append(directory)
            listing = self._listings[directory] = self._states.names(self._base(directory))
            return listing

    def _base(self, directory: bytes) -> bytes:
        """A directory as spelled, absolute and with a slash at its end."""
        if not directory:
            return self._prefix
        absolute = self.absolute(directory)
        return absolute if absolute.endswith(b"/") else absolute + b"/"

    @staticmethod
    def _is_file(path: bytes) -> bool:
        return os.path.isfile(path)
