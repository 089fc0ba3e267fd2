"""Counters in sccache's shape, with our two additions: ``local_compiles`` by reason, and ``dist_retries``.

Knows what is counted and how it is spelled. Refuses to know when: the pipeline and the dispatcher say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import Factory, define

from sccache_twisted import __version__


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
    not_cached: Counter[str] = Factory(Counter)
    dist_compiles: Counter[str] = Factory(Counter)
    dist_errors: int = 0
    dist_retries: int = 0
    dist_discrepancies: int = 0
    local_compiles: Counter[str] = Factory(Counter)

    def as_json(self) -> dict[str, Any]:
        """The whole answer to ``--show-stats --stats-format json``, before it is spelled as JSON."""
        stats: dict[str, Any] = {
            "compile_requests": self.compile_requests,
            "requests_unsupported_compiler": self.requests_unsupported_compiler,
            "requests_not_compile": self.requests_not_compile,
            "requests_not_cacheable": self.requests_not_cacheable,
            "requests_executed": self.requests_executed,
            "cache_errors": _by_language({}),
            "cache_hits": _by_language({}),
            "cache_misses": _by_language({}),
            "cache_timeouts": 0,
            "cache_read_errors": 0,
            "non_cacheable_compilations": self.non_cacheable_compilations,
            "forced_recaches": self.forced_recaches,
            "cache_write_errors": 0,
            "cache_writes": 0,
            "cache_write_duration": _duration(0.0),
            "cache_read_hit_duration": _duration(0.0),
            "compilations": self.compilations,
            "compiler_write_duration": _duration(self.compiler_write_seconds),
            "compile_fails": self.compile_fails,
            "not_cached": dict(self.not_cached),
            "dist_compiles": dict(self.dist_compiles),
            "dist_errors": self.dist_errors,
            "multi_level": None,
            "local_compiles": dict(self.local_compiles),
            "dist_retries": self.dist_retries,
            "dist_discrepancies": self.dist_discrepancies,
        }
        return {
            "stats": stats,
            "cache_location": "None: results are not stored",
            "cache_size": None,
            "max_cache_size": None,
            "use_preprocessor_cache_mode": False,
            "version": __version__,
            "basedirs": [],
        }


def _by_language(counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    return {"counts": dict(counts), "adv_counts": {}}


def _duration(seconds: float) -> dict[str, int]:
    whole = int(seconds)
    return {"secs": whole, "nanos": int((seconds - whole) * 1e9)}
