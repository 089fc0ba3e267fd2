"""The options that gcc and clang share, as rows.

Options that are plain flags and touch nothing but the generated code need no row: an argument of no
row is passed on and keyed as it is. Every option that takes a separate value must have one, or its
value would be taken for a source.
"""

from __future__ import annotations

from sccache_twisted.compilers.options import Arity, Effect, Option, rows

JOINED, SEPARATE, EITHER = Arity.JOINED, Arity.SEPARATE, Arity.JOINED_OR_SEPARATE
UNSUPPORTED = "unsupported_compiler_option"

_MODES = (
    *rows("-c --compile", effect=Effect.ASSEMBLE_TO_OBJECT, listing=False),
    *rows("-S --assemble", effect=Effect.COMPILE_TO_ASSEMBLY, listing=False),
    *rows(
        "-E -M -MM --preprocess --dependencies --user-dependencies",
        effect=Effect.NOT_COMPILATION,
        detail="preprocess",
    ),
    *rows(
        "-### --version --help --target-help -dumpversion -dumpmachine -dumpfullversion -dumpspecs",
        effect=Effect.NOT_COMPILATION,
        detail="query",
    ),
    *rows("-print- --print- --help=", JOINED, Effect.NOT_COMPILATION, "query"),
    *rows("-mcpu=? -mtune=? -mcpu=help -mtune=help", effect=Effect.NOT_COMPILATION, detail="query"),
    *rows("-fsyntax-only", effect=Effect.NOT_COMPILATION, detail="syntax_only"),
    *rows("-v --verbose", effect=Effect.NOT_CACHEABLE, detail="verbose"),
)

_PATHS = (
    *rows("-o --output", EITHER, Effect.OUTPUT, listing=False),
    *rows("--output=", JOINED, Effect.OUTPUT, listing=False),
    *rows("-x --language", EITHER, Effect.LANGUAGE),
    *rows("--language=", JOINED, Effect.LANGUAGE),
    *rows("-I -iquote -isystem -idirafter -F -iframework", EITHER, Effect.DIRECTORY),
    *rows("--include-directory --include-directory-after", SEPARATE, Effect.DIRECTORY),
    *rows("--include-directory= --include-directory-after=", JOINED, Effect.DIRECTORY),
    *rows("-I- --include-barrier", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
    *rows("-isysroot", EITHER, Effect.SYSROOT, "headers"),
    *rows("--sysroot", SEPARATE, Effect.SYSROOT, "all"),
    *rows("--sysroot=", JOINED, Effect.SYSROOT, "all"),
    *rows("-iprefix", EITHER, Effect.PREFIX),
    *rows("--include-prefix", SEPARATE, Effect.PREFIX),
    *rows("--include-prefix=", JOINED, Effect.PREFIX),
    *rows("-iwithprefix -iwithprefixbefore", EITHER, Effect.PREFIXED_DIRECTORY),
    *rows("--include-with-prefix --include-with-prefix-after", SEPARATE, Effect.PREFIXED_DIRECTORY),
    *rows("--include-with-prefix-before", SEPARATE, Effect.PREFIXED_DIRECTORY),
    *rows("--include-with-prefix= --include-with-prefix-after=", JOINED, Effect.PREFIXED_DIRECTORY),
    *rows("--include-with-prefix-before=", JOINED, Effect.PREFIXED_DIRECTORY),
    *rows("-include -imacros", EITHER, Effect.FORCED_INCLUDE),
    *rows("--include --imacros", SEPARATE, Effect.FORCED_INCLUDE),
    *rows("--include= --imacros=", JOINED, Effect.FORCED_INCLUDE),
    *rows("-B", EITHER, Effect.LOCAL, "toolchain_option"),
    *rows("--prefix", SEPARATE, Effect.LOCAL, "toolchain_option"),
    *rows("--prefix= --gcc-toolchain= --gcc-install-dir=", JOINED, Effect.LOCAL, "toolchain_option"),
)

_PREPROCESSOR = (
    *rows("-D -U -A", EITHER),
    *rows("--define-macro --undefine-macro --assert", SEPARATE),
    *rows("--define-macro= --undefine-macro= --assert=", JOINED),
    *rows("-P -C -CC --no-line-commands --comments --comments-in-macros", listing=False),
    *rows("-MD -MMD --write-dependencies --write-user-dependencies", effect=Effect.DEPENDENCIES, listing=False),
    *rows("-MF", EITHER, Effect.DEPFILE, listing=False),
    *rows("-MT -MQ", EITHER, Effect.DEPENDENCY_DETAIL, listing=False),
    *rows("-MP", effect=Effect.DEPENDENCY_DETAIL, listing=False),
    *rows("-Wp,", JOINED, Effect.PREPROCESSOR_PASS),
    *rows("-Xpreprocessor", SEPARATE, Effect.PREPROCESSOR_ARGUMENT),
    *rows("-fpreprocessed -fdirectives-only", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
    *rows("-traditional --traditional -traditional-cpp", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
    *rows("--traditional-cpp --print-missing-file-dependencies", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
)

_WARNINGS = (
    *rows("-Werror -Werror-implicit-function-declaration", listing=False),
    *rows("-Werror=", JOINED, listing=False),
)

_ASSEMBLER = (
    *rows("-Wa,", JOINED, Effect.ASSEMBLER_PASS, listing=False),
    *rows("-Xassembler", SEPARATE, Effect.ASSEMBLER_PASS, listing=False),
    *rows("--for-assembler", SEPARATE, Effect.ASSEMBLER_PASS, listing=False),
)

_LINKER = (
    *rows("-L -l -u -z -T -e", EITHER, Effect.LINKER),
    *rows("-Xlinker --for-linker --library-path --library-directory", SEPARATE, Effect.LINKER),
    *rows("--force-link --entry", SEPARATE, Effect.LINKER),
    *rows("-Tbss -Tdata -Ttext", EITHER, Effect.LINKER),
    *rows(
        "-Wl, -fuse-ld= --for-linker= --library-path= --library-directory= --force-link= --entry=",
        JOINED,
        Effect.LINKER,
    ),
)

_CODE = (
    *rows("-march= -mtune= -mcpu=", JOINED, Effect.MACHINE),
    *rows("--param --std --stdlib --rtlib", SEPARATE),
    *rows("--param=", JOINED),
    *rows("-g", JOINED, Effect.DEBUG),
    *rows("--debug", effect=Effect.DEBUG),
    *rows("-gsplit-dwarf", effect=Effect.SPLIT_DWARF, detail="split", listing=False),
    *rows("-gno-split-dwarf", effect=Effect.SPLIT_DWARF, detail="no", listing=False),
    *rows("-gtoggle", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
    *rows("-flto", effect=Effect.LTO),
    *rows("-flto=", JOINED, Effect.LTO),
    *rows("-fno-lto", effect=Effect.NO_LTO),
    *rows("-fstack-usage", effect=Effect.STACK_USAGE, listing=False),
    *rows("--coverage -coverage", effect=Effect.COVERAGE, listing=False),
    *rows("-ftest-coverage", effect=Effect.TEST_COVERAGE, detail="yes", listing=False),
    *rows("-fno-test-coverage", effect=Effect.TEST_COVERAGE, detail="no", listing=False),
    *rows("-fprofile-arcs", listing=False),
    *rows("-fprofile-use", effect=Effect.PROFILE),
    *rows("-fprofile-use=", JOINED, Effect.PROFILE),
    *rows("-save-temps --save-temps", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
    *rows("-save-temps= --save-temps=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
    *rows("-ftime-report -fsave-optimization-record", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
    *rows("-fplugin=", JOINED, Effect.PLUGIN),
    *rows("-fplugin-arg-", JOINED, Effect.PLUGIN_ARGUMENT),
    *rows("-fmodules -fmodules-ts -fcxx-modules", effect=Effect.NOT_CACHEABLE, detail="modules"),
    *rows("-fmodule-header -fmodule-only", effect=Effect.NOT_CACHEABLE, detail="modules"),
    *rows("-fmodule-file= -fmodule-mapper= -fmodule-header=", JOINED, Effect.NOT_CACHEABLE, "modules"),
    *rows("-fdeps-file= -fdeps-format= -fdeps-target=", JOINED, Effect.NOT_CACHEABLE, "modules"),
    # These have a value and "file" or "record" in their name, and write nothing.
    *rows("-ffile-prefix-map= -finstrument-functions-exclude-file-list= -fprofile-exclude-files=", JOINED),
    *rows("-fprofile-filter-files= -femit-struct-debug-detailed=", JOINED),
)

_REST = rows("-M", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED)
"""What of a group has no row of its own; in front, so that the rows below replace it where they spell the same."""

COMMON: tuple[Option, ...] = (
    *_REST,
    *_MODES,
    *_PATHS,
    *_PREPROCESSOR,
    *_WARNINGS,
    *_ASSEMBLER,
    *_LINKER,
    *_CODE,
)
