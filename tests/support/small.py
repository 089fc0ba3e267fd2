"""Small source trees with a Makefile, made on the spot, for tests that ask what happens and not what compilers do."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from support.trees import Side, set_aside, snapshot
from support.trees.commands import clean_environment

MAKE_SECONDS = 240.0
FOR_EVER = 2_000_000_000
"""SPINS with which a slow unit compiles for longer than any test waits."""

_MAKEFILE = """\
CC = gcc
CXX = g++
CFLAGS = -O1 -g -Wall
CXXFLAGS = -O1 -g -std=c++17 -fconstexpr-ops-limit={limit} -fconstexpr-loop-limit={limit}
SPINS = 1000
OBJECTS = {objects}
all: $(OBJECTS)
%.o: %.c
\t$(CC) $(CFLAGS) -MMD -MP -c $< -o $@
%.o: %.cc
\t$(CXX) $(CXXFLAGS) -DSPINS=$(SPINS) -MMD -MP -c $< -o $@
"""

_COMMON = """\
#include <stdio.h>
#include <string.h>
static inline unsigned mix(unsigned a, const char *text) { return a * 31u + (unsigned)strlen(text); }
"""

_FAST = """\
#include "common.h"
unsigned unit{number}(const char *text) {{
    unsigned unused{number};
    printf("unit %d of %s\\n", {number}, text);
    return mix({number}u, text);
}}
"""

# The compiler itself counts, for as long as SPINS says; 100,000 take it about half a second.
_SLOW = """\
constexpr unsigned long spin(unsigned long n) {{
    unsigned long x = {number};
    for (unsigned long i = 0; i < n; i++)
        x = x * 6364136223846793005ul + 1442695040888963407ul;
    return x;
}}
constexpr unsigned long spun = spin(SPINS);
unsigned long unit{number}(unsigned long x) {{ return x + spun; }}
"""


@frozen
class SmallTree:
    """``units`` names of translation units in ``root``, with a Makefile whose first goal is their objects."""

    root: Path
    units: tuple[str, ...]

    @property
    def objects(self) -> tuple[str, ...]:
        """The objects' names."""
        return tuple(f"{unit.partition('.')[0]}.o" for unit in self.units)

    @property
    def left(self) -> list[str]:
        """All names in the tree that its sources do not have."""
        return sorted(set(os.listdir(self.root)) - {*self.units, "Makefile", "common.h"})

    def make(self, *words: str, env: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """A make in a process group of its own, as an interactive shell starts it; all that it says is in one pipe."""
        return subprocess.Popen(
            ["make", *words],
            cwd=self.root,
            env=clean_environment({"PWD": str(self.root), **(env or {})}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def built(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """Make it to the end; what make said. AssertionError when it fails."""
        with running(self.make(*words, env=env)) as make:
            said = make.communicate(timeout=MAKE_SECONDS)[0].decode("utf-8", "replace")
            assert make.returncode == 0, said[-2000:]
            return said

    def build_aside(self, kept: Path, *words: str, env: Mapping[str, str] | None = None) -> Side:
        """Make it to the end and move away all that came into being: the tree is as before."""
        before = snapshot(self.root)
        self.built(*words, env=env)
        return self.aside(before, kept)

    def aside(self, before: Mapping[str, tuple[int, int, int, int]], kept: Path) -> Side:
        """Move away all that came into being since a snapshot."""
        return set_aside(self.root, before, kept, {})


def fast_tree(root: Path, count: int) -> SmallTree:
    """C units that compile in a few hundredths of a second, each with one warning."""
    return _lay_out(root, {f"unit{number}.c": _FAST.format(number=number) for number in range(count)})


def slow_tree(root: Path, count: int, header: str = "") -> SmallTree:
    """C++ units that compile for as long as make's variable SPINS says, and include ``header`` if there is one."""
    first = '#include "common.h"\n' if header else ""
    sources = {f"unit{number}.cc": first + _SLOW.format(number=number) for number in range(count)}
    return _lay_out(root, sources, header or _COMMON)


def _lay_out(root: Path, sources: Mapping[str, str], header: str = _COMMON) -> SmallTree:
    root.mkdir(parents=True, exist_ok=True)
    tree = SmallTree(root, tuple(sources))
    makefile = _MAKEFILE.format(objects=" ".join(tree.objects), limit=FOR_EVER)
    for name, text in {**sources, "Makefile": makefile, "common.h": header}.items():
        (root / name).write_text(text, encoding="utf-8")
    return tree


@contextmanager
def running(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """A process for as long as the block lasts; its whole group is killed at the end if it still runs."""
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
