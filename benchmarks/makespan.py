"""How near to the ideal a cluster comes whose compiler only sleeps: what is left is scheduling and our own work.

    .venv/bin/python benchmarks/makespan.py [--workers 64] [--waves 8] [--seconds 6]

Real workers with one slot each, real sockets, TLS and sandboxes, one client; the compiler is gcc with a plugin that
sleeps before it compiles an empty file, for times that differ from file to file and on average are what is asked for.
The ideal is the sum of these times, dealt out to the slots without a gap. All processes share this machine, which must
start a compiler, a sandbox and a preprocessor for each job: the sleep should be long enough to leave it idle.
"""

from __future__ import annotations

import argparse
import heapq
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peers

PLUGIN = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int plugin_is_GPL_compatible;
struct argument { char *key, *value; };
struct information { char *base, *path; int argc; struct argument *argv; };

/* Not where only the preprocessor runs. */
static int compiles(void)
{
    char words[65536];
    int file = open("/proc/self/cmdline", O_RDONLY);
    ssize_t size = read(file, words, sizeof words - 1);
    close(file);
    words[size < 0 ? 0 : size] = 0;
    for (char *word = words; word < words + size; word += strlen(word) + 1)
        if (!strcmp(word, "-E"))
            return 0;
    return 1;
}

int plugin_init(struct information *about, void *version)
{
    (void)version;
    if (about->argc && compiles())
        usleep(atoi(about->argv[0].value) * 1000u);
    return 0;
}
"""


def ideal(seconds: Sequence[float], slots: int) -> float:
    """The makespan of these jobs, in order, on so many slots that are never idle while one waits."""
    free = [0.0] * slots
    for each in seconds:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)


def build(way: peers.Way, work: Path, seconds: Sequence[float], jobs: int) -> float:
    """Compile a file for each time; the wall seconds of it all."""

    def one(number: int) -> None:
        sleep = f"-fplugin-arg-sleeper-ms={int(seconds[number] * 1000)}"
        words = [*way.prefix, "gcc", "-fplugin=./sleeper.so", sleep, "-c", f"unit{number}.c", "-o", f"unit{number}.o"]
        subprocess.run(words, cwd=work, env=way.env, check=True)

    for number in range(len(seconds)):
        (work / f"unit{number}.c").write_text(f"int unit{number};\n")
    began = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, range(len(seconds))))
    return time.monotonic() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--waves", type=int, default=8, help="jobs for each worker")
    parser.add_argument("--seconds", type=float, default=6.0, help="what a job takes on average")
    options = parser.parse_args()
    drawing = random.Random(7)
    count = options.workers * options.waves
    seconds = [options.seconds * drawing.uniform(0.5, 1.5) for _ in range(count)]
    scratch = Path(tempfile.mkdtemp(prefix="makespan-"))
    scratch.chmod(0o755)
    try:
        work = scratch / "work"
        work.mkdir()
        (work / "sleeper.c").write_text(PLUGIN)
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", "sleeper.so", "sleeper.c"], cwd=work, check=True)
        with peers.ours(scratch / "ours", workers=options.workers, slots=1) as way:
            build(way, work, [0.1] * options.workers * 2, options.workers)  # every worker gets its toolchain
            before = way.remote() or 0
            wall = build(way, work, seconds, options.workers + 16)
            remote = (way.remote() or 0) - before
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    best = ideal(seconds, options.workers)
    print("| workers | jobs | on workers | ideal, s | makespan, s | over ideal |\n|---|---|---|---|---|---|")
    print(f"| {options.workers} | {count} | {remote} | {best:.1f} | {wall:.1f} | {wall / best - 1:+.1%} |")


if __name__ == "__main__":
    main()
