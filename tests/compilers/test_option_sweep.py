"""What single options make a compiler write: every option that it lists, tried."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from compilers_help import files_below, run, understand
from test_option_arity import listed

from sccache_twisted.model import Compilation

_PARTS = 8
_SOURCE = """\
#include "h.h"
int f(int *x) { for (int i = 0; i < 9; i++) x[i] = i; return 1; }
int g(void) { int a[9]; return f(a); }
"""


@pytest.mark.full
@pytest.mark.parametrize("part", range(_PARTS))
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_no_option_writes_a_file_that_nobody_foretold(name: str, part: int, tmp_path: Path) -> None:
    """What is taken for a compilation writes its foretold files under each option that the compiler lists, no other.

    Nor does it say anything on standard output, as an option would that asks for something else.
    """
    # A warning writes nothing, and what wants a value complains.
    options = sorted(word for word in listed(name) if not word.endswith(b"=") and not re.match(rb"-W[a-z]", word))
    tried = 0
    for number, option in enumerate(options[part::_PARTS]):
        place = tmp_path / str(number)
        (place / "sub").mkdir(parents=True)
        (place / "a.c").write_text(_SOURCE)
        (place / "h.h").write_text("\n")
        line = ["-O2", "-g", "-c", "a.c", option, "-o", "sub/x.y.o"]
        parsed = understand(name, line, place)
        if not isinstance(parsed, Compilation):
            continue
        before = files_below(place)
        ran = run(name, line, place)
        if ran.returncode != 0:
            continue
        tried += 1
        wrote = files_below(place) - before
        required = {os.path.normpath(output.path) for output in parsed.outputs if output.required}
        foretold = {os.path.normpath(output.path) for output in parsed.outputs}
        assert required <= wrote <= foretold, option
        assert ran.stdout == b"", option
    assert tried > 50
