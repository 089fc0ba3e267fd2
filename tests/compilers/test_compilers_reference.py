"""docs/reasons.md and the table of reasons say the same, and every word that is used stands there."""

from __future__ import annotations

import re
from pathlib import Path

from sccache_twisted.compilers.reasons import REASONS
from sccache_twisted.compilers.reference import reasons_page

ROOT = Path(__file__).parents[2]
_USED = re.compile(
    r'(?:RunsLocally|NotCacheable|NotCompilation|not_cacheable|_not_cacheable|ExecHere)\([^"()]*(?:\([^()]*\))?[^"()]*"'
    r"([a-z_]+)\""
)


def test_the_page_is_the_table():
    """Every reason with its sentence stands in docs/reasons.md; ``make docs`` writes it."""
    assert (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8") == reasons_page()


def test_no_word_is_used_that_is_not_documented():
    """Whatever the code gives as a reason is one of the documented set."""
    used = {
        word
        for path in (ROOT / "sccache_twisted").rglob("*.py")
        for word in _USED.findall(path.read_text(encoding="utf-8"))
    }
    assert len(used) > 20
    assert used <= REASONS.keys()
