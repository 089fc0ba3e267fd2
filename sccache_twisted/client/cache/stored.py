"""The store that a client's settings ask for, and what is told of it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from sccache_twisted.client.cache.upkeep import Upkeep, of_levels
from sccache_twisted.client.places import object_directory
from sccache_twisted.client.stats import NO_CACHE, CacheFigures
from sccache_twisted.config import ClientSettings
from sccache_twisted.errors import ConfigError, StorageError
from sccache_twisted.logs import events
from sccache_twisted.logs.events import EventLog
from sccache_twisted.storage.configured import chain, open_store
from sccache_twisted.storage.disk import DiskStore
from sccache_twisted.storage.levels import Levels

_ON_DISK = "disk"


@frozen
class Stored:
    """A store, or None and why there is none."""

    store: Levels | None
    disk: DiskStore | None = None
    why_not: str = ""
    basedirs: tuple[str, ...] = ()

    async def figures(self) -> CacheFigures:
        """Where results are, and how many bytes."""
        if self.store is None:
            return CacheFigures(f"None: {self.why_not}") if self.why_not else NO_CACHE
        levels = self.store.figures
        size = None
        if self.disk is not None:
            try:
                size = await self.disk.size()
            except StorageError:
                size = None  # what nobody can tell is told as such
        return CacheFigures(
            location=", ".join(level.location for level in levels),
            size=size,
            capacity=self.disk.capacity if self.disk is not None else None,
            timeouts=sum(level.counts["get", "timeout"] for level in levels),
            basedirs=self.basedirs,
            levels=tuple(level.as_json(number) for number, level in enumerate(levels)) if len(levels) > 1 else (),
        )

    @property
    def upkeep(self) -> Upkeep:
        """Counting and removing what is stored."""
        return of_levels(self.store)

    def zero(self) -> None:
        """Begin to count anew."""
        if self.store is not None:
            for level in self.store.figures:
                level.clear()


def open_stored(settings: ClientSettings, reactor: Any, environ: Mapping[str, str]) -> Stored:
    """Open the store; ConfigError for settings that can't work. A directory that can't be had costs only the cache."""
    order = chain(settings.stores)
    if _ON_DISK in order and not settings.disk_size:
        if len(order) > 1:
            raise ConfigError("cache.multilevel.chain names disk, but cache.disk.size is 0.")
        return Stored(None)
    opened: list[DiskStore] = []

    def disk() -> DiskStore:
        opened.append(DiskStore(reactor, object_directory(settings, environ), settings.disk_size))
        return opened[0]

    try:
        store = open_store(
            settings.stores,
            reactor,
            disk=disk,
            disk_mode=settings.disk_rw_mode,
            environ=environ,
            draw=random.random,
        )
    except StorageError as problem:
        log = EventLog.of("sccache_twisted.client", role="client")
        log.emit(events.CACHE_FAILED, what="open", reason=problem.sentence)
        return Stored(None, None, problem.sentence)
    return Stored(store, opened[0] if opened else None, basedirs=settings.basedirs)
