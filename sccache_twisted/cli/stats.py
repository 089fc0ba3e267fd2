"""Statistics for people: the daemon's JSON, in sccache's shape, as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WIDTH = 38


def stats_text(document: Mapping[str, Any]) -> str:
    """The lines of ``--show-stats``."""
    stats = document["stats"]
    lines = [
        _line("Compile requests", stats["compile_requests"]),
        _line("Compile requests executed", stats["requests_executed"]),
        *_counted("Cache hits", stats["cache_hits"]),
        *_counted("Cache misses", stats["cache_misses"]),
        *_counted("Cache errors", stats["cache_errors"]),
        _line("Cache read errors", stats["cache_read_errors"]),
        _line("Cache write errors", stats["cache_write_errors"]),
        _line("Cache timeouts", stats["cache_timeouts"]),
        _line("Forced recaches", stats["forced_recaches"]),
        _line("Compilations", stats["compilations"]),
        _line("Compilation failures", stats["compile_fails"]),
        _line("Non-compilation calls", stats["requests_not_compile"]),
        _line("Non-cacheable calls", stats["requests_not_cacheable"]),
        _line("Unsupported compiler calls", stats["requests_unsupported_compiler"]),
        _line("Successful distributed compilations", sum(stats["dist_compiles"].values())),
        _line("Failed distributed compilations", stats["dist_errors"]),
        _line("Distributed compilations tried again", stats.get("dist_retries", 0)),
        _line("Compilations on this machine", sum(stats.get("local_compiles", {}).values())),
    ]
    for title, counts in (
        ("Distributed compilations by worker", stats["dist_compiles"]),
        ("Compilations on this machine by reason", stats.get("local_compiles", {})),
        ("Non-cacheable reasons", stats["not_cached"]),
    ):
        if counts:
            lines += ["", f"{title}:"]
            lines += [_line(f"  {name}", count) for name, count in sorted(counts.items(), key=lambda item: -item[1])]
    lines.append("")
    if document.get("cache_location"):
        lines.append(_line("Cache location", document["cache_location"]))
    for name, key in (("Cache size", "cache_size"), ("Max cache size", "max_cache_size")):
        if document.get(key) is not None:
            lines.append(_line(name, _size(document[key])))
    lines.append(_line("Version", document.get("version", "")))
    return "\n".join(lines)


def _line(name: str, value: Any) -> str:
    return f"{name:<{_WIDTH}} {value:>8}" if isinstance(value, int) else f"{name:<{_WIDTH}} {value}"


def _size(count: int) -> str:
    """Bytes for a person: three digits and a unit."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size >= 100 else f"{size:.3g} {unit}"


def _counted(name: str, counted: Mapping[str, Any]) -> list[str]:
    counts: Mapping[str, int] = counted["counts"]
    return [_line(name, sum(counts.values()))] + [_line(f"{name} ({kind})", counts[kind]) for kind in sorted(counts)]
