"""What a build loses when two of three workers vanish: sccache-twisted and sccache-dist 0.16 side by side in one run.

    .venv/bin/python benchmarks/churn.py [--peers DIR] [--files N] [--runs N] [--only ours|sccache-dist]
                                         [--case healthy,A1,...] [--limit SECONDS] [--logs DIR] [--json FILE]

A case is a fresh scheduler, client daemon and three workers of two slots each, every host in a network namespace of its
own, and ``make -k -j8`` over ``--files`` C++ files that take about a third of a second each. Workers vanish

* A1 killed (SIGKILL), A2 stopped (SIGSTOP), A3 cut off the network (every packet is dropped), then the build starts;
* B1, B2, B3 by the same three faults while it runs: once a quarter of the objects is there and two workers compile at
  that moment, those two are struck (when that does not come about until half of the objects is there, whichever two
  compile most).

``healthy`` is the same without a fault, and ``plain`` is ``make -j2`` without any tool. Before each build small files
are compiled until every worker has had one, so that no toolchain travels afterwards. The two tools take turns. Timers
are those that each tool comes with. sccache-dist has no slots to set: a worker offers the cores it sees, and on a
machine with two that is the same.

How each number is obtained, alike for both tools:

* local: objects that are there after the build, less ``dist_compiles`` of the tool's own ``--show-stats``, which counts
  what workers compiled; so this is what was compiled on the client. The JSON has the tool's other counters beside it
  (sccache's ``dist_errors``, each followed by a local compilation, our ``local_compiles`` by reason);
* retried: our ``dist_retries``, attempts after a job's first. sccache-dist knows no retries: it compiles locally;
* failed: objects that are not there after the build;
* wall: from make's start to its end. A build longer than ``--limit`` is ended and shown as given up: sccache-dist waits
  for a stopped worker until its own daemon ends for want of requests, after ten minutes, and takes its counters along.
  So the limit must be shorter than that;
* equal: every object that is there has the same bytes as the plain compiler's.

With ``--runs`` the figures are medians, and the plain build is made once a run. Needs root: for namespaces, and for
sccache-dist's sandbox. Whatever our own line has in "local" or "failed" is a bug of ours; ``--logs DIR`` keeps the logs
and journals to look at.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import farm
import peers
from builds import Tree, build, compilers_below, warm_up
from namespaces import Network, Site, network

WORKERS, SLOTS = 3, 2
IDLE_SECONDS = 600
FAULTS = {"1": "killed", "2": "stopped", "3": "cut off"}
CASES = ["healthy", *(when + number for when in "AB" for number in FAULTS)]
Open = Callable[[Path, list[Site]], contextlib.AbstractContextManager[peers.Counted]]


@dataclass
class Run:
    """One build's figures. ``hit`` compilers ran on the victims when they were struck."""

    case: str
    tool: str
    local: int
    retried: int | None
    failed: int
    wall: float
    equal: bool
    gave_up: bool
    hit: int
    counters: dict[str, object]


def strike(fault: str, victims: list[int], workers: list[int], made: Network) -> None:
    """Let workers vanish, by their numbers."""
    for victim in victims:
        if fault == "cut off":
            made.cut(made.sites[1 + victim])
        else:
            os.kill(workers[victim], signal.SIGKILL if fault == "killed" else signal.SIGSTOP)


def busiest(workers: list[int], *, at_any_rate: bool) -> tuple[list[int], int]:
    """The two workers that compile most, and how many compilers they run; nobody while only one compiles."""
    running = {number: compilers_below(pid) for number, pid in enumerate(workers)}
    chosen = sorted(running, key=lambda number: -running[number])[:2]
    if not at_any_rate and not all(running[number] for number in chosen):
        return [], 0
    return chosen, sum(running[number] for number in chosen)


def run(case: str, start: Open, place: Path, tree: Tree, limit: float) -> Run:
    """One case of one tool, in a cluster of its own."""
    fault = FAULTS.get(case[-1], "")
    hit = 0
    with network(1 + WORKERS) as made, start(place, made.sites) as way:
        hub = made.sites[0]
        warm_up(way, hub, place / "warm")

        def during() -> bool:
            nonlocal hit
            done = tree.made()
            if case[0] != "B" or done >= tree.files:
                return True
            if done < tree.files / 4:
                return False
            victims, hit = busiest(way.workers, at_any_rate=done >= tree.files / 2)
            strike(fault, victims, way.workers, made)
            return bool(victims)

        tree.clean()
        if case[0] == "A":
            strike(fault, [0, 1], way.workers, made)
        try:
            wall, gave_up = build(way, hub, tree, limit, during)
            counters, objects = way.stats(), tree.objects()
        finally:
            # Neither a stopped worker nor one without a network ends in order.
            for pid in way.workers if fault else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    if counters["compile_requests"] < len(objects):
        raise SystemExit(f"{case}, {way.name}: the daemon that counted the compilations is gone")
    remote = sum(counters["dist_compiles"].values())
    return Run(
        case=case,
        tool=way.name,
        local=max(0, len(objects) - remote),
        retried=counters.get("dist_retries"),
        failed=tree.files - len(objects),
        wall=wall,
        equal=all(tree.plain[name] == data for name, data in objects.items()),
        gave_up=gave_up,
        hit=hit,
        counters={
            name: counters[name]
            for name in ("compile_requests", "dist_compiles", "dist_errors", "local_compiles")
            if name in counters
        },
    )


def table(plain: list[float], runs: list[Run], limit: float) -> str:
    """Medians as Markdown."""
    rows = [
        "| case | tool | local | retried | failed | wall, s | objects equal to plain |",
        "|---|---|---|---|---|---|---|",
        f"| plain, -j2 | g++ | - | - | 0 | {statistics.median(plain):.1f} | - |",
    ]
    groups: dict[tuple[str, str], list[Run]] = {}
    for each in runs:
        groups.setdefault((each.case, each.tool), []).append(each)
    for (case, tool), group in groups.items():
        when = {"A": " before the build", "B": " during the build"}.get(case[0], "")
        name = f"{case}: {FAULTS[case[-1]]}{when}" if when else case
        retries = [each.retried for each in group if each.retried is not None]
        wall = f"{statistics.median(each.wall for each in group):.1f}"
        gave_up = sum(each.gave_up for each in group)
        if gave_up:
            wall = f"given up after {limit:.0f}" + (f" ({gave_up} of {len(group)} runs)" if len(group) > 1 else "")
        cells = [
            name,
            tool,
            f"{statistics.median(each.local for each in group):g}",
            f"{statistics.median(retries):g}" if retries else "-",
            f"{statistics.median(each.failed for each in group):g}",
            wall,
            "yes" if all(each.equal for each in group) else "no",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


@contextlib.contextmanager
def scratch(logs: Path | None) -> Iterator[Path]:
    """A directory for everything, which the uids of jobs may pass through; ``logs`` receives what was logged in it."""
    place = Path(tempfile.mkdtemp(prefix="churn-"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        for path in (path for kind in ("log", "err", "jobs") for path in place.glob(f"*/*.{kind}") if logs):
            target = Path(str(logs)) / path.relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    """Run the cases and print their table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", choices=("ours", "sccache-dist"))
    parser.add_argument("--case", default=",".join(CASES), help="comma-separated, of %(default)s")
    parser.add_argument("--limit", type=float, default=180.0, help="seconds after which a build is given up")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "sccache-twisted-peers")
    parser.add_argument("--logs", type=Path, help="where to keep the logs")
    parser.add_argument("--json", type=Path, help="where to write every run")
    options = parser.parse_args()
    cases = options.case.split(",")
    if unknown := set(cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    if options.limit >= IDLE_SECONDS:
        parser.error(f"--limit must be below {IDLE_SECONDS} seconds: a daemon may end then, and its counters with it")
    if os.getuid():
        parser.error("namespaces are made by root only")
    tools: dict[str, Open] = {"ours": lambda place, sites: farm.ours(place, sites, SLOTS)}
    if options.only != "ours":
        programs = peers.install(options.peers)
        tools["sccache-dist"] = lambda place, sites: peers.sccache_dist(place, programs, sites)
    # An end by a signal is an end in order too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    runs: list[Run] = []
    plain: list[float] = []
    with scratch(options.logs) as place:
        tree = Tree(place / "tree", options.files)
        for number in range(options.runs):
            plain.append(tree.build_plainly())
            for case in cases:
                for name in [options.only] if options.only else tools:
                    load = os.getloadavg()[0]
                    runs.append(run(case, tools[name], place / f"{case}-{name}-{number}", tree, options.limit))
                    print(f"{runs[-1]} load before: {load:.1f}", file=sys.stderr, flush=True)
    if options.json:
        told = {"plain_walls": plain, "limit": options.limit, "runs": [asdict(each) for each in runs]}
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    print(table(plain, runs, options.limit))


if __name__ == "__main__":
    main()
