"""Only translation units that expand a time macro are known to do so."""

from __future__ import annotations

from pathlib import Path

import pytest
from compilers_help import compilation, run

from sccache_twisted.compilers.timemacros import MARKING_ARGS, expands_time_macros

LIVE = [
    "const char *a = __DATE__;",
    'const char *a = "built " __TIME__ " today";',
    "#define WHEN __TIMESTAMP__\nconst char *a = WHEN;",
    "#define S(x) S2(x)\n#define S2(x) #x\nconst char *a = S(__TIME__);",
]
DEAD = [
    "// __DATE__",
    '#if 0\nconst char *a = __DATE__;\n#endif\nconst char *b = "__TIME__";',
    "#define WHEN __DATE__ __TIME__\nint x;",
    "#ifdef __DATE__\nint x;\n#endif",
]


@pytest.mark.parametrize("option", ["-g3", "-Werror"])
@pytest.mark.parametrize(("source", "live"), [*((s, True) for s in LIVE), *((s, False) for s in DEAD)])
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_live_mentions(name: str, source: str, live: bool, option: str, tmp_path: Path) -> None:
    """An expansion is found, and a comment, a dead branch or an unused macro is not taken for one."""
    (tmp_path / "a.c").write_text(source + "\n")
    listing = compilation(name, option, "-Wall", "-c", "a.c").listing_args
    ran = run(name, [*MARKING_ARGS, *listing, "-E", "-MD", "-MF", "d", "-o", "sink"], tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert expands_time_macros((tmp_path / "sink").read_bytes()) is live


def test_callers_own_definition_wins(tmp_path: Path) -> None:
    """A caller who defines the macros himself has them so."""
    (tmp_path / "a.c").write_text("const char *a = __DATE__;\n")
    listing = compilation("gcc", '-D__DATE__="redacted"', "-c", "a.c").listing_args
    text = run("gcc", [*MARKING_ARGS, *listing, "-E"], tmp_path).stdout
    assert b"redacted" in text
    assert not expands_time_macros(text)
