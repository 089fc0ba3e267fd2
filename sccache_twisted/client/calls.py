"""A compiler call, and what is decided about it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred

from sccache_twisted.interfaces import Finished, RemoteRun

_NO_DIST, _RECACHE, _NO_CACHE = b"SCCACHE_NO_DIST", b"SCCACHE_RECACHE", b"SCCACHE_NO_CACHE"
_OFF = {b"", b"0", b"false", b"no", b"off"}


@frozen
class Call:
    """A compiler call as its caller made it. ``arrival_ns`` is the wall clock when it came in."""

    argv: tuple[bytes, ...]
    cwd: bytes
    env: Mapping[bytes, bytes] = field(repr=False)
    umask: int
    stderr_is_tty: bool
    arrival_ns: int

    def asks(self, name: bytes) -> bool:
        """Whether a switch is on in the caller's environment."""
        return self.env.get(name, b"").lower() not in _OFF

    @property
    def no_dist(self) -> bool:
        """The caller wants this one to stay on this machine."""
        return self.asks(_NO_DIST)

    @property
    def recache(self) -> bool:
        """The caller wants no stored result."""
        return self.asks(_RECACHE)

    @property
    def no_cache(self) -> bool:
        """The caller wants neither a stored result nor this one stored."""
        return self.asks(_NO_CACHE)


@frozen
class Answered:
    """The call is done: what its caller shows and exits with.

    ``remote`` tells where it ran, None for a refusal; ``cached``: nothing ran at all, the result was in the cache.
    """

    status: int
    stdout: bytes
    stderr: bytes
    remote: RemoteRun | None = None
    cached: bool = False


class LocalWatch(Protocol):
    """Somebody who wants the files of a local compilation. Exactly one of its methods is called, once."""

    def ended(self, finished: Finished) -> Deferred[None]:
        """The compiler has ended; fires when its files have been read, before the caller goes on."""

    def abandoned(self) -> None:
        """The caller has gone, and how the compiler ended is not known."""


@frozen
class ExecHere:
    """The caller becomes the compiler: nothing of ours happens to the call. ``note`` is for stderr."""

    executable: bytes
    argv: tuple[bytes, ...]
    reason: str
    note: bytes = b""


@frozen
class RunHere:
    """The caller runs the compiler in a local slot and says how it went.

    ``remote``: a worker's answer to confirm. ``watch``: who is told how it went, and keeps the result. ``began``: when
    it was decided, by the pipeline's clock.
    """

    executable: bytes
    argv: tuple[bytes, ...]
    reason: str
    remote: RemoteRun | None = None
    watch: LocalWatch | None = None
    began: float = field(default=0.0, eq=False)


Decision = Answered | ExecHere | RunHere


def apparent_cwd(cwd: bytes, env: Mapping[bytes, bytes]) -> bytes:
    """The working directory as the compilers see it: ``$PWD`` where it names the same directory, however spelled.

    Neither gcc nor clang looks for the dots that POSIX forbids in ``pwd -L``.
    """
    logical = env.get(b"PWD", b"")
    if logical == cwd or not logical.startswith(b"/"):
        return cwd
    try:
        same = os.path.samestat(os.stat(logical), os.stat(cwd))
    except OSError:
        return cwd
    return logical if same else cwd
