"""Projects about where things are: names, working directories, PWD, outputs in odd places, files of odd bytes."""

from project import BOTH, CLANG, CXX, GCC, C, Folder, Link, Project

_V = {"a.c": '#include "v.h"\nint v = V;\nint unused(void) { int x; return 0; }\n', "v.h": "#define V 1\n"}
_G = "{cc} -g -Wall -MD -c a.c -o a.o"

PLACES = (
    Project(
        "pwd-through-a-link",
        {**{f"real/{name}": text for name, text in _V.items()}, "way": Link("real")},
        _G,
        cwd="real",
        pwd="{site}/way",
    ),
    Project(
        "pwd-with-dots",
        {f"real/{name}": text for name, text in _V.items()},
        _G,
        cwd="real",
        pwd="{site}/real/../real/.",
    ),
    Project("pwd-with-a-slash-at-its-end", _V, _G, pwd="{site}/"),
    Project("pwd-with-slashes", _V, _G, pwd="//{site}"),
    Project("pwd-that-lies", {**_V, "other/v.h": "#define V 2\n"}, _G, pwd="{site}/other"),
    Project("pwd-that-is-relative", _V, _G, pwd="."),
    Project(
        "no-pwd", {**{f"real/{name}": text for name, text in _V.items()}, "way": Link("real")}, _G, cwd="way", pwd=None
    ),
    Project("from-the-root", _V, "{cc} -g -MD -c {site}/a.c -o {site}/a.o", cwd="/", pwd="/", by=(*GCC, *CLANG)),
    Project(
        "directories-with-spaces",
        {f"with two  spaces/{name}": text for name, text in _V.items()},
        ["{cc}", "-g", "-Wall", "-MD", "-c", "a.c", "-o", "a b.o"],
        cwd="with two  spaces",
        pwd="{site}/with two  spaces",
    ),
    Project(
        "names-with-make-characters",
        {"o $d#d: n.c": '#include "h $h#h: h.h"\nint v = V;\n', "h $h#h: h.h": "#define V 1\n"},
        ["{cc}", "-g", "-MD", "-c", "o $d#d: n.c", "-o", "o $d#d: n.o"],
    ),
    Project(
        "names-in-utf-8",
        {"gr\u00fc\u00dfe.c": '#include "\u4f60.h"\nint v = V;\n', "\u4f60.h": "#define V 1\n"},
        ["{cc}", "-g", "-Wall", "-MD", "-c", "gr\u00fc\u00dfe.c", "-o", "gr\u00fc\u00dfe.o"],
    ),
    Project(
        "names-that-are-no-utf-8",
        {
            "n\udce4me.c": b'#include "h\xe4.h"\nint v = V;\nint u(void) { int x; return 0; }\n',
            "h\udce4.h": "#define V 1\n",
        },
        ["{cc}", "-g", "-Wall", "-MD", "-c", b"n\xe4me.c", "-o", b"n\xe4me.o"],
    ),
    Project(
        "names-with-line-breaks",
        {"a\nb.c": "int v;\nint u(void) { int x; return 0; }\n"},
        ["{cc}", "-g", "-Wall", "-c", "a\nb.c", "-o", "a\nb.o"],
        stays="unreadable_input",
    ),
    Project(
        "names-with-backslashes",
        {"a\\ b.c": '#include "v\\w.h"\nint v = V;\n', "v\\w.h": "#define V 1\n"},
        ["{cc}", "-g", "-MD", "-c", "a\\ b.c", "-o", "a\\ b.o"],
        by=GCC,
    ),
    Project("a-name-that-begins-with-a-dash", {"-a.c": "int v;\n"}, "{cc} -g -c ./-a.c -o ./-a.o"),
    Project("a-name-without-suffix", {"a": "int v;\n"}, "{cc} -g -x c -c a"),
    Project(
        "a-source-in-another-language",
        {"a.c": "class X { int x; }; int f() { return sizeof(X); }\n"},
        "{cc} -x c++ -c a.c",
    ),
    Project(
        "a-source-above",
        {"src/a.c": '#include "v.h"\nint v = V;\n', "src/v.h": "#define V 1\n", "out/below": Folder()},
        "{cc} -g -MD -c ../../src/a.c",
        cwd="out/below",
        pwd="{site}/out/below",
    ),
    Project(
        "a-source-that-is-a-link",
        {
            "a.c": Link("src/real.c"),
            "src/real.c": '#include "v.h"\nint v = V;\n',
            "v.h": "#define V 1\n",
            "src/v.h": "#define V 2\n",
        },
        "{cc} -g -MD -c a.c",
    ),
    Project("a-source-without-end", {"a.c": b"int v;\nint w; // no line break"}, "{cc} -Wall -Wpedantic -c a.c"),
    Project("an-empty-source", {"a.c": ""}, "{cc} -g -Wall -Wpedantic -c a.c"),
    Project(
        "lines-of-another-system",
        {
            "a.c": b'#include "v.h"\r\nint v = \\\r\n V;\r\nint u(void) { int x; return 0; }\r\n',
            "v.h": b"#define V 1\r\n",
        },
        "{cc} -g -Wall -c a.c",
    ),
    Project(
        "a-byte-order-mark",
        {
            "a.c": b'\xef\xbb\xbf#include "v.h"\nint v = V;\nint u(void) { int x; return 0; }\n',
            "v.h": b"\xef\xbb\xbf#define V 1\n",
        },
        "{cc} -g -Wall -c a.c",
    ),
    Project("zero-bytes", {"a.c": b"int v\0= 1;\nint u(void) { int x; return 0; }\n"}, "{cc} -g -Wall -c a.c"),
    Project(
        "very-long-lines",
        {
            "a.c": "int v[] = {"
            + "1," * 60_000
            + "};\nint u(void) { int x; return 0; }"
            + " " * 5000
            + "/* end */ int unused(void) { int y; return 0; }\n"
        },
        "{cc} -g -Wall -c a.c",
    ),
    Project(
        "great-macros",
        {"a.c": "".join(f"#define M{n} M{n + 1} + M{n + 1}\n" for n in range(12)) + "#define M12 1\nint v = M0;\n"},
        "{cc} -g3 -c a.c",
    ),
    Project(
        "trigraphs",
        {"a.c": '??=include "v.h"\nint v??(1??) = ??< V ??>; // what??/\nint x;\n', "v.h": "#define V 1\n"},
        "{cc} -std=c99 -Wall -c a.c",
        by=C,
    ),
    Project(
        "a-listing-of-many-headers",
        {
            "a.c": "".join(f'#include "h/{n}.h"\n' for n in range(300)),
            **{f"h/{n}.h": f"int v{n};\n" for n in range(300)},
        },
        "{cc} -g -MD -MP -c a.c",
        by=C,
    ),
    Project("object-by-its-default-name", {"src/a.c": "int v;\n"}, "{cc} -g -MD -c src/a.c"),
    Project(
        "object-in-another-directory", {"a.c": "int v;\n", "out": Folder()}, "{cc} -g -MD -c a.c -o out/../out/a.o"
    ),
    Project(
        "object-in-a-linked-directory",
        {"a.c": "int v;\n", "real": Folder(), "out": Link("{site}/real")},
        "{cc} -g -MD -c a.c -o out/a.o",
    ),
    Project("object-in-no-directory", {"a.c": "int v;\n"}, "{cc} -c a.c -o out/a.o", stays="bad_output_file", status=1),
    Project("object-over-a-link", {"a.c": "int v;\n", "a.o": Link("old.o"), "old.o": "old"}, "{cc} -g -c a.c -o a.o"),
    Project("object-over-a-dangling-link", {"a.c": "int v;\n", "a.o": Link("new.o")}, "{cc} -g -c a.c -o a.o"),
    Project("assembly-over-a-link", {"a.c": "int v;\n", "a.s": Link("old.s"), "old.s": "old"}, "{cc} -g -S a.c -o a.s"),
    Project("object-over-a-file", {"a.c": "int v;\n", "a.o": "old"}, "{cc} -g -c a.c -o a.o"),
    Project(
        "object-that-is-a-source",
        {"a.c": "int v;\n"},
        "{cc} -c a.c -o a.c",
        stays="bad_output_file",
        status={"gcc": 1, "g++": 1},
        by=GCC,
    ),
    Project("object-into-nothing", {"a.c": "int v;\n"}, "{cc} -c a.c -o /dev/null", stays="bad_output_file", by=C),
    Project("object-without-functions", {"a.c": "int v;\n"}, "{cc} -fstack-usage -c a.c", by=C),
    Project(
        "object-with-another-suffix",
        {"a.c": "int f(int v) { return v; }\n"},
        "{cc} -g -MD -fstack-usage -c a.c -o a.pic.o.tmp",
        by=C,
    ),
    Project(
        "modes-for-the-owner", {"a.c": "int v;\n"}, "{cc} -g -MD -gsplit-dwarf -c a.c -o a.o", umask=0o077, varies=True
    ),
    Project("modes-for-all", {"a.c": "int v;\n"}, "{cc} -g -MD -c a.c -o a.o", umask=0),
    Project("files-as-new-as-the-call", {"a.c": '#include "v.h"\nint v = V;\n', "v.h": "#define V 1\n"}, fresh=True),
    Project(
        "a-compiler-in-the-tree",
        {"a.c": "int v;\n", "tools/gcc": Link("/usr/bin/gcc")},
        "tools/gcc -g -Wall -c a.c",
        by=GCC,
    ),
    Project(
        "a-header-that-is-a-device", {"a.c": '#include "none.h"\nint v;\n', "none.h": Link("/dev/null")}, by=(*C, *CXX)
    ),
)

assert BOTH
