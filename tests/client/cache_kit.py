"""What tests of the cache share: a bench whose store and preprocessors can be watched, and trees that are no news."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from client_world import Bench, World
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, fail

from sccache_twisted.client.calls import Answered
from sccache_twisted.errors import StorageError
from sccache_twisted.storage.memory import MemoryStore


class Store(MemoryStore):
    """A store that can be looked into, broken, and held up."""

    def __init__(self) -> None:
        super().__init__(64 << 20)
        self.held: Deferred[None] | None = None
        self.broken = False

    def get(self, key: str) -> Deferred[bytes | None]:
        return fail(StorageError("broken")) if self.broken else super().get(key)

    def put(self, key: str, entry: bytes) -> Deferred[None]:
        if self.broken:
            return fail(StorageError("broken"))
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.addCallback(waiting.callback)
            return waiting.addCallback(lambda _: MemoryStore.put(self, key, entry))
        return super().put(key, entry)


class CountedBench(Bench):
    """Counts preprocessors."""

    def __init__(self, cache: Path, world: World | None, store: Store, bases: Sequence[bytes] = ()) -> None:
        super().__init__(reactor, cache, world, store, bases=bases)
        self.store = store
        self.listings = 0
        run = self.runner.run

        def counting(*args, **kwargs):
            self.listings += 1
            return run(*args, **kwargs)

        self.runner.run = counting  # type: ignore[method-assign]

    @property
    def hits(self) -> int:
        return sum(self.statistics.cache_hits.counts.values())

    @property
    def misses(self) -> int:
        return sum(self.statistics.cache_misses.counts.values())

    async def stored(self) -> None:
        """Wait until what was compiled is stored."""
        assert self.cache is not None
        await DeferredList(list(self.cache._writes))


def write(root: Path, **files: str) -> None:
    """Write files by their names with ``_`` for ``/`` and ``.``, as ``inc_b_h``; then wait until they are no news."""
    for name, text in files.items():
        parts = name.split("__")
        path = root.joinpath(*parts[:-1], parts[-1].replace("_", "."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    settle(root)


def settle(root: Path) -> None:
    """Wait until every change in a tree is older than what counts as too new."""
    newest = max(path.stat().st_ctime_ns for path in root.rglob("*"))
    while time.time_ns() - newest < 30_000_000:
        time.sleep(0.005)


async def compiled(bench: CountedBench, line: str, cwd: Path, env: dict[bytes, bytes] | None = None) -> Answered:
    """A call that must succeed, and everything that follows from it."""
    answer = await bench.call(line.split(), cwd, env)
    assert answer.status == 0, answer.stderr
    await bench.stored()
    return answer
