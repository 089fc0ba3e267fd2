"""Counters in sccache's shape, with our additions, among them ``local_compiles`` and ``not_compile`` by reason.

Knows what is counted and how it is spelled. Refuses to know when: the pipeline and the dispatcher say so.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import Factory, define, frozen

from sccache_twisted import __version__
from sccache_twisted.model import Compilation


@frozen
class CacheFigures:
    """Where results are stored, how many bytes there are, and how many there may be; None where nobody can tell.

    ``levels`` are items of sccache's ``multi_level``, where there is more than one.
    """

    location: str
    size: int | None = None
    capacity: int | None = None
    timeouts: int = 0
    levels: tuple[dict[str, Any], ...] = ()
    basedirs: tuple[str, ...] = ()


NO_CACHE = CacheFigures("None: results are not stored")


@define
class LanguageCounts:
    """A counter by language, as sccache groups them, and by language and compiler."""

    counts: Counter[str] = Factory(Counter)
    advanced: Counter[str] = Factory(Counter)

    def add(self, compilation: Compilation, count: int = 1) -> None:
        """Count a compilation, or so many."""
        self.add_one_of(compilation.language, compilation.compiler.family.value, count)

    def add_one_of(self, language: str, family: str, count: int = 1) -> None:
        """Count a compilation of a language by a compiler's family, or so many."""
        self.counts["Assembler" if language.startswith("assembler") else "C/C++"] += count
        self.advanced[f"{language} [{family}]"] += count

    def as_json(self) -> dict[str, dict[str, int]]:
        """In sccache's shape."""
        return {"counts": dict(self.counts), "adv_counts": dict(self.advanced)}


@define
class Statistics:
    """What has happened since the start or the last ``--zero-stats``. Durations are in seconds."""

    compile_requests: int = 0
    requests_unsupported_compiler: int = 0
    requests_not_compile: int = 0
    requests_not_cacheable: int = 0
    requests_executed: int = 0
    forced_recaches: int = 0
    non_cacheable_compilations: int = 0
    compilations: int = 0
    compile_fails: int = 0
    compiler_write_seconds: float = 0.0
    not_compilations: Counter[str] = Factory(Counter)
    not_cached: Counter[str] = Factory(Counter)
    dist_compiles: Counter[str] = Factory(Counter)
    dist_errors: int = 0
    dist_retries: int = 0
    dist_discrepancies: int = 0
    dist_predictions: int = 0
    dist_mispredictions: int = 0
    local_compiles: Counter[str] = Factory(Counter)
    cache_hits: LanguageCounts = Factory(LanguageCounts)
    cache_misses: LanguageCounts = Factory(LanguageCounts)
    cache_errors: LanguageCounts = Factory(LanguageCounts)
    cache_read_errors: int = 0
    cache_write_errors: int = 0
    cache_writes: int = 0
    cache_write_seconds: float = 0.0
    cache_read_hit_seconds: float = 0.0

    def not_compilation(self, reason: str) -> None:
        """A request was no compilation, by its word."""
        self.requests_not_compile += 1
        self.not_compilations[reason] += 1

    def cache_hit(self, compilation: Compilation, seconds: float) -> None:
        """A result was found, and written in so many seconds."""
        self.cache_hit_of(compilation.language, compilation.compiler.family.value, seconds)

    def cache_hit_of(self, language: str, family: str, seconds: float) -> None:
        """As :meth:`cache_hit`, of a compilation that another process knows."""
        self.cache_hits.add_one_of(language, family)
        self.cache_read_hit_seconds += seconds

    def cache_missed(self, compilation: Compilation) -> None:
        """A result that could have been there was not."""
        self.cache_misses.add(compilation)

    def cache_found_late(self, compilation: Compilation) -> None:
        """A miss has become a hit while it waited: it is one call."""
        self.cache_misses.add(compilation, -1)

    def cache_written(self, seconds: float) -> None:
        """A result was stored in so many seconds."""
        self.cache_writes += 1
        self.cache_write_seconds += seconds

    def not_cacheable(self, reason: str) -> None:
        """A compilation was neither looked for nor stored, for a documented reason."""
        self.non_cacheable_compilations += 1
        self.not_cached[reason] += 1

    def as_json(self, cache: CacheFigures = NO_CACHE) -> dict[str, Any]:
        """The whole answer to ``--show-stats --stats-format json``, before it is spelled as JSON."""
        stats: dict[str, Any] = {
            "compile_requests": self.compile_requests,
            "requests_unsupported_compiler": self.requests_unsupported_compiler,
            "requests_not_compile": self.requests_not_compile,
            "requests_not_cacheable": self.requests_not_cacheable,
            "requests_executed": self.requests_executed,
            "cache_errors": self.cache_errors.as_json(),
            "cache_hits": self.cache_hits.as_json(),
            "cache_misses": self.cache_misses.as_json(),
            "cache_timeouts": cache.timeouts,
            "cache_read_errors": self.cache_read_errors,
            "non_cacheable_compilations": self.non_cacheable_compilations,
            "forced_recaches": self.forced_recaches,
            "cache_write_errors": self.cache_write_errors,
            "cache_writes": self.cache_writes,
            "cache_write_duration": _duration(self.cache_write_seconds),
            "cache_read_hit_duration": _duration(self.cache_read_hit_seconds),
            "compilations": self.compilations,
            "compiler_write_duration": _duration(self.compiler_write_seconds),
            "compile_fails": self.compile_fails,
            "not_cached": dict(self.not_cached),
            "dist_compiles": dict(self.dist_compiles),
            "dist_errors": self.dist_errors,
            "multi_level": list(cache.levels) or None,
            "not_compile": dict(self.not_compilations),
            "local_compiles": dict(self.local_compiles),
            "dist_retries": self.dist_retries,
            "dist_discrepancies": self.dist_discrepancies,
            "dist_predictions": self.dist_predictions,
            "dist_mispredictions": self.dist_mispredictions,
        }
        return {
            "stats": stats,
            "cache_location": cache.location,
            "cache_size": cache.size,
            "max_cache_size": cache.capacity,
            "use_preprocessor_cache_mode": not cache.location.startswith("None"),
            "version": __version__,
            "basedirs": list(cache.basedirs),
        }


def _duration(seconds: float) -> dict[str, int]:
    whole = int(seconds)
    return {"secs": whole, "nanos": int((seconds - whole) * 1e9)}
