"""Building the native launcher, ``launcher.c``: with the wheel, or after the first call where that came without one.

Knows which compilers to try and what makes a built launcher good. Refuses to know what a launcher does. Only a launcher
that was tried is ever put in its place, and by a rename: whoever calls meanwhile gets the old one or the new one. The
caller's environment may be that of any build: of it, only PATH counts.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator

from sccache_twisted.launcher import main

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(HERE, "launcher.c")
SCRIPT = os.path.join(HERE, "sccache-twisted")
NAME = b"sccache-twisted"
PYTHON_NAME = b"sccache-twisted-python"
COMPILERS = (b"cc", b"gcc", b"clang")
FLAGS = ("-std=c11", "-O2", "-s")
LINKAGES = (("-static",), ())
SECONDS = 60.0
MOST_BYTES = 64 << 20


class NotBuiltError(Exception):
    """There is no native launcher; the sentence says why."""


def digest() -> str:
    """What tells one version of the native launcher from another."""
    with open(SOURCE, "rb") as source:
        return hashlib.sha256(source.read()).hexdigest()[:16]


def installed_script() -> str:
    """The script as it is installed: it knows the digest of its native launcher, a checkout's doesn't."""
    with open(SCRIPT, encoding="utf-8") as script:
        return script.read().replace("@digest@", digest(), 1)


def build(target: bytes, environ: main.Environment, *, mode: int = 0o755, seconds: float = SECONDS) -> None:
    """Build a launcher, try it, and put it at ``target``; NotBuiltError when no compiler here makes a good one.

    Static where that links. All tries together end after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    reasons = ["there is no C compiler on PATH"]
    with tempfile.TemporaryDirectory(prefix=b".launcher-", dir=os.path.dirname(target)) as place:
        made = os.path.join(place, NAME)
        for compiler in compilers(environ):
            for linkage in LINKAGES:
                words = [compiler, *FLAGS, f'-DDIGEST="{digest()}"', *linkage, "-o", made, SOURCE]
                problem = ran(words, place, cleaned(environ, compiler, place), deadline)
                if not problem:
                    problem = flaw(made, place, cleaned(environ, compiler, place), deadline)
                if not problem:
                    os.chmod(made, mode)
                    os.rename(made, target)
                    return
                reasons.append(f"{os.fsdecode(compiler)}{' '.join(['', *linkage])}: {problem}")
    raise NotBuiltError("; ".join(reasons[1:] or reasons))


def compilers(environ: main.Environment) -> Iterator[bytes]:
    """The C compilers on PATH, none of them ourselves or another's wrapper."""
    found = set()
    for name in COMPILERS:
        for directory in environ.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin").split(b":"):
            path = os.path.join(directory, name)
            if not directory.startswith(b"/") or not main.is_program(path):
                continue
            real = os.path.realpath(path)
            if real in found or main.is_launcher(path) or main.links_to_wrapper(path):
                continue
            found.add(real)
            yield path
            break


def cleaned(environ: main.Environment, compiler: bytes, place: bytes) -> main.Environment:
    """An environment that neither leads to us nor changes what is built."""
    path = environ.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin")
    return {b"PATH": path, b"LC_ALL": b"C", b"TMPDIR": place, main.GUARD: compiler}


def ran(words: list[bytes | str], place: bytes, environ: main.Environment, deadline: float) -> str:
    """What went wrong with a program's run; empty if nothing. Its output is left in ``place``.

    Output goes to files of bounded size, and all that it started ends with it: a compiler that hangs, writes without
    end or leaves children behind must hold nobody.
    """
    with open(place + b"/stdout", "wb") as stdout, open(place + b"/stderr", "wb") as stderr:
        try:
            process = subprocess.Popen(
                words,
                cwd=place,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as problem:
            return str(problem)
        try:
            _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            bounded = MOST_BYTES if most == resource.RLIM_INFINITY else min(MOST_BYTES, most)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (bounded, most))
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return "it does not end"
        except OSError as problem:
            return str(problem)
        finally:
            end_group(process)
    with open(place + b"/stderr", "rb") as said:
        first = said.readline(500).decode("utf-8", "replace").strip()
    return (first or f"status {status}") if status else ""


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End all that a program has started in its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        process.wait()


def flaw(path: bytes, place: bytes, environ: main.Environment, deadline: float) -> str:
    """What is wrong with a launcher that was just built; empty if it is good."""
    if not main.is_launcher(path):
        return "what it makes can't be told from other programs"
    # An emulator might run what is made for another machine, slowly.
    if machine(path) != machine(b"/proc/self/exe"):
        return "what it makes is for another kind of machine"
    problem = ran([path, "--self-test"], place, environ, min(deadline, time.monotonic() + 10))
    if problem:
        return f"what it makes fails its own test: {problem}"
    with open(place + b"/stdout", "rb") as said:
        good = said.read(200) == b"%b %b\n" % (main.MARK, digest().encode())
    return "" if good else "what it makes gives a wrong answer to its own test"


def machine(path: bytes) -> bytes:
    """Word size, byte order and machine, out of a program's ELF header."""
    found = main.first_bytes(path)
    return found[4:6] + found[18:20]
