"""What command lines mean."""

from __future__ import annotations

import time

import pytest
from compilers_help import ENV, compilation, compiler, understand

from sccache_twisted.compilers.commandline import TABLES, parse, searched_files
from sccache_twisted.compilers.options import Effect
from sccache_twisted.compilers.reasons import REASONS, Place
from sccache_twisted.model import Compilation, NotCacheable, NotCompilation, OutputKind

NOT_COMPILATIONS = [
    ("a.c -o a", "link"),
    ("a.o b.o -o a -lm", "link"),
    ("a.c -save-temps", "link"),
    ("-E a.c", "preprocess"),
    ("-c -E a.c", "preprocess"),
    ("-M a.c", "preprocess"),
    ("-MM -c a.c", "preprocess"),
    ("-S c.S", "preprocess"),
    ("--version", "query"),
    ("--version -c a.c", "query"),
    ("-dumpmachine", "query"),
    ("-print-prog-name=as", "query"),
    ("-### -c a.c", "query"),
    ("-xc -c -", "stdin"),
    ("-E -", "preprocess"),
    ("-c", "no_input"),
    ("", "no_input"),
    ("-v", "no_input"),
    ("-c x.o", "no_input"),
    ("-fsyntax-only a.c", "syntax_only"),
]


@pytest.mark.parametrize(("line", "reason"), NOT_COMPILATIONS)
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_what_is_no_compilation(name: str, line: str, reason: str) -> None:
    """Linking, preprocessing, questions and standard input are the compiler's own business, each by its word."""
    assert understand(name, line.split()) == NotCompilation(reason)
    assert REASONS[reason].place is Place.NOT_COMPILATION


NOT_CACHEABLES = [
    ("gcc", "-c a.c b.c", "multiple_source_files"),
    ("gcc", "-c a.c x.o", "multiple_source_files"),
    ("gcc", "-save-temps -c a.c", "unsupported_compiler_option"),
    ("gcc", "-save-temps=obj -c a.c", "unsupported_compiler_option"),
    ("gcc", "-fdump-tree-all -c a.c", "unsupported_compiler_option"),
    ("gcc", "-fdump-ipa-clones -c a.c", "unsupported_compiler_option"),
    ("gcc", "-fopt-info-vec=x -c a.c", "unsupported_compiler_option"),
    ("gcc", "-da -c a.c", "unsupported_compiler_option"),
    ("gcc", "-dumpbase q -c a.c", "unsupported_compiler_option"),
    ("gcc", "-aux-info x -c a.c", "unsupported_compiler_option"),
    ("gcc", "-wrapper gdb,--args -c a.c", "unsupported_compiler_option"),
    ("gcc", "-fsave-optimization-record -c a.c", "unsupported_compiler_option"),
    ("gcc", "-fdump-go-spec=g -c a.c", "unsupported_compiler_option"),
    ("gcc", "-fsome-new-output=g -c a.c", "unsupported_compiler_option"),
    ("gcc", "-Wa,--MD=x -c a.c", "unsupported_compiler_option"),
    ("gcc", "-Wa,--MD,x -c a.c", "unsupported_compiler_option"),
    ("gcc", "-Wp,-MMD,w.d,-MT,foo -c a.c", "unsupported_compiler_option"),
    ("gcc", "-Wp,-MD -c a.c", "unsupported_compiler_option"),
    ("gcc", "-Xpreprocessor -MD -Xpreprocessor q -c a.c", "unsupported_compiler_option"),
    ("gcc", "-MG -MD -c a.c", "unsupported_compiler_option"),
    ("gcc", "-MDfoo -c a.c", "unsupported_compiler_option"),
    ("gcc", "-v -c a.c", "verbose"),
    ("gcc", "-c a.c -o", "bad_compiler_arguments"),
    ("gcc", "-c a.c -o /dev/null", "bad_output_file"),
    ("gcc", "-c a.c -MD -MF /dev/stdout", "bad_output_file"),
    ("gcc", "-c a.c -o z.d -MD", "bad_output_file"),
    ("gcc", "-c a.c -o a.c", "bad_output_file"),
    ("gcc", "-c a.c -o -", "output_to_stdout"),
    ("gcc", "-S a.c -o -", "output_to_stdout"),
    ("gcc", "-c a.c -MD -MF -", "output_to_stdout"),
    ("gcc", "-c h.h", "precompiled_header"),
    ("gcc", "-x c++-header -c a.c", "precompiled_header"),
    ("gcc", "-c a.f90", "unsupported_source_language"),
    ("gcc", "-x go -c a.c", "unsupported_source_language"),
    ("gcc", "-xc -c /dev/null", "bad_input_file"),
    ("gcc", "-c @absent", "response_file"),
    ("gcc", "-c @/dev/fd/63 a.c", "response_file"),
    ("gcc", "-include /dev/fd/63 -c a.c", "bad_input_file"),
    ("gcc", "-xc -c /proc/self/fd/3 -o a.o", "bad_input_file"),
    ("clang", "-fsanitize-ignorelist=/dev/stdin -DX=/proc/self/exe -c a.c", "bad_input_file"),
    ("gcc", "-fmodules-ts -c a.cc", "modules"),
    ("clang", "-MJ q -c a.c", "unsupported_compiler_option"),
    ("clang", "-ftime-trace -c a.c", "unsupported_compiler_option"),
    ("clang", "-foptimization-record-file=q -c a.c", "unsupported_compiler_option"),
    ("clang", "-foptimization-record-passes=inline -c a.c", "unsupported_compiler_option"),
    ("clang", "-fproc-stat-report=x -c a.c", "unsupported_compiler_option"),
    ("clang", "-Xclang -stack-usage-file -Xclang q -c a.c", "unsupported_compiler_option"),
    ("clang", "-Xclang -emit-pch -c a.c", "precompiled_header"),
    ("clang", "-fmodules -c a.c", "modules"),
    ("clang", "--analyze -c a.c", "unsupported_compiler_option"),
    ("clang", "-c a.cppm", "unsupported_source_language"),
    ("clang", "-arch x86_64 -arch arm64 -c a.c", "unsupported_compiler_option"),
]


@pytest.mark.parametrize(("name", "line", "reason"), NOT_CACHEABLES)
def test_what_is_not_taken_over(name: str, line: str, reason: str) -> None:
    """A compilation whose files or meaning can't be told beforehand is left to the compiler, by its word."""
    parsed = understand(name, line.split())
    assert isinstance(parsed, NotCacheable), parsed
    assert parsed.reason == reason
    assert REASONS[reason].place is Place.NOT_CACHEABLE


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("gcc", "-fplugin=p.so -c a.c", "compiler_plugin"),
        ("clang", "-Xclang -load -Xclang p.so -c a.c", "compiler_plugin"),
        ("gcc", "-B /opt/bin -c a.c", "toolchain_option"),
        ("gcc", "-specs=nosys.specs -c a.c", "toolchain_option"),
        ("clang", "--gcc-toolchain=/opt/gcc -c a.c", "toolchain_option"),
        ("clang", "--sysroot=/opt/root -c a.c", "toolchain_option"),
        ("clang", "-Xclang -include-pch -Xclang x.pch -c a.c", "pch"),
    ],
)
def test_what_stays_on_this_machine(name: str, line: str, reason: str) -> None:
    """One compilation that needs what no packaged toolchain holds is described, and stays here by its word."""
    parsed = compilation(name, *line.split())
    assert not parsed.distributable
    assert parsed.local_reason == reason
    assert REASONS[reason].place is Place.LOCAL


@pytest.mark.parametrize(
    ("name", "option", "text", "reason"),
    [
        ("gcc", "-specs=./o", b"*cpp:\n+ -DV\n\n", ""),
        ("gcc", "-specs=./o", b"*cc1:\n+ -march=native\n\n", "toolchain_option"),
        ("gcc", "-specs=./o", b"%include <more>\n", "toolchain_option"),
        ("gcc", "-specs=./o", None, "toolchain_option"),
        ("clang", "--config=./o", b" # -march=native is not asked for\n-Iinc \\\n-g -O2\n", "toolchain_option"),
        ("clang", "--config=./o", b" # -fplugin=p.so\n-Iinc \\\n-g -O2\n", ""),
        ("clang", "--config=./o", b"-fprofile-use=p", "toolchain_option"),
        ("clang", "--config=./o", b"-MD", "toolchain_option"),
        ("clang", "--config=./o", b"@more", "toolchain_option"),
    ],
)
def test_files_of_options(name: str, option: str, text: bytes | None, reason: str) -> None:
    """A file of options travels if none of them names this processor, further inputs or outputs."""
    parsed = understand(name, [option, "-c", "a.c"], "/w", files={} if text is None else {b"/w/./o": text})
    assert isinstance(parsed, Compilation)
    assert parsed.local_reason == reason
    assert (b"inc" in parsed.include_dirs) == (name == "clang" and not reason)


def test_specs_by_name_are_where_the_driver_found_them() -> None:
    """What a driver looks up by itself is read from where it was found, and stays here where it was not."""
    line = [b"-specs=own.specs", b"--specs=./near", b"-c", b"a.c"]
    gcc = compiler("gcc")
    assert searched_files(gcc, line) == [b"own.specs"]
    assert searched_files(compiler("clang"), line) == []
    texts = {b"/lib/own.specs": b"*cpp:\n+ -DV\n\n", b"/w/./near": b"\n"}
    there = parse(gcc, line, b"/w", ENV, texts.get, {b"own.specs": b"/lib/own.specs"})
    assert isinstance(there, Compilation)
    assert (there.local_reason, there.hidden_inputs) == ("", (b"/lib/own.specs", b"./near"))
    nowhere = parse(gcc, line, b"/w", ENV, texts.get)
    assert isinstance(nowhere, Compilation)
    assert nowhere.local_reason == "toolchain_option"


def test_every_reason_in_the_tables_is_documented() -> None:
    """A word that an option can be refused by has its sentence."""
    for table in TABLES.values():
        for option in table.options():
            if option.effect in {Effect.NOT_CACHEABLE, Effect.NOT_COMPILATION, Effect.LOCAL}:
                assert option.detail in REASONS


@pytest.mark.parametrize(
    "variable",
    [b"DEPENDENCIES_OUTPUT", b"SUNPRO_DEPENDENCIES", b"COMPILER_PATH", b"GCC_EXEC_PREFIX", b"GCC_COMPARE_DEBUG"],
)
def test_variables_that_change_what_runs_are_not_taken_over(variable: bytes) -> None:
    """A variable that writes files or changes programs is named as the reason."""
    parsed = understand("gcc", ["-c", "a.c"], env={**ENV, variable: b"x"})
    assert parsed == NotCacheable("unsupported_environment_variable", variable.decode())


def test_a_macro_may_speak_of_descriptors() -> None:
    """What is only text in the program keeps nothing at home."""
    assert isinstance(understand("gcc", ["-DSELF=/proc/self/exe", "-D", "FD=1", "-c", "a.c"]), Compilation)


def test_cmake_ninja_line() -> None:
    """The line that CMake writes for Ninja is understood: its outputs, directories and listing run."""
    line = (
        "-DNDEBUG -I/src/include -isystem /opt/x/include -O2 -g -std=gnu++17 -fPIC -Winvalid-pch "
        "-include /b/cmake_pch.hxx -MD -MT CMakeFiles/x.dir/y.cc.o -MF CMakeFiles/x.dir/y.cc.o.d "
        "-o CMakeFiles/x.dir/y.cc.o -c /src/y.cc"
    )
    parsed = compilation("g++", *line.split())
    assert [(o.kind, o.path) for o in parsed.outputs] == [
        (OutputKind.OBJECT, b"CMakeFiles/x.dir/y.cc.o"),
        (OutputKind.DEPFILE, b"CMakeFiles/x.dir/y.cc.o.d"),
    ]
    assert parsed.include_dirs == (b"/src/include", b"/opt/x/include")
    assert parsed.hidden_inputs == (b"/b/cmake_pch.hxx.gch",)
    assert parsed.debug
    assert parsed.args == tuple(line.encode().split())
    assert b" ".join(parsed.listing_args) == (
        b"-DNDEBUG -I/src/include -isystem /opt/x/include -O2 -g -std=gnu++17 -fPIC -Winvalid-pch "
        b"-include /b/cmake_pch.hxx /src/y.cc"
    )


def test_libtool_line() -> None:
    """The line that libtool runs writes its object below .libs and its depfile below .deps."""
    line = "-DHAVE_CONFIG_H -I. -MT x.lo -MD -MP -MF .deps/x.Tpo -c x.c -fPIC -DPIC -o .libs/x.o"
    parsed = compilation("gcc", *line.split())
    assert [o.path for o in parsed.outputs] == [b".libs/x.o", b".deps/x.Tpo"]
    assert parsed.language == "c"
    assert parsed.source == b"x.c"
    assert parsed.listing_args == (b"-DHAVE_CONFIG_H", b"-I.", b"x.c", b"-fPIC", b"-DPIC")


def test_kernel_line() -> None:
    """The line that the kernel's make runs has its depfile behind -Wp."""
    line = (
        "-Wp,-MMD,lib/.crc32.o.d -nostdinc -I./arch/x86/include -include ./include/linux/kconfig.h -D__KERNEL__ "
        "-fmacro-prefix-map=./= -Wall -Werror -Werror=implicit-int -std=gnu11 -mno-sse -fno-pic --param=allow-store=0 "
        '-DKBUILD_MODNAME="crc32" -c -o lib/crc32.o lib/crc32.c'
    )
    parsed = compilation("gcc", *line.split())
    assert [o.path for o in parsed.outputs] == [b"lib/crc32.o", b"lib/.crc32.o.d"]
    assert not any(arg.startswith((b"-Wp,", b"-Werror")) or arg in {b"-c", b"-o"} for arg in parsed.listing_args)
    assert b"./include/linux/kconfig.h.gch" in parsed.hidden_inputs


@pytest.mark.parametrize(
    ("name", "line", "language", "preprocessed"),
    [
        ("gcc", "-c a.c", "c", False),
        ("g++", "-c a.c", "c++", False),
        ("clang++", "-c p.i", "c++-cpp-output", True),
        ("gcc", "-c a.C", "c++", False),
        ("gcc", "-c a.m", "objective-c", False),
        ("gcc", "-c a.s", "assembler", True),
        ("gcc", "-c a.S", "assembler-with-cpp", False),
        ("gcc", "-x c++ -c a.c", "c++", False),
        ("gcc", "-xassembler-with-cpp -c a.s", "assembler-with-cpp", False),
        ("gcc", "-x c -x none -c a.cc", "c++", False),
        ("gcc", "-c a.c -x c++", "c", False),
        ("g++", "-x c -c a.cc", "c", False),
    ],
)
def test_language_of_the_source(name: str, line: str, language: str, preprocessed: bool) -> None:
    """The last -x before the source decides, else its suffix, else the name the compiler was called by."""
    parsed = compilation(name, *line.split())
    assert (parsed.language, parsed.preprocessed) == (language, preprocessed)


def test_directories() -> None:
    """All directories that the line and the environment name are told, with sysroot and prefix in place."""
    args = "--sysroot=/r -I a -Ib -iquote c -isystem d -idirafter e -I=f -iprefix p/ -iwithprefix q -Wa,-Ig -c a.c"
    parsed = understand("gcc", args.split(), env={**ENV, b"CPATH": b"x::y", b"C_INCLUDE_PATH": b"z"})
    assert isinstance(parsed, Compilation)
    assert parsed.include_dirs == tuple(b"/r a b c d e p/q g x . y z /rf".split())


@pytest.mark.parametrize("option", ["-march=native", "-mtune=native", "-mcpu=native"])
def test_native(option: str) -> None:
    """A compilation for this machine's processor says so."""
    assert compilation("gcc", option, "-c", "a.c").native
    assert not compilation("gcc", "-march=x86-64", "-c", "a.c").native


@pytest.mark.parametrize(
    ("name", "line", "hidden"),
    [
        ("gcc", "-fprofile-use -c a.c -o o/x.o", [b"/w/o/x.gcda"]),
        ("gcc", "-fprofile-use=dd -c a.c -o o/./../x.o", [b"dd", b"dd/#w#o#^#x.gcda"]),
        ("gcc", "-fprofile-use -fprofile-dir=/pd -c a.c", [b"/pd", b"/pd/#w#a.gcda"]),
        ("gcc", "-fauto-profile -c a.c", [b"fbdata.afdo"]),
        ("gcc", "-specs=/usr/share/dpkg/no-pie-compile.specs -c a.c", [b"/usr/share/dpkg/no-pie-compile.specs"]),
        ("clang", "-fprofile-use -c a.c", [b"default.profdata"]),
        ("clang", "-fprofile-instr-use=p -c a.c", [b"p", b"p/default.profdata"]),
        ("clang", "-fsanitize-ignorelist=l -c a.c", [b"l"]),
        ("clang", "--config ./c.cfg -c a.c", [b"./c.cfg"]),
    ],
)
def test_hidden_inputs(name: str, line: str, hidden: list[bytes]) -> None:
    """Files that are read by option and listed in no depfile are told."""
    parsed = understand(name, line.split(), "/w")
    assert isinstance(parsed, Compilation), parsed
    assert list(parsed.hidden_inputs) == hidden


def test_response_files_are_expanded_as_the_compilers_do() -> None:
    """Quotes group, a backslash takes the next byte, files nest, and their names are relative to the cwd."""
    files = {
        b"/w/r": b"-DA='x y' -DB=\"p \\\" q\" -DC=\\ z\\'\n @d/n\t",
        b"/w/d/n": b"-c a.c -o 'b c.o'",
    }
    parsed = understand("gcc", ["@r", "-DZ"], "/w", files=files)
    assert isinstance(parsed, Compilation)
    assert parsed.args == (b"-DA=x y", b'-DB=p " q', b"-DC= z'", b"-c", b"a.c", b"-o", b"b c.o", b"-DZ")
    assert parsed.main_output == b"b c.o"


def test_response_files_that_name_themselves_end() -> None:
    """A response file that nests without end is refused."""
    assert isinstance(understand("gcc", ["@r"], "/w", files={b"/w/r": b"@r @r"}), NotCacheable)


def test_response_files_that_hold_more_than_a_command_line_may() -> None:
    """What could not be given to any program is left to the compiler, which reads the file itself."""
    for text, fits in ((b"-DA=1 " * 5_000, True), (b"-DA=1 " * 6_000, False), (b"-DA=" + b"1" * 131_072, False)):
        parsed = understand("gcc", ["@r", "-c", "a.c"], "/w", files={b"/w/r": text})
        assert isinstance(parsed, Compilation if fits else NotCacheable)


def test_paths_that_are_not_text() -> None:
    """Paths are bytes, and come back as they were."""
    parsed = compilation("gcc", b"-c", b"\xff dir/\xfe$#:.c", b"-MD", b"-o", b"o \xff.o")
    assert parsed.source == b"\xff dir/\xfe$#:.c"
    assert [o.path for o in parsed.outputs] == [b"o \xff.o", b"o \xff.d"]


def test_parsing_is_quick() -> None:
    """A command line of sixty arguments is understood in less than 0.3 ms, whether they were seen before or not."""
    args = [b"-DFOO_%d=%d" % (n, n) for n in range(15)] + [b"-I/some/dir/%d" % n for n in range(15)]
    args += [b"-Wall", b"-Wextra", b"-Wno-unused-parameter", b"-Werror=return-type", b"-std=gnu++17", b"-O2", b"-g"]
    args += [b"-fPIC", b"-fno-exceptions", b"-fvisibility=hidden", b"-ffile-prefix-map=a=b", b"-march=x86-64"]
    args += [b"-isystem", b"/x", b"-isystem", b"/y", b"-include", b"z.h", b"-MD", b"-MT", b"o/a.o", b"-MF", b"o/a.d"]
    args += [b"-pipe", b"-Wl,-z,now", b"-pthread", b"-o", b"o/a.o", b"-c", b"a.cc"]
    assert len(args) == 60
    gcc = compiler("g++")
    assert isinstance(parse(gcc, args, b"/w", ENV, {}.get), Compilation)
    assert min(_timed(gcc, args) for _ in range(100)) < 0.0003
    unseen = (
        [word.replace(b"_", b"%d" % turn).replace(b"/dir", b"/d%d" % turn) for word in args] for turn in range(100)
    )
    assert min(_timed(gcc, line) for line in unseen) < 0.0003


def _timed(gcc: object, args: list[bytes]) -> float:
    begun = time.thread_time()
    parse(gcc, args, b"/w", ENV, {}.get)  # type: ignore[arg-type]
    return time.thread_time() - begun
