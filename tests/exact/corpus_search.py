"""Projects about finding headers: probes that no list tells, search order, links, equal and missing files."""

from project import BOTH, CLANG, CXX, GCC, GXX, At, C, Folder, HardLink, Link, Project

_UNUSED = "static int never(void) { return 0; }\n"

SEARCH = (
    Project(
        "has-include-present",
        {"a.c": '#if __has_include("o.h")\nint yes;\n#else\nint no;\n#endif\n', "o.h": "#error never included\n"},
    ),
    Project(
        "has-include-absent",
        {"a.c": '#if __has_include("o.h")\nint yes;\n#else\nint no;\n#endif\n', "other/o.h": ""},
    ),
    Project(
        "has-include-relative",
        {
            "src/a.c": '#if __has_include("../inc/o.h") && !__has_include("o.h")\nint yes;\n#endif\n',
            "inc/o.h": "",
            "o.h": "",
        },
        "{cc} -c src/a.c -o a.o",
    ),
    Project(
        "has-include-angle",
        {"a.c": "#if __has_include(<o.h>) && !__has_include(<p.h>)\nint yes;\n#endif\n", "inc/o.h": "", "p.h": ""},
        "{cc} -Iinc -c a.c -o a.o",
    ),
    Project(
        "has-include-of-a-macro",
        {"a.c": '#define O "inc/o.h"\n#if __has_include(O)\nint yes;\n#endif\n', "inc/o.h": ""},
    ),
    Project(
        "has-include-of-the-command-lines-macro",
        {"a.c": "#if __has_include(O)\nint yes;\n#endif\n", "inc/o.h": ""},
        '{cc} -DO="inc/o.h" -c a.c -o a.o',
    ),
    Project(
        "has-include-by-another-name",
        {"a.c": '#define HAS __has_include\n#if HAS("o.h")\nint yes;\n#else\nint no;\n#endif\n', "o.h": ""},
    ),
    Project(
        "has-include-by-a-function-of-two",
        {
            "a.c": '#include "has.h"\n#if BOTH(1, "o.h")\nint yes;\n#else\nint no;\n#endif\n',
            "has.h": "#define BOTH(a, b) ((a) && __has_include(b))\n",
            "o.h": "",
        },
    ),
    Project(
        "has-include-behind-comments",
        {
            "a.c": '#if /* one\n two */ __has_include("o.h") && \\\n  /* three */ __has_include /* four */ ( "p.h" )\n'
            "int yes;\n#endif\n",
            "o.h": "",
            "p.h": "",
        },
    ),
    Project(
        "has-include-in-an-elif",
        {"a.c": '#if 0\n#elif defined(__has_include) && __has_include("o.h")\nint yes;\n#endif\n', "o.h": ""},
    ),
    Project(
        "has-include-next",
        {
            "a.c": "#include <o.h>\nint value = O;\n",
            "one/o.h": "#if __has_include_next(<o.h>)\n#include_next <o.h>\n#else\n#define O 1\n#endif\n",
            "two/o.h": "#if __has_include_next(<o.h>)\n#define O 2\n#else\n#define O 3\n#endif\n",
        },
        "{cc} -Ione -Itwo -c a.c -o a.o",
    ),
    Project(
        "has-include-is-a-directory",
        {"a.c": '#if __has_include("o.h")\nint yes;\n#else\nint no;\n#endif\n', "o.h": Folder()},
    ),
    Project(
        "has-include-through-trigraphs",
        {"a.c": '??=if __has_inc??/\nlude("o.h")\nint yes;\n??=else\nint no;\n??=endif\n', "o.h": ""},
        "{cc} -trigraphs -w -c a.c -o a.o",
    ),
    Project(
        "has-include-of-a-dangling-link",
        {"a.c": '#if __has_include("o.h")\nint yes;\n#else\nint no;\n#endif\n', "o.h": Link("gone.h")},
    ),
    Project(
        "quotes-before-brackets",
        {
            "a.c": '#include "v.h"\n#include <w.h>\nint v = V, w = W;\n',
            "q/v.h": "#define V 1\n",
            "q/w.h": "#error\n",
            "i/v.h": "#error\n",
            "i/w.h": "#define W 2\n",
            "s/w.h": "#error\n",
            "s/v.h": "#error\n",
        },
        "{cc} -g -Ii -isystem s -iquote q -c a.c -o a.o",
    ),
    Project(
        "system-directory-named-twice",
        {"a.c": '#include "v.h"\nint v = V;\n', "i/v.h": "#define V 1\nint unused(void) { int x; return 0; }\n"},
        "{cc} -Wall -Ii -isystem i -isystem ./i -c a.c -o a.o",
    ),
    Project(
        "idirafter",
        {
            "a.c": "#include <stddef.h>\n#include <late.h>\nint v = L;\n",
            "z/late.h": "#define L 3\n",
            "z/stddef.h": "#error\n",
        },
        "{cc} -idirafter z -c a.c -o a.o",
    ),
    Project(
        "dotdot-through-a-directory",
        {"a.c": '#include "v.h"\nint v = V;\n', "lib/nothing": "", "inc/v.h": "#define V 4\n"},
        "{cc} -g -Ilib/../inc -c a.c -o a.o",
    ),
    Project(
        "dotdot-through-an-empty-directory",
        {"a.c": '#include "v.h"\nint v = V;\n', "lib": Folder(), "inc/v.h": "#define V 4\n"},
        "{cc} -g -Ilib/../inc -c a.c -o a.o",
    ),
    Project(
        "dotdot-through-a-link",
        {
            "a.c": '#include "v.h"\nint v = V;\n',
            "real/deep/x": "",
            "real/inc/v.h": "#define V 5\n",
            "inc/v.h": "#define V 6\n",
            "link": Link("real/deep"),
        },
        "{cc} -g -Ilink/../inc -c a.c -o a.o",
    ),
    Project(
        "dotdot-through-nothing",
        {"a.c": '#include "v.h"\nint v = V;\n', "inc/v.h": "#define V 6\n", "other/v.h": "#define V 7\n"},
        "{cc} -g -Inothing/../inc -Iother -c a.c -o a.o",
    ),
    Project(
        "include-next-by-hand",
        {
            "a.c": '#include "v.h"\nint v = V + W;\n',
            "one/v.h": '#define W 1\n#include_next "v.h"\n',
            "two/v.h": "#define V 2\n",
        },
        "{cc} -Ione -Itwo -c a.c -o a.o",
    ),
    Project(
        "once-equal-content",
        {
            "a.c": 'int n = 0\n#define N +1\n#include "one/o.h"\n#include "two/o.h"\n;\n',
            "one/o.h": "#pragma once\nN\n",
            "two/o.h": "#pragma once\nN\n",
        },
    ),
    Project(
        "once-equal-content-and-time",
        {
            "a.c": 'int n = 0\n#define N +1\n#include "one/o.h"\n#include "two/o.h"\n;\n',
            "one/o.h": At("#pragma once\nN\n", 10),
            "two/o.h": At("#pragma once\nN\n", 10),
        },
    ),
    Project(
        "once-and-another-further-on",
        {
            "a.c": "int n = 0\n#define N +1\n#include <o.h>\n#include <sub/o.h>\n;\n",
            "one/o.h": At("#pragma once\nN\n", 10),
            "two/sub/o.h": At("#pragma once\nN\n", 10),
            "three/sub/o.h": "N + 7\n",
        },
        "{cc} -Ione -Itwo -Ithree -c a.c -o a.o",
    ),
    Project(
        "once-hard-links",
        {
            "a.c": 'int n = 0\n#define N +1\n#include "one/o.h"\n#include "two/o.h"\n;\n',
            "one/o.h": "#pragma once\nN\n",
            "two/o.h": HardLink("one/o.h"),
        },
    ),
    Project(
        "once-links-to-one-file",
        {
            "a.c": 'int n = 0\n#define N +1\n#include "one/o.h"\n#include "two.h"\n;\n',
            "one/o.h": "#pragma once\nN\n",
            "two.h": Link("one/o.h"),
        },
    ),
    Project(
        "once-through-a-linked-directory",
        {
            "a.c": 'int n = 0\n#define N +1\n#include "one/o.h"\n#include "two/o.h"\n;\n',
            "one/o.h": "#pragma once\nN\n",
            "two": Link("{site}/one"),
        },
    ),
    Project(
        "linked-directories",
        {
            "a.c": "#include <l/v.h>\n#include <deep.h>\nint v = V + D;\n",
            "real/v.h": '#define V 1\n#include "beside.h"\n',
            "real/beside.h": "",
            "inc/l": Link("../real"),
            "chain": Link("one"),
            "one": Link("two"),
            "two": Link("{site}/three"),
            "three/deep.h": "#define D 2\n",
        },
        "{cc} -g -Iinc -Ichain -MD -MF a.d -c a.c -o a.o",
    ),
    Project(
        "header-is-a-link",
        {
            "a.c": '#include "v.h"\nint v = V;\n',
            "v.h": Link("other/real.h"),
            "other/real.h": '#include "beside.h"\n',
            "beside.h": "#define V 1\n",
            "other/beside.h": "#define V 2\n",
        },
        "{cc} -g -MD -c a.c -o a.o",
    ),
    Project(
        "names-that-differ-in-case",
        {
            "a.c": '#include "Case.h"\n#include "case.h"\n#include "CASE.H"\nint v = A + B + D;\n',
            "Case.h": "#define A 1\n",
            "case.h": "#define B 2\n",
            "CASE.H": "#define D 3\n",
        },
        "{cc} -Wall -Weverything -w -MD -c a.c -o a.o",
        by=CLANG,
    ),
    Project(
        "a-link-that-differs-in-case",
        {"a.c": '#include "Case.h"\nint v = A;\n', "case.h": "#define A 1\n", "Case.h": Link("case.h")},
        "{cc} -Wall -c a.c -o a.o",
    ),
    Project(
        "missing-directories",
        {"a.c": "int v;\n", "there": Folder(), "file": "x", "dangling": Link("nowhere")},
        "{cc} -Wmissing-include-dirs -Ithere -Inot/there -isystem gone -iquote /no/such -Ifile -Idangling -c a.c",
    ),
    Project(
        "missing-directories-of-the-environment",
        {"a.c": "#include <v.h>\nint v = V;\n", "inc/v.h": "#define V 1\n"},
        "{cc} -Wmissing-include-dirs -c a.c -o a.o",
        env={"CPATH": "gone:inc:", "C_INCLUDE_PATH": "none", "CPLUS_INCLUDE_PATH": "nothing"},
    ),
    Project(
        "forced-includes",
        {
            "a.c": "int v = A + B + D;\n",
            "one.h": "#define A 1\n",
            "inc/two.h": "#define B 2\nint vanishes_not;\n",
            "inc/three.h": "#define D 3\nint vanishes;\n",
        },
        "{cc} -Iinc -include one.h -include two.h -imacros three.h -c a.c -o a.o",
    ),
    Project("forced-include-of-nothing", {"a.c": "int v;\n"}, "{cc} -include /dev/null -c a.c -o a.o"),
    Project(
        "sysroot-of-ones-own",
        {"a.c": "#include <v.h>\nint v = V;\n", "root/usr/include/v.h": "#define V 1\n", "root/opt/w.h": ""},
        "{cc} --sysroot={site}/root -I=/opt -c a.c -o a.o",
        by=GCC,
    ),
    Project(
        "isysroot",
        {"a.c": "#include <v.h>\nint v = V;\n", "root/usr/include/v.h": "#define V 1\n"},
        "{cc} -isysroot {site}/root -c a.c -o a.o",
        by=GCC,
    ),
    Project(
        "prefixes",
        {
            "a.c": "#include <v.h>\n#include <w.h>\nint v = V + W;\n",
            "p-one/v.h": "#define V 1\n",
            "p-two/w.h": "#define W 2\n",
        },
        "{cc} -iprefix {site}/p- -iwithprefix one -iwithprefixbefore two -c a.c -o a.o",
        by=C,
    ),
    Project(
        "no-standard-directories",
        {"a.c": "#include <stddef.h>\nint v = V;\n", "inc/stddef.h": "#define V 1\n"},
        "{cc} -nostdinc -Iinc -c a.c -o a.o",
    ),
    Project(
        "computed-include",
        {
            "a.c": "#define P(x) <sub/x.h>\n#include P(v)\nint v = V;\n",
            "inc/sub/v.h": "#define V 1\n",
        },
        "{cc} -Iinc -MMD -c a.c -o a.o",
    ),
    Project(
        "computed-probe",
        {"a.c": "#define S(x) #x\n#define N S(b.h)\n#if __has_include(N)\nint b;\n#endif\n", "b.h": ""},
        stays="computed_include_operand",
    ),
    Project(
        "a-header-of-the-kernels",
        {"a.c": 'const char k[] =\n#include "/proc/sys/kernel/ostype"\n"";\n#define Linux "x"\n'},
        '{cc} -DLinux="x" -c a.c -o a.o',
        stays="unreadable_input",
    ),
    Project(
        "pragma-dependency",
        {
            "a.c": '#pragma GCC dependency "older.h"\n#pragma GCC dependency "newer.h" must be made again\n'
            "#pragma GCC dependency <there.h>\nint v;\n",
            "older.h": At("", -1000),
            "newer.h": At("", 1000),
            "inc/there.h": At("", 2000),
        },
        "{cc} -Iinc -c a.c -o a.o",
    ),
    Project(
        "pragma-dependency-as-an-operator",
        {
            "a.c": '_Pragma("GCC dependency \\"newer.h\\"")\nint v;\n',
            "newer.h": At("", 1000),
        },
    ),
    Project(
        "include-levels",
        {
            "a.c": '#include "one.h"\nint a = __INCLUDE_LEVEL__, c = __COUNTER__;char f[] = __FILE__ __BASE_FILE__;\n',
            "one.h": '#include "sub/two.h"\nint b = __INCLUDE_LEVEL__, d = __COUNTER__;\n',
            "sub/two.h": "int e = __INCLUDE_LEVEL__, g = __COUNTER__;\nchar h[] = __FILE__ __BASE_FILE__;\n",
        },
        "{cc} -g -c ./a.c -o a.o",
    ),
    Project(
        "import-and-macro-guards",
        {
            "a.c": '#import "once.h"\n#import "once.h"\n#include "once.h"\nint v = V;\n',
            "once.h": "enum { V = 1 };\n",
        },
        "{cc} -w -c a.c -o a.o",
    ),
    Project(
        "standard-library",
        {"a.cc": "#include <string>\nstd::string s() { return __FILE__; }\n"},
        "{cc} -g -O1 -std=c++17 -MD -c a.cc -o a.o",
        by=CXX,
    ),
    Project(
        "unused-in-a-system-header",
        {"a.c": "#include <v.h>\n", "s/v.h": _UNUSED, "i/w.h": _UNUSED.replace("never", "nowhere")},
        "{cc} -Wall -Wsystem-headers -isystem s -include i/w.h -c a.c -o a.o",
        by=(*C, *GXX),
    ),
    Project(
        "remapped-headers",
        {"a.c": '#include "long.h"\nint v = V;\n', "header.gcc": "long.h short.h\n", "short.h": "#define V 1\n"},
        "{cc} -remap -c a.c -o a.o",
        by=GCC,
        stays="unsupported_compiler_option",
    ),
    Project(
        "a-header-by-two-spellings",
        {
            "a.c": '#include "inc/v.h"\n#include "./inc//v.h"\n#include "{site}/inc/../inc/v.h"\nint v = V;\n',
            "inc/v.h": "#define V 1\n#ifndef G\n#define G\nint once;\n#endif\n",
        },
        "{cc} -g3 -MD -c a.c -o a.o",
    ),
    Project(
        "embed",
        {"a.c": 'const char e[] = {\n#embed "e.bin"\n};\n', "e.bin": "abc"},
        stays="preprocessor_error",
        status=1,
        by=BOTH,
    ),
)
