"""The client's toolchains: packaged once, and what cannot be packaged is not tried again with every call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from attrs import evolve

from sccache_twisted.client.detect import Signature, file_signature
from sccache_twisted.errors import CompilerNotPackageable, StorageError
from sccache_twisted.model import Compilation, Compiler, RunsLocally
from sccache_twisted.toolchains import Driver, PackagedToolchain, ToolchainCache, run_here

_REFUSAL_SECONDS = 60.0
_MOST_REMEMBERED = 256


class Toolchains:
    """Packaged toolchains, or why there is none. May be used from many threads. ``now``: seconds, monotonic."""

    def __init__(self, cache: ToolchainCache, now: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._now = now
        self._libraries: dict[tuple[Signature, bytes, bytes], tuple[bytes, ...]] = {}
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

    def with_libraries(
        self, compilation: Compilation, cwd: bytes, env: Mapping[bytes, bytes]
    ) -> Compilation | RunsLocally:
        """The same compilation with what its plugins need among its hidden inputs. Blocks for some processes."""
        found: dict[bytes, None] = {}
        for plugin in compilation.plugins:
            path = os.path.join(cwd, plugin)
            executable = compilation.compiler.executable
            key = (file_signature(path), executable, env.get(b"LD_LIBRARY_PATH", b""))
            libraries = self._libraries.get(key)
            if libraries is None:
                try:
                    libraries = Driver(compilation.compiler, env, run_here).plugin_needs(path)
                except CompilerNotPackageable as problem:
                    return RunsLocally("compiler_plugin", problem.explained())
                if len(self._libraries) >= _MOST_REMEMBERED:
                    self._libraries.clear()
                self._libraries[key] = libraries
            found.update(dict.fromkeys(libraries))
        return evolve(compilation, hidden_inputs=(*compilation.hidden_inputs, *found)) if found else compilation
