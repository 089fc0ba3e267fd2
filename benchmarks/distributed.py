"""One machine, one run: the same compilations plainly, through us, through sccache-dist 0.16 and through distcc.

    .venv/bin/python benchmarks/distributed.py [--rounds N] [--tree N] [--ways plain,ours,predicted,sccache-dist,distcc]
    .venv/bin/python benchmarks/distributed.py --only-trivial --ways plain,unasked,ours,predicted-unasked,predicted

*ours* never saw a file before; *predicted* saw another text of it, so that no preprocessor runs. The *unasked* ones
hold no slot ahead of a job (``dist.ahead = 0``): beside the others they show what that saves.

Measures, every way in turn in each round (large files call by call) so that a drifting machine hits all alike:

* wall time per call of a trivial C file that was never seen before (no cache can hit: its text is new each time);
* wall time per call of a large C++ file (many headers, about two seconds of template instantiation), new each time;
* wall time and the client's CPU seconds (build processes and the tool's daemon, not the workers) for a C++ tree;
* how many cores of workers one core of the client's can feed then: plain's CPU seconds for the tree by the client's.

By our own statistics every file must have been compiled on a worker, or the run does not count; for a peer the table
says how many were (distcc runs with its fall-back off, so all of its were).

Prints one Markdown table of medians; overheads are against plain in the same run. That of the large file is the median
of the differences between one call and plain's just before it: the machine drifts by more than a way adds.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import peers

LARGE = """
#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <regex>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>
template <int N> struct Table {
    std::map<std::string, std::vector<std::pair<int, std::string>>> rows;
    std::unordered_map<std::string, std::function<int(int)>> calls;
    int fill(std::mt19937& engine) {
        std::regex words("([a-z]+)_([0-9]{" + std::to_string(N % 7 + 1) + "})");
        std::ostringstream text;
        for (int i = 0; i < N; ++i) text << "w_" << engine() % 1000 << ' ';
        std::string all = text.str();
        for (std::sregex_iterator at(all.begin(), all.end(), words), end; at != end; ++at)
            rows[(*at)[1]].emplace_back(N, (*at)[2]);
        calls["n"] = [this](int x) { return x + int(rows.size()) + N; };
        std::sort(rows["w"].begin(), rows["w"].end());
        return calls["n"](N) + Table<N - 1>().fill(engine);
    }
};
template <> struct Table<0> { int fill(std::mt19937&) { return 0; } };
int main() { std::mt19937 engine(UNIQUE); return Table<2>().fill(engine); }
"""


@dataclass
class Figures:
    """What one way took: seconds per call, and (wall, client CPU) of each pass over the tree.

    ``daemon``: CPU seconds that its daemon itself has used for all the trivial files.
    """

    trivial: list[float] = field(default_factory=list)
    large: list[float] = field(default_factory=list)
    tree: list[tuple[float, float]] = field(default_factory=list)
    daemon: float = 0.0
    calls: int = 0
    remote: int = 0


def call(way: peers.Way, compiler: str, arguments: list[str], cwd: Path) -> None:
    """One compilation; a failure ends the benchmark with the compiler's words."""
    run = subprocess.run(
        [*way.prefix, compiler, *arguments], cwd=cwd, env=way.env or None, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise SystemExit(f"{way.name}: {compiler} {' '.join(arguments)} exited with {run.returncode}:\n{run.stderr}")


def timed(action: Callable[[], None]) -> float:
    """Wall seconds of an action."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def unique_numbers() -> Iterator[int]:
    """Numbers that no earlier run used, so that no cache has seen them."""
    number = time.time_ns()
    while True:
        number += 1
        yield number


def tree_sources(count: int, work: Path) -> list[Path]:
    """A generated C++ tree: ``count`` files over shared headers, each with its own mix of the library."""
    include = work / "include"
    include.mkdir(parents=True, exist_ok=True)
    for number in range(40):
        body = f"#pragma once\n#include <string>\n#include <vector>\nnamespace part{number} {{ std::string name(int); "
        (include / f"part{number}.h").write_text(body + "template <class T> T twice(T x) { return x + x; } }\n")
    headers = ["algorithm", "map", "memory", "functional", "sstream", "set", "unordered_map", "tuple", "numeric"]
    sources = []
    for number in range(count):
        used = [headers[(number + step) % len(headers)] for step in range(4)]
        lines = [f"#include <{name}>" for name in used] + [f'#include "part{(number + n) % 40}.h"' for n in range(8)]
        lines += [
            f"std::string part{number % 40}::name(int n) {{ std::vector<std::string> v;",
            f" for (int i = 0; i < n; ++i) v.push_back(std::to_string(i * {number}));",
            f" std::string s; for (auto& x : v) s += part{number % 40}::twice(x); return s; }}",
        ]
        path = work / f"unit{number}.cc"
        path.write_text("\n".join(lines) + "\n")
        sources.append(path)
    return sources


def children_cpu() -> float:
    """CPU seconds of this process's ended children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def build_tree(way: peers.Way, sources: list[Path], unique: int, jobs: int) -> tuple[float, float]:
    """Compile the tree with ``jobs`` calls at once; gives wall and the client's CPU seconds."""

    def one(source: Path) -> None:
        out = source.with_suffix(f".{way.name.split()[0]}.o").name
        call(way, "g++", ["-O1", "-g", "-Iinclude", "-c", source.name, "-o", out], source.parent)

    for source in sources:
        source.write_text(source.read_text() + f"extern long unique_{unique};\n")
    before = children_cpu() + way.daemon_cpu()
    with ThreadPoolExecutor(jobs) as pool:
        wall = timed(lambda: list(pool.map(one, sources)) and None)
    return wall, children_cpu() + way.daemon_cpu() - before


def remotely(way: peers.Way, figures: Figures, counted: Callable[[], int]) -> None:
    """Count what ``counted`` compiles, and how much of it a worker did; it says how many calls it made."""
    before = way.remote()
    calls = counted()
    after = way.remote()
    figures.calls += calls
    figures.remote += calls if before is None or after is None else after - before
    if figures.remote < figures.calls and "twisted" in way.name:
        raise SystemExit(
            f"{way.name}: {figures.calls - figures.remote} of {figures.calls} compilations ran on the client"
        )


def measure_large(way: peers.Way, figures: Figures, work: Path, numbers: Iterator[int]) -> int:
    """One large file."""
    (work / "large.cc").write_text(LARGE.replace("UNIQUE", str(next(numbers) % (1 << 31))))
    figures.large.append(timed(lambda: call(way, "g++", ["-O2", "-g", "-c", "large.cc", "-o", "large.o"], work)))
    return 1


def measure_trivial(
    way: peers.Way, figures: Figures, work: Path, options: argparse.Namespace, numbers: Iterator[int]
) -> int:
    """The trivial files of a round; how many calls that were."""
    own = way.daemon_own_cpu()
    for _ in range(options.trivial):
        (work / "trivial.c").write_text(f"int unique_{next(numbers)}(int x) {{ return x + 1; }}\n")
        figures.trivial.append(timed(lambda: call(way, "gcc", ["-O2", "-c", "trivial.c", "-o", "trivial.o"], work)))
    figures.daemon += way.daemon_own_cpu() - own
    return int(options.trivial)


def measure_tree(
    way: peers.Way, figures: Figures, work: Path, options: argparse.Namespace, numbers: Iterator[int]
) -> int:
    """A pass over the tree; how many calls that were."""
    sources = tree_sources(options.tree, work / "tree")
    passes = 1
    if not figures.tree:
        build_tree(way, sources, next(numbers), options.jobs)  # a build before, for whoever learns from it
        passes = 2
    figures.tree.append(build_tree(way, sources, next(numbers), options.jobs))
    return passes * len(sources)


def warm_up(way: peers.Way, work: Path, numbers: Iterator[int]) -> None:
    """Upload the toolchains before anything is timed."""
    (work / "warm.c").write_text(f"int warm_{next(numbers)};\n")
    (work / "warm.cc").write_text(f"#include <string>\nstd::string warm_{next(numbers)};\n")
    call(way, "gcc", ["-O2", "-c", "warm.c", "-o", "warm.o"], work)
    call(way, "g++", ["-O2", "-c", "warm.cc", "-o", "warm.o"], work)


def table(results: dict[str, Figures]) -> str:
    """The medians as Markdown."""
    base = results["plain"]
    trivial, large = statistics.median(base.trivial), statistics.median(base.large)
    rows = [
        (
            "| way | trivial C, ms | daemon, ms | large C++, s | over plain "
            "| tree, wall s | tree, client CPU s | cores fed | remote |"
        ),
        "|---" * 9 + "|",
    ]
    alone = statistics.median(cpu for _, cpu in base.tree)
    for name, figures in results.items():
        small, big = statistics.median(figures.trivial), statistics.median(figures.large)
        wall, cpu = (statistics.median(column) for column in zip(*figures.tree, strict=True))
        over = "-"
        if name != "plain":
            more = statistics.median(ours - plain for ours, plain in zip(figures.large, base.large, strict=True))
            over = f"{more / large * 100:+.1f} % (trivial {(small - trivial) * 1e3:+.1f} ms)"
        remote = "-" if name == "plain" else f"{figures.remote} of {figures.calls}"
        daemon, fed = "-", "-"
        if name != "plain":
            daemon, fed = f"{figures.daemon / len(figures.trivial) * 1e3:.1f}", f"{alone / cpu:.1f}"
        tree = f"{wall:.2f} | {cpu:.2f} | {fed}"
        rows.append(f"| {name} | {small * 1e3:.1f} | {daemon} | {big:.2f} | {over} | {tree} | {remote} |")
    return "\n".join(rows)


def trivial_table(results: dict[str, Figures]) -> str:
    """The trivial files alone: medians and quartiles as Markdown."""
    rows = ["| way | trivial C, ms | quartiles, ms | remote |", "|---|---|---|---|"]
    for name, figures in results.items():
        low, middle, high = (1e3 * cut for cut in statistics.quantiles(figures.trivial, n=4))
        remote = "-" if name == "plain" else f"{figures.remote} of {figures.calls}"
        rows.append(f"| {name} | {middle:.1f} | {low:.1f} to {high:.1f} | {remote} |")
    return "\n".join(rows)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trivial", type=int, default=20, help="trivial files a round")
    parser.add_argument("--only-trivial", action="store_true", help="neither large files nor a tree")
    parser.add_argument("--large", type=int, default=2, help="large files a round")
    parser.add_argument("--tree", type=int, default=40, help="files of the tree")
    parser.add_argument("--jobs", type=int, default=peers.SLOTS * 2)
    parser.add_argument("--ways", default="plain,ours,predicted,sccache-dist,distcc")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "sccache-twisted-peers")
    options = parser.parse_args()
    wanted = options.ways.split(",")
    programs = peers.install(options.peers) if "sccache-dist" in wanted else options.peers
    scratch = Path(tempfile.mkdtemp(prefix="distributed-"))
    scratch.chmod(0o755)
    starts: dict[str, Callable[[], AbstractContextManager[peers.Way]]] = {
        "plain": lambda: peers.plain(scratch),
        "ours": lambda: peers.ours(scratch / "ours"),
        "predicted": lambda: peers.ours(scratch / "predicted", name="sccache-twisted, predicted", cache="10G"),
        "unasked": lambda: peers.ours(scratch / "unasked", name="sccache-twisted, ahead 0", ahead=0),
        "predicted-unasked": lambda: peers.ours(
            scratch / "predicted-unasked", name="sccache-twisted, predicted, ahead 0", cache="10G", ahead=0
        ),
        "sccache-dist": lambda: peers.sccache_dist(scratch / "sccache", programs),
        "distcc": lambda: peers.distcc(scratch / "distcc"),
    }
    numbers = unique_numbers()
    results: dict[str, Figures] = {}
    try:
        with ExitStack() as stack:
            ways = [stack.enter_context(starts[name]()) for name in wanted]
            work = scratch / "work"
            work.mkdir()
            for way in ways:
                warm_up(way, work, numbers)
            results = {way.name: Figures() for way in ways}
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
                for way in ways:
                    figures = results[way.name]
                    remotely(way, figures, partial(measure_trivial, way, figures, work, options, numbers))
                if options.only_trivial:
                    continue
                # A small difference of large numbers: call by call in turn.
                for _, way in itertools.product(range(options.large), ways):
                    remotely(way, results[way.name], partial(measure_large, way, results[way.name], work, numbers))
                for way in ways:
                    figures = results[way.name]
                    remotely(way, figures, partial(measure_tree, way, figures, work, options, numbers))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(trivial_table(results) if options.only_trivial else table(results))


if __name__ == "__main__":
    main()
