"""What other compile caches and distributors have learned to take care with, and what becomes of it here.

A row is one such matter. Its cases are command lines (variables in front) with the reason for which they are not
distributed, FAR where a worker runs them; where outputs matter, their names. ``same`` are pairs of lines that share a
cached result, ``other`` pairs that must not.
"""

from __future__ import annotations

from attrs import frozen

FAR = ""
"""Cached and distributed."""

UNSUPPORTED = "unsupported_compiler_option"


@frozen
class Row:
    """One matter. ``cases``: line, reason, and perhaps the outputs, with blanks between."""

    cases: tuple[tuple[str, ...], ...]
    same: tuple[tuple[str, str], ...] = ()
    other: tuple[tuple[str, str], ...] = ()


_SOURCES = {
    "commands that link": Row(
        (
            ("gcc a.c -o a", "link"),
            ("gcc conftest.c", "link"),
            ("clang++ a.o b.o -lm", "link"),
            ("gcc -c conftest.c", FAR, "conftest.o"),
        )
    ),
    "preprocessing and dependency lists alone": Row(
        (
            ("gcc -E a.c", "preprocess"),
            ("clang -P -E a.c -o a.i", "preprocess"),
            ("gcc -M a.c", "preprocess"),
            ("gcc -MM -MF d a.c", "preprocess"),
            ("gcc -S a.S", "preprocess"),
            ("gcc -P -c a.c", FAR, "a.o"),
        )
    ),
    "questions to the compiler": Row(
        (
            ("gcc -###", "query"),
            ("gcc -### -c a.c", "query"),
            ("clang --version", "query"),
            ("gcc -dumpversion", "query"),
            ("gcc -print-file-name=crt1.o", "query"),
            ("clang --print-search-dirs", "query"),
            ("clang -mcpu=? -c a.c", "query"),
            ("gcc -fhelp -c a.c", "query"),
            ("gcc -fversion -c a.c", "query"),
            ("gcc -v", "no_input"),
            ("gcc -mcpu=native -c a.c", FAR),
        )
    ),
    "a compilation that explains itself": Row(
        (("gcc -v -c a.c", "verbose"), ("clang --verbose -c a.c", "verbose"), ("gcc -H -c a.c", FAR))
    ),
    "standard input and output": Row(
        (
            ("gcc -xc -c -", "stdin"),
            ("gcc -xc -c - -o a.o", "stdin"),
            ("gcc -c a.c -o -", "output_to_stdout"),
            ("clang -S a.c -o -", "output_to_stdout"),
            ("gcc -c a.c -MD -MF -", "output_to_stdout"),
            ("gcc -xc -c /dev/stdin", "bad_input_file"),
            ("gcc -c ./- -xc", "no_input"),
            ("gcc -xc -c ./-", FAR, "-.o"),
        )
    ),
    "no name for the object": Row(
        (
            ("gcc -c d/a.b.c", FAR, "a.b.o"),
            ("gcc -S d/a.c", FAR, "a.s"),
            ("clang -c -emit-llvm d/a.c", FAR, "a.bc"),
            ("gcc -c d/a.c -ox/y", FAR, "x/y"),
            ("gcc -c d/a.c -o", "bad_compiler_arguments"),
        ),
        same=(("gcc -c a.c -o x.o", "gcc -c a.c -o y.o"),),
    ),
    "an object that is no plain file": Row(
        (
            ("gcc -c a.c -o /dev/null", "bad_output_file"),
            ("gcc -c a.c -o d/", "bad_output_file"),
            ("gcc -c a.c -o a.c", "bad_output_file"),
            ("gcc -c a.c -o null", FAR, "null"),
        )
    ),
    "several sources": Row(
        (
            ("gcc -c a.c b.c", "multiple_source_files"),
            ("gcc -c a.c b.o", "multiple_source_files"),
            ("gcc -c a.c -include b.c", FAR, "a.o"),
        )
    ),
    "response files": Row(
        (
            ("gcc @line", FAR, "a b.o"),
            ("gcc @nested", FAR, "a b.o"),
            ("gcc -c @absent", "response_file"),
            ("gcc @endless", "response_file"),
        ),
        same=(("gcc @line", "gcc @nested"),),
        other=(("gcc @line", "gcc @line -O2"),),
    ),
    "languages by -x": Row(
        (
            ("gcc -x c++ -c a.c", FAR),
            ("gcc -xassembler-with-cpp -c a.x", FAR, "a.o"),
            ("gcc -x none -c a.x", "no_input"),
            ("gcc -x c++ -c a.c -x none", FAR),
            ("gcc -x f95 -c a.c", "unsupported_source_language"),
        ),
        other=(("gcc -x c++ -c a.c", "gcc -x c -c a.c"),),
    ),
    "sources that are preprocessed": Row(
        (
            ("gcc -MD -c a.i", FAR, "a.o"),
            ("clang++ -MD -c a.ii", FAR, "a.o"),
            ("clang -c a.mi", FAR, "a.o"),
            ("gcc -MD -c a.c", FAR, "a.o a.d"),
        )
    ),
    "assembler": Row(
        (
            ("gcc -MD -c a.s", FAR, "a.o"),
            ("gcc -MD -c a.S", FAR, "a.o a.d"),
            ("clang -MD -c a.sx", FAR, "a.o a.d"),
            ("gcc -S a.s", "preprocess"),
        )
    ),
    "other languages": Row(
        (
            ("clang -c a.m", FAR),
            ("clang++ -c a.mm", FAR),
            ("gcc -c a.f90", "unsupported_source_language"),
            ("clang -c a.cu", "unsupported_source_language"),
            ("clang -x cuda --cuda-gpu-arch=sm_70 -c a.c", "unsupported_source_language"),
            ("clang -x ir -c a.c -fthinlto-index=i", "unsupported_source_language"),
            ("clang -ObjC -c a.c", "unsupported_source_language"),
        ),
        other=(("clang -c a.m", "clang -c a.c"),),
    ),
    "headers that are precompiled": Row(
        (
            ("gcc -c a.h", "precompiled_header"),
            ("gcc -x c++-header -c a.h -o a.h.gch", "precompiled_header"),
            ("clang -Xclang -emit-pch -c a.c", "precompiled_header"),
            ("gcc -x c -c a.h", FAR, "a.o"),
        )
    ),
    "a check of the syntax": Row(
        (("gcc -fsyntax-only a.c", "syntax_only"), ("clang -fsyntax-only -c a.c", "syntax_only"), ("gcc -c a.c", FAR))
    ),
}

_DEPENDENCIES = {
    "depfiles": Row(
        (
            ("gcc -MD -c a.c -o d/z.o", FAR, "d/z.o d/z.d"),
            ("gcc -MMD -c d/a.c", FAR, "a.o a.d"),
            ("gcc -MD -MF x -MT t -MQ q -MP -c a.c", FAR, "a.o x"),
            ("gcc -MD -MFx -c a.c", FAR, "a.o x"),
            ("gcc -MF x -c a.c", FAR, "a.o"),
            ("gcc -MD -MG -c a.c", UNSUPPORTED),
            ("gcc -Mx -c a.c", UNSUPPORTED),
        ),
        same=(("gcc -MD -MF x -MT t -c a.c -o a.o", "gcc -MD -MF y -MT t -c a.c -o b.o"),),
        other=(
            ("gcc -MD -MT t -c a.c", "gcc -MD -MT u -c a.c"),
            ("gcc -MD -c a.c -o a.o", "gcc -MD -c a.c -o b.o"),
            ("gcc -MD -c a.c", "gcc -MMD -c a.c"),
            ("gcc -MD -c a.c", "gcc -MD -MP -c a.c"),
        ),
    ),
    "databases of commands": Row(
        (
            ("clang -MJ j -c a.c", UNSUPPORTED),
            ("clang -gen-cdb-fragment-path d -c a.c", UNSUPPORTED),
            ("clang -MD -c a.c", FAR),
        )
    ),
    "dependencies by variable": Row(
        (
            ("DEPENDENCIES_OUTPUT=d gcc -c a.c", "unsupported_environment_variable"),
            ("SUNPRO_DEPENDENCIES=d gcc -c a.c", "unsupported_environment_variable"),
            ("OUTPUT=d gcc -c a.c", FAR),
        )
    ),
    "arguments for the preprocessor in one word": Row(
        (
            ("gcc -Wp,-MD,x -c a.c", FAR, "a.o x"),
            ("gcc -Wp,-MMD,x -MD -MF y -c a.c", FAR, "a.o x"),
            ("clang -Wp,-MD,x -MD -MF y -c a.c", FAR, "a.o y"),
            ("gcc -Wp,-DA,-UB -c a.c", FAR),
            ("gcc -Wp,-MD,x,-MT,y -c a.c", UNSUPPORTED),
            ("gcc -Wp,-P -c a.c", UNSUPPORTED),
        ),
        other=(("gcc -Wp,-DA -c a.c", "gcc -Wp,-DB -c a.c"),),
    ),
    "arguments for the preprocessor one by one": Row(
        (("gcc -Xpreprocessor -fopenmp -c a.c", FAR), ("gcc -Xpreprocessor -MD -Xpreprocessor d -c a.c", UNSUPPORTED)),
    ),
    "arguments for the assembler": Row(
        (
            ("gcc -Wa,-adhlns=l -c a.c", FAR, "a.o l"),
            ("gcc -Wa,-a=k -Wa,-al=l -c a.c", FAR, "a.o l"),
            ("gcc -Wa,-al -c a.s", FAR, "a.o"),
            ("gcc -Xassembler -al=l -c a.s", FAR, "a.o l"),
            ("gcc -Wa,-Id,--noexecstack -c a.S", FAR),
            ("gcc -Wa,-gdwarf-4 -c a.c", UNSUPPORTED),
            ("gcc -Wa,--gen-debug -c a.S", FAR),
            ("gcc -Wa,--MD=d -c a.c", UNSUPPORTED),
            ("gcc -Wa,--MD -Wa,d -c a.c", UNSUPPORTED),
            ("gcc -Wa,@f -c a.c", UNSUPPORTED),
        ),
        other=(("gcc -Wa,-I,x -c a.S", "gcc -Wa,-I,y -c a.S"),),
    ),
    "arguments for the linker": Row(
        (
            ("gcc -c a.c -Wl,-z,now -Ld -lm -rdynamic -pie -z now -Xlinker x -T script -u s -fuse-ld=gold", FAR, "a.o"),
            ("gcc a.c -Wl,-z,now", "link"),
        ),
        other=(("clang -c a.c", "clang -c a.c -lm"),),
    ),
}

_DEBUG = {
    "debug information": Row(
        (
            ("gcc -g -c a.c", FAR),
            ("gcc -g3 -gdwarf-4 -gz -c a.c", FAR),
            ("clang -gdwarf64 -c a.c", FAR),
            ("gcc -gtoggle -c a.c", UNSUPPORTED),
            ("clang -gmodules -c a.c", "modules"),
        ),
        same=(
            ("PWD=/one gcc -c a.c", "PWD=/two gcc -c a.c"),
            ("PWD=/one gcc -g -g0 -c a.c", "PWD=/two gcc -g -g0 -c a.c"),
        ),
        other=(
            ("PWD=/one gcc -g -c a.c", "PWD=/two gcc -g -c a.c"),
            ("PWD=/one gcc -g0 --debug -c a.c", "PWD=/two gcc -g0 --debug -c a.c"),
            ("PWD=/one clang -gdwarf64 -c a.c", "PWD=/two clang -gdwarf64 -c a.c"),
            ("gcc -g -c a.c", "gcc -g3 -c a.c"),
        ),
    ),
    "the working directory in preprocessed text": Row(
        (("gcc -fworking-directory -c a.c", FAR), ("gcc -fpreprocessed -c a.c", UNSUPPORTED)),
        other=(("PWD=/one gcc -fworking-directory -c a.c", "PWD=/two gcc -fworking-directory -c a.c"),),
    ),
    "split debug information": Row(
        (
            ("gcc -g -gsplit-dwarf -c a.c -o d/z.o", FAR, "d/z.o d/z.dwo"),
            ("clang -g -gsplit-dwarf=single -c a.c", FAR, "a.o"),
            ("clang -g0 -gsplit-dwarf -c a.c", FAR, "a.o"),
            ("clang -gsplit-dwarf -gdwarf64 -c a.c", FAR, "a.o a.dwo"),
            ("gcc -gsplit-dwarf -c a.c -o /dev/null", "bad_output_file"),
        ),
        other=(("gcc -gsplit-dwarf -c a.c -o a.o", "gcc -gsplit-dwarf -c a.c -o b.o"),),
    ),
    "maps of prefixes": Row(
        (
            ("gcc -g -fdebug-prefix-map=/w=. -c a.c", FAR),
            ("gcc -fmacro-prefix-map=/w=. -ffile-prefix-map=/x=. -c a.c", FAR),
            ("clang -fcoverage-prefix-map=/w=. -c a.c", FAR),
            ("clang -fdebug-compilation-dir /w -g -c a.c", FAR, "a.o"),
            ("gcc -fprofile-prefix-path=/w --coverage -c a.c", FAR, "a.o a.gcno"),
            ("gcc -ffile-prefix-map=/w=. -c a.c b.c", "multiple_source_files"),
        ),
        other=(("gcc -fmacro-prefix-map=/w=. -c a.c", "gcc -fmacro-prefix-map=/w=x -c a.c"),),
    ),
    "recorded switches": Row(
        (
            ("gcc -frecord-gcc-switches -c a.c", FAR),
            ("clang -frecord-command-line -c a.c", FAR),
            ("clang -fsave-optimization-record -c a.c", UNSUPPORTED),
        ),
        other=(("gcc -frecord-gcc-switches -c a.c -o a.o", "gcc -frecord-gcc-switches -c a.c -o b.o"),),
    ),
}

_PROFILES = {
    "coverage": Row(
        (
            ("gcc --coverage -c a.c -o d/z.o", FAR, "d/z.o d/z.gcno"),
            ("clang -coverage -c a.c", FAR, "a.o a.gcno"),
            ("gcc -fprofile-arcs -ftest-coverage -c a.c", FAR, "a.o a.gcno"),
            ("gcc --test-coverage -c a.c", FAR, "a.o a.gcno"),
            ("gcc -fprofile-arcs -c a.c", FAR, "a.o"),
            ("gcc --coverage -fprofile-abs-path -fprofile-dir=d -c a.c", FAR, "a.o a.gcno"),
            ("gcc --coverage -fprofile-report -c a.c", UNSUPPORTED),
        ),
        other=(
            ("PWD=/one gcc --coverage -c a.c", "PWD=/two gcc --coverage -c a.c"),
            ("gcc --coverage -c a.c -o a.o", "gcc --coverage -c a.c -o b.o"),
        ),
    ),
    "profiles to be written by the program": Row(
        (
            ("gcc -fprofile-generate=d -c a.c", FAR, "a.o"),
            ("clang -fprofile-instr-generate -fcoverage-mapping -c a.c", FAR, "a.o"),
            ("clang -fproc-stat-report=f -c a.c", UNSUPPORTED),
        ),
        other=(("PWD=/one gcc -fprofile-generate -c a.c", "PWD=/two gcc -fprofile-generate -c a.c"),),
    ),
    "profiles that are read": Row(
        (
            ("gcc -fprofile-use -c a.c reads /w/a.gcda", FAR),
            ("gcc -fprofile-use=p -c a.c reads p p/#w#a.gcda", FAR),
            ("gcc --branch-probabilities -c a.c reads /w/a.gcda", FAR),
            ("gcc -fauto-profile -c a.c reads fbdata.afdo", FAR),
            ("clang -fprofile-use -c a.c reads default.profdata", FAR),
            ("clang -fprofile-sample-use=p -fprofile-list=l -c a.c reads p l", FAR),
            ("clang -fprofile-remapping-file=f -c a.c reads f", FAR),
            ("gcc -fprofile-generate -fprofile-use -c a.c reads /w/a.gcda", FAR),
            ("clang -fprofile-use=@p -c a.c -c @absent", "multiple_source_files"),
        ),
        other=(("gcc -fprofile-use=p -c a.c", "gcc -fprofile-use=q -c a.c"),),
    ),
    "optimisation at link time": Row(
        (
            ("gcc -flto -fstack-usage -c a.c", FAR, "a.o"),
            ("gcc -flto -fno-lto -fstack-usage -c a.c", FAR, "a.o a.su"),
            ("gcc -flto=2 -ffat-lto-objects -c a.c", FAR, "a.o"),
            ("clang -flto=thin -c a.c", FAR, "a.o"),
            ("clang -flto=thin -fthin-link-bitcode=x -c a.c", UNSUPPORTED),
        ),
        other=(("gcc -flto -c a.c", "gcc -c a.c"),),
    ),
}

_WRITERS = {
    "files that can't be told": Row(
        (
            ("gcc -save-temps -c a.c", UNSUPPORTED),
            ("clang --save-temps=obj -c a.c", UNSUPPORTED),
            ("clang -save-stats -c a.c", UNSUPPORTED),
            ("gcc -fdump-tree-all -c a.c", UNSUPPORTED),
            ("gcc --dump-rtl-expand -c a.c", UNSUPPORTED),
            ("gcc -da -c a.c", UNSUPPORTED),
            ("gcc -dr -c a.c", UNSUPPORTED),
            ("gcc -aux-info f -c a.c", UNSUPPORTED),
            ("gcc -ftime-report -c a.c", UNSUPPORTED),
            ("gcc -fopt-info-vec=f -c a.c", UNSUPPORTED),
            ("clang -ftime-trace -c a.c", UNSUPPORTED),
            ("clang -objcmt-atomic-property -c a.m", UNSUPPORTED),
            ("clang -foptimization-record-file=f -c a.c", UNSUPPORTED),
            ("gcc -dumpdir d -c a.c", UNSUPPORTED),
            ("gcc -dA -dP -c a.c", FAR, "a.o"),
            ("gcc -fverbose-asm -S a.c", FAR, "a.s"),
        )
    ),
    "stack usage and call graphs": Row(
        (
            ("gcc -fstack-usage -c a.c -o d/z.o", FAR, "d/z.o d/z.su"),
            ("gcc -fcallgraph-info=su -c a.c", FAR, "a.o a.ci"),
            ("gcc -fcallgraph-info -flto -c a.c", FAR, "a.o"),
            ("gcc -Wstack-usage=9 -c a.c", FAR, "a.o"),
        )
    ),
    "serialized diagnostics": Row(
        (
            ("clang --serialize-diagnostics d -c a.c", FAR, "a.o d"),
            ("clang -serialize-diagnostics - -c a.c", "output_to_stdout"),
        )
    ),
    "stores of an index": Row(
        (
            ("clang -index-store-path d -c a.c", UNSUPPORTED),
            ("clang -index-unit-output-path f -c a.c", UNSUPPORTED),
            ("clang -idirafter d -c a.c", FAR),
        )
    ),
    "reports of the compiler on itself": Row(
        (
            ("gcc -frepo -c a.cc", UNSUPPORTED),
            ("gcc -fmem-report -c a.c", UNSUPPORTED),
            ("gcc -Q -c a.c", UNSUPPORTED),
            ("gcc -fstats -c a.cc", UNSUPPORTED),
            ("gcc -fgnu-tm -c a.c", FAR),
        )
    ),
    "options of no table": Row(
        (
            ("gcc -fsome-new-flag -c a.c", FAR),
            ("gcc -fsome-new-output=f -c a.c", UNSUPPORTED),
            ("clang --some-report-file=f -c a.c", UNSUPPORTED),
        ),
        other=(("gcc -fsome-new-flag -c a.c", "gcc -fsome-other-flag -c a.c"),),
    ),
    "analysis": Row(
        (("clang --analyze a.c -c", UNSUPPORTED), ("gcc -fanalyzer -c a.c", FAR, "a.o")),
    ),
    "dumps on standard output": Row(
        (("clang -Xclang -ast-dump -c a.c", UNSUPPORTED), ("clang -Xclang -fno-validate-pch -c a.c", FAR)),
    ),
}

ROWS: dict[str, Row] = {**_SOURCES, **_DEPENDENCIES, **_DEBUG, **_PROFILES, **_WRITERS}
