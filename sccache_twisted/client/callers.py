"""Who calls, and what they hand over: the same in every process that takes calls.

Whoever is of another user, in another root directory or another mount namespace sees other files than we do.
"""

from __future__ import annotations

import os
import socket
import struct
import time

from attrs import frozen

from sccache_twisted.client.calls import Call
from sccache_twisted.wire.launcher import LaunchRequest

_CREDENTIALS = struct.Struct("3i")


@frozen
class World:
    """Where a process lives: two in the same world see the same files."""

    root: tuple[int, int]
    mounts: tuple[int, int]

    @classmethod
    def of(cls, process: int | str) -> World | None:
        """The world of a process; None when it can't be looked at."""
        try:
            root = os.stat(f"/proc/{process}/root")
            mounts = os.stat(f"/proc/{process}/ns/mnt")
        except OSError:
            return None
        return cls((root.st_dev, root.st_ino), (mounts.st_dev, mounts.st_ino))

    def stranger(self, connection: socket.socket) -> str:
        """Why the process at the other end can't be served from this world; empty if it can."""
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(packed)
        if uid != os.getuid():
            return "other_user"
        return "" if World.of(pid) == self else "other_root_or_mounts"


def call_of(request: LaunchRequest) -> Call:
    """The call in a request that has just come."""
    return Call(
        argv=request.argv,
        cwd=request.cwd,
        env=_environment(request.env),
        umask=request.umask,
        stderr_is_tty=request.stderr_is_tty,
        arrival_ns=time.time_ns(),
    )


def _environment(entries: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """The caller's environment; of a name that stands twice, the first counts, as in getenv."""
    found: dict[bytes, bytes] = {}
    for entry in entries:
        name, equals, value = entry.partition(b"=")
        if equals and name not in found:
            found[name] = value
    return found
