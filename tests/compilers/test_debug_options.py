"""Which options ask for debug information: against the objects that real compilers write."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from compilers_help import run, understand

from sccache_twisted.model import Compilation

_SHARED = (
    "-g -g0 -g1 -g3 -ggdb -ggdb0 -ggdb3 -gdwarf -gdwarf-4 -gdwarf-5 -gdwarf32 -gdwarf64 -gz -gsplit-dwarf "
    "-gno-split-dwarf -gcolumn-info -gno-column-info -grecord-gcc-switches -gstrict-dwarf -gpubnames -ggnu-pubnames "
    "--debug -feliminate-unused-debug-types -g0,-gz -g,-g0 -g0,-g -gz,-g0 -ggdb,-g0,-gdwarf-4 -gsplit-dwarf,-g0"
)
_GCC = (
    "-gbtf -gctf -gstabs -gas-loc-support -gas-locview-support -ginline-points -gstatement-frontiers -gdescribe-dies "
    "-gvariable-location-views -ginternal-reset-location-views --debug=2 --debug=0 --debug=0,-ggdb --no-lto"
)
_CLANG = (
    "-gline-tables-only -gline-directives-only -gmlt -gfull -gused -glldb -gsce -gdbx -gdwarf-aranges -gembed-source "
    "-ginline-line-tables -gno-inline-line-tables -gsimple-template-names -gdwarf64,-g0 -g0,-gdwarf32 "
    "-gno-record-gcc-switches"
)
_SECTIONS = (b".debug_info", b".debug_line", b".stab", b".BTF", b".ctf")
CASES = [(name, option) for name in ("gcc", "clang") for option in _SHARED.split()]
CASES += [("gcc", option) for option in _GCC.split()] + [("clang", option) for option in _CLANG.split()]


@pytest.mark.parametrize(("name", "option"), CASES, ids=str)
def test_debug_information_is_foretold(name: str, option: str, tmp_path: Path) -> None:
    """An object with debug information, where the directory shows, is one whose line was understood so; no other is."""
    (tmp_path / "a.c").write_text("int f(int x) { return x; }\n")
    line = ["-c", "a.c", *option.split(",")]
    parsed = understand(name, line, tmp_path)
    assert isinstance(parsed, Compilation), parsed
    ran = run(name, line, tmp_path)
    if ran.returncode != 0:
        assert b"error: " in ran.stderr  # older or newer than this option
        return
    shown = subprocess.run(["readelf", "-SW", tmp_path / "a.o"], capture_output=True, check=True).stdout
    assert parsed.debug == any(section in shown for section in _SECTIONS)
