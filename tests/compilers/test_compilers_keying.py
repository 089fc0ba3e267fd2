"""What of a command line shows in a result: against the compilers where that can be seen."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from compilers_help import compilation

from sccache_twisted.compilers.keying import (
    hides_comments,
    keyed_args,
    keyed_environment,
    shows_directory,
    shows_time,
    text_hides_comments,
)
from sccache_twisted.model import Compilation


def parsed(line: str) -> Compilation:
    name, *args = line.split()
    return compilation(name, *args)


def keyed(line: str) -> str:
    return b" ".join(keyed_args(parsed(line), parsed(line).args)).decode()


def test_names_of_outputs_are_left_out_where_they_show_nowhere() -> None:
    """The object's name is in a depfile without -MT, in coverage notes, split debug information, recorded switches."""
    assert keyed("gcc -O2 -c a.c -o x.o") == "-O2 -c a.c -o"
    assert keyed("gcc -c a.c -ox.o") == "-c a.c -o"
    assert keyed("gcc -c a.c -MD -MT x -MF d.d -o x.o") == "-c a.c -MD -MT x -MF -o"
    assert keyed("gcc -c a.c -MD -MF d.d -o x.o") == "-c a.c -MD -MF -o x.o"
    for line in (
        "gcc -c a.c -g -gsplit-dwarf -o x.o",
        "gcc -c a.c --coverage -o x.o",
        "gcc -c a.c -frecord-gcc-switches -o x.o",
        "gcc -c a.c -flto -o x.o",
        "gcc -c a.c -Wa,-al=list -o x.o",
    ):
        assert keyed(line) == line.removeprefix("gcc ")
    assert keyed("clang -c -o x.o -- -o.c") == "-c -o -- -o.c"


def test_the_directory_counts_where_it_may_show() -> None:
    """Debug information, coverage, LTO and what the assembler is told make the working directory part of the key."""
    for line in ("gcc -c a.c", "gcc -O2 -Wall -Iinc -c a.c -o b/x.o -MD", "gcc -c a.c -g -g0", "gcc -Iprofile -c a.c"):
        assert not shows_directory(parsed(line))
    for line in ("gcc -g -c a.c", "gcc --coverage -c a.c", "gcc -flto -c a.c", "gcc -fprofile-use -c a.c"):
        assert shows_directory(parsed(line))


def test_comments_count_where_columns_or_digests_may_show() -> None:
    """No debug information, no warnings that read comments, nothing that writes columns into the code."""
    for line in ("gcc -O2 -Wall -c a.c", "clang -c a.cc -MD"):
        assert hides_comments(parsed(line))
    for line in (
        "gcc -g -c a.c",
        "gcc -Wextra -c a.c",
        "gcc -Wimplicit-fallthrough=2 -c a.c",
        "gcc -fsanitize=undefined -c a.c",
        "gcc -fopenmp -c a.c",
        "gcc -fstack-usage -c a.c",
        "gcc -c a.S",
    ):
        assert not hides_comments(parsed(line))


def test_text_that_asks_for_columns() -> None:
    """source_location and __builtin_COLUMN are columns, and for clang the name of a lambda is one too."""
    gcc, clang = parsed("gcc -c a.c"), parsed("clang -c a.c")
    assert text_hides_comments(gcc, b"int a = 1;")
    assert not text_hides_comments(gcc, b"std::source_location::current()")
    assert not text_hides_comments(gcc, b"int a = __builtin_COLUMN();")
    assert text_hides_comments(gcc, b"__PRETTY_FUNCTION__")
    assert not text_hides_comments(clang, b"__PRETTY_FUNCTION__")


def test_variables_of_terminals_and_paths_do_not_count() -> None:
    """Locale, epoch and include paths count; where programs are found does not, since they are known by content."""
    env = ((b"PATH", b"/x"), (b"TERM", b"xterm"), (b"LC_ALL", b"C"), (b"SOURCE_DATE_EPOCH", b"1"), (b"HOME", b"/"))
    assert keyed_environment(env) == ((b"LC_ALL", b"C"), (b"SOURCE_DATE_EPOCH", b"1"))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("text", ["__DATE__", "__TIME__", "__TIMESTAMP__", "STR(__DATE__)", "STR(__TIME__)"])
def test_a_time_is_seen_however_it_is_wrapped(tmp_path: Path, text: str) -> None:
    """Also where the macro's string became part of another one."""
    source = tmp_path / "a.c"
    source.write_text(f"#define S(x) #x\n#define STR(x) S(x)\nconst char *t = {text};\n")
    preprocessed = subprocess.run(["gcc", "-E", os.fspath(source)], capture_output=True, check=True).stdout
    assert shows_time(preprocessed, fixed=False)
    assert shows_time(preprocessed, fixed=True) == (text == "__TIMESTAMP__")
    source.write_text("const char *t = STR(__DATE);\n")
    preprocessed = subprocess.run(["gcc", "-E", source], capture_output=True, check=True).stdout
    assert not shows_time(preprocessed, fixed=False)
