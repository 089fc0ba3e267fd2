"""The driver's own steps give the driver's own result."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from compilers_help import ENV, compilation, files_below, run
from hypothesis import example, given
from hypothesis import strategies as st

from sccache_twisted.compilers.native import NotUnderstood, parse_commands, plan, query_args, shell_script

SOURCE = """
#include <stdio.h>
#define STR "a\\"b"
double sum(const double *v, int n) { double s = 0; for (int i = 0; i < n; i++) s += v[i] * 2; return s; }
int shout(void) { return printf("%s %s\\n", STR, WORD); }
"""

LINES = [
    ("gcc", "-march=native -O3 -g -c s.c -o o/s.o"),
    ("gcc", "-march=native -O3 -g -gsplit-dwarf -MD -MF o/s.d -c s.c -o o/s.o"),
    ("gcc", "-march=native -mtune=native -O2 -pipe -Wall -c s.c"),
    ("gcc", "-march=native -O2 -S s.c -o o/s.s"),
    ("gcc", "-march=native -g -MMD -c t.S -o o/t.o"),
    ("g++", "-march=native -O2 -g -gsplit-dwarf -fstack-usage -MD -c u.cc -o o/u.o"),
    ("gcc", "-march=native -frecord-gcc-switches -O1 -c s.c -o o/s.o"),
    ("clang", "-march=native -O3 -g -gsplit-dwarf -MD -MF o/s.d -c s.c -o o/s.o"),
    ("clang", "-march=native -O2 -fno-integrated-as -g -c s.c -o o/s.o"),
    ("clang", "-march=native -O2 -pipe -Wall -c s.c"),
    ("clang", "-march=native -g -MD -c t.S -o o/t.o"),
    ("clang++", "-march=native -O2 -frecord-command-line -pipe -c u.cc -o o/u.o"),
    ("clang++", "-march=native -O2 -g -grecord-gcc-switches -MD -c u.cc -o o/u.o"),
]


@pytest.mark.parametrize(("name", "line"), LINES)
def test_steps_give_the_drivers_result(name: str, line: str, tmp_path: Path) -> None:
    """Running the steps of -### writes the same files, byte for byte, and says the same, as the driver does."""
    (tmp_path / "o").mkdir()
    (tmp_path / "s.c").write_text(SOURCE)
    (tmp_path / "u.cc").write_text(SOURCE)
    (tmp_path / "t.S").write_text("#define R ret\n.text\n.globl t\nt: R\n")
    args = [*line.split(), '-DWORD="it\'s $HOME \\\\ `x`"']
    before = files_below(tmp_path)

    driver = run(name, args, tmp_path)
    assert driver.returncode == 0, driver.stderr
    written = files_below(tmp_path) - before
    expected = {path: (tmp_path / os.fsdecode(path)).read_bytes() for path in written}
    for path in written:
        (tmp_path / os.fsdecode(path)).unlink()

    between = os.fsencode(tmp_path) + b"/between"
    query = query_args(compilation(name, *args))
    planned = plan(parse_commands(run(name, query, tmp_path).stderr), [b"/tmp"], between)
    assert planned == plan(parse_commands(run(name, query, tmp_path).stderr), [b"/tmp"], between)
    shell = subprocess.run(
        ["/bin/sh", "-c", shell_script(planned.steps)], cwd=tmp_path, env=dict(ENV), capture_output=True, check=False
    )
    assert shell.returncode == 0, shell.stderr
    assert shell.stderr == driver.stderr
    found = files_below(tmp_path) - before - {os.path.relpath(p, os.fsencode(tmp_path)) for p in planned.intermediates}
    assert {path: (tmp_path / os.fsdecode(path)).read_bytes() for path in found} == expected


def _as_the_drivers_write(word: bytes) -> bytes:
    return b'"' + word.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"$", b"\\$") + b'"'


@example([b"cc1", b"|"])
@given(st.lists(st.binary(max_size=8).filter(lambda word: b"\n" not in word), min_size=1, max_size=6))
def test_quoting_is_undone(words: list[bytes]) -> None:
    """Whatever stands in an argument is read back from its quotes."""
    line = b" " + b" ".join(_as_the_drivers_write(word) for word in words)
    assert parse_commands(b"gcc version 1\n" + line + b"\n") == (tuple(words),)


@given(st.lists(st.binary(min_size=0, max_size=8).filter(lambda word: b"\0" not in word), min_size=1, max_size=5))
def test_shell_script_keeps_words(words: list[bytes]) -> None:
    """The shell sees the words of a step as they are."""
    script = shell_script([(b"printf", b"%s\\0", *words)])
    ran = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True)
    assert ran.stdout == b"".join(word + b"\0" for word in words)


@pytest.mark.parametrize(
    "told", [b"", b"gcc: error: x\n", b" cc1 -o - |\n as -o x.o\n", b' cc1 "unclosed\n', b' cc1 a"b"c\n']
)
def test_what_is_not_understood(told: bytes) -> None:
    """An answer of another form is refused rather than guessed at."""
    with pytest.raises(NotUnderstood):
        parse_commands(told)


def test_line_breaks_in_arguments_are_refused() -> None:
    """A line break in an argument could not be told from the end of a command."""
    with pytest.raises(NotUnderstood):
        query_args(compilation("gcc", "-c", "a\n.c"))
