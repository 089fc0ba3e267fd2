"""Command lines as Bazel, Chromium, LLVM, Qt and well-known programs write them in their logs, cut to what exists."""

from build_tree import of_a_build
from commandline import LOCAL, NO_COMPILATION

_CHROMIUM = (
    '-DUSE_UDEV -D_FORTIFY_SOURCE=2 -D_FILE_OFFSET_BITS=64 -DCR_CLANG_REVISION="x" -Iinclude '
    "-fno-delete-null-pointer-checks -fno-ident -fno-strict-aliasing -fstack-protector -funwind-tables -fPIC -pthread "
    "-fcolor-diagnostics -fmerge-all-constants -fcrash-diagnostics-dir=out -mllvm -instcombine-lower-dbg-declare=0 "
    "-m64 -msse3 -ffile-compilation-dir=. -no-canonical-prefixes -Wall -Wextra -Wno-unused-parameter -O2 "
    "-fdata-sections -ffunction-sections -fno-omit-frame-pointer -g1 -fvisibility=hidden"
)
_LLVM = (
    "-DGTEST_HAS_RTTI=0 -D_GNU_SOURCE -D__STDC_CONSTANT_MACROS -D__STDC_FORMAT_MACROS -D__STDC_LIMIT_MACROS -Iinclude "
    "-fPIC -fno-semantic-interposition -fvisibility-inlines-hidden -Werror=date-time -Wall -Wextra "
    "-Wno-unused-parameter -Wwrite-strings -Wcast-qual -Wno-missing-field-initializers -pedantic -Wno-long-long "
    "-Wno-maybe-uninitialized -Wdelete-non-virtual-dtor -Wno-comment -fdiagnostics-color -ffunction-sections "
    "-fdata-sections -O3 -DNDEBUG -fno-exceptions -fno-rtti -std=c++17"
)
_QT = (
    "-pipe -O2 -std=c++1z -fvisibility=hidden -fvisibility-inlines-hidden -fno-exceptions -Wall -Wextra -Wvla "
    "-Wdate-time -Wshadow -Wno-noexcept-type -D_REENTRANT -fPIC -DQT_NO_LINKED_LIST -DQT_BUILDING_QT -Iinclude -I."
)
_PYTHON = (
    "-pthread -c -fno-strict-overflow -Wsign-compare -DNDEBUG -g -fwrapv -O3 -Wall -std=c11 -Wextra "
    "-Wno-unused-parameter -Wno-missing-field-initializers -Wstrict-prototypes -Werror=implicit-function-declaration "
    "-fvisibility=hidden -I./include -DPy_BUILD_CORE"
)
_DEBIAN = "-g -O2 -ffile-prefix-map={site}=. -fstack-protector-strong -Wformat -Werror=format-security"
_BAZEL = (
    "-U_FORTIFY_SOURCE -fstack-protector -Wall -Wunused-but-set-parameter -Wno-free-nonheap-object "
    "-fno-omit-frame-pointer -MD -MF bazel-out/k8-fastbuild/bin/_objs/main/main.d "
    "-frandom-seed=bazel-out/k8-fastbuild/bin/_objs/main/main.o -iquote . -iquote bazel-out/k8-fastbuild/bin "
    '-isystem include -Wno-builtin-macro-redefined -D__DATE__="redacted" '
    '-D__TIMESTAMP__="redacted" -D__TIME__="redacted"'
)
_OBJ = "bazel-out/k8-fastbuild/bin/_objs/main/main.o bazel-out/k8-fastbuild/bin/_objs/main/main.d"

OTHER_BUILDS = (
    # Bazel.
    of_a_build(
        "bazel",
        f"/usr/bin/gcc {_BAZEL} -fno-canonical-system-headers -c src/main.cc -x c++ -std=c++0x -o "
        "bazel-out/k8-fastbuild/bin/_objs/main/main.o",
        _OBJ,
    ),
    of_a_build(
        "bazel-pic",
        f"/usr/bin/g++ {_BAZEL} -fPIC -std=c++17 -c src/main.cc -o bazel-out/k8-fastbuild/bin/_objs/main/main.o",
        _OBJ,
    ),
    of_a_build(
        "bazel-opt-clang",
        f"clang {_BAZEL} -g0 -O2 -D_FORTIFY_SOURCE=1 -DNDEBUG -ffunction-sections "
        "-fdata-sections -no-canonical-prefixes -fcolor-diagnostics -Wthread-safety -Wself-assign -c src/main.c -o "
        "bazel-out/k8-fastbuild/bin/_objs/main/main.o",
        _OBJ,
    ),
    of_a_build(
        "bazel-split",
        "clang -g -gsplit-dwarf -fdebug-prefix-map={site}=. -Iinclude -c src/main.c -o "
        "bazel-out/k8-fastbuild/bin/_objs/main/main.o",
        "bazel-out/k8-fastbuild/bin/_objs/main/main.o bazel-out/k8-fastbuild/bin/_objs/main/main.dwo",
    ),
    # Chromium.
    of_a_build(
        "chromium",
        f"clang++ -MMD -MF out/obj/main.o.d {_CHROMIUM} -std=c++17 -fno-exceptions -fno-rtti "
        "-fvisibility-inlines-hidden -c src/main.cc -o out/obj/main.o",
        "out/obj/main.o out/obj/main.o.d",
    ),
    of_a_build(
        "chromium-c",
        f"clang -MMD -MF out/obj/main.o.d {_CHROMIUM} -std=c11 -c src/main.c -o out/obj/main.o",
        "out/obj/main.o out/obj/main.o.d",
    ),
    of_a_build(
        "chromium-from-its-directory",
        "clang++ -MMD -MF obj/lib.o.d -I../include -g2 -gdwarf-4 -ggnu-pubnames "
        "-Xclang -fdebug-compilation-dir -Xclang . -fno-exceptions -c ../src/lib.cpp -o obj/lib.o",
        "out/obj/lib.o out/obj/lib.o.d",
        cwd="out",
        pwd="{site}/out",
    ),
    of_a_build(
        "chromium-assembly",
        "clang -MMD -MF out/obj/e.o.d -Iinclude -fPIC -m64 -g1 -c kernel/entry.S -o out/obj/e.o",
        "out/obj/e.o out/obj/e.o.d",
    ),
    of_a_build(
        "chromium-thin-archive-member",
        "clang++ -Iinclude -flto=thin -fsplit-lto-unit -fwhole-program-vtables "
        "-fvisibility=hidden -c src/lib.cpp -o out/obj/lib.o",
        "out/obj/lib.o",
    ),
    # LLVM.
    of_a_build(
        "llvm", f"/usr/bin/g++ {_LLVM} -MD -MT out/L.o -MF out/L.o.d -o out/L.o -c src/lib.cpp", "out/L.o out/L.o.d"
    ),
    of_a_build(
        "llvm-by-itself",
        f"/usr/bin/clang++ {_LLVM} -Wnon-virtual-dtor -Wstring-conversion -Wcovered-switch-default "
        "-Wmisleading-indentation -Wctad-maybe-unsupported -UNDEBUG -MD -MT out/L.o -MF out/L.o.d -o out/L.o "
        "-c src/lib.cpp",
        "out/L.o out/L.o.d",
    ),
    of_a_build(
        "llvm-instrumented",
        "clang++ -Iinclude -fprofile-instr-generate={site}/out/%4m.profraw -fcoverage-mapping "
        "-O2 -c src/lib.cpp -o out/L.o",
        "out/L.o",
    ),
    of_a_build(
        "compiler-rt",
        "clang -Iinclude -fPIC -fno-builtin -fno-lto -fvisibility=hidden -fomit-frame-pointer "
        "-DCOMPILER_RT_HAS_FLOAT16 -std=c11 -m64 -c kernel/entry.S -o out/e.o",
        "out/e.o",
    ),
    # Qt.
    of_a_build("qmake", f"g++ -c {_QT} -o out/lib.o src/lib.cpp", "out/lib.o"),
    of_a_build(
        "qt-by-clang", f"clang++ -c {_QT} -Wno-unused-command-line-argument -o out/lib.o src/lib.cpp", "out/lib.o"
    ),
    of_a_build(
        "qt-with-pch",
        f"g++ -c -include out/qt_pch.h {_QT} -o out/lib.o src/lib.cpp",
        "",
        LOCAL,
        "preprocessor_error",
        status=1,
    ),
    of_a_build(
        "moc-predefines",
        "g++ -pipe -O2 -std=gnu++1z -Wall -fPIC -dM -E -o out/moc_predefs.h src/lib.cpp",
        "",
        NO_COMPILATION,
        "preprocess",
        status=1,
    ),
    # OpenSSL, Python, Perl, Ruby, PHP, git, cgo.
    of_a_build(
        "openssl",
        "gcc -I. -Iinclude -fPIC -pthread -m64 -Wa,--noexecstack -Wall -O3 -DOPENSSL_USE_NODELETE "
        '-DL_ENDIAN -DOPENSSL_PIC -DENGINESDIR="/lib" -DNDEBUG -MMD -MF out/main.d.tmp -c -o out/main.o src/main.c',
        "out/main.o out/main.d.tmp",
    ),
    of_a_build(
        "openssl-perlasm",
        "gcc -Iinclude -fPIC -pthread -m64 -Wa,--noexecstack -Wall -O3 -DNDEBUG -c -o out/x.o a.s",
        "out/x.o",
    ),
    of_a_build("openssl-perlasm-cpp", "gcc -Iinclude -fPIC -Wa,--noexecstack -c -o out/e.o kernel/entry.S", "out/e.o"),
    of_a_build("python", f"gcc {_PYTHON} -o out/main.o ./src/main.c", "out/main.o"),
    of_a_build(
        "python-pgo-first",
        f"gcc {_PYTHON} -fprofile-generate -fprofile-update=atomic -o out/main.o ./src/main.c",
        "out/main.o",
        varies=("coverage stamp",),
    ),
    of_a_build(
        "python-lto",
        f"gcc {_PYTHON} -flto -fuse-linker-plugin -ffat-lto-objects -flto-partition=none -o out/main.o ./src/main.c",
        "out/main.o",
        varies=("lto seed",),
    ),
    of_a_build(
        "python-pgo-second",
        f"gcc {_PYTHON} -fprofile-use -fprofile-correction -Wno-missing-profile -o out/main.o ./src/main.c",
        "out/main.o",
    ),
    of_a_build(
        "python-setuptools",
        "x86_64-linux-gnu-gcc -Wno-unused-result -Wsign-compare -DNDEBUG -g -fwrapv -O2 -Wall "
        "-g -fstack-protector-strong -Wformat -Werror=format-security -fPIC -Iinclude -c src/main.c -o "
        "out/obj/main.o",
        "out/obj/main.o",
    ),
    of_a_build(
        "perl",
        "cc -c -DPERL_CORE -D_REENTRANT -D_GNU_SOURCE -fwrapv -fno-strict-aliasing -pipe -I/usr/local/include "
        "-Iinclude -std=c99 -O2 -Wall -Werror=pointer-arith -Wextra -Wc++-compat src/main.c",
        "main.o",
    ),
    of_a_build(
        "git",
        "cc -o out/main.o -c -MF ./.deps/main.o.d -MQ out/main.o -MMD -MP -g -O2 -Wall -Iinclude -I. "
        "-DSHA1_HEADER='\"x.h\"' src/main.c",
        "out/main.o .deps/main.o.d",
    ),
    of_a_build(
        "ruby",
        "gcc -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -O3 -fno-fast-math -ggdb3 -Wall "
        "-Wextra -fPIC -DRUBY_EXPORT -I. -I./include -o out/main.o -c src/main.c",
        "out/main.o",
    ),
    of_a_build(
        "cgo",
        "gcc -I ./include -fPIC -m64 -pthread -fmessage-length=0 -fdebug-prefix-map={site}=/tmp/go-build "
        "-gno-record-gcc-switches -I out -g -O2 -o out/_x001.o -c src/main.c",
        "out/_x001.o",
    ),
    of_a_build("cgo-probe", "gcc -E -dM -xc -I ./include -m64 src/main.c", "", NO_COMPILATION, "preprocess"),
    of_a_build(
        "cgo-from-stdin",
        "gcc -w -Wno-lto-type-mismatch -o out/c.o -gdwarf-2 -c -xc -m64 -O0 -",
        "out/c.o",
        NO_COMPILATION,
        "stdin",
    ),
    of_a_build(
        "rust-cc",
        "cc -O3 -ffunction-sections -fdata-sections -fPIC -gdwarf-4 -fno-omit-frame-pointer -m64 -I "
        "include -Wall -Wextra -o {site}/out/main.o -c src/main.c",
        "out/main.o",
    ),
    of_a_build("debian", f"gcc -Iinclude -Wdate-time -D_FORTIFY_SOURCE=2 {_DEBIAN} -c -o main.o src/main.c", "main.o"),
    of_a_build(
        "debian-c++",
        f"g++ -Iinclude -Wdate-time {_DEBIAN} -flto=auto -ffat-lto-objects -c -o m.o src/lib.cpp",
        "m.o",
        varies=("lto seed",),
    ),
    of_a_build(
        "fedora",
        "gcc -Iinclude -O2 -g -pipe -Wall -Wp,-D_FORTIFY_SOURCE=2 -Wp,-D_GLIBCXX_ASSERTIONS -fexceptions "
        "-fstack-clash-protection -fcf-protection -grecord-gcc-switches -fasynchronous-unwind-tables -c -o m.o "
        "src/main.c",
        "m.o",
    ),
    of_a_build("gentoo", "gcc -Iinclude -march=native -O2 -pipe -fno-plt -c src/main.c -o m.o", "m.o"),
    of_a_build(
        "ffmpeg",
        "gcc -I. -Iinclude -D_ISOC99_SOURCE -DHAVE_AV_CONFIG_H -std=c11 -fomit-frame-pointer -fPIC -pthread "
        "-g -Wdeclaration-after-statement -Wall -O3 -fno-math-errno -fno-signed-zeros -fno-tree-vectorize "
        "-Werror=format-security -MMD -MF out/m.d -MT out/m.o -c -o out/m.o src/main.c",
        "out/m.o out/m.d",
    ),
    of_a_build(
        "firmware",
        "gcc -Iinclude -Os -ffreestanding -fno-builtin -fno-stack-protector -mno-red-zone -nostdlib "
        "-Wall -mgeneral-regs-only -c src/main.c -o m.o",
        "m.o",
    ),
    of_a_build(
        "boost-build",
        '"g++" -fvisibility-inlines-hidden -fPIC -pthread -O3 -finline-functions -Wno-inline -Wall '
        "-fvisibility=hidden -DNDEBUG -Iinclude -c -o m.o src/lib.cpp".replace('"', ""),
        "m.o",
    ),
    of_a_build("scons", "g++ -o out/lib.o -c -std=gnu++17 -pipe -msse2 -O3 -Iinclude src/lib.cpp", "out/lib.o"),
    of_a_build(
        "objective-c-of-gnustep",
        "clang -MMD -MP -DGNUSTEP -fno-strict-aliasing -fobjc-runtime=gcc -fPIC -Wall -g -O2 -I. -c a.m -o out/a.m.o",
        "out/a.m.o out/a.m.d",
    ),
)
