"""Projects that read more than sources and headers: binary files, profiles, precompiled headers, specs, locales."""

from project import BOTH, CLANG, CLANGXX, CXX, GCC, GXX, At, C, Folder, Link, Project

_BINARY = b"\0\1\2\xff\r\n\x1a" * 3
_LOOP = "int f(int n) { int s = 0; for (int i = 0; i < n; i++) s += i % 3 ? i : -i; return s; }\nint g;\n"
_COUNTS = "f\n# Func Hash:\n0\n# Num Counters:\n3\n# Counter Values:\n10\n9000\n6000\n"
_PROFILED = {"a.c": _LOOP, "a.proftext": _COUNTS}
_PROFILE = ("llvm-profdata merge a.proftext -o a.profdata",)
_GERMAN = "mkdir -p loc && localedef -i de_DE -f {charset} loc/de_DE.{name}"

INPUTS = (
    Project(
        "incbin",
        {
            "a.c": 'asm(".incbin \\"data.bin\\"");\nasm(".section .rodata\\n\\t.incbin \\"sub/more.bin\\", 1, 2");\n',
            "data.bin": _BINARY,
            "sub/more.bin": _BINARY,
        },
    ),
    Project(
        "incbin-on-the-search-path",
        {"a.c": 'asm(".incbin \\"data.bin\\"");\n', "inc/data.bin": _BINARY, "quoted/data.bin": b"other"},
        "{cc} -iquote quoted -Iinc -c a.c -o a.o",
        by=C,
    ),
    Project(
        "incbin-in-a-header",
        {
            "a.c": '#include "sub/v.h"\n',
            "sub/v.h": 'asm(".incbin \\"data.bin\\"");\n',
            "data.bin": _BINARY,
            "sub/data.bin": b"other",
        },
    ),
    Project(
        "incbin-by-a-macro",
        {"a.c": '#define FILE "data.bin"\nasm(".incbin \\"" FILE "\\"");\n', "data.bin": _BINARY},
        stays="computed_include_operand",
    ),
    Project(
        "assembler-include",
        {
            "a.c": 'asm(".include \\"more.s\\"");\n',
            "more.s": '.data\n.incbin "inner.bin"\n.include "last.s"\n',
            "inner.bin": _BINARY,
            "last.s": ".byte 7\n",
        },
    ),
    Project(
        "assembly-with-preprocessor",
        {
            "a.S": '#include "v.h"\n#define FILE "data.bin"\n.data\nv: .long V\n.incbin FILE\n.include "more.inc"\n',
            "v.h": "#define V 5\n",
            "data.bin": _BINARY,
            "more.inc": ".byte 1\n",
        },
        "{cc} -g -MD -c a.S -o a.o",
    ),
    Project(
        "assembly-alone",
        {
            "a.s": '.data\n.include "more.inc"\n.incbin "data.bin"\n',
            "inc/data.bin": _BINARY,
            "inc/more.inc": ".byte 1\n",
        },
        "{cc} -g -Iinc -c a.s -o a.o",
    ),
    Project(
        "assembler-directories",
        {"a.s": '.data\n.include "more.inc"\n', "inc/more.inc": ".byte 1\n"},
        "{cc} -Wa,-I,inc -c a.s -o a.o",
        by=(*GCC, *CLANG),
    ),
    Project(
        "assembler-macro",
        {"a.S": '.macro take f\n.incbin "\\f"\n.endm\n.data\ntake data.bin\n', "data.bin": _BINARY},
        "{cc} -c a.S -o a.o",
        by=C,
        stays="computed_include_operand",
    ),
    Project(
        "lines-of-a-grammar",
        {
            "a.c": 'int f(void) {\n#line 2 "gram.y"\nint unused;\nreturn 0; }\n',
            "gram.y": "%%\nthe rule { unused }\n%%\n",
        },
        "{cc} -g -Wall -MD -c a.c -o a.o",
    ),
    Project(
        "lines-of-a-grammar-elsewhere",
        {
            "out/a.c": 'int f(void) {\n# 2 "../src/gram.y"\nint unused;\nreturn 0; }\n',
            "src/gram.y": "%%\nthe rule\n%%\n",
        },
        "{cc} -Wall -c a.c -o a.o",
        cwd="out",
        pwd="{site}/out",
    ),
    Project(
        "lines-of-a-grammar-that-is-gone",
        {"a.c": 'int f(void) {\n#line 2 "gram.y"\nint unused;\nreturn 0; }\n'},
        "{cc} -g -Wall -c a.c -o a.o",
    ),
    Project(
        "lines-of-a-grammar-by-a-macro",
        {
            "a.c": '#define G "gram.y"\nint f(void) {\n#line 2 G\nint unused;\nreturn 0; }\n',
            "gram.y": "%%\nthe rule\n%%\n",
        },
        "{cc} -Wall -c a.c -o a.o",
    ),
    Project(
        "preprocessed",
        {
            "a.i": '# 1 "orig.c"\nint f(void) {\n# 1 "inc/orig.h" 1\nint unused;\n# 3 "orig.c" 2\nreturn 0; }\n',
            "orig.c": "int f(void) {\n#include...\nreturn 0; }\n",
            "inc/orig.h": "int unused; /* as written */\n",
        },
        "{cc} -g -Wall -c a.i -o a.o",
        by=C,
    ),
    Project(
        "preprocessed-c++",
        {
            "a.ii": '# 1 "orig.cc"\nint f() {\n  int unused;\n  return 0; }\n',
            "orig.cc": "int f() {\n  int unused; // here\n",
        },
        "{cc} -g -Wall -c a.ii -o a.o",
        by=CXX,
    ),
    Project(
        "precompiled-header",
        {"a.c": '#include "p.h"\nint v = V;\n', "p.h": "#define V 7\nint p;\n"},
        "{cc} -c a.c -o a.o",
        by=GCC,
        prepared=("{cc} -x c-header p.h -o p.h.gch", "echo '#define V 8' > p.h", "touch -d 2020-01-02 p.h p.h.gch"),
    ),
    Project(
        "precompiled-header-forced",
        {"a.cc": "int v = V;\n", "inc/p.h": "#define V 7\nint p;\n"},
        "{cc} -Iinc -include p.h -c a.cc -o a.o",
        by=GXX,
        prepared=("{cc} -x c++-header inc/p.h -o inc/p.h.gch", "echo '#define V 8' > inc/p.h"),
    ),
    Project(
        "precompiled-header-of-other-options",
        {"a.c": '#include "p.h"\nint v = V;\n', "p.h": "#define V 7\nint p;\n"},
        "{cc} -O2 -DOTHER -Winvalid-pch -c a.c -o a.o",
        by=GCC,
        prepared=("{cc} -x c-header p.h -o p.h.gch",),
    ),
    Project(
        "precompiled-header-found-first",
        {"a.c": "#include <p.h>\nint v = V;\n", "two/p.h": "#define V 8\nint p;\n", "one": Folder()},
        "{cc} -Ione -Itwo -c a.c -o a.o",
        by=GCC,
        prepared=("echo '#define V 7' > p.h && {cc} -x c-header p.h -o one/p.h.gch",),
    ),
    Project(
        "precompiled-headers-in-a-directory",
        {"a.c": '#include "p.h"\nint v = V;\n', "p.h": "#define V 7\nint p;\n", "p.h.gch": Folder()},
        "{cc} -O1 -c a.c -o a.o",
        by=GCC,
        prepared=(
            "{cc} -O1 -x c-header p.h -o p.h.gch/o1",
            "{cc} -g -O2 -x c-header p.h -o p.h.gch/o2",
            "echo '#define V 8' > p.h",
        ),
        stays="pch",
    ),
    Project(
        "clangs-precompiled-header",
        {"a.c": "int v = V;\n", "p.h": "#define V 7\nint p;\n"},
        "{cc} -include-pch p.pch -c a.c -o a.o",
        by=CLANG,
        prepared=("{cc} -x c-header p.h -o p.pch",),
        stays="pch",
    ),
    Project(
        "clangs-precompiled-header-in-passing",
        {"a.c": "int v = V;\n", "p.h": '#define V 7\n#include "q.h"\n', "q.h": "int p;\n"},
        "{cc} -include p.h -c a.c -o a.o",
        by=CLANG,
        prepared=("{cc} -x c-header p.h -o p.h.pch",),
        stays="pch",
    ),
    Project(
        "making-a-precompiled-header",
        {"p.h": "#define V 7\nint p;\n"},
        "{cc} -x c-header -c p.h -o p.pch",
        by=CLANG,
        stays="precompiled_header",
    ),
    Project(
        "profile",
        {"a.c": _LOOP, "m.c": "int f(int); int main(void) { return f(3000) == 7; }\n"},
        "{cc} -O2 -fprofile-use -fprofile-partial-training -Wmissing-profile -c a.c -o a.o",
        by=GCC,
        prepared=(
            "{cc} -O2 -fprofile-generate -c a.c -o a.o && {cc} -fprofile-generate m.c a.o -o run && ./run; ls a.gcda",
            "rm -f run a.o *m.gcda",
        ),
    ),
    Project(
        "profile-missing",
        {"a.c": _LOOP},
        "{cc} -O2 -fprofile-use -Wmissing-profile -c a.c -o a.o",
        by=GCC,
    ),
    Project(
        "profile-elsewhere",
        {"a.c": _LOOP, "m.c": "int f(int); int main(void) { return f(3000) == 7; }\n"},
        "{cc} -O2 -fprofile-use={site}/data -c a.c -o a.o",
        by=GCC,
        prepared=(
            "{cc} -O2 -fprofile-generate={site}/data -c a.c -o a.o && {cc} -fprofile-generate m.c a.o -o run",
            "./run; ls data/*.gcda",
            "rm -f run a.o",
        ),
    ),
    Project(
        "clangs-profile",
        _PROFILED,
        "{cc} -O2 -fprofile-instr-use=a.profdata -c a.c -o a.o",
        by=CLANG,
        prepared=_PROFILE,
    ),
    Project(
        "clangs-profile-in-a-directory",
        _PROFILED,
        "{cc} -O2 -fprofile-use=. -c a.c -o a.o",
        by=CLANG,
        prepared=(*_PROFILE, "mv a.profdata default.profdata"),
    ),
    Project(
        "clangs-sample-profile",
        {"a.c": _LOOP, "a.prof": "f:1000:10\n 1: 100\n"},
        "{cc} -O2 -gline-tables-only -fprofile-sample-use=a.prof -c a.c -o a.o",
        by=CLANG,
    ),
    Project(
        "coverage",
        {"src/a.c": _LOOP, "out": Folder()},
        "{cc} --coverage -frandom-seed=1 -c src/a.c -o out/a.o",
    ),
    Project(
        "specs",
        {"a.c": "int v = V;\n", "own.specs": "*cpp:\n+ -DV=9\n\n"},
        "{cc} -specs=./own.specs -c a.c -o a.o",
        by=(*GCC, *GXX),
    ),
    Project(
        "specs-that-include",
        {"a.c": "int v = V;\n", "own.specs": "%include <{site}/more.specs>\n\n", "more.specs": "*cpp:\n+ -DV=9\n\n"},
        "{cc} -specs=./own.specs -c a.c -o a.o",
        by=GCC,
        stays="toolchain_option",
    ),
    Project(
        "specs-for-this-processor",
        {"a.c": "int v;\n", "own.specs": "*cc1:\n+ -march=native\n\n"},
        "{cc} -specs=./own.specs -c a.c -o a.o",
        by=GCC,
        stays="toolchain_option",
    ),
    Project(
        "specs-by-a-word",
        {"a.c": "int v;\n"},
        "{cc} -specs=nosuch -c a.c -o a.o",
        by=GCC,
        stays="toolchain_option",
        status=1,
    ),
    Project(
        "configuration",
        {"a.c": '#include "v.h"\nint v = V;\n', "own.cfg": "# some\n-Iinc -O1 \\\n-g\n", "inc/v.h": "#define V 1\n"},
        "{cc} --config ./own.cfg -c a.c -o a.o",
        by=(*CLANG, *CLANGXX),
    ),
    Project(
        "configuration-for-this-processor",
        {"a.c": "int v;\n", "own.cfg": "-march=native\n"},
        "{cc} --config ./own.cfg -c a.c -o a.o",
        by=CLANG,
        stays="toolchain_option",
    ),
    Project(
        "configuration-with-a-profile",
        {**_PROFILED, "own.cfg": "-O2 -fprofile-instr-use=a.profdata\n"},
        "{cc} --config ./own.cfg -c a.c -o a.o",
        by=CLANG,
        prepared=_PROFILE,
        stays="toolchain_option",
    ),
    Project(
        "sanitizers-and-their-lists",
        {
            "a.c": "int f(int *p, int i) { return p[i] + i; }\nint g(int *p, int i) { return p[i] * i; }\n",
            "ignore.txt": "fun:g\n",
        },
        "{cc} -O1 -fsanitize=address,undefined -fsanitize-ignorelist=ignore.txt -MD -c a.c -o a.o",
        by=(*CLANG, *CLANGXX),
    ),
    Project(
        "sanitizers",
        {"a.c": "int f(int *p, int i) { return p[i] + i; }\n"},
        "{cc} -O1 -g -fsanitize=address,undefined -c a.c -o a.o",
    ),
    Project(
        "xray-and-other-lists",
        {"a.c": _LOOP, "xray.txt": "[always]\nfun:f\n", "list.txt": "fun:f\n"},
        "{cc} -fxray-instrument -fxray-attr-list=xray.txt -fprofile-instr-generate -fprofile-list=list.txt -c a.c",
        by=CLANG,
    ),
    Project(
        "input-charset",
        {"a.c": b'const char *s = "gr\xfc\xdfe";\nint unused(void) { int \xe4; return 0; }\n'},
        "{cc} -finput-charset=ISO-8859-1 -Wall -c a.c -o a.o",
        by=(*GCC, *GXX),
    ),
    Project(
        "execution-charset",
        {"a.c": "const char s[] = \"\u00fc\u20ac\";\nint w = L'\u20ac';\n"},
        "{cc} -fexec-charset=ISO-8859-15 -fwide-exec-charset=UTF-32BE -w -c a.c -o a.o",
        by=(*GCC, *GXX),
    ),
    Project(
        "a-locale-of-ones-own",
        {"a.c": "int f(void) { int unused; return 0; }\n"},
        "{cc} -Wall -c a.c -o a.o",
        env={"LC_ALL": "de_DE.UTF-8", "LOCPATH": "{site}/loc", "LANGUAGE": "de"},
        prepared=(_GERMAN.replace("{charset}", "UTF-8").replace("{name}", "utf8"),),
    ),
    Project(
        "a-locale-in-another-charset",
        {"a.c": 'int f(void) { int unused; return 0; }\n#warning "\u00fc\u20ac"\n'},
        "{cc} -Wall -c a.c -o a.o",
        by=C,
        env={"LC_ALL": "de_DE.ISO-8859-1", "LOCPATH": "{site}/loc", "LANGUAGE": ""},
        prepared=(_GERMAN.replace("{charset}", "ISO-8859-1").replace("{name}", "iso88591"),),
    ),
    Project(
        "locale-c", {"a.c": "int f(void) { int unused; return 0; }\n"}, "{cc} -Wall -c a.c -o a.o", env={"LC_ALL": "C"}
    ),
    Project(
        "locale-that-is-not-there",
        {"a.c": "int f(void) { int unused; return 0; }\n"},
        "{cc} -Wall -c a.c -o a.o",
        env={"LC_ALL": "xx_YY.UTF-8"},
    ),
    Project(
        "date-by-the-environment",
        {"a.c": "const char *d = __DATE__ __TIME__;\n"},
        env={"SOURCE_DATE_EPOCH": "86400", "TZ": "America/New_York"},
        stays={"clang": "time_macros", "clang++": "time_macros"},
        by=(*GCC, *GXX),
    ),
    Project(
        "date-of-today",
        {"a.c": "const char *d = __DATE__;\n"},
        stays="time_macros",
    ),
    Project(
        "date-that-was-redefined",
        {"a.c": "const char *d = __DATE__ __TIME__;\n"},
        '{cc} -Wno-builtin-macro-redefined -D__DATE__="d" -D__TIME__="t" -c a.c -o a.o',
    ),
    Project("date-that-is-only-mentioned", {"a.c": "/* __DATE__ */\n#define D __TIME__\nint v;\n"}),
    Project(
        "timestamp",
        {
            "a.c": '#include "v.h"\nconst char *t = __TIMESTAMP__;\n',
            "v.h": At("static const char *u = __TIMESTAMP__;\n", 86400),
        },
    ),
    Project(
        "timestamp-in-a-time-zone",
        {"a.c": "const char *t = __TIMESTAMP__;\n"},
        env={"TZ": "America/New_York"},
    ),
    Project(
        "timestamp-in-a-time-zone-by-a-rule",
        {"a.c": "const char *t = __TIMESTAMP__;\n"},
        env={"TZ": "XYZ-5:30"},
    ),
    Project(
        "timestamp-in-a-time-zone-of-ones-own",
        {"a.c": "const char *t = __TIMESTAMP__;\n", "zone": Link("/usr/share/zoneinfo/Asia/Tokyo")},
        env={"TZ": ":{site}/zone"},
    ),
)

assert BOTH
