"""What a file mentions that no dependency list tells."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from compilers_help import run

from sccache_twisted.compilers.scan import NOTHING, Directive, Operand, OperandKind, scan, wrapped_operands
from sccache_twisted.compilers.searchpath import SearchPath, candidates, parse_search_path

QUOTED, ANGLE, COMPUTED = OperandKind.QUOTED, OperandKind.ANGLE, OperandKind.COMPUTED


def probe(directive: Directive, kind: OperandKind, text: bytes) -> Operand:
    return Operand(directive, kind, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'#if __has_include("a b.h")', [probe(Directive.HAS_INCLUDE, QUOTED, b"a b.h")]),
        (b"#if __has_include(<sys/x.h>)", [probe(Directive.HAS_INCLUDE, ANGLE, b"sys/x.h")]),
        (
            b"#if __has_include(<x>) || __has_include(<y>)",
            [probe(Directive.HAS_INCLUDE, ANGLE, b"x"), probe(Directive.HAS_INCLUDE, ANGLE, b"y")],
        ),
        (b"# elif  defined A && __has_include ( <x> )", [probe(Directive.HAS_INCLUDE, ANGLE, b"x")]),
        (b"#if __has_include_next(<x>)", [probe(Directive.HAS_INCLUDE_NEXT, ANGLE, b"x")]),
        (b"#if __has_include /* y */ (/* z */<x>)", [probe(Directive.HAS_INCLUDE, ANGLE, b"x")]),
        (b'#if __has_\\\ninclude("x")', [probe(Directive.HAS_INCLUDE, QUOTED, b"x")]),
        (b'#if A || \\\n  __has_include("x")', [probe(Directive.HAS_INCLUDE, QUOTED, b"x")]),
        (b"#if __has_include(NAME)", [probe(Directive.HAS_INCLUDE, COMPUTED, b"NAME")]),
        (b'#if /* a\n b */ __has_include("x")', [probe(Directive.HAS_INCLUDE, QUOTED, b"x")]),
        (b'??=if __has_??/\ninclude("x")', [probe(Directive.HAS_INCLUDE, QUOTED, b"x")]),
        (b'#pragma GCC dependency "x.y" again', [probe(Directive.DEPENDENCY, QUOTED, b"x.y")]),
        (b"#pragma GCC  dependency  <x.y>", [probe(Directive.DEPENDENCY, ANGLE, b"x.y")]),
        (b'_Pragma("GCC dependency \\"x.y\\"")', [probe(Directive.DEPENDENCY, QUOTED, b"x.y")]),
        (b"#if __has_include__(<x>)", [probe(Directive.HAS_INCLUDE, ANGLE, b"x")]),
        (b'#if __has_embed("x" limit(1))', [probe(Directive.HAS_EMBED, QUOTED, b"x")]),
        (b'#embed "x.bin" limit(3)', [probe(Directive.EMBED, QUOTED, b"x.bin")]),
        (b" # embed <x.bin>", [probe(Directive.EMBED, ANGLE, b"x.bin")]),
        (b"%:embed NAME", [probe(Directive.EMBED, COMPUTED, b"NAME")]),
        (b"#if defined(__has_include)", []),
        (b"#ifdef __has_include", []),
        (b"#define __has_include(x) 0", []),
        (b"/* use __has_include(header-name) */", []),
        (b"int embed(int x);", []),
    ],
)
def test_probes(text: bytes, expected: list[Operand]) -> None:
    """Operands of __has_include, __has_embed and #embed are found, however they are written."""
    assert list(scan(b"int a;\n" + text + b"\nint b;\n").probes) == expected


@pytest.mark.parametrize(
    ("text", "kind", "operand"),
    [
        (b'.incbin "data.bin"', QUOTED, b"data.bin"),
        (b'\t.incbin\t"data.bin",4,2', QUOTED, b"data.bin"),
        (b'lab: .incbin "data.bin"', QUOTED, b"data.bin"),
        (b'asm(".incbin \\"data.bin\\"");', QUOTED, b"data.bin"),
        (b'asm("x:\\n.incbin \\"data.bin\\"\\n");', QUOTED, b"data.bin"),
        (b'asm("x:\\n\\t.incbin\\t\\"data.bin\\"\\n");', QUOTED, b"data.bin"),
        (b'asm("  .incbin \\"data.bin\\"");', QUOTED, b"data.bin"),
        (b'asm(".incbin \\"" FILE "\\"");', COMPUTED, b'\\"" FILE "\\"");'),
        (b'asm(".incbin " STR(FILE));', COMPUTED, b'" STR(FILE));'),
        (b'asm(".incbin " "\\"" FILE "\\"");', COMPUTED, b'" "\\"" FILE "\\"");'),
        (b'.ascii "x\\""; .incbin "data.bin"', QUOTED, b"data.bin"),
        (b".incbin CONFIG_FILE", COMPUTED, b"CONFIG_FILE"),
    ],
)
def test_incbin(text: bytes, kind: OperandKind, operand: bytes) -> None:
    """What the assembler reads is found in assembly and in strings of it; what is put together counts as computed."""
    assert scan(text + b"\n").assembled == (Operand(Directive.INCBIN, kind, operand),)


def test_assembler_include() -> None:
    """The assembler's .include is found, and a member or an initializer of that name is not taken for one."""
    text = b'\t.include "m.inc"\nx = { .include = y };\nfoo.include ("z");\n'
    assert scan(text).assembled == (Operand(Directive.ASSEMBLER_INCLUDE, QUOTED, b"m.inc"),)


def test_includes() -> None:
    """Include directives are told as they stand."""
    text = (
        b'#include <a>\n  # include "b"\n#include_next <c>\n#import "d"\n#include MACRO\n// include <e>\nint include;'
    )
    assert [(o.directive, o.kind, o.text) for o in scan(text).includes] == [
        (Directive.INCLUDE, ANGLE, b"a"),
        (Directive.INCLUDE, QUOTED, b"b"),
        (Directive.INCLUDE_NEXT, ANGLE, b"c"),
        (Directive.INCLUDE, COMPUTED, b"MACRO"),
        (Directive.INCLUDE, QUOTED, b"d"),
    ]


@pytest.mark.parametrize("macro", [b"__DATE__", b"__TIME__", b"__TIMESTAMP__"])
def test_time_macros(macro: bytes) -> None:
    """A mention of the macros that tell the time is told."""
    assert scan(b"char *s = " + macro + b";").time_macros
    assert scan(b"nothing") is NOTHING


def test_wrappers() -> None:
    """A macro that hands its parameter to __has_include is told, and so is what it is called with."""
    text = b"#define HAVE(x) __has_include(x)\n#define ANY(...) (A && __has_include(__VA_ARGS__))\n#if HAVE(<y.h>)\n"
    found = scan(text)
    assert found.probes == ()
    assert found.wrappers == {b"HAVE", b"ANY"}
    other = b'#if HAVE("p.h") || ANY( <q.h> ) || HAVE(Z)\n'
    assert wrapped_operands(text, found.wrappers)[0] == (Operand(Directive.HAS_INCLUDE, ANGLE, b"y.h"),)
    assert {(o.kind, o.text) for o in wrapped_operands(other, found.wrappers)[0]} == {
        (QUOTED, b"p.h"),
        (ANGLE, b"q.h"),
        (COMPUTED, b"Z"),
    }


def test_macros_that_stand_for_a_probe() -> None:
    """A macro may stand for __has_include by another name, in any of its arguments, and through another macro."""
    text = b"#define HAS __has_include\n#define BOTH(a, b) ((a) && __has_include(b))\n#define CAN defined(A)\n"
    found = scan(text)
    assert found.wrappers == {b"HAS", b"BOTH"}
    other = b'#define FAR(x) HAS(x)\n# if BOTH(1, "p.h") \\\n && BOTH(N, <q.h>)\n#endif\n'
    operands, further = wrapped_operands(other, found.wrappers)
    assert {(o.kind, o.text) for o in operands} == {(QUOTED, b"p.h"), (ANGLE, b"q.h"), (COMPUTED, b"N")}
    assert further == {b"FAR"}
    assert wrapped_operands(b'#if FAR("r.h")\n', found.wrappers | further)[0] == (
        Operand(Directive.HAS_INCLUDE, QUOTED, b"r.h"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'#line 3 "a b.y"\n', [(QUOTED, b"a b.y")]),
        (b'  # line 3 "a\\"b.y" // z\n', [(QUOTED, b'a"b.y')]),
        (b"%:line 3 NAME\n", [(COMPUTED, b"NAME")]),
        (b'# 3 "a.y" 1 3\n# 4 "<built-in>"\n# 5 "a.y"\n', [(QUOTED, b"a.y")]),
        (b'#line 3\nint line = 3; char *s = "x";\n#include "h"\n', []),
    ],
)
def test_files_that_lines_are_said_to_come_from(text: bytes, expected: list[tuple[OperandKind, bytes]]) -> None:
    """Files that #line and line markers name are told: gcc shows their lines in its diagnostics."""
    assert [(operand.kind, operand.text) for operand in scan(text).lines] == expected


def test_scanning_is_quick() -> None:
    """A megabyte of C is scanned in milliseconds."""
    block = b"#include <some/header.h>\n/* include this */ static int value_of_something(int argument) { return 42; }\n"
    block += b"#define SOMETHING(x) do { \\\n  call(x); \\\n} while (0)\n" + b"  int line = 0; // nothing\n" * 40
    data = block * ((1 << 20) // len(block))
    best = min(_timed(data) for _ in range(5))
    assert best < 0.1


def _timed(data: bytes) -> float:
    begun = time.thread_time()
    scan(data)
    return time.thread_time() - begun


@pytest.mark.parametrize("name", ["gcc", "clang", "g++"])
def test_search_path_of_real_compilers(name: str, tmp_path: Path) -> None:
    """The search path is read from the compiler's own words, the user's directories first."""
    (tmp_path / "i x").mkdir()
    (tmp_path / "q").mkdir()
    ran = run(name, ["-v", "-E", "-x", "c++", "-Ii x", "-iquote", "q", "-Inot", "/dev/null"], tmp_path)
    path = parse_search_path(ran.stderr)
    assert path.quote_dirs == (b"q",)
    assert path.angle_dirs[0] == b"i x"
    assert b"/usr/include" in path.angle_dirs
    assert b"not" not in path.angle_dirs


def test_candidates() -> None:
    """Quoted names are tried beside the file first, others on the path only, _next behind the file's own directory."""
    path = SearchPath((b"q",), (b"a", b"b/"))
    quoted = Operand(Directive.HAS_INCLUDE, QUOTED, b"x.h")
    assert candidates(quoted, b"d", path) == (b"d/x.h", b"q/x.h", b"a/x.h", b"b/x.h")
    assert candidates(quoted, b"", path) == (b"x.h", b"q/x.h", b"a/x.h", b"b/x.h")
    assert candidates(Operand(Directive.HAS_INCLUDE, ANGLE, b"x.h"), b"d", path) == (b"a/x.h", b"b/x.h")
    assert candidates(Operand(Directive.HAS_INCLUDE_NEXT, ANGLE, b"x.h"), b"a", path) == (b"b/x.h",)
    assert candidates(Operand(Directive.INCBIN, QUOTED, b"x"), b"d", path) == (b"x", b"q/x", b"a/x", b"b/x")
    assert candidates(Operand(Directive.HAS_INCLUDE, ANGLE, b"/x.h"), b"d", path) == (b"/x.h",)
    assert candidates(Operand(Directive.HAS_INCLUDE, COMPUTED, b"X"), b"d", path) == ()


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_candidates_agree_with_the_compiler(name: str, tmp_path: Path) -> None:
    """The first candidate that exists is the file that the compiler finds; without one it finds none."""
    for place in ("d", "q", "a"):
        (tmp_path / place).mkdir()
    (tmp_path / "q/one.h").touch()
    (tmp_path / "a/one.h").touch()
    (tmp_path / "a/two.h").touch()
    (tmp_path / "d/three.h").touch()
    lines = []
    operands = []
    for header in ("one.h", "two.h", "three.h", "four.h"):
        for kind, spelled in ((QUOTED, f'"{header}"'), (ANGLE, f"<{header}>")):
            operands.append(Operand(Directive.HAS_INCLUDE, kind, header.encode()))
            lines.append(f"#if __has_include({spelled})\nyes\n#else\nno\n#endif")
    (tmp_path / "d/s.c").write_text("\n".join(lines) + "\n")
    dirs = ["-iquote", "q", "-I", "a"]
    path = parse_search_path(run(name, ["-v", "-E", *dirs, "-xc", "/dev/null"], tmp_path).stderr)
    said = run(name, ["-E", "-P", *dirs, "d/s.c"], tmp_path).stdout.split()
    exists = [any((tmp_path / p.decode()).exists() for p in candidates(o, b"d", path)) for o in operands]
    assert said == [b"yes" if found else b"no" for found in exists]
    assert tuple(operands) == scan((tmp_path / "d/s.c").read_bytes()).probes


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_incbin_is_sought_where_the_assembler_looks(name: str, tmp_path: Path) -> None:
    """The bytes that .incbin puts into an object come from the first candidate that exists."""
    for place in ("d", "a"):
        (tmp_path / place).mkdir()
    (tmp_path / "d/x.bin").write_bytes(b"beside")
    (tmp_path / "a/x.bin").write_bytes(b"FROM-A")
    (tmp_path / "d/s.c").write_text('asm(".data\\n.incbin \\"x.bin\\"\\n");\n')
    ran = run(name, ["-c", "-I", "a", "d/s.c", "-o", "o.o"], tmp_path)
    (operand,) = scan((tmp_path / "d/s.c").read_bytes()).assembled
    paths = [tmp_path / p.decode() for p in candidates(operand, b"d", SearchPath((), (b"a",)))]
    found = next((p for p in paths if p.exists()), None)
    if ran.returncode == 0:
        assert found is not None
        assert found.read_bytes() in (tmp_path / "o.o").read_bytes()
    (tmp_path / "x.bin").write_bytes(b"in-cwd")
    assert run(name, ["-c", "-I", "a", "d/s.c", "-o", "o.o"], tmp_path).returncode == 0
    assert b"in-cwd" in (tmp_path / "o.o").read_bytes()
    assert paths[0] == tmp_path / "x.bin"
