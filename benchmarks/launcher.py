"""What one call costs before anybody does anything for it: our launchers, beside sccache's client and ccache.

    python benchmarks/launcher.py [--calls 200] [--peers DIRECTORY]

Ours ask a daemon of this script's that answers at once; ``script, native`` is the script of a wheel without a program,
after its first call. sccache and ccache, if they lie in DIRECTORY or on PATH, answer a hit on a file of one line, which
is as little as they can be asked for. All take turns, so that whatever else the machine does falls on each of them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/launcher")]

from launcher_kit import Installation  # noqa: E402 - after the path
from stub_daemon import StubDaemon  # noqa: E402

from sccache_twisted.launcher import native  # noqa: E402
from sccache_twisted.wire.launcher import Done, encode  # noqa: E402

Way = tuple[list[str], dict[str, str]]


def ours(place: Path, wanted: list[str]) -> dict[str, tuple[Installation, Way]]:
    """Our launchers by name, each installed by itself."""
    program = place / "program"
    native.build(os.fsencode(program), dict(os.environb))
    found = {}
    for name in wanted:
        made = Installation(place / name.replace(", ", "-"), *([program] if name == "native" else []), twistd=False)
        if name == "script, native":
            Path(made.launcher).write_text(native.installed_script(), encoding="utf-8")
            Path(made.launcher).chmod(0o755)
            made.environ["XDG_CACHE_HOME"] = str(made.prefix)
            machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
            target = Path(f"{made.prefix}/sccache-twisted/launcher/{machine}{made.prefix}/bin/{native.digest()}")
            target.mkdir(parents=True)
            shutil.copy(program, target / "sccache-twisted")
        found[name] = (made, ([made.launcher, "gcc", "-c", "a.c", "-o", "a.o"], made.environ))
    return found


def peers(place: Path, directory: str) -> dict[str, Way]:
    """The others that are here, each with its result in store."""
    path = f"{directory}:{os.environ['PATH']}"
    found = {}
    for name, variables in (
        ("sccache", {"SCCACHE_DIR": f"{place}/sccache", "SCCACHE_SERVER_UDS": f"{place}/sccache.sock"}),
        ("ccache", {"CCACHE_DIR": f"{place}/ccache"}),
    ):
        program = shutil.which(name, path=path)
        if program:
            env = {"PATH": "/usr/bin:/bin", "HOME": str(place), **variables}
            found[name] = ([program, "gcc", "-c", "a.c", "-o", "a.o"], env)
            for _ in range(2):
                subprocess.run(found[name][0], env=env, cwd=place, check=True)
    return found


def milliseconds(way: Way, place: Path) -> float:
    """One call."""
    words, env = way
    began = time.perf_counter()
    process = os.posix_spawn(words[0], words, env)
    _, status = os.waitpid(process, 0)
    spent = time.perf_counter() - began
    if status:
        raise SystemExit(f"{words[0]} ended with {os.waitstatus_to_exitcode(status)} in {place}")
    return spent * 1000


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--peers", default="", metavar="DIRECTORY")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sctb-") as name, contextlib.ExitStack() as daemons:
        place = Path(name)
        (place / "a.c").write_text("int a;\n")
        os.chdir(place)
        installed = ours(place, ["native", "script, native", "Python"])
        for made, _ in installed.values():
            daemons.enter_context(StubDaemon(made.socket, encode(Done(0, b"", b""))))
        ways: dict[str, Way] = {"/bin/true": (["/bin/true"], {}), "sh -c :": (["/bin/sh", "-c", ":"], {})}
        ways |= {kind: way for kind, (_, way) in installed.items()} | peers(place, asked.peers)
        spent: dict[str, list[float]] = {kind: [] for kind in ways}
        for _ in range(asked.calls):
            for kind, way in ways.items():
                spent[kind].append(milliseconds(way, place))
        if "sccache" in ways:
            words, env = ways["sccache"]
            subprocess.run([words[0], "--stop-server"], env=env, check=False, capture_output=True)
    print(f"| a call of | median, ms | least, ms |\n|---|---|---|    ({asked.calls} calls each)")
    for kind, times in spent.items():
        print(f"| {kind} | {statistics.median(times):.2f} | {min(times):.2f} |")


if __name__ == "__main__":
    main()
