"""Statistics for people: the daemon's JSON, in sccache's shape, as lines of text. Pure.

Lines that sccache has are spelled and ordered as it prints them, so that what reads its text reads ours; our own
come behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WIDTH = 38
_NOT_TOLD: Mapping[str, Any] = {}


def stats_text(document: Mapping[str, Any], *, advanced: bool = False) -> str:
    """The lines of ``--show-stats``, or of ``--show-adv-stats``: by language and compiler instead of by language."""
    stats = document["stats"]
    by = "adv_counts" if advanced else "counts"
    hits, misses = stats["cache_hits"], stats["cache_misses"]
    lines = [
        _line("Compile requests", stats["compile_requests"]),
        _line("Compile requests executed", stats["requests_executed"]),
        *_counted("Cache hits", hits, by),
        *_counted("Cache misses", misses, by),
        *_rates(hits, misses, by),
        _line("Cache timeouts", stats["cache_timeouts"]),
        _line("Cache read errors", stats["cache_read_errors"]),
        _line("Forced recaches", stats["forced_recaches"]),
        _line("Cache write errors", stats["cache_write_errors"]),
        *_counted("Cache errors", stats["cache_errors"], by),
        _line("Compilations", stats["compilations"]),
        _line("Compilation failures", stats["compile_fails"]),
        _line("Non-cacheable compilations", stats["non_cacheable_compilations"]),
        _line("Non-cacheable calls", stats["requests_not_cacheable"]),
        _line("Non-compilation calls", stats["requests_not_compile"]),
        _line("Unsupported compiler calls", stats["requests_unsupported_compiler"]),
        _average("Average cache write", stats["cache_write_duration"], stats["cache_writes"]),
        _average("Average compiler", stats["compiler_write_duration"], stats["compilations"]),
        _average("Average cache read hit", stats["cache_read_hit_duration"], _sum(hits)),
        _line("Failed distributed compilations", stats["dist_errors"]),
        _line("Distributed compilations", sum(stats["dist_compiles"].values())),
        _line("Distributed compilations tried again", stats.get("dist_retries", 0)),
        _line("Distributed compilations that differed", stats.get("dist_discrepancies", 0)),
        _line("Distributed without preprocessing", stats.get("dist_predictions", 0)),
        _line("Distributed so, and again with it", stats.get("dist_mispredictions", 0)),
        _line("Compilations on this machine", sum(stats.get("local_compiles", _NOT_TOLD).values())),
    ]
    for title, indent, counts in (
        ("Successful distributed compiles", "  ", stats["dist_compiles"]),
        ("Non-compilation reasons:", "", stats.get("not_compile", _NOT_TOLD)),
        ("Non-cacheable reasons:", "", stats["not_cached"]),
        ("Reasons for compilations on this machine:", "", stats.get("local_compiles", _NOT_TOLD)),
    ):
        if counts:
            ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            lines += ["", title, *(_line(f"{indent}{name}", count) for name, count in ranked)]
    for level in stats.get("multi_level") or ():
        lines += ["", *_level(level)]
    lines.append("")
    if document.get("cache_location"):
        lines.append(_line("Cache location", document["cache_location"]))
    if "basedirs" in document:
        lines.append(_line("Base directories", ", ".join(document["basedirs"]) or "(none)"))
    if "use_preprocessor_cache_mode" in document:
        mode = "yes" if document["use_preprocessor_cache_mode"] else "no"
        lines.append(_line("Use direct/preprocessor mode?", mode))
    lines.append(_line("Version (client)", document.get("version", "")))
    for name, key in (("Cache size", "cache_size"), ("Max cache size", "max_cache_size")):
        if document.get(key) is not None:
            lines.append(f"{name:<{_WIDTH}} {size_text(document[key]):>12}")
    return "\n".join(lines)


def size_text(count: int) -> str:
    """Bytes for a person: three digits and a unit."""
    size, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size >= 100 else f"{size:.3g} {unit}"


def _line(name: str, value: Any) -> str:
    return f"{name:<{_WIDTH}} {value:>8}" if isinstance(value, int) else f"{name:<{_WIDTH}} {value}"


def _sum(counted: Mapping[str, Any]) -> int:
    return sum(counted["counts"].values())


def _counted(name: str, counted: Mapping[str, Any], by: str) -> Iterator[str]:
    yield _line(name, _sum(counted))
    for kind, count in sorted(counted[by].items()):
        yield _line(f"{name} ({kind})", count)


def _rates(hits: Mapping[str, Any], misses: Mapping[str, Any], by: str) -> Iterator[str]:
    yield _rate("Cache hits rate", _sum(hits), _sum(misses))
    for kind in sorted({*hits[by], *misses[by]}):
        yield _rate(f"Cache hits rate ({kind})", hits[by].get(kind, 0), misses[by].get(kind, 0))


def _rate(name: str, hits: int, misses: int) -> str:
    shown = f"{100 * hits / (hits + misses):.2f} %" if hits + misses else "-"
    return f"{name:<{_WIDTH}} {shown:>{10 if hits + misses else 8}}"


def _average(name: str, duration: Mapping[str, int], count: int) -> str:
    seconds = (duration["secs"] + duration["nanos"] / 1e9) / count if count else 0.0
    return f"{name:<{_WIDTH}} {f'{seconds:.3f} s':>10}"


def _level(level: Mapping[str, Any]) -> Iterator[str]:
    """One level of several: what it gave, what it took, what it refused."""
    yield f"Cache level {level['name']}: {level['location']}"
    yield _rate("  Hits rate", level["hits"], level["misses"])
    yield _line("  Hits", level["hits"])
    yield _line("  Misses", level["misses"])
    yield _line("  Writes", level["writes"])
    yield _line("  Write failures", level["write_failures"])
    yield _line("  Copied from here", level["backfills_from"])
    yield _line("  Copied to here", level["backfills_to"])
    yield _average("  Average hit", level["hit_duration"], level["hits"])
    yield _average("  Average write", level["write_duration"], level["writes"])
    for name, key in (
        ("Read errors", "read_errors"),
        ("Read timeouts", "read_timeouts"),
        ("Reads skipped", "reads_skipped"),
        ("Writes skipped", "writes_skipped"),
        ("Too large", "too_large"),
        ("Bad signatures", "bad_signatures"),
    ):
        if level.get(key):
            yield _line(f"  {name}", level[key])
