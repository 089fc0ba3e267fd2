"""What docs/reasons.md says, made from the table of reasons: ``python -m sccache_twisted.compilers.reference docs``."""

from __future__ import annotations

import sys
from pathlib import Path

from sccache_twisted.compilers.reasons import REASONS, Place

_OPENING = """\
# Reasons

This page is made from the table in `sccache_twisted/compilers/reasons.py` by `make docs`; do not edit it.

Every call that was not compiled on a worker, or whose result was not stored, has its reason: one of these words, in
`--show-stats`, in the log, in `why` and in the scheduler's metrics. The words are stable. Where ccache has a word for
the same thing, it is the same word.
"""

_NOT_CACHED = """\
Counted in `stats.not_cached`. The compiler runs as if it had been called directly, or, for what was found out later
than from the command, the result is made as always and not stored. A word of the last table stands in `not_cached` too,
where what it tells keeps a result from being stored."""

_CHAPTERS = {
    Place.NOT_CACHEABLE: ("Not cached", _NOT_CACHED),
    Place.NOT_COMPILATION: (
        "No compilation",
        "Counted in `stats.not_compile`, all in `stats.requests_not_compile`. The compiler runs as if called directly.",
    ),
    Place.LOCAL: (
        "Not distributed",
        "Counted in `stats.local_compiles`. The compiler runs on this machine, in a local slot.",
    ),
}


def reasons_page() -> str:
    """The whole page, as it stands in docs/reasons.md."""
    parts = [_OPENING]
    for place, (title, text) in _CHAPTERS.items():
        parts.append(f"\n## {title}\n\n{text}\n\n| word | |\n|---|---|\n")
        parts += [f"| `{one.word}` | {one.sentence} |\n" for one in REASONS.values() if one.place is place]
    return "".join(parts)


if __name__ == "__main__":
    (Path(sys.argv[1]) / "reasons.md").write_text(reasons_page(), encoding="utf-8")
