"""The client's toolchains: packaged once, and what cannot be packaged is not tried again with every call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from sccache_twisted.client.detect import Signature, file_signature
from sccache_twisted.errors import CompilerNotPackageable, StorageError
from sccache_twisted.model import Compiler, RunsLocally
from sccache_twisted.toolchains import PackagedToolchain, ToolchainCache

_REFUSAL_SECONDS = 60.0


class Toolchains:
    """Packaged toolchains, or why there is none. May be used from many threads. ``now``: seconds, monotonic."""

    def __init__(self, cache: ToolchainCache, now: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._now = now
        self._refused: dict[tuple[bytes, Signature], tuple[float, RunsLocally]] = {}

    def packaged(self, compiler: Compiler, env: Mapping[bytes, bytes]) -> PackagedToolchain | RunsLocally:
        """The compiler's toolchain as it is now. Blocks, for a second when it must be packaged first."""
        key = (compiler.executable, file_signature(compiler.executable))
        refused = self._refused.get(key)
        if refused is not None and self._now() - refused[0] < _REFUSAL_SECONDS:
            return refused[1]
        try:
            return self._cache.packaged(compiler, env)
        except (CompilerNotPackageable, StorageError) as problem:
            local = RunsLocally("no_toolchain", problem.explained())
            self._refused[key] = (self._now(), local)
            return local
