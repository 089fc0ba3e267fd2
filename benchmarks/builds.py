"""A build of small C++ files with make, behind a tool or not, and what can be seen of it from outside while it runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peers
from namespaces import Site

JOBS = 8
WARM_UP_ROUNDS = 20
MAKEFILE = """\
OBJECTS := $(patsubst %.cc,%.o,$(wildcard *.cc))
all: $(OBJECTS)
%.o: %.cc
\t$(CXX) -std=c++17 -O2 -Wall -c $< -o $@
"""
SOURCE = """\
#include <map>
#include <string>
#include <vector>
std::map<std::string, std::vector<int>> unit{n}(int count) {{
    std::map<std::string, std::vector<int>> made;
    for (int i = 0; i < count; ++i) made[std::to_string(i * 7 % {n})].push_back(i + {n});
    return made;
}}
"""


class Tree:
    """The sources, and what the plain compiler makes of them."""

    def __init__(self, root: Path, files: int) -> None:
        root.mkdir()
        self.root, self.files = root, files
        (root / "Makefile").write_text(MAKEFILE)
        for number in range(1, files + 1):
            (root / f"unit{number}.cc").write_text(SOURCE.format(n=number))
        self.plain: dict[str, bytes] = {}

    def build_plainly(self) -> float:
        """Let the compiler alone make the objects, two at a time, and remember them; wall seconds."""
        self.clean()
        start = time.monotonic()
        subprocess.run(["make", "-j2", "CXX=g++"], cwd=self.root, check=True, stdout=subprocess.DEVNULL)
        wall = time.monotonic() - start
        self.plain = self.objects()
        return wall

    def made(self) -> int:
        """How many objects are there."""
        return sum(name.endswith(".o") for name in os.listdir(self.root))

    def objects(self) -> dict[str, bytes]:
        """The objects that are there."""
        return {path.name: path.read_bytes() for path in self.root.glob("*.o")}

    def clean(self) -> None:
        """Remove the objects."""
        for path in self.root.glob("*.o"):
            path.unlink()


def compilers_below(pid: int) -> int:
    """How many C++ compilers a process and its descendants run at this moment."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                name, _, rest = Path(f"/proc/{entry}/stat").read_text().partition("(")[2].rpartition(")")
                parents.setdefault(int(rest.split()[1]), []).append((int(entry), name))
    found, to_see = 0, [pid]
    while to_see:
        for child, name in parents.get(to_see.pop(), []):
            found += name == "cc1plus"
            to_see.append(child)
    return found


def build(way: peers.Way, site: Site, tree: Tree, limit: float, during: Callable[[], bool]) -> tuple[float, bool]:
    """Make the tree; ``during`` is called until it is content. Wall seconds, and whether it was given up."""
    words = ["make", "-k", f"-j{JOBS}", f"CXX={way.prefix[0]} g++"]
    with tempfile.TemporaryFile() as said:
        start = time.monotonic()
        process = subprocess.Popen(
            [*site.enter, *words],
            cwd=tree.root,
            env=way.env,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        content = False
        try:
            while process.poll() is None and time.monotonic() < start + limit:
                content = content or during()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
            wall, gave_up = time.monotonic() - start, process.returncode is None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode > 0:
            said.seek(0)
            print(said.read()[-2000:].decode("utf-8", "replace"), file=sys.stderr)
    return wall, gave_up


def warm_up(way: peers.Counted, site: Site, work: Path) -> None:
    """Compile small files until every worker has compiled one."""
    work.mkdir()

    def one(number: int) -> None:
        (work / f"{number}.cc").write_text(f"#include <string>\nstd::string warm_{number};\n")
        words = [*site.enter, *way.prefix, "g++", "-O2", "-c", f"{number}.cc", "-o", f"{number}.o"]
        subprocess.run(words, cwd=work, env=way.env, check=True, timeout=120)

    for turn in range(WARM_UP_ROUNDS):
        with ThreadPoolExecutor(JOBS) as pool:
            list(pool.map(one, range(turn * JOBS, (turn + 1) * JOBS)))
        if len(way.stats()["dist_compiles"]) == len(way.workers):
            subprocess.run([*way.prefix, "--zero-stats"], env=way.env, check=True, capture_output=True)
            return
    raise SystemExit(f"{way.name}: {WARM_UP_ROUNDS * JOBS} files did not reach every worker")
