"""Building the native launcher, ``launcher.c``.

Knows which compilers to try and what makes a built launcher good. Refuses to know what a launcher does. Only a launcher
that was tried is ever put in its place, and by a rename: whoever calls meanwhile gets the old one or the new one.
"""

from __future__ import annotations

import os
import subprocess
import tempfile

from sccache_twisted.launcher import main

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(HERE, "launcher.c")
NAME = b"sccache-twisted"
COMPILERS = (b"cc", b"gcc", b"clang")
FLAGS = ("-std=c11", "-O2", "-s")
LINKAGES = (("-static",), ())
SECONDS = 60.0


class NotBuiltError(Exception):
    """There is no native launcher; the sentence says why."""


def build(target: bytes, environ: main.Environment, mode: int = 0o755) -> None:
    """Build a launcher, try it, and put it at ``target``; NotBuiltError when no compiler here makes a good one.

    Static where that links. ``environ`` is where compilers are looked for; never a link to ourselves.
    """
    reasons = ["there is no C compiler on PATH"]
    with tempfile.TemporaryDirectory(prefix=b".launcher-", dir=os.path.dirname(target)) as place:
        made = os.path.join(place, NAME)
        for name in COMPILERS:
            compiler, _ = main.resolve([name], environ)
            for linkage in LINKAGES if compiler else ():
                words = [compiler, *FLAGS, *linkage, "-o", made, SOURCE]
                problem = ran(words, {**environ, main.GUARD: compiler}) or flaw(made, environ)
                if not problem:
                    os.chmod(made, mode)
                    os.rename(made, target)
                    return
                reasons.append(f"{os.fsdecode(compiler)}{' '.join(['', *linkage])}: {problem}")
    raise NotBuiltError("; ".join(reasons[1:] or reasons))


def ran(words: list[bytes | str], environ: main.Environment) -> str:
    """What went wrong with a compiler's run; empty if nothing."""
    try:
        ended = subprocess.run(
            words,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    words_of_its_own = ended.stderr.decode("utf-8", "replace").strip()
    return (words_of_its_own.splitlines() or [f"status {ended.returncode}"])[0] if ended.returncode else ""


def flaw(path: bytes, environ: main.Environment) -> str:
    """What is wrong with a launcher that was just built; empty if it is good."""
    if not main.is_launcher(path):
        return "what it makes can't be told from other programs"
    try:
        ended = subprocess.run(
            [path, "--self-test"], env=environ, capture_output=True, stdin=subprocess.DEVNULL, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    good = (ended.returncode, ended.stdout) == (0, main.MARK + b"\n")
    return "" if good else f"what it makes fails its own test with status {ended.returncode}"
