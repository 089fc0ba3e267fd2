"""A cluster of three on this machine, a real C++ tree compiled through it, and one worker killed on the way.

    make demo            or, in a checkout:  .venv/bin/python examples/demo.py [--files N] [--keep]

The tree is RE2 with the Abseil it needs, out of a source distribution. What is shown at the end is read from the client
daemon's statistics and log, and the objects are compared with those that the compiler alone makes. Exit status 1 if a
single one differs, or if anything was compiled on this machine's own account.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from attrs import field, frozen
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from support.trees import TREES, Layout, Site, Toolchain, run_steps  # noqa: E402 - its place is known only now

OURS = str(Path(sys.executable).parent / "sccache-twisted")
VICTIM = "worker-2"


@frozen
class Unit:
    """One compile command of the tree, as CMake wrote it down."""

    argv: tuple[str, ...]
    cwd: Path
    source: Path
    output: Path

    @property
    def name(self) -> str:
        """How it is called in tables."""
        return self.source.name


@frozen
class Story:
    """What the client's log tells of one file."""

    worker: str
    attempts: int
    seconds: float
    failures: tuple[str, ...] = field(default=())


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Build a C++ tree on a cluster of three, one of which is killed.")
    parser.add_argument("--dir", default=REPOSITORY / ".demo", type=Path, help="where to work (default: .demo)")
    parser.add_argument("--files", default=40, type=int, help="how many files to compile (default: 40)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    options = parser.parse_args()
    console = Console()
    cluster = options.dir / "cluster"
    ours("cluster", "stop", "--dir", str(cluster))
    shutil.rmtree(options.dir, ignore_errors=True)
    options.dir.mkdir(parents=True)
    with console.status("Laying out RE2 and Abseil …"):
        units = lay_out(options.dir / "tree", options.files)
    with console.status("Starting a scheduler and three workers …"):
        ours("cluster", "start", "--dir", str(cluster), "--workers", "3")
    console.print("A scheduler and three workers are running on this machine, with TLS and tokens.")
    # Nothing is stored: a second demonstration shall compile as the first did.
    ours_only = {"SCCACHE_CONF": str(cluster / "client.toml"), "SCCACHE_LOG": "debug", "SCCACHE_CACHE_SIZE": "0"}
    environ = {**os.environ, **ours_only}
    try:
        build(units, environ, cluster, console)
        stats = json.loads(ours("--show-stats", "--stats-format", "json", environ=environ))["stats"]
        stories = read_log(cluster / "logs" / "client.log")
    finally:
        if not options.keep:
            ours("cluster", "stop", "--dir", str(cluster))
    different = compare(units, options.dir / "remote", console)
    return summary(units, stats, stories, different, console)


def ours(*words: str, environ: dict[str, str] | None = None) -> str:
    """Run a command of sccache-twisted; what it printed."""
    done = subprocess.run([OURS, *words], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"sccache-twisted {shlex.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def lay_out(root: Path, count: int) -> list[Unit]:
    """Configure the tree with CMake and take ``count`` of its compile commands, every file of RE2 among them."""
    site = Site(root, Layout.OUT_OF_SOURCE)
    tree = TREES["re2"]
    root.mkdir()
    tree.lay_out(site)
    run_steps(tree.configure(site, Toolchain("gcc", ("-O1", "-g"))))
    commands = json.loads((site.build / "compile_commands.json").read_text(encoding="utf-8"))
    units = [as_unit(command) for command in commands]
    units.sort(key=lambda unit: ("/abseil-cpp/" in str(unit.source), str(unit.source)))
    re2 = [unit for unit in units if "/abseil-cpp/" not in str(unit.source)]
    abseil = units[len(re2) :]
    wanted = max(1, count - len(re2))
    return (re2 + abseil[:: max(1, len(abseil) // wanted)][:wanted])[:count]


def as_unit(command: dict[str, str]) -> Unit:
    """A row of compile_commands.json."""
    argv = tuple(shlex.split(command["command"]))
    cwd = Path(command["directory"])
    return Unit(argv, cwd, Path(command["file"]), cwd / argv[argv.index("-o") + 1])


def build(units: Sequence[Unit], environ: dict[str, str], cluster: Path, console: Console) -> None:
    """Compile everything through the cluster, and kill a worker when a third is done."""
    jobs = int(ours("jobs", environ=environ))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task(f"Compiling with -j{jobs}", total=len(units))
        running = [pool.submit(compile_one, unit, (OURS,), environ) for unit in units]
        try:
            for done, future in enumerate(as_completed(running), 1):
                future.result()
                progress.advance(task)
                if done == len(units) // 3:
                    ours("cluster", "remove", "--dir", str(cluster), VICTIM, "--signal", "KILL")
                    progress.console.print(f"[red]{VICTIM} was killed with SIGKILL, in the middle of its jobs.")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def compile_one(unit: Unit, front: tuple[str, ...], environ: dict[str, str] | None = None) -> None:
    """Run one compile command; a failure ends the demo with the compiler's words."""
    unit.output.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [*front, *unit.argv], cwd=unit.cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        raise SystemExit(
            f"{shlex.join(unit.argv)} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')}"
        )


def read_log(path: Path) -> dict[str, Story]:
    """What became of each source, by its path, out of the daemon's JSON lines."""
    failures: dict[str, list[str]] = {}
    stories: dict[str, Story] = {}
    for event in events(path):
        job = str(event.get("job_id", ""))
        worker = str(event.get("server_id") or "").rpartition("-")[0]
        if event.get("event") == "job_failed":
            failures.setdefault(job, []).append(f"{worker or 'no worker'}: {event['code']}")
        elif event.get("event") == "job_done":
            told = tuple(failures.get(job, ()))
            stories[str(event["label"])] = Story(worker, int(event["attempts"]), float(event["seconds"]), told)
    return stories


def events(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in a log."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def compare(units: Sequence[Unit], aside: Path, console: Console) -> list[Unit]:
    """Compile everything with the compiler alone; which objects differ from those of the cluster."""
    different = []
    for number, unit in enumerate(units):
        kept = aside / f"{number}.o"
        kept.parent.mkdir(exist_ok=True)
        unit.output.rename(kept)
    with Progress(console=console) as progress, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        task = progress.add_task("Compiling the same without the cluster, to compare", total=len(units))
        for number, _ in enumerate(pool.map(lambda unit: compile_one(unit, ()), units)):
            progress.advance(task)
            if units[number].output.read_bytes() != (aside / f"{number}.o").read_bytes():
                different.append(units[number])
    return different


def summary(
    units: Sequence[Unit], stats: dict[str, Any], stories: dict[str, Story], different: Sequence[Unit], console: Console
) -> int:
    """Show where everything ran; the exit status."""
    told = [(unit, find_story(unit, stories)) for unit in units]
    where = Table(title="Where each file ran", pad_edge=False)
    groups = 2
    for _ in range(groups):
        where.add_column("file", overflow="ellipsis", no_wrap=True, max_width=20)
        where.add_column("worker", style="cyan", no_wrap=True, min_width=8)
        where.add_column("tries", justify="right", no_wrap=True, min_width=5)
    cells = [(unit.name, story.worker, str(story.attempts)) if story else (unit.name, "?", "?") for unit, story in told]
    height = -(-len(cells) // groups)
    for row in range(height):
        where.add_row(*(word for cell in cells[row::height] for word in cell))
    console.print(where)

    again = Table(title=f"What was tried again after {VICTIM} was killed")
    for name in ("file", "what happened", "then ran on"):
        again.add_column(name)
    retried = [(unit, story) for unit, story in told if story is not None and story.failures]
    for unit, story in retried:
        again.add_row(unit.name, ", ".join(story.failures), story.worker)
    console.print(again if retried else f"Nothing had to be tried again: {VICTIM} was idle when it was killed.")

    by_worker = ", ".join(f"{name} {count}" for name, count in sorted(stats["dist_compiles"].items()))
    local = stats["local_compiles"]
    good = not local and not different and sum(stats["dist_compiles"].values()) == len(units)
    console.print(f"\nCompiled on workers: {sum(stats['dist_compiles'].values())} of {len(units)} ({by_worker})")
    console.print(f"Tried again: {stats['dist_retries']}")
    console.print(f"Fell back to this machine: {sum(local.values())}{f' {local}' if local else ''}")
    console.print(f"Objects equal to the compiler's own, byte for byte: {len(units) - len(different)} of {len(units)}")
    for unit in different:
        console.print(f"[red]different: {unit.output}")
    console.print("[bold green]As promised." if good else "[bold red]Not as promised.")
    return 0 if good else 1


def find_story(unit: Unit, stories: dict[str, Story]) -> Story | None:
    """The story of a file: a label ends in the path that the command names."""
    return next((story for label, story in stories.items() if label.endswith(str(unit.source))), None)


if __name__ == "__main__":
    started = time.monotonic()
    status = main()
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(status)
