"""Base directories in command lines and texts, and depfiles that are written again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccache_twisted.compilers.commandline import parse
from sccache_twisted.compilers.depform import FORM, form_of, written
from sccache_twisted.compilers.sharing import (
    BOUND,
    Place,
    base_directory,
    below,
    hides_base,
    place_of,
    shared_args,
    shared_text,
    tells,
)
from sccache_twisted.model import Compilation, Compiler, CompilerFamily

BASE = b"/a/b"
GCC = Compiler(b"/usr/bin/gcc", b"gcc", CompilerFamily.GCC, "gcc version 12.2.0", "x86_64")
CLANG = Compiler(b"/usr/bin/clang", b"clang", CompilerFamily.CLANG, "Debian clang version 14.0.6", "x86_64")


def understood(line: str, compiler: Compiler = GCC, cwd: bytes = b"/a/b/build") -> Compilation:
    parsed = parse(compiler, line.encode().split(), cwd, {}, lambda _: None)
    assert isinstance(parsed, Compilation), parsed
    return parsed


def test_a_base_directory_ends_at_a_slash() -> None:
    """/a/bc is not below /a/b; the innermost counts; the working directory comes before the source; odd names don't."""
    assert below(b"/a/b/c", BASE) == b"/c"
    assert below(b"/a/b", BASE) == b""
    assert below(b"/a/bc", BASE) is None
    bases = (BASE, b"/a", b"/x", b"/odd $")
    assert base_directory(bases, b"/a/b/c", b"/x/a.c") == BASE
    assert base_directory(bases, b"/a/bc", b"/x/a.c") == b"/a"
    assert base_directory(bases, b"/build", b"/x/a.c") == b"/x"
    assert base_directory(bases, b"/build", b"a.c") == b""
    assert base_directory(bases, b"/odd $/c", b"a.c") == b""


paths = st.text("ab/. ", max_size=8).map(lambda text: text.encode().replace(b" ", BASE))


@given(paths)
def test_a_canonical_path_is_the_same_path_here(path: bytes) -> None:
    """What is made canonical is itself again in its own place, and means no file of another place elsewhere."""
    place, other = Place(BASE, ()), Place(b"/q", ())
    assert place.localised(place.canonical(path)) == path
    if path[:1] == b"/" and below(path, BASE) is None:
        assert other.localised(place.canonical(path)) == (None if below(path, b"/q") is not None else path)
        assert Place(path.rstrip(b"/") or b"/", ()).localised(place.canonical(path)) is None
    assert place.canonical(path) != BOUND


def test_only_what_names_a_place_is_relative_to_it() -> None:
    """Include paths, forced headers, the source and the old names of maps are; macros and all else are as written."""
    line = (
        "-I/a/b/inc -I /a/b/inc2 -isystem/a/bc -include /a/b/x.h -D/a/b/no -DX=/a/b -ffile-prefix-map=/a/b=. "
        "-frandom-seed=/a/b -MD -MT /a/b/t -MF/a/b/d -o /a/b/a.o -c /a/b/a.c"
    )
    compilation = understood(line)
    place = place_of(compilation, BASE, b"/a/b/build")
    assert place == Place(BASE, (b"/a/b/t",))
    assert shared_args(compilation, compilation.args, place) == (
        b"\0",
        *(b"-I", b"\0/inc", b"-I ", b"\0/inc2", b"-isystem", b"\0!/a/bc", b"-include ", b"\0/x.h"),
        *(b"-D", b"/a/b/no", b"-D", b"X=/a/b", b"-ffile-prefix-map=\0=.", b"-frandom-seed=/a/b"),
        *(b"-MD", b"-MT", b"-MF", b"-o", b"-c", b"\0/a.c"),
    )


@pytest.mark.parametrize(
    ("line", "hides"),
    [
        ("", True),
        ("-g0", True),
        ("-g", False),
        ("-g -ffile-prefix-map=/a/b=.", True),
        ("-g -fdebug-prefix-map=/a/b/=x/", True),
        ("-g -fdebug-prefix-map=/a/b/build=.", True),
        ("-g -fmacro-prefix-map=/a/b=.", False),
        ("-g -ffile-prefix-map=/a/bc=.", False),
        ("-g -ffile-prefix-map=/a/b=. -fdebug-prefix-map=/a=x", False),
        ("-fmacro-prefix-map=/a/=x", False),
        ("-fmacro-prefix-map=/=x", False),
        ("-ffile-prefix-map=/a/b=/a", False),
        ("-ffile-prefix-map=/a/b=/a/b/c", False),
        ("-ffile-prefix-map=/usr=/u", True),
        ("-gsplit-dwarf", False),
        ("-fprofile-use", False),
        ("-fsanitize=address", False),
        ("-flto", False),
        ("-frecord-gcc-switches", False),
        ("-Wa,-I/a/b", False),
        ("-fopenmp", False),
        ("-finstrument-functions-exclude-file-list=b", False),
    ],
)
def test_commands_that_hide_a_base_directory(line: str, hides: bool) -> None:
    """Debug information must be mapped; no map may begin or end within the name; what may tell of it, does."""
    assert hides_base(understood(f"{line} -c a.c"), BASE, b"/a/b/build") is hides


def test_debug_information_of_another_directory_tells() -> None:
    """What clang writes is relative to what a path and the working directory have in common."""
    compilation = understood("-g -ffile-prefix-map=/a/b=. -c /a/b/a.c", CLANG, b"/a/build")
    assert not hides_base(compilation, BASE, b"/a/build")
    assert hides_base(compilation, BASE, b"/a/b/build")


def test_a_text_is_shared_if_its_markers_alone_name_the_base_directory() -> None:
    """Line markers become relative; any other mention, and a question for the file's name, keeps a text at home."""
    compilation = understood("-c a.c")
    text = b'# 1 "/a/b/a.c"\n# 1 "/a/b/build//"\n# 1 "/a/bc.h" 1\nint x;\n'
    assert shared_text(compilation, text, b"/a/b/q") == text
    assert shared_text(compilation, text.replace(b"/a/bc.h", b"/c.h"), BASE) == (
        b'# 1 "\0/a.c"\n# 1 "\0/build//"\n# 1 "/c.h" 1\nint x;\n'
    )
    for more in (b'const char *s = "/a/b";', b"__builtin_FILE()", b"std::source_location", b'# 1 "x/a/b/c"'):
        assert shared_text(compilation, text.replace(b"/a/bc.h", b"/c.h") + more + b"\n", BASE) is None


def test_what_can_not_be_looked_into_tells() -> None:
    """An object of another kind than ELF of 64 bits is never taken for silent, nor one that is cut short."""
    assert tells(b"... /a/b ...", BASE)
    assert not tells(b"text", BASE)
    assert tells(b"\x7fELF\x01\x01", BASE)
    assert tells(b"\x7fELF\x02\x01" + bytes(60), BASE)


@pytest.mark.parametrize("kind", ["-gz=zlib", "-gz=none"])
def test_compressed_sections_tell(tmp_path: Path, kind: str) -> None:
    """In what is compressed no name can be looked for, so an object with such sections is taken to hold it."""
    (tmp_path / "a.c").write_text("".join(f"int v{n};\n" for n in range(200)))
    subprocess.run(["gcc", "-g", kind, "-c", "a.c"], cwd=tmp_path, check=True)
    data = (tmp_path / "a.o").read_bytes()
    assert tells(data, b"/nowhere/at/all") is (kind == "-gz=zlib")
    assert tells(data, os.fsencode(tmp_path))


names = st.lists(st.text("ab./", min_size=1, max_size=40).map(str.encode), min_size=1, max_size=12)


@given(names, names, names, st.sampled_from(CompilerFamily))
def test_a_depfile_is_written_again(
    targets: list[bytes], others: list[bytes], files: list[bytes], family: CompilerFamily
) -> None:
    """Its form leads back to it, and to other targets' as if the compiler had had those; any change is seen."""
    first = written(FORM + b"\n" + b" ".join(files) + b"\n", family, targets, lambda path: path)
    assert first is not None
    form = form_of(first, family, targets, lambda path: path)
    assert form is not None
    second = written(form, family, others, lambda path: path)
    assert second is not None
    back = form_of(second, family, others, lambda path: path)
    assert back == form
    assert form_of(first + b" ", family, targets, lambda path: path) is None
    assert form_of(first.replace(b":", b" :", 1), family, targets, lambda path: path) is None
    assert written(form, family, others, lambda _: None) is None
