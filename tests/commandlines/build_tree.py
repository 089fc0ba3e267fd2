"""The tree that the command lines of builds compile."""

from collections.abc import Mapping

from commandline import Case
from exact.project import Content, Folder

TREE: Mapping[str, Content] = {
    "include/k.h": "#define K 1\n",
    "include/linux/kconfig.h": "#define CONFIG_X 1\n",
    "arch/asm.h": "#define A 1\n",
    "kernel/fork.c": "#include <k.h>\nint fork_(void) { return K + CONFIG_X; }\n",
    "kernel/entry.S": "#include <k.h>\n.globl entry\nentry: mov $K, %eax\nret\n",
    "src/main.c": "#include <k.h>\n#include <stddef.h>\nsize_t n(void) { return sizeof(void *) + K; }\n",
    "src/main.cc": "#include <k.h>\n#include <cstddef>\nstd::size_t n() { return sizeof(void *) + K; }\n",
    "src/lib.cpp": "#include <k.h>\nnamespace lib { int get() { return K; } }\n",
    "out": Folder(),
    "out/obj": Folder(),
    "CMakeFiles/t.dir/src": Folder(),
    "CMakeFiles/t.dir/src/unity_0_cxx.cxx": '#include "{site}/src/lib.cpp"\n#include "{site}/src/main.cc"\n',
    ".libs": Folder(),
    ".deps": Folder(),
    "bazel-out/k8-fastbuild/bin/_objs/main": Folder(),
}


def of_a_build(name: str, line: str, outputs: str, *more: str, **known: object) -> Case:
    """A case with that tree around it."""
    return Case(name, line, outputs, *more, files=TREE, **known)  # type: ignore[arg-type]
