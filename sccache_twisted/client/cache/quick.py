"""The whole way to a hit in one visit to a thread, where the store need not be waited for.

Each change of thread costs as much as a look-up itself. Knows nothing of misses: what is no hit for any reason is
looked for again in the ordinary way, which knows them all.
"""

from __future__ import annotations

import time

from attrs import frozen

from sccache_twisted.client.cache import files
from sccache_twisted.client.cache.recipe import Sighted
from sccache_twisted.client.cache.states import FileStates
from sccache_twisted.errors import StorageError
from sccache_twisted.hashing.entry import Entry
from sccache_twisted.interfaces import IReadAtOnce


@frozen
class Hit:
    """A result that was found and written. ``read_seconds``: each read of the store; ``write_seconds``: the outputs."""

    sighted: Sighted
    entry: Entry
    read_seconds: tuple[float, ...]
    write_seconds: float


def hit(sighted: Sighted, store: IReadAtOnce, states: FileStates) -> Hit | None:
    """The result of a call, written as its compiler would have; None where that takes more than a look."""
    began = time.perf_counter()
    try:
        stored = store.read(sighted.key)
        manifest_read = time.perf_counter()
        key = files.find(sighted, stored, states) if stored is not None else None
        if not isinstance(key, str):
            return None
        found = time.perf_counter()
        stored = store.read(key)
    except StorageError:
        return None
    entry_read = time.perf_counter()
    entry = files.unpack(key, stored) if stored is not None else None
    if not isinstance(entry, Entry):
        return None
    unpacked = time.perf_counter()
    if not files.write(sighted, entry):
        return None
    reads = (manifest_read - began, entry_read - found)
    return Hit(sighted, entry, reads, time.perf_counter() - unpacked)
