"""What the processes of a client cost at rest: memory after ten jobs and after more, and how often they wake.

    .venv/bin/python benchmarks/idle.py [--jobs 10,1000] [--seconds 60] [--peers DIR]

Our daemon is measured without a scheduler and with one; there the scheduler and a worker are measured as well. A peer's
is ``sccache``'s. Each job compiles a file of its own, which includes two headers. Memory is VmRSS in megabytes (of 10^6
bytes); a process has woken when one of its threads has gone to sleep again, by ``voluntary_ctxt_switches``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import caches
import peers

SETTLED_SECONDS = 15
"""After this long what was noted of the last job is written down."""


def resident(pid: int) -> float:
    """VmRSS in megabytes."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def wakes(pid: int) -> int:
    """How often the threads of a process have woken so far."""
    told = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in told)


def cluster(program: str, directory: Path) -> dict[str, int]:
    """The processes of an embedded cluster with one worker."""
    words = [program, "cluster", "status", "--json", "--dir", str(directory)]
    told = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    return {"worker": told["workers"][0]["pid"], "scheduler": told["scheduler"]["pid"]}


def compile_some(way: peers.Way, work: Path, numbers: range) -> None:
    """Compile a file for each number."""
    for number in numbers:
        text = f'#include <stdio.h>\n#include <stdlib.h>\nint f{number}(void) {{ return printf("{number}"); }}\n'
        (work / f"a{number}.c").write_text(text)
        subprocess.run([*way.prefix, "gcc", "-c", f"a{number}.c"], cwd=work, env=way.env, check=True)


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--jobs", default="10,1000", help="after how many jobs memory is read")
    options.add_argument("--seconds", type=float, default=60.0, help="for how long wakes are counted")
    options.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "sccache-twisted-peers")
    chosen = options.parse_args()
    counts = sorted(map(int, chosen.jobs.split(",")))
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        root = Path(place)
        root.chmod(0o755)  # as root, jobs run as users of their own
        ways = [stack.enter_context(caches.ours(root / "alone", Path(sys.executable).with_name("sccache-twisted")))]
        shared = stack.enter_context(peers.ours(root / "cluster", 1, cache="1G"))
        measured = {"daemon with the disk's cache": ways[0].client_pids[0]}
        measured |= {"daemon that distributes": shared.client_pids[0]} | cluster(shared.prefix[0], root / "cluster")
        programs = [path for path in caches.found(chosen.peers, []) if path.name == "sccache"]
        for number, program in enumerate(programs):
            ways.append(stack.enter_context(caches.sccache(root / f"peer{number}", program)))
            measured[f"{ways[-1].name}, daemon"] = ways[-1].client_pids[0]
        rows: dict[str, list[float]] = {name: [] for name in measured}
        done = 0
        for count in counts:
            for number, way in enumerate([*ways, shared]):
                work = root / f"work{number}"
                work.mkdir(exist_ok=True)
                compile_some(way, work, range(done, count))
            done = count
            time.sleep(SETTLED_SECONDS)
            for name, pid in measured.items():
                rows[name].append(resident(pid))
        before = {name: wakes(pid) for name, pid in measured.items()}
        time.sleep(chosen.seconds)
        for name, pid in measured.items():
            rows[name].append((wakes(pid) - before[name]) * 60 / chosen.seconds)
    print("| process | " + " | ".join(f"MB after {count} jobs" for count in counts) + " | wakes a minute |")
    print("|---" * (len(counts) + 2) + "|")
    for name, figures in rows.items():
        print(f"| {name} | " + " | ".join(f"{figure:.1f}" for figure in figures[:-1]) + f" | {figures[-1]:.0f} |")


if __name__ == "__main__":
    main()
