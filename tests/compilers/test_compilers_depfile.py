"""Dependency files are read back as they were meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from compilers_help import run
from hypothesis import given
from hypothesis import strategies as st

from sccache_twisted.compilers.depfile import is_one_rule, parse_depfile


def escaped(name: bytes) -> bytes:
    """A name as gcc writes it into a depfile."""
    out = bytearray()
    slashes = 0
    for byte in name:
        if byte in b" \t":
            out += b"\\" * (slashes + 1)
        elif byte == ord("#"):
            out += b"\\"
        elif byte == ord("$"):
            out += b"$"
        out.append(byte)
        slashes = slashes + 1 if byte == ord("\\") else 0
    return bytes(out)


NAMES = st.lists(
    st.one_of(
        st.sampled_from([b" ", b"\\", b"$", b"#", b":", b"\t", b"a", b"/", b"\xff", b"."]), st.binary(max_size=3)
    ),
    min_size=1,
    max_size=12,
).map(b"".join)
# A line break can't be written, and a backslash at the end can't be told from an escaped blank.
WRITABLE = NAMES.filter(lambda name: name and b"\n" not in name and b"\r" not in name and not name.endswith(b"\\"))


@given(st.lists(WRITABLE, max_size=8), st.integers(0, 3), st.booleans())
def test_reading_is_the_inverse_of_writing(names: list[bytes], break_every: int, phony: bool) -> None:
    """Whatever names a compiler writes as prerequisites are read back, in order, however the lines are broken."""
    text = b"some\\ target.o:"
    for index, name in enumerate(names):
        text += b" \\\n " if break_every and index % break_every == 0 else b" "
        text += escaped(name)
    text += b"\n"
    if phony:
        text += b"".join(escaped(name) + b":\n" for name in names)
    assert parse_depfile(text) == tuple(names)


HEADERS = [b"x y.h", b"x#y.h", b"x$y.h", b"x:y.h", b"tab\t.h", b"\xff\xfe.h", b"d e/f  g.h", b"@%,.h", b"~(a)'.h"]


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_what_real_compilers_write(name: str, tmp_path: Path) -> None:
    """Names with blanks, signs and bytes that are no text are read back from both compilers' own files."""
    root = os.fsencode(tmp_path)
    os.mkdir(os.path.join(root, b"d e"))
    for header in HEADERS:
        Path(os.fsdecode(os.path.join(root, header))).write_bytes(b"")
    source = b"".join(b'#include "%s"\n' % header for header in HEADERS)
    (tmp_path / "a b.c").write_bytes(source)
    ran = run(name, ["-c", "-MD", "-MP", "a b.c", "-o", "a b.o"], tmp_path)
    assert ran.returncode == 0, ran.stderr
    found = parse_depfile((tmp_path / "a b.d").read_bytes())
    assert [path for path in found if not path.startswith(b"/")] == [b"a b.c", *HEADERS]


def test_backslashes_from_gcc(tmp_path: Path) -> None:
    """Backslashes in names are read back from gcc (clang writes slashes for them)."""
    headers = [b"q\\r.h", b"q\\ r.h", b"q\\\\ r.h", b"q\\#r.h", b"q\\$r.h"]
    for header in headers:
        (tmp_path / os.fsdecode(header)).write_bytes(b"")
    (tmp_path / "a.c").write_bytes(b"".join(b'#include "%s"\n' % header for header in headers))
    assert run("gcc", ["-c", "-MD", "a.c"], tmp_path).returncode == 0
    assert [path for path in parse_depfile((tmp_path / "a.d").read_bytes()) if path[:1] != b"/"] == [b"a.c", *headers]


@pytest.mark.parametrize("text", [b"", b"\n", b"no rule", b"x.o", b"x.o:", b"x.o:\n", b"x.o: \\\n\n"])
def test_no_prerequisites(text: bytes) -> None:
    """A file without a rule, or with an empty one, names nothing."""
    assert parse_depfile(text) == ()


def test_dos_line_ends() -> None:
    """Lines may end in carriage return and line feed."""
    assert parse_depfile(b"x.o: a.c \\\r\n b.h\r\n\r\nb.h:\r\n") == (b"a.c", b"b.h")


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_names_with_line_breaks_are_noticed(name: str, tmp_path: Path) -> None:
    """A line break in a name ends the rule too early, which can be told from a whole rule."""
    for source, whole in (("a\nb.c", False), ("plain.c", True)):
        (tmp_path / source).write_text("int v;\n")
        run(name, ["-E", "-MD", "-MF", "d", source, "-o", "/dev/null"], tmp_path)
        assert is_one_rule((tmp_path / "d").read_bytes()) is whole
