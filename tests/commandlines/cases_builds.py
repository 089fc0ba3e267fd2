"""Command lines as the Linux kernel, CMake, autotools and Meson write them, cut to what exists here."""

from build_tree import of_a_build
from commandline import LOCAL, NO_COMPILATION

_KERNEL = (
    "-nostdinc -I./arch -I./include -include ./include/linux/kconfig.h -D__KERNEL__ -fmacro-prefix-map=./= "
    "-Wall -Wundef -Wstrict-prototypes -Wno-trigraphs -fno-strict-aliasing -fno-common -fshort-wchar -fno-PIE "
    "-std=gnu11 -mno-sse -mno-mmx -mno-sse2 -mno-3dnow -mno-avx -fcf-protection=none -m64 -falign-jumps=1 "
    "-mno-80387 -mno-fp-ret-in-387 -mpreferred-stack-boundary=3 -mno-red-zone -mcmodel=kernel "
    "-fno-asynchronous-unwind-tables -O2 -fstack-protector-strong -fomit-frame-pointer"
)
_NAMES = "-DKBUILD_MODFILE='\"kernel/fork\"' -DKBUILD_BASENAME='\"fork\"' -DKBUILD_MODNAME='\"fork\"'"
BUILDS = (
    # Linux.
    of_a_build(
        "kernel-c",
        f"gcc -Wp,-MMD,kernel/.fork.o.d {_KERNEL} {_NAMES} -c -o kernel/fork.o kernel/fork.c",
        "kernel/fork.o kernel/.fork.o.d",
    ),
    of_a_build(
        "kernel-clang",
        "clang -Wp,-MMD,kernel/.fork.o.d -nostdinc -I./include -include ./include/linux/kconfig.h "
        "-D__KERNEL__ --target=x86_64-linux-gnu -fintegrated-as -Werror=unknown-warning-option "
        "-Werror=ignored-optimization-argument -Werror=option-ignored -Werror=unused-command-line-argument -m64 "
        "-mno-sse -mcmodel=kernel -O2 -g -c -o kernel/fork.o kernel/fork.c",
        "kernel/fork.o kernel/.fork.o.d",
    ),
    of_a_build(
        "kernel-assembly",
        "gcc -Wp,-MMD,kernel/.entry.o.d -nostdinc -I./include -D__KERNEL__ -D__ASSEMBLY__ "
        "-fno-PIE -m64 -Wa,-gdwarf-5 -c -o kernel/entry.o kernel/entry.S",
        "kernel/entry.o kernel/.entry.o.d",
    ),
    of_a_build(
        "kernel-offsets",
        f"gcc -Wp,-MMD,kernel/.bounds.s.d {_KERNEL} -fverbose-asm -S -o kernel/bounds.s kernel/fork.c",
        "kernel/bounds.s kernel/.bounds.s.d",
    ),
    of_a_build(
        "kernel-module-lto",
        f"gcc {_KERNEL} -DMODULE -flto -fno-fat-lto-objects -c -o kernel/fork.o kernel/fork.c",
        "kernel/fork.o",
        varies=("lto seed",),
    ),
    of_a_build(
        "kernel-option-probe",
        "gcc -Wall -Werror -D__KERNEL__ -fno-stack-protector -c -x c /dev/null -o .tmp.o",
        ".tmp.o",
        LOCAL,
        "bad_input_file",
    ),
    of_a_build(
        "kernel-assembler-probe",
        "gcc -Wa,--version -c -x assembler-with-cpp /dev/null -o /dev/null",
        "",
        LOCAL,
        "bad_output_file",
    ),
    of_a_build(
        "kernel-host-program",
        "gcc -Wp,-MMD,out/.x.d -Wall -O2 -std=gnu11 -Iinclude -c -o out/x.o src/main.c",
        "out/x.o out/.x.d",
    ),
    of_a_build(
        "kernel-vdso",
        "gcc -nostdinc -Iinclude -m32 -msoft-float -mregparm=0 -fpic -O2 -fno-stack-protector "
        "-include include/linux/kconfig.h -c -o kernel/v.o kernel/fork.c",
        "kernel/v.o",
    ),
    of_a_build(
        "kernel-linker-script",
        "gcc -E -P -C -x c -Iinclude -D__ASSEMBLY__ -o out/vmlinux.lds kernel/entry.S",
        "out/vmlinux.lds",
        NO_COMPILATION,
        "preprocess",
    ),
    # CMake.
    of_a_build(
        "cmake-make",
        "gcc -DX_EXPORTS -Iinclude -O3 -DNDEBUG -fPIC -MD -MT CMakeFiles/t.dir/src/main.c.o "
        "-MF CMakeFiles/t.dir/src/main.c.o.d -o CMakeFiles/t.dir/src/main.c.o -c {site}/src/main.c",
        "CMakeFiles/t.dir/src/main.c.o CMakeFiles/t.dir/src/main.c.o.d",
    ),
    of_a_build(
        "cmake-ninja",
        "/usr/bin/g++ -I../include -g -std=gnu++20 -fdiagnostics-color=always -MD "
        "-MT CMakeFiles/t.dir/src/lib.cpp.o -MF CMakeFiles/t.dir/src/lib.cpp.o.d "
        "-o CMakeFiles/t.dir/src/lib.cpp.o -c ../src/lib.cpp".replace("../", "{site}/"),
        "CMakeFiles/t.dir/src/lib.cpp.o CMakeFiles/t.dir/src/lib.cpp.o.d",
    ),
    of_a_build(
        "cmake-clang-release",
        "/usr/bin/clang++ -isystem {site}/include -O2 -g -DNDEBUG -flto=thin -MD "
        "-MT CMakeFiles/t.dir/src/lib.cpp.o -MF CMakeFiles/t.dir/src/lib.cpp.o.d "
        "-o CMakeFiles/t.dir/src/lib.cpp.o -c {site}/src/lib.cpp",
        "CMakeFiles/t.dir/src/lib.cpp.o CMakeFiles/t.dir/src/lib.cpp.o.d",
    ),
    of_a_build(
        "cmake-assembly-goal",
        "gcc -Iinclude -S {site}/src/main.c -o CMakeFiles/t.dir/src/main.c.s",
        "CMakeFiles/t.dir/src/main.c.s",
    ),
    of_a_build(
        "cmake-preprocess-goal",
        "gcc -Iinclude -E {site}/src/main.c -o CMakeFiles/t.dir/src/main.c.i",
        "CMakeFiles/t.dir/src/main.c.i",
        NO_COMPILATION,
        "preprocess",
    ),
    of_a_build(
        "cmake-try-compile",
        "/usr/bin/gcc -Iinclude -fPIE -v -o CMakeFiles/t.dir/src/main.c.o -c {site}/src/main.c",
        "CMakeFiles/t.dir/src/main.c.o",
        LOCAL,
        "verbose",
        varies=("temporary name",),
    ),
    of_a_build(
        "cmake-coverage",
        "g++ -Iinclude -g -O0 --coverage -fprofile-abs-path -o CMakeFiles/t.dir/src/lib.cpp.o -c {site}/src/lib.cpp",
        "CMakeFiles/t.dir/src/lib.cpp.o CMakeFiles/t.dir/src/lib.cpp.gcno".replace("lib.cpp.gcno", "lib.cpp.gcno"),
        varies=("coverage stamp",),
    ),
    of_a_build(
        "cmake-sanitizers",
        "g++ -Iinclude -fsanitize=address,undefined -fno-sanitize-recover=all -g "
        "-o CMakeFiles/t.dir/src/lib.cpp.o -c {site}/src/lib.cpp",
        "CMakeFiles/t.dir/src/lib.cpp.o",
    ),
    of_a_build(
        "cmake-unity",
        "g++ -Iinclude -std=gnu++17 -o CMakeFiles/t.dir/src/unity_0_cxx.cxx.o -c "
        "{site}/CMakeFiles/t.dir/src/unity_0_cxx.cxx",
        "CMakeFiles/t.dir/src/unity_0_cxx.cxx.o",
    ),
    of_a_build(
        "cmake-linking",
        "g++ -Iinclude -shared -Wl,-soname,l.so -o l.so -fPIC src/lib.cpp",
        "l.so",
        NO_COMPILATION,
        "link",
    ),
    # Autotools.
    of_a_build(
        "automake",
        "gcc -DHAVE_CONFIG_H -I. -I./include -g -O2 -MT main.o -MD -MP -MF .deps/main.Tpo -c -o main.o src/main.c",
        "main.o .deps/main.Tpo",
    ),
    of_a_build(
        "automake-source-of-two-words",
        'g++ -DPACKAGE_NAME="x" -DPACKAGE_STRING="x_1" -Iinclude -g -O2 -MT '
        "x-lib.o -MD -MP -MF .deps/x-lib.Tpo -c -o x-lib.o src/lib.cpp",
        "x-lib.o .deps/x-lib.Tpo",
    ),
    of_a_build(
        "libtool-shared",
        "gcc -DHAVE_CONFIG_H -Iinclude -g -O2 -MT main.lo -MD -MP -MF .deps/main.Tpo -c "
        "src/main.c -fPIC -DPIC -o .libs/main.o",
        ".libs/main.o .deps/main.Tpo",
    ),
    of_a_build(
        "libtool-static",
        "gcc -Iinclude -g -O2 -MT main.lo -MD -MP -MF .deps/main.Tpo -c src/main.c -o main.o",
        "main.o .deps/main.Tpo",
    ),
    of_a_build("autoconf-probe", "gcc -c -g -O2 conftest.c", "", LOCAL, "preprocessor_error", status=1),
    of_a_build("autoconf-probe-with-a-source", "gcc -c -g -O2 -Iinclude -xc src/main.c -o conftest.o", "conftest.o"),
    of_a_build(
        "autoconf-link-probe", "gcc -o conftest -g -O2 -nostdlib -shared a.i", "conftest", NO_COMPILATION, "link"
    ),
    of_a_build(
        "autoconf-preprocessor-probe",
        "gcc -E src/main.c -Iinclude -o conftest.i",
        "conftest.i",
        NO_COMPILATION,
        "preprocess",
    ),
    # Meson.
    of_a_build(
        "meson",
        "cc -Iout/obj -Iinclude -fdiagnostics-color=always -D_FILE_OFFSET_BITS=64 -Wall -Winvalid-pch "
        "-std=c11 -O0 -g -MD -MQ out/obj/main.c.o -MF out/obj/main.c.o.d -o out/obj/main.c.o -c src/main.c",
        "out/obj/main.c.o out/obj/main.c.o.d",
    ),
    of_a_build(
        "meson-c++",
        "c++ -Iout/obj -Iinclude -fvisibility=hidden -fdiagnostics-color=always "
        "-D_GLIBCXX_ASSERTIONS=1 -Wall -Winvalid-pch -Wextra -std=c++17 -O3 -fPIC -pthread -MD "
        "-MQ out/obj/lib.cpp.o -MF out/obj/lib.cpp.o.d -o out/obj/lib.cpp.o -c src/lib.cpp",
        "out/obj/lib.cpp.o out/obj/lib.cpp.o.d",
    ),
    of_a_build(
        "meson-clang-lto",
        "clang -Iinclude -flto=thin -Xclang -fcolor-diagnostics -Wall -O2 -MD -MQ out/m.o "
        "-MF out/m.o.d -o out/m.o -c src/main.c",
        "out/m.o out/m.o.d",
    ),
    of_a_build(
        "meson-check",
        "cc {site}/src/main.c -Iinclude -o {site}/out/t.obj -c -D_FILE_OFFSET_BITS=64 -O0 "
        "-Werror=implicit-function-declaration",
        "out/t.obj",
    ),
)
