"""Projects about options: debug information, maps, recorded switches, depfiles, diagnostics, processors."""

from project import BOTH, CLANG, CLANGXX, CXX, GCC, GXX, C, Folder, Project

_V = {"a.c": '#include "inc/v.h"\nint v = V;\nint unused(void) { int x; return 0; }\n', "inc/v.h": "#define V 1\n"}
_WARN = {"a.c": "int f(void) { int unused; return 0; }\n#warning here\n", "e.c": "int v = ;\n"}
_CPP = {"a.cc": "template <class T> T f(T x) { return x + 1; }\nint g() { int unused; return f(1); }\n"}
_NUMBERS = {
    "a.c": "double f(double *a, int n) { double s = 0; for (int i = 0; i < n; i++) s += a[i] * a[i]; return s; }\n"
}

_PLUGIN = {
    "a.c": "int v;\n",
    "p.c": "#include <stdio.h>\nextern int other(void);\nint plugin_is_GPL_compatible;\n"
    '__attribute__((constructor)) static void loaded(void) { dprintf(2, "loaded with %d\\n", other()); }\n'
    "int plugin_init(void *a, void *b) { return 0; }\n"
    "struct info { unsigned version; const char *name, *at; void (*call)(void *); };\n"
    "static void call(void *a) { }\n"
    'struct info llvmGetPassPluginInfo(void) { return (struct info){1, "p", "1", call}; }\n',
    "q.c": "int other(void) { return 7; }\n",
    "lib": Folder(),
}
_MAKE_PLUGIN = (
    "{cc} -shared -fPIC q.c -o lib/libq.so",
    "{cc} -shared -fPIC p.c -o p.so -Llib -lq -Wl,-rpath,{site}/lib",
)

OPTIONS = (
    Project("plugin", _PLUGIN, "{cc} -fplugin=./p.so -g -c a.c -o a.o", by=C, prepared=_MAKE_PLUGIN),
    Project(
        "plugin-with-arguments",
        _PLUGIN,
        "{cc} -fplugin=./p.so -fplugin-arg-p-level=2 -c a.c -o a.o",
        by=GCC,
        prepared=_MAKE_PLUGIN,
    ),
    Project(
        "plugin-that-is-told-of-files",
        _PLUGIN,
        "{cc} -fplugin=./p.so -fplugin-arg-p-log=./l -c a.c -o a.o",
        by=GCC,
        prepared=_MAKE_PLUGIN,
        stays="compiler_plugin",
    ),
    Project(
        "plugin-of-the-front-end",
        _PLUGIN,
        "{cc} -Xclang -load -Xclang {site}/p.so -c a.c -o a.o",
        by=CLANG,
        prepared=_MAKE_PLUGIN,
    ),
    Project(
        "plugin-of-passes", _PLUGIN, "{cc} -O1 -fpass-plugin=./p.so -c a.c -o a.o", by=CLANG, prepared=_MAKE_PLUGIN
    ),
    Project("specs-that-gcc-has", _V, "{cc} -specs=libgomp.spec -g -c a.c -o a.o", by=(*GCC, *GXX)),
    Project(
        "specs-that-nobody-has",
        _V,
        "{cc} -specs=none.spec -c a.c -o a.o",
        by=GCC,
        stays="toolchain_option",
        status=1,
    ),
    Project("debug", _V, "{cc} -g -O2 -c a.c -o a.o"),
    Project("debug-3", _V, "{cc} -g3 -gdwarf-4 -c a.c -o a.o"),
    Project("debug-compressed", _V, "{cc} -g -gz -c a.c -o a.o"),
    Project("debug-prefix-map", _V, "{cc} -g -fdebug-prefix-map={site}=/mapped -c a.c -o a.o"),
    Project(
        "file-prefix-map",
        {"a.c": "const char *f = __FILE__;\n"},
        "{cc} -g -ffile-prefix-map={site}=. -c {site}/a.c -o a.o",
    ),
    Project(
        "macro-prefix-map",
        {"a.c": "const char *f = __FILE__;\n"},
        "{cc} -fmacro-prefix-map={site}/= -c {site}/a.c -o a.o",
    ),
    Project(
        "working-directory-in-the-debug-information",
        _V,
        "{cc} -g -fdebug-compilation-dir=/elsewhere -c a.c -o a.o",
        by=CLANG,
    ),
    Project("recorded-switches", _V, "{cc} -g -frecord-gcc-switches -grecord-gcc-switches -Iinc -c a.c -o a.o"),
    Project("recorded-command-line", _V, "{cc} -grecord-command-line -frecord-command-line -g -c a.c -o a.o", by=CLANG),
    Project("split-debug", _V, "{cc} -g -gsplit-dwarf -c a.c -o a.o", varies=True),
    Project("split-debug-in-one", _V, "{cc} -g -gsplit-dwarf=single -c a.c -o a.o", by=CLANG),
    Project("no-integrated-assembler", _V, "{cc} -g -fno-integrated-as -c a.c -o a.o", by=CLANG),
    Project("assembly", _V, "{cc} -S -O1 -g a.c -o a.s"),
    Project("verbose-assembly", _V, "{cc} -S -O1 -fverbose-asm -Iinc a.c -o a.s"),
    Project("assembler-listing", _V, "{cc} -pipe -g -Wa,-adhlns=a.lst -c a.c -o a.o", by=(*GCC, *GXX)),
    Project("assembler-listing-on-the-terminal", {"a.s": "nop\n.byte 1\n"}, "{cc} -Wa,-al -c a.s -o a.o", by=GCC),
    Project("stack-usage-and-calls", _V, "{cc} -fstack-usage -fcallgraph-info=su,da -c a.c -o a.o", by=(*GCC, *GXX)),
    Project("stack-usage", _V, "{cc} -fstack-usage -c a.c -o a.o", by=CLANG),
    Project(
        "depfile",
        _V,
        "{cc} -MMD -MF d/a.d -MT one -MQ tw$o -MP -c a.c -o a.o",
        by=BOTH,
        stays="bad_output_file",
        status=1,
    ),
    Project("depfile-elsewhere", {**_V, "d": Folder()}, "{cc} -MMD -MF d/a.d -MT one -MQ tw$o -MP -c a.c -o a.o"),
    Project("depfile-of-the-preprocessor", _V, "{cc} -Wp,-MD,own.d -c a.c -o a.o"),
    Project("depfile-with-generated-headers", _V, "{cc} -M -MG -c a.c -o a.o", stays="preprocess"),
    Project(
        "response-files",
        {**_V, "one.rsp": "-g @two.rsp\n-DX='a b' \"-DY=c d\"\n", "two.rsp": "-Wall -c\n a.c"},
        "{cc} @one.rsp -o a.o",
    ),
    Project(
        "response-file-that-is-missing",
        _V,
        "{cc} @none.rsp -c a.c -o a.o",
        by=C,
        stays="multiple_source_files",
        status=1,
    ),
    Project(
        "a-very-long-command-line",
        {"a.c": "int v = A1499;\n"},
        ["{cc}", "-g", *(f"-DA{number}=1{'/**/' * 15}" for number in range(1500)), "-c", "a.c", "-o", "a.o"],
        by=C,
    ),
    Project(
        "a-very-long-response-file",
        {"a.c": "int v = A4999;\n", "o.rsp": "\n".join(f"-DA{number}=1{'/**/' * 60}" for number in range(5000))},
        "{cc} @o.rsp -c a.c -o a.o",
        by=CLANG,
    ),
    Project(
        "a-response-file-with-more-than-fits",
        {"a.c": "int v = A9999;\n", "o.rsp": "\n".join(f"-DA{number}=1" for number in range(10000))},
        "{cc} @o.rsp -c a.c -o a.o",
        by=CLANG,
        stays="too_many_arguments",
    ),
    Project(
        "temporaries-kept",
        {"a.c": "int v;\n"},
        "{cc} -save-temps -c a.c -o a.o",
        by=C,
        stays="unsupported_compiler_option",
    ),
    Project(
        "dumps",
        {"a.c": "int v;\n"},
        "{cc} -fdump-tree-original -c a.c -o a.o",
        by=GCC,
        stays="unsupported_compiler_option",
    ),
    Project("modules", {"a.cc": "int v;\n"}, "{cc} -std=c++20 -fmodules-ts -c a.cc -o a.o", by=GXX, stays="modules"),
    Project(
        "front-end-options",
        _V,
        "{cc} -Xclang -disable-O0-optnone -Xclang -fdebug-compilation-dir -Xclang /dir -g -c a.c -o a.o",
        by=(*CLANG, *CLANGXX),
    ),
    Project(
        "front-end-includes",
        {"a.c": "int v = V;\n", "v.h": "#define V 1\n"},
        "{cc} -Xclang -include -Xclang v.h -c a.c -o a.o",
        by=CLANG,
    ),
    Project("options-of-the-back-end", _NUMBERS, "{cc} -O2 -mllvm -inline-threshold=10 -c a.c -o a.o", by=CLANG),
    Project("serialized-diagnostics", _WARN, "{cc} -Wall --serialize-diagnostics a.dia -c a.c -o a.o", by=CLANG),
    Project("this-processor", _NUMBERS, "{cc} -O3 -g -march=native -mtune=native -ffast-math -c a.c -o a.o"),
    Project("this-processor-with-diagnostics", _WARN, "{cc} -march=native -Wall -Wl,-z,now -c a.c -o a.o"),
    Project("this-processor-and-assembly", _NUMBERS, "{cc} -O3 -mtune=native -S -fverbose-asm a.c -o a.s", by=C),
    Project(
        "this-processor-and-debug-apart",
        _NUMBERS,
        "{cc} -O3 -march=native -g -gsplit-dwarf -MD -c a.c -o a.o",
        by=C,
        varies=True,
    ),
    Project(
        "this-processor-in-a-response-file",
        {**_NUMBERS, "o.rsp": "-O3 -march=native"},
        "{cc} @o.rsp -c a.c -o a.o",
        by=C,
    ),
    Project("another-processor", _NUMBERS, "{cc} -O3 -march=haswell -c a.c -o a.o", by=C),
    Project("32-bit", {"a.c": "long v = sizeof(long);\n"}, "{cc} -m32 -g -c a.c -o a.o"),
    Project("link-time-optimisation", _V, "{cc} -flto -frandom-seed=1 -O2 -c a.c -o a.o"),
    Project(
        "offload-and-openmp",
        {"a.c": "void f(int *a) {\n#pragma omp parallel for\nfor (int i = 0; i < 9; i++) a[i] = i; }\n"},
        "{cc} -fopenmp -O1 -g -c a.c -o a.o",
        by=GCC,
    ),
    Project("warnings", _WARN, "{cc} -Wall -Wextra -c a.c -o a.o"),
    Project("warnings-in-colour", _WARN, "{cc} -Wall -fdiagnostics-color=always -c a.c -o a.o"),
    Project(
        "warnings-in-colours-of-ones-own",
        _WARN,
        "{cc} -Wall -fdiagnostics-color=always -c a.c -o a.o",
        env={"GCC_COLORS": "warning=01;31:caret=35", "TERM": "xterm"},
        by=(*GCC, *GXX),
    ),
    Project("warnings-in-narrow-lines", _WARN, "{cc} -Wall -fmessage-length=40 -c a.c -o a.o", env={"COLUMNS": "30"}),
    Project(
        "warnings-with-fixes",
        _WARN,
        "{cc} -Wall -fdiagnostics-parseable-fixits -fdiagnostics-show-option -c a.c -o a.o",
    ),
    Project("warnings-with-absolute-paths", _V, "{cc} -Wall -fdiagnostics-absolute-paths -c a.c -o a.o", by=CLANG),
    Project(
        "warnings-through-headers",
        {"a.c": '#include "one.h"\n', "one.h": '#include "two.h"\n', "two.h": "static int f(void) { int unused; }\n"},
        "{cc} -Wall -c a.c -o a.o",
    ),
    Project("warnings-without-carets", _WARN, "{cc} -Wall -fno-diagnostics-show-caret -c a.c -o a.o", by=(*GCC, *GXX)),
    Project("warnings-of-templates", _CPP, "{cc} -Wall -Wextra -std=c++17 -c a.cc -o a.o", by=CXX),
    Project("warnings-as-errors", _WARN, "{cc} -Wall -Werror -c a.c -o a.o", stays="confirm_error", status=1),
    Project("errors", _WARN, "{cc} -Wall -c e.c -o a.o", stays="confirm_error", status=1),
    Project(
        "errors-of-the-preprocessor",
        {"a.c": "#error stop\n"},
        "{cc} -Wall -c a.c -o a.o",
        stays="preprocessor_error",
        status=1,
    ),
    Project(
        "no-such-header", {"a.c": '#include "stdoi.h"\n'}, "{cc} -c a.c -o a.o", stays="preprocessor_error", status=1
    ),
    Project(
        "analysis",
        {"a.c": "#include <stdlib.h>\nvoid f(void) { void *p = malloc(1); free(p); free(p); }\n"},
        "{cc} -fanalyzer -c a.c -o a.o",
        by=GCC,
    ),
    Project(
        "pragmas",
        {
            "a.c": '#pragma message "here"\n#pragma GCC diagnostic push\n_Pragma("GCC warning \\"w\\"")\n'
            "#pragma GCC system_header\nint v;\n"
        },
        "{cc} -Wall -c a.c -o a.o",
    ),
    Project(
        "source-location",
        {
            "a.cc": "#include <source_location>\nconstexpr auto w = std::source_location::current();\n"
            "const char *f() { return w.file_name(); }\nunsigned l() { return w.line() + w.column(); }\n"
        },
        "{cc} -std=c++20 -g -c a.cc -o a.o",
        by=GXX,
    ),
    Project(
        "assertions", {"a.c": "#include <assert.h>\nvoid f(int x) { assert(x); }\n"}, "{cc} -g -c {site}/a.c -o a.o"
    ),
    Project(
        "anonymous-namespaces",
        {"a.cc": "namespace { struct S { virtual ~S(); }; S::~S() {} }\nvoid *f() { return new S; }\n"},
        "{cc} -O1 -g -c a.cc -o a.o",
        by=CXX,
    ),
    Project(
        "objective-c",
        {"a.m": "@interface X { int v; }\n- (int)v;\n@end\n@implementation X\n- (int)v { return v; }\n@end\n"},
        "{cc} -w -c a.m -o a.o",
        by=CLANG,
    ),
    Project(
        "objective-c-without-its-compiler",
        {"a.m": "int v;\n"},
        "{cc} -c a.m -o a.o",
        by=GCC,
        stays="preprocessor_error",
        status=1,
    ),
    Project("bitcode", _V, "{cc} -O1 -emit-llvm -c a.c -o a.bc", by=CLANG),
    Project("in-the-readable-form", _V, "{cc} -O1 -emit-llvm -S a.c -o a.ll", by=CLANG),
    Project("pipes", _V, "{cc} -pipe -g -c a.c -o a.o"),
    Project("fixed-seed", _V, "{cc} -frandom-seed=abc -g -c a.c -o a.o"),
    Project("comments-kept", _V, "{cc} -C -g -c a.c -o a.o", by=GCC),
    Project(
        "libraries-of-the-loader",
        {"a.c": "int v;\n", "lib": Folder()},
        "{cc} -g -c a.c -o a.o",
        env={"LD_LIBRARY_PATH": "{site}/lib"},
        by=C,
    ),
    Project(
        "variables-that-change-what-runs",
        {"a.c": "int v;\n"},
        env={"COMPILER_PATH": "{site}"},
        by=GCC,
        stays="unsupported_environment_variable",
    ),
)
