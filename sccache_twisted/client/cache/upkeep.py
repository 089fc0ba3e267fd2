"""Looking after the cache by hand: how much is in it, and removing what is old or all.

Knows levels and which of them are this machine's own: only those are counted and emptied, since others build with the
rest. Refuses to know whether a daemon runs: without one, :func:`without_daemon` opens the disk's store by itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from sccache_twisted.client.places import object_directory
from sccache_twisted.config import ClientSettings
from sccache_twisted.errors import UserError
from sccache_twisted.interfaces import IKeptHere, Removed, Survey
from sccache_twisted.storage.configured import chain
from sccache_twisted.storage.disk_files import DiskDirectory
from sccache_twisted.storage.levels import Levels

_DISK, _MEMORY = "disk", "memory"
_OWN_TOOLS = {
    "redis": "redis-cli, or let its entries end with cache.redis.expiration",
    "memcached": "a restart of the server, or let its entries end with cache.memcached.expiration",
    "s3": "a lifecycle rule of the bucket",
    "webdav": "the tools of the server",
}


@frozen
class Part:
    """One level. ``kept`` is None for a shared one, and for the memory of a daemon that doesn't run."""

    name: str
    location: str = ""
    limit: int | None = None
    writable: bool = True
    kept: IKeptHere | None = None


@frozen
class Upkeep:
    """The levels of one client's cache; none where nothing is stored."""

    parts: tuple[Part, ...]

    async def size(self) -> dict[str, Any]:
        """What each level holds, and this machine's together; null where it can't be told."""
        levels: list[dict[str, Any]] = []
        for part in self.parts:
            found = await part.kept.survey() if part.kept is not None else None
            levels.append(
                {
                    "name": part.name,
                    "location": part.location,
                    "entries": None if found is None else found.entries,
                    "bytes": None if found is None else found.size,
                    "limit": part.limit,
                    "oldest": None if found is None else _seconds(found.oldest_ns),
                    "newest": None if found is None else _seconds(found.newest_ns),
                }
            )
        return {"levels": levels, **_totals([level for level in levels if level["entries"] is not None])}

    async def remove(self, level: str, before_ns: int | None) -> dict[str, Any]:
        """Remove what was last used before then, or all, from ``level`` (empty: all that are this machine's).

        UserError where that can't be, and then nothing is removed.
        """
        removed: list[dict[str, Any]] = []
        for part in self._chosen(level, by_age=before_ns is not None):
            found = await part.kept.evict(before_ns) if part.kept is not None else Removed()
            removed.append({"level": part.name, "entries": found.entries, "bytes": found.size})
        return {"removed": removed, **_totals(removed)}

    def _chosen(self, level: str, *, by_age: bool) -> Sequence[Part]:
        if not self.parts:
            raise UserError("Nothing is stored: cache.disk.size is 0.")
        names = [part.name for part in self.parts]
        if level and level not in names:
            raise UserError(f"This cache has no level {level!r}; it has: {', '.join(names)}.")
        wanted = [part for part in self.parts if part.name == level or (not level and part.name not in _OWN_TOOLS)]
        if by_age and not level:
            wanted = [part for part in wanted if part.name == _DISK]
        if not wanted:
            what = "keeps entries on this machine with times of use" if by_age else "is this machine's own"
            raise UserError(f"No level of this cache {what}: {', '.join(names)}.")
        for part in wanted:
            if part.name in _OWN_TOOLS:
                raise UserError(
                    f"{part.name} is shared with others and is not emptied from here: use {_OWN_TOOLS[part.name]}."
                )
            if by_age and part.name == _MEMORY:
                raise UserError("The level memory keeps no times of use: it can only be cleared.")
            if not part.writable:
                raise UserError("The level disk is READ_ONLY for this client (cache.disk.rw_mode): nothing is removed.")
        return wanted


def of_levels(store: Levels | None) -> Upkeep:
    """The upkeep of an open store."""
    levels = store.levels if store is not None else ()
    return Upkeep(
        tuple(
            Part(
                level.figures.name,
                level.figures.location,
                getattr(level.kept, "capacity", None),
                level.writable,
                level.kept,
            )
            for level in levels
        )
    )


def without_daemon(settings: ClientSettings, environ: Mapping[str, str]) -> Upkeep:
    """The upkeep of what outlives daemons. Its Deferreds have fired: it needs no reactor."""
    order = chain(settings.stores)
    if _DISK in order and not settings.disk_size:
        return Upkeep(())
    directory = object_directory(settings, environ)
    parts = []
    for name in order:
        if name == _DISK:
            writable = settings.disk_rw_mode != "READ_ONLY"
            location = f'Local disk: "{os.fsdecode(directory)}"'
            kept = _Blocking(directory, settings.disk_size)
            parts.append(Part(name, location, settings.disk_size, writable, kept))
        elif name == _MEMORY:
            parts.append(Part(name, "Memory of the daemon, which does not run", settings.stores.memory_size))
        else:
            parts.append(Part(name))
    return Upkeep(tuple(parts))


@implementer(IKeptHere)
class _Blocking:
    """The store on disk at once, in this thread. A directory that isn't there is not made."""

    def __init__(self, directory: bytes, capacity_bytes: int) -> None:
        self._directory = directory
        self._capacity = capacity_bytes

    def survey(self) -> Deferred[Survey]:
        """See IKeptHere."""
        return execute(self._survey)

    def evict(self, before_ns: int | None) -> Deferred[Removed]:
        """See IKeptHere."""
        return execute(self._evict, before_ns)

    def _survey(self) -> Survey:
        return DiskDirectory(self._directory, self._capacity).survey() if self._there() else Survey()

    def _evict(self, before_ns: int | None) -> Removed:
        return DiskDirectory(self._directory, self._capacity).evict(before_ns) if self._there() else Removed()

    def _there(self) -> bool:
        return os.path.isdir(self._directory)


def _totals(parts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {name: sum(part[name] for part in parts) for name in ("entries", "bytes")}


def _seconds(time_ns: int | None) -> float | None:
    return None if time_ns is None else time_ns / 1e9
