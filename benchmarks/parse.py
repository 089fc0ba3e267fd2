"""What it costs to understand a command line: ``python benchmarks/parse.py [--rounds N]``.

Lines as CMake, the kernel's make and libtool write them, and one of clang's with four hundred arguments. Each is parsed
again and again: as it is, when every argument has been seen before, and with macros and directories that never were, as
in a build's first minute. The best of all rounds is told, in microseconds: everything else is somebody else's work.
"""

from __future__ import annotations

import argparse
import time

from sccache_twisted.compilers.commandline import parse
from sccache_twisted.model import Compilation, Compiler, CompilerFamily

ENVIRONMENT = {b"PATH": b"/usr/bin:/bin", b"LC_ALL": b"C.UTF-8"}

_FLAGS = (
    "-Wall -Wextra -Wno-unused-parameter -Werror=return-type -std=gnu++17 -O2 -g -fPIC -fno-exceptions "
    "-fvisibility=hidden -ffile-prefix-map=a=b -march=x86-64"
)
_KERNEL = (
    "-Wp,-MMD,lib/.crc32.o.d -nostdinc -I./arch/x86/include -I./arch/x86/include/generated -I./include "
    "-include ./include/linux/kconfig.h -D__KERNEL__ -fmacro-prefix-map=./= -Wall -Wundef -Werror=strict-prototypes "
    "-Wno-trigraphs -fno-strict-aliasing -fno-common -fshort-wchar -fno-PIE -std=gnu11 -mno-sse -mno-mmx -mno-avx -m64 "
    "-falign-jumps=1 -falign-loops=1 -mno-80387 -mpreferred-stack-boundary=3 -mskip-rax-setup -mtune=generic "
    "-mno-red-zone -mcmodel=kernel -fno-asynchronous-unwind-tables --param=allow-store-data-races=0 "
    '-DKBUILD_MODFILE="lib/crc32" -DKBUILD_BASENAME="crc32" -DKBUILD_MODNAME="crc32" -c -o lib/crc32.o lib/crc32.c'
)
_LIBTOOL = "-DHAVE_CONFIG_H -I. -I.. -g -O2 -MT x.lo -MD -MP -MF .deps/x.Tpo -c x.c -fPIC -DPIC -o .libs/x.o"


def _words(text: str) -> list[bytes]:
    return [word.encode() for word in text.split()]


def _numbered(count: int) -> list[bytes]:
    return [word for n in range(count) for word in (b"-DFOO_%d=%d" % (n, n), b"-I/some/dir/%d" % n)]


def sixty() -> list[bytes]:
    """Sixty arguments, as CMake writes them for Ninja."""
    last = "-isystem /x -isystem /y -include z.h -MD -MT o/a.o -MF o/a.d -pipe -Wl,-z,now -pthread -o o/a.o -c a.cc"
    return _numbered(15) + _words(_FLAGS) + _words(last)


LINES: dict[str, tuple[str, list[bytes]]] = {
    "cmake": ("g++", sixty()),
    "kernel": ("gcc", _words(_KERNEL)),
    "libtool": ("gcc", _words(_LIBTOOL)),
    "long": ("clang++", _numbered(190) + _words(_FLAGS) + _words("-mllvm -x -Xclang -fy -MD -MF d -o o -c a.cc")),
}


def compiler(name: str) -> Compiler:
    """A compiler of this name, which need not be installed."""
    family = CompilerFamily.CLANG if "clang" in name else CompilerFamily.GCC
    path = b"/usr/bin/" + name.encode()
    return Compiler(path, name.encode(), family, "", "x86_64", cplusplus=name.endswith("++"))


def fresh(line: list[bytes], number: int) -> list[bytes]:
    """The same line with macros and directories of another name."""
    return [word.replace(b"FOO_", b"F%d_" % number).replace(b"/dir/", b"/d%d/" % number) for word in line]


def best(name: str, lines: list[list[bytes]]) -> float:
    """The quickest of parsing these lines one after the other, in seconds for one."""
    who = compiler(name)
    quickest = float("inf")
    for line in lines:
        begun = time.perf_counter()
        parsed = parse(who, line, b"/w", ENVIRONMENT, {}.get)
        quickest = min(quickest, time.perf_counter() - begun)
        if not isinstance(parsed, Compilation):
            raise SystemExit(f"{name}: {parsed}")
    return quickest


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=500)
    rounds = options.parse_args().rounds
    print(f"{'line':8} {'arguments':>9} {'seen before':>12} {'never seen':>11}   microseconds")
    for title, (name, line) in LINES.items():
        known = best(name, [line] * rounds)
        new = best(name, [fresh(line, number) for number in range(rounds)])
        print(f"{title:8} {len(line):9} {known * 1e6:12.1f} {new * 1e6:11.1f}")


if __name__ == "__main__":
    main()
