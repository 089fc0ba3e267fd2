"""The other half of the rows: what is read besides sources, what programs run, what shows in code and in messages."""

from __future__ import annotations

from option_rows import FAR, UNSUPPORTED, Row

_PROGRAMS = {
    "arguments for clang's compiler proper": Row(
        (
            ("clang -Xclang -fno-validate-pch -Xclang -target-feature -Xclang +avx -c a.c", FAR, "a.o"),
            ("clang -Xclang -include -Xclang h.h -c a.c reads h.h.pch h.h.gch", FAR, "a.o"),
            ("clang -Xclang -fdebug-compilation-dir -Xclang d -c a.c", FAR),
            ("clang -Xclang=-fcoloured -c a.c", FAR),
            ("clang -Xclang -include-pch -Xclang h.pch -c a.c", "pch"),
            ("clang -Xclang -stack-usage-file -Xclang f -c a.c", UNSUPPORTED),
            ("clang -Xclang -fsanitize-ignorelist=l -c a.c", UNSUPPORTED),
            ("clang -Xclang -mlink-bitcode-file -Xclang f -c a.c", UNSUPPORTED),
            ("clang -Xclang -fthin-link-bitcode=f -c a.c", UNSUPPORTED),
        ),
        other=(("clang -Xclang -fone -c a.c", "clang -Xclang -ftwo -c a.c"),),
    ),
    "arguments for LLVM": Row(
        (
            ("clang -mllvm -inline-threshold=9 -c a.c", FAR, "a.o"),
            ("clang -mllvm -enable-value-profiling -c a.c", FAR, "a.o"),
            ("clang -mllvm -load=./p.so -c a.c", "compiler_plugin"),
            ("clang -Xclang -mllvm -Xclang -load -mllvm p.so -c a.c", "compiler_plugin"),
            ("clang -mllvm -info-output-file=f -c a.c", UNSUPPORTED),
            ("clang -mllvm -some=/f -c a.c", UNSUPPORTED),
        ),
        other=(("clang -mllvm -a -c a.c", "clang -mllvm -b -c a.c"),),
    ),
    "plugins": Row(
        (
            ("gcc -fplugin=./p.so -fplugin-arg-p-level=2 -c a.c reads ./p.so", FAR, "a.o"),
            ("clang -fpass-plugin=/x/p.so -c a.c reads /x/p.so", FAR, "a.o"),
            ("clang -Xclang -load -Xclang ./p.so -Xclang -add-plugin -Xclang p -c a.c reads ./p.so", FAR),
            ("gcc -fplugin=p -c a.c", "compiler_plugin"),
            ("gcc -iplugindir=d -fplugin=p -c a.c", "compiler_plugin"),
            ("gcc -fplugin=./p.so -fplugin-arg-p-log=/l -c a.c", "compiler_plugin"),
            ("clang -Xclang -plugin-arg-p -Xclang f.txt -c a.c", "compiler_plugin"),
            ("clang -Xclang -plugin -Xclang p -c a.c", UNSUPPORTED),
        ),
        other=(("gcc -fplugin=./p.so -c a.c", "gcc -c a.c"),),
    ),
    "other programs than the compiler's own": Row(
        (
            ("gcc -specs=./o.specs -c a.c reads ./o.specs", FAR),
            ("gcc -specs=./native.specs -c a.c", "toolchain_option"),
            ("gcc -specs=nosys.specs -c a.c", "toolchain_option"),
            ("gcc -B/x -c a.c", "toolchain_option"),
            ("clang --gcc-toolchain=/x -c a.c", "toolchain_option"),
            ("clang -resource-dir=/x -c a.c", "toolchain_option"),
            ("clang -fopenmp-targets=nvptx64 -c a.c", "toolchain_option"),
            ("gcc -wrapper gdb,--args -c a.c", UNSUPPORTED),
            ("gcc -no-canonical-prefixes -c a.c", FAR),
        ),
        other=(("gcc -specs=./o.specs -c a.c", "gcc -c a.c"),),
    ),
    "files of options": Row(
        (
            ("clang --config ./o.cfg -c a.c reads ./o.cfg", FAR),
            ("clang --config=./native.cfg -c a.c", "toolchain_option"),
            ("clang --config o.cfg -c a.c", "toolchain_option"),
            ("clang --config-user-dir=d -c a.c", "toolchain_option"),
            ("CLANG_CONFIG_FILE_USER_DIR=d clang -c a.c", "unsupported_environment_variable"),
        ),
    ),
    "variables that choose programs": Row(
        (
            ("COMPILER_PATH=d gcc -c a.c", "unsupported_environment_variable"),
            ("GCC_EXEC_PREFIX=d gcc -c a.c", "unsupported_environment_variable"),
            ("GCC_COMPARE_DEBUG=1 gcc -c a.c", "unsupported_environment_variable"),
            ("CCC_OVERRIDE_OPTIONS=+-O2 clang -c a.c", "unsupported_environment_variable"),
            ("LIBRARY_PATH=d gcc -c a.c", FAR),
        ),
        same=(("LIBRARY_PATH=d gcc -c a.c", "gcc -c a.c"),),
    ),
    "another target": Row(
        (
            ("clang --target=aarch64-linux-gnu -c a.c", FAR, "a.o"),
            ("clang -target aarch64-linux-gnu -c a.c", FAR, "a.o"),
            ("gcc -m32 -mabi=ms -c a.c", FAR, "a.o"),
            ("gcc -b other -c a.c", UNSUPPORTED),
        ),
        other=(("clang --target=a -c a.c", "clang --target=b -c a.c"), ("gcc -m32 -c a.c", "gcc -c a.c")),
    ),
    "several architectures": Row(
        (
            ("clang -arch x86_64 -arch arm64 -c a.c", UNSUPPORTED),
            ("clang -Xarch_x86_64 b.c -c a.c", UNSUPPORTED),
            ("clang -march=x86-64 -c a.c", FAR),
        )
    ),
    "this machine's processor": Row(
        (
            ("gcc -march=native -c a.c native", FAR),
            ("clang -mtune=native -c a.c native", FAR),
            ("gcc --machine-arch=native -c a.c native", FAR),
            ("gcc -march=haswell -c a.c", FAR),
        ),
        other=(("gcc -march=native -c a.c", "gcc -march=haswell -c a.c"),),
    ),
}

_READ = {
    "another root for headers": Row(
        (
            ("gcc --sysroot=/r -c a.c", FAR),
            ("clang -isysroot /r -c a.c", FAR),
            ("clang --sysroot=/r -c a.c", "toolchain_option"),
        ),
        other=(("gcc --sysroot=/r -c a.c", "gcc --sysroot=/s -c a.c"),),
    ),
    "where headers are searched": Row(
        (
            ("gcc -I a -iquote b -isystem c -idirafter d -iprefix e -iwithprefix f -F g -c a.c", FAR, "a.o"),
            ("clang -cxx-isystem b.c -iframework c.c -c a.c", FAR, "a.o"),
            ("gcc --include-directory b.c -c a.c", FAR, "a.o"),
            ("gcc -I- -c a.c", UNSUPPORTED),
            ("clang -ivfsoverlay f -c a.c", UNSUPPORTED),
            ("clang -working-directory=d -c a.c", UNSUPPORTED),
        ),
        other=(("gcc -Ia -Ib -c a.c", "gcc -Ib -Ia -c a.c"), ("gcc -Ia -c a.c", "gcc -isystem a -c a.c")),
    ),
    "headers by variable": Row(
        (("CPATH=d gcc -c a.c", FAR), ("C_INCLUDE_PATH=d gcc -E a.c", "preprocess")),
        other=(
            ("CPATH=d gcc -c a.c", "CPATH=e gcc -c a.c"),
            ("CPLUS_INCLUDE_PATH=d gcc -c a.cc", "gcc -c a.cc"),
            ("OBJC_INCLUDE_PATH=d clang -c a.m", "clang -c a.m"),
        ),
    ),
    "headers that are included first": Row(
        (
            ("gcc -include b.c -imacros c.c -c a.c reads b.c.gch c.c.gch", FAR, "a.o"),
            ("clang --include b.c -c a.c reads b.c.pch b.c.gch", FAR, "a.o"),
            ("gcc b.c -include a.c -c c.c", "multiple_source_files"),
        ),
        other=(("gcc -include b.h -c a.c", "gcc -imacros b.h -c a.c"),),
    ),
    "macros": Row(
        (("gcc -DA -U B -D C -c a.c", FAR, "a.o"), ("gcc -c a.c -D", "bad_compiler_arguments")),
        other=(("gcc -DA=1 -c a.c", "gcc -DA=2 -c a.c"), ("gcc -DA -c a.c", "gcc -UA -c a.c")),
    ),
    "dialects": Row(
        (
            ("gcc -nostdinc -undef -trigraphs -std=c99 -ansi -c a.c", FAR),
            ("gcc --std c99 -c a.c", FAR, "a.o"),
            ("clang++ -stdlib=libc++ -nostdinc++ -c a.cc", FAR),
            ("gcc -traditional-cpp -c a.c", UNSUPPORTED),
            ("gcc -remap -c a.c", UNSUPPORTED),
        ),
        other=(("gcc -std=c99 -c a.c", "gcc -std=c11 -c a.c"), ("gcc -c a.c", "gcc -nostdinc -c a.c")),
    ),
    "precompiled headers that are used": Row(
        (
            ("gcc -include p.h -Winvalid-pch -c a.c reads p.h.gch", FAR),
            ("clang -include-pch p.pch -c a.c", "pch"),
            ("gcc -c p.h -o p.h.gch", "precompiled_header"),
        )
    ),
    "modules": Row(
        (
            ("clang -fmodules -c a.c", "modules"),
            ("clang++ -fmodule-file=m=f -c a.cc", "modules"),
            ("clang++ -fprebuilt-module-path=d -c a.cc", "modules"),
            ("clang++ -fmodule-map-file=f -c a.cc", "modules"),
            ("clang++ -fmodule-output -c a.cc", "modules"),
            ("g++ -fmodules-ts -c a.cc", "modules"),
            ("g++ -fmodule-mapper=m -c a.cc", "modules"),
            ("g++ -fdeps-file=f -fdeps-format=p1689r5 -c a.cc", "modules"),
            ("clang++ --precompile a.cc", "link"),
            ("clang++ -c a.cppm", "unsupported_source_language"),
            ("g++ -fno-modules-ts -c a.cc", FAR),
        )
    ),
    "lists that a compiler reads": Row(
        (
            ("clang -fsanitize=address -fsanitize-ignorelist=l -c a.c reads l", FAR),
            ("clang -fsanitize-blacklist=l -fsanitize-system-blacklist=m -c a.c reads l m", FAR),
            ("clang -fxray-always-instrument= l -c a.c reads l", FAR, "a.o"),
            ("clang -fsanitize-coverage-allowlist=l --warning-suppression-mappings=m -c a.c reads l m", FAR),
            ("gcc -frandomize-layout-seed-file=l -c a.c reads l", FAR),
            ("gcc -finstrument-functions-exclude-file-list=l -c a.c", FAR),
            ("clang -foverride-record-layout=l -Xclang -foverride-record-layout=l -c a.c", UNSUPPORTED),
        )
    ),
}

_SHOWN = {
    "seeds": Row(
        (("gcc -frandom-seed=1 -c a.cc", FAR), ("gcc -frandom-seed=1 a.cc", "link")),
        other=(("gcc -frandom-seed=1 -c a.cc", "gcc -frandom-seed=2 -c a.cc"),),
    ),
    "colours": Row(
        (
            ("gcc -fdiagnostics-color=always -c a.c", FAR),
            ("clang -fcolor-diagnostics -c a.c", FAR),
            ("gcc -fdiagnostics-format=json -c a.c", FAR, "a.o"),
            ("gcc -fdiagnostics-format=json-file -c a.c", UNSUPPORTED),
            ("gcc -fdiagnostics-format=sarif-file -c a.c", UNSUPPORTED),
            ("gcc -fdiagnostics-add-output=sarif -c a.c", UNSUPPORTED),
            ("gcc -fdiagnostics-generate-patch -c a.c", FAR),
        ),
        other=(
            ("GCC_COLORS=error=1 gcc -c a.c", "gcc -c a.c"),
            ("gcc -fdiagnostics-color -c a.c", "gcc -c a.c"),
            ("PWD=/one gcc -fdiagnostics-format=json -c a.c", "PWD=/two gcc -fdiagnostics-format=json -c a.c"),
        ),
    ),
    "widths of messages": Row(
        (("gcc -fmessage-length=40 -c a.c", FAR), ("gcc -fmessage-length=40 -M a.c", "preprocess")),
        same=(("COLUMNS=30 gcc -c a.c", "COLUMNS=90 gcc -c a.c"),),
        other=(("gcc -fmessage-length=40 -c a.c", "gcc -fmessage-length=80 -c a.c"),),
    ),
    "warnings": Row(
        (("gcc -pedantic -Wunused-macros -Wundef -Wcomment -c a.c", FAR), ("gcc -Wall a.c", "link")),
        other=(("gcc -Wall -c a.c", "gcc -Wextra -c a.c"), ("gcc -Werror -c a.c", "gcc -c a.c")),
    ),
    "character sets": Row(
        (
            ("gcc -finput-charset=latin1 -fexec-charset=utf-16 -c a.c", FAR),
            ("gcc -finput-charset=latin1 -E a.c", "preprocess"),
        ),
        other=(("gcc -finput-charset=latin1 -c a.c", "gcc -c a.c"),),
    ),
    "text that is preprocessed otherwise": Row(
        (
            ("gcc -fdirectives-only -c a.c", UNSUPPORTED),
            ("gcc -fpreprocessed -c a.c", UNSUPPORTED),
            ("clang -frewrite-includes -c a.c", UNSUPPORTED),
            ("gcc -C -c a.c", FAR),
        )
    ),
    "dates and times": Row(
        (("gcc -D__DATE__=1 -c a.c", FAR), ("SOURCE_DATE_EPOCH=1 gcc -E a.c", "preprocess")),
        same=(("HOME=/one gcc -c a.c", "HOME=/two gcc -c a.c"),),
        other=(
            ("SOURCE_DATE_EPOCH=1 gcc -c a.c", "SOURCE_DATE_EPOCH=2 gcc -c a.c"),
            ("TZ=UTC gcc -c a.c", "TZ=CET gcc -c a.c"),
        ),
    ),
    "names of the source": Row(
        (("gcc -c /w/a.c", FAR, "a.o"), ("gcc -c /dev/null", "no_input")),
        other=(("gcc -c a.c", "gcc -c ./a.c"), ("gcc -c a.c", "gcc -c /w/a.c")),
    ),
    "locales": Row(
        (("LC_ALL=de_DE.UTF-8 gcc -c a.c", FAR), ("LC_ALL=C gcc -E a.c", "preprocess")),
        same=(("TMPDIR=/one gcc -c a.c", "TMPDIR=/two gcc -c a.c"),),
        other=(
            ("LANG=C gcc -c a.c", "LANG=de_DE.UTF-8 gcc -c a.c"),
            ("LC_MESSAGES=C gcc -c a.c", "LC_MESSAGES=de_DE gcc -c a.c"),
            ("LANGUAGE=de gcc -c a.c", "gcc -c a.c"),
        ),
    ),
    "variables of Apple's targets": Row(
        (
            ("MACOSX_DEPLOYMENT_TARGET=12 clang -c a.c", FAR),
            ("RC_DEBUG_OPTIONS=1 clang -c a.c", "unsupported_environment_variable"),
        ),
        other=(("SDKROOT=/one clang -c a.c", "SDKROOT=/two clang -c a.c"),),
    ),
    "options with a value of its own": Row(
        (
            ("gcc --param max-inline-insns-single=9 -c a.c", FAR, "a.o"),
            ("gcc -A b.c -u b.c -T b.c -z b.c -Xlinker b.c -c a.c", FAR, "a.o"),
            ("clang -sectcreate x.c y.c z.c -segaddr x.c y.c -c a.c", FAR, "a.o"),
            ("clang -ftrapv-handler x.c -G x.c -c a.c", FAR, "a.o"),
            ("clang -V x.c -c a.c", UNSUPPORTED),
        ),
        other=(("gcc --param a=1 -c a.c", "gcc --param a=2 -c a.c"),),
    ),
    "how the compiler goes about it": Row(
        (
            ("gcc -pipe -c a.c", FAR),
            ("clang -parallel-jobs=4 -c a.c", FAR),
            ("clang -gen-reproducer -c a.c", UNSUPPORTED),
        ),
    ),
    "paths of all kinds": Row(
        (
            ("gcc -c \xff$#:.c -o \xfe\\.o", FAR, "\xfe\\.o"),
            ("gcc -MD -c $a.c", FAR, "$a.o $a.d"),
            ("clang -c -- -a.c", FAR, "-a.o"),
            ("clang -c -- @a.c", FAR, "@a.o"),
            ("clang -c -- -", "stdin"),
        )
    ),
    "how the compiler is called": Row(
        (("c++ -c a.c", FAR), ("x86_64-linux-gnu-gcc-12 -c a.c", FAR), ("cc a.c", "link")),
        other=(("c++ -c a.c", "cc -c a.c"), ("gcc -c a.c", "gcc-12 -c a.c")),
    ),
}

MORE_ROWS: dict[str, Row] = {**_PROGRAMS, **_READ, **_SHOWN}
