"""The outputs that are predicted are the files that real compilers write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from compilers_help import files_below, run, understand

from sccache_twisted.model import Compilation

BOTH = [
    "-c a.c",
    "-c a.c -o sub/z.o",
    "-c a.c -osub/z.o",
    "-c a.c --output sub/z.o",
    "-c a.c --output=sub/z.o",
    "-o y.o a.c -c -o z.o",
    "-c a.b.c",
    "-c sub/s.c",
    "-c ./sub/../a.c -MD",
    "--compile a.c",
    "-S a.c",
    "-S -c a.c -o sub/z",
    "-c -S a.c",
    "--assemble a.c",
    "-MD -c a.c",
    "-MD -c a.c -o sub/z",
    "-MD -c a.c -o sub/z.y.o",
    "-MMD -c sub/s.c",
    "-MD -MF x.d -c a.b.c",
    "-MD -MFx.d -c a.c -o sub/z.o",
    "-MMD -MF y.d -MF x.d -c a.c",
    "-MD -MF=x.d -c a.c",
    "-MD -MP -MT foo -MQ $bar -c a.c",
    "--write-dependencies -c a.c",
    "--write-user-dependencies -c a.c",
    "-MD -S a.c -o sub/q.s",
    "-MD -S a.c",
    "-Wp,-MD,w.d -c a.c -o sub/z.o",
    "-Wp,-MMD,w.d -c a.c -o sub/z.o",
    "-Wp,-MD,w.d -MD -MF q.d -c a.c -o sub/z.o",
    "-MD -MF q.d -Wp,-MD,w.d -c a.c",
    "-Wp,-MD,w.d -MD -c a.c -o sub/z.o",
    "-MD -c b.s",
    "-MD -c c.S",
    "-MD -c c.S -o sub/q.o",
    "-MD -c p.i",
    "-MD -c p.ii",
    "-MD -c a.cc",
    "-x c++ -MD -c a.c",
    "-xc++ -MD -c a.c",
    "-x assembler-with-cpp -MD -c b.s",
    "-x none -c a.c",
    "-x c -MD -c plain",
    "-MD -g -gsplit-dwarf -fstack-usage -ftest-coverage -c a.c -o sub/.hid",
    "-MD -g -gsplit-dwarf -fstack-usage -ftest-coverage -c a.c -o sub/a.",
    "-MD -g -gsplit-dwarf -fstack-usage -ftest-coverage -c a.c -o d.x",
    "-MD -g -gsplit-dwarf -fstack-usage -ftest-coverage -c a.c -o sub/z..o",
    "-MD -g -gsplit-dwarf -fstack-usage -ftest-coverage -c a.c -o ..o",
    "-MD -g -gsplit-dwarf -fstack-usage -ftest-coverage -c a.c -o sub/.o",
    "-MD -g -gsplit-dwarf -fstack-usage -ftest-coverage -c a.c -o di.r/z",
    "-g -gsplit-dwarf -c a.c",
    "-g -gsplit-dwarf -c sub/s.c",
    "-gsplit-dwarf -c a.c",
    "-gsplit-dwarf -g0 -c a.c",
    "-g0 -gsplit-dwarf -c a.c",
    "-gsplit-dwarf -g0 -g -c a.c",
    "-g -gsplit-dwarf -g0 -c a.c",
    "-gsplit-dwarf -ggdb0 -c a.c",
    "-gsplit-dwarf -ggdb3 -c a.c",
    "-gsplit-dwarf -g1 -c a.c",
    "-gsplit-dwarf -gdwarf-4 -c a.c",
    "-gsplit-dwarf -gz -c a.c",
    "-g -gsplit-dwarf -gno-split-dwarf -c a.c",
    "-g -gno-split-dwarf -gsplit-dwarf -c a.c",
    "-g -gsplit-dwarf -S a.c -o sub/z.s",
    "-g -gsplit-dwarf -flto -c a.c",
    "-gsplit-dwarf -c b.s",
    "-gsplit-dwarf -c c.S",
    "-gsplit-dwarf -gno-split-dwarf -c c.S",
    "-gsplit-dwarf -g -c p.i",
    "-fstack-usage -c a.c -o sub/z.y.o",
    "-fstack-usage -S a.c -o sub/q.s",
    "-fstack-usage -c sub/s.c",
    "-fstack-usage -flto -c a.c",
    "-fstack-usage -flto -fno-lto -c a.c",
    "-fstack-usage -c c.S",
    "-fstack-usage -c p.i",
    "--coverage -c a.c -o sub/q.y.o",
    "--coverage -c a.c -o sub/q",
    "--coverage -c sub/s.c",
    "--coverage -S sub/s.c",
    "--coverage -c p.i -o sub/q.o",
    "--coverage -c c.S -o sub/q.o",
    "--coverage -flto -c a.c",
    "--coverage -fno-test-coverage -c a.c",
    "-coverage -c a.c",
    "-fprofile-arcs -c a.c",
    "-ftest-coverage -c a.c",
    "-ftest-coverage -fno-test-coverage -c a.c",
    "-fprofile-generate -c a.c",
    "-flto -c a.c",
    "-flto -S a.c",
    "-H -c a.c",
    "-P -c a.c",
    "-dA -dP -c a.c",
    "-c a.c -lfoo -L nowhere -Wl,-z,now -Xlinker foo",
    "-c a.c -I inc -iquote q -isystem s -idirafter d -include h.h -imacros h.h -D X=1 -U Y",
    "-c a.c -frecord-gcc-switches -O2 -Wall -Wextra -std=gnu11 -fPIC -pipe",
    "-c a.c -Wa,-I,foo -Wa,--noexecstack",
    "-c a.c -march=native -O3 -g -gsplit-dwarf -MD -MF sub/x.d -o sub/x.o",
    "-x c -c - -o z.o",
]

GCC = [
    "-c a.c -Wa,-a=l.lst",
    "-c a.c -g -Wa,-adhlns=l.lst,-ahs -o sub/z.o",
    "-c a.c -Wa,-a=k.lst -Wa,-al=l.lst",
    "-c a.c -Xassembler -ahl=l.lst",
    "-S a.c -Wa,-a=l.lst",
    "-c b.s -Wa,-a=l.lst",
    "-fcallgraph-info -c a.c -o sub/q.y.o",
    "-fcallgraph-info=su,da -S a.c",
    "-fcallgraph-info -flto -c a.c",
    "--stack-usage --debug --debug=split-dwarf --callgraph-info --test-coverage -c a.c",
    "--lto --stack-usage -c a.c",
    "-gsplit-dwarf -gdwarf64 -c a.c",
    "--coverage -fprofile-note=foo.gcno -c a.c -o sub/q.o",
    "--coverage -fprofile-dir=/tmp/x -fprofile-abs-path -c a.c",
    "-fprofile-use -c a.c",
    "-C -c a.c",
]

CLANG = [
    "--serialize-diagnostics d.dia -c a.c",
    "-serialize-diagnostics d.dia -S a.c",
    "-no-integrated-as -Wa,-a=l.lst -c a.c",
    "-fno-integrated-as -g -gsplit-dwarf -MD -c a.c -o sub/r.o",
    "-fno-integrated-as -g -gsplit-dwarf -c b.s",
    "-g -gsplit-dwarf=single -c a.c",
    "-g -gsplit-dwarf=split -c a.c",
    "-g -gsplit-dwarf -gsplit-dwarf=single -c a.c",
    "-g -gsplit-dwarf=single -gsplit-dwarf -c a.c",
    "-gsplit-dwarf=single -c b.s",
    "-gsplit-dwarf -gline-tables-only -c a.c",
    "-gsplit-dwarf -gline-directives-only -c a.c",
    "-gsplit-dwarf -gmlt -c a.c",
    "-gsplit-dwarf -gcodeview -c a.c",
    "-gsplit-dwarf -gdwarf-aranges -c a.c",
    "-gsplit-dwarf -gdwarf-5 -gdwarf64 -c a.c",
    "-gsplit-dwarf -gdwarf64 -c a.c",
    "-gsplit-dwarf -gno-inline-line-tables -c a.c",
    "-fembed-bitcode -fstack-usage -g -gsplit-dwarf -MD -c a.c",
    "-Xclang -disable-O0-optnone -fstack-usage -c a.c",
    "-g -gsplit-dwarf=single -gno-split-dwarf -gsplit-dwarf -c a.c",
    "-g -gsplit-dwarf -S sub/s.c -o di.r/z.s",
    "-g -gsplit-dwarf -c -S a.c -o sub/z.s",
    "-emit-llvm -c a.c",
    "-emit-llvm -S a.c",
    "-emit-llvm -c -g -gsplit-dwarf -fstack-usage -MD a.c -o sub/r.bc",
    "-c a.c --",
    "-MD -c -- a.c",
    "-Xclang -fno-validate-pch -Xclang -target-feature -Xclang +sse4.2 -c a.c",
    "-MF x.d -c a.c",
    "-c a.c -framework Foo -target x86_64-linux-gnu",
]

CASES = [(name, line) for name in ("gcc", "clang") for line in BOTH]
CASES += [("gcc", line) for line in GCC] + [("clang", line) for line in CLANG]
CASES += [(name, "-MD -c a.c") for name in ("g++", "clang++")]
CASES += [(name, "-MD -c p.i") for name in ("g++", "clang++")]


def lay_out(root: Path) -> None:
    """A handful of sources in all languages."""
    (root / "sub").mkdir()
    (root / "di.r").mkdir()
    source = '#include "h.h"\nint f(int x) { return x; }\n'
    for name in ("a.c", "a.b.c", "a.cc", "plain", "sub/s.c"):
        (root / name).write_text(source)
    (root / "h.h").write_text("#define Q 1\n")
    (root / "sub/h.h").write_text("#define Q 1\n")
    (root / "b.s").write_text(".text\nfoo: nop\n")
    (root / "c.S").write_text('#include "h.h"\n.text\nfoo: nop\n')
    (root / "p.i").write_text("int g;\nint f(int x) { return x; }\n")
    (root / "p.ii").write_text("int g;\nint f(int x) { return x; }\n")


@pytest.mark.parametrize(("name", "line"), CASES, ids=str)
def test_predicted_outputs_are_the_files_that_appear(name: str, line: str, tmp_path: Path) -> None:
    """A successful compilation writes exactly the files that were predicted from its command line."""
    lay_out(tmp_path)
    args = line.split()
    parsed = understand(name, args, tmp_path)
    if "-" in args:
        assert not isinstance(parsed, Compilation)
        return
    assert isinstance(parsed, Compilation), parsed
    before = files_below(tmp_path)
    ran = run(name, args, tmp_path)
    assert ran.returncode == 0, ran.stderr.decode()
    appeared = files_below(tmp_path) - before
    assert {os.path.normpath(output.path) for output in parsed.outputs} == appeared


@pytest.mark.parametrize(("name", "line"), CASES, ids=str)
def test_listing_run_touches_no_file_of_the_users(name: str, line: str, tmp_path: Path) -> None:
    """The run that lists dependencies writes its own two files, no other, and lists the source first."""
    lay_out(tmp_path)
    parsed = understand(name, line.split(), tmp_path)
    if not isinstance(parsed, Compilation) or parsed.preprocessed:
        return
    before = files_below(tmp_path)
    extra = ["-E", "-MD", "-MF", "private.d", "-o", "sink"]
    ran = run(name, [*extra, *parsed.listing_args], tmp_path)
    assert ran.returncode == 0, ran.stderr.decode()
    assert files_below(tmp_path) - before == {b"private.d", b"sink"}
    # Both compilers leave out a leading "./".
    assert parsed.source.removeprefix(b"./") in (tmp_path / "private.d").read_bytes()
