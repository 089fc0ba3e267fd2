"""What is known of installed files for as long as the kernel tells of no change, so that nobody looks at them again.

Every file of a build includes the same headers of the system, some hundred of them, and asks for the same names that
are not in its directories: a stat for each is half of what a cache hit costs. So they are watched, with every
directory and link on the way to them (:mod:`~sccache_twisted.toolchains.sentry`), and while the sentry is quiet what
was true is true. Only what packages install is: it hardly ever changes, and nobody writes it through a memory map.
What is told is forgotten whole. Knows digests and names; refuses to know what they are asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from attrs import field, frozen

from sccache_twisted.client.inputs.walk import Walk
from sccache_twisted.toolchains.sentry import Rest, Sentry

INSTALLED: Final = (
    *(b"/usr/include/", b"/usr/lib/", b"/usr/lib32/", b"/usr/lib64/", b"/usr/libexec/", b"/usr/share/"),
    *(b"/usr/local/include/", b"/usr/local/lib/", b"/opt/", b"/nix/store/", b"/gnu/store/"),
)
"""Where packages are installed."""

_MOST = 20_000
_AT_ONCE = 64
"""Whoever asked waits for it: 1 ms or so."""


@frozen
class Granted:
    """Digests of files and names in directories, by absolute path as spelled. It grows, and nothing in it changes."""

    digests: dict[bytes, str] = field(factory=dict)
    names: dict[bytes, frozenset[bytes]] = field(factory=dict)


_NOTHING: Final = Granted()


class Steady:
    """Remembers what ``digest`` and ``names`` tell of paths below ``roots``. Shared between threads."""

    def __init__(
        self,
        digest: Callable[[bytes], str | None],
        names: Callable[[bytes], frozenset[bytes] | None],
        roots: Sequence[bytes] = INSTALLED,
    ) -> None:
        self._digest = digest
        self._names = names
        self._roots = tuple(roots)
        self._lock = threading.Lock()
        self._rest = Rest()
        self._known: tuple[Sentry, Granted] | None = None
        self._unseen: set[bytes] = set()

    def granted(self) -> Granted:
        """What is true at this moment."""
        known = self._known
        if known is None:
            return _NOTHING
        sentry, granted = known
        if sentry.quiet():
            return granted
        with self._lock:
            if self._known is known:
                self._known = None
        return _NOTHING

    def concerns(self, path: bytes) -> bool:
        """Whether a path, as spelled, may be remembered."""
        return path.startswith(self._roots) and path not in self._unseen

    def learn(self, files: Sequence[bytes], directories: Sequence[bytes]) -> None:
        """Watch some of these, which were asked for; nobody waits for another one who does."""
        if not (files or directories) or not self._lock.acquire(blocking=False):
            return
        try:
            if self._known is None:
                if not self._rest.is_over(time.monotonic()):
                    return
                try:
                    self._known = Sentry(()), Granted()
                except OSError:
                    self._rest.stretch()  # it is looked at each time, as ever
                    return
            sentry, granted = self._known
            if len(granted.digests) + len(granted.names) < _MOST:
                self._watch(sentry, granted, files[:_AT_ONCE], directories[:_AT_ONCE])
        finally:
            self._lock.release()

    def _watch(self, sentry: Sentry, granted: Granted, files: Sequence[bytes], directories: Sequence[bytes]) -> None:
        try:
            way = _way(files, directories)
            sentry.watch(way)
        except OSError:
            self._watch_each(sentry, granted, files, directories)
            return
        # Looked at now that it is watched: what changes from here on is told.
        digests = {path: self._digest(path) for path in files}
        names = {path: self._names(path) for path in directories}
        if _way(files, directories) == way and sentry.quiet():
            granted.digests.update((path, digest) for path, digest in digests.items() if digest is not None)
            granted.names.update((path, found) for path, found in names.items() if found is not None)

    def _watch_each(
        self, sentry: Sentry, granted: Granted, files: Sequence[bytes], directories: Sequence[bytes]
    ) -> None:
        """Some of these can't be watched: they are not asked for again."""
        if len(files) + len(directories) == 1:
            self._unseen.update(files, directories)
            return
        for path in files:
            self._watch(sentry, granted, (path,), ())
        for path in directories:
            self._watch(sentry, granted, (), (path,))


def _way(files: Iterable[bytes], directories: Iterable[bytes]) -> frozenset[bytes]:
    """Every place that these paths lead through or to, links included, whether anything is there or not."""
    walk = Walk()
    ends = [walk.file(path) for path in files]
    for path in directories:
        walk.directory(path)
    return walk.visited().union(end[0] for end in ends if end is not None)
