"""Compilers as archives: found on the client, packed, sent, kept and verified on the worker.

1. ``discover`` asks a driver what it needs and follows every link on the way there;
2. ``package`` writes that closure as one canonical tar, named by the blake3 of its bytes, and
   ``memo`` remembers the answer for as long as no file of it changes;
3. ``unpack`` reads such an archive from a peer that may lie, without ever following what it made;
4. ``keep`` holds unpacked toolchains on a worker: complete or absent, pinned or evictable, verified.

Everything here is synchronous and blocks on disk or on child processes: call it in a thread. Objects
that say so may be shared between threads. Nothing here knows jobs, connections or Twisted.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sccache_twisted.toolchains.archive import ArchiveLimits
from sccache_twisted.toolchains.discover import ToolchainFiles, discover
from sccache_twisted.toolchains.memo import ToolchainCache
from sccache_twisted.toolchains.package import PackagedToolchain, package, package_to
from sccache_twisted.toolchains.probes import Answer, Driver, Runner, run_here
from sccache_twisted.toolchains.tree import Entry, EntryKind

if TYPE_CHECKING:
    from sccache_twisted.toolchains.keep import Intake, StoreChanges, Toolchain, ToolchainStore

__all__ = [
    "Answer",
    "ArchiveLimits",
    "Driver",
    "Entry",
    "EntryKind",
    "Intake",
    "PackagedToolchain",
    "Runner",
    "StoreChanges",
    "Toolchain",
    "ToolchainCache",
    "ToolchainFiles",
    "ToolchainStore",
    "discover",
    "package",
    "package_to",
    "run_here",
]

_KEEPING = frozenset({"Intake", "StoreChanges", "Toolchain", "ToolchainStore"})


def __getattr__(name: str) -> Any:
    """What only a worker needs is imported when it is asked for: a client daemon is to stay small."""
    if name in _KEEPING:
        return getattr(import_module("sccache_twisted.toolchains.keep"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
