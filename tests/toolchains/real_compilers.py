"""The compilers of this machine, and what they touch when they run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from sccache_twisted.model import Compiler, CompilerFamily
from sccache_twisted.toolchains import EntryKind, ToolchainFiles
from sccache_twisted.toolchains.tree import Collector

ENV = {b"PATH": b"/usr/local/bin:/usr/bin:/bin", b"LANG": b"C.UTF-8"}

# An open or stat of these changes nothing for C and C++. The loader's cache is left out wherever its default
# directories lead to the same libraries; clang asks every time for CUDA and ROCm, which only their languages use.
NOT_NEEDED = re.compile(rb"/etc/ld\.so\.(cache|preload)$|/dev/|/proc/|/sys/|/usr/local/(cuda|bin(/ptxas)?$)|/opt/rocm")
_CALL = re.compile(rb'^\d+ +(\w+)\((?:AT_FDCWD, |\d+, )?"([^"]*)"(.*)$')
_MADE = re.compile(rb"O_CREAT|O_TRUNC")


def compiler_at(path: bytes) -> Compiler:
    name = os.path.basename(path)
    family = CompilerFamily.CLANG if b"clang" in name else CompilerFamily.GCC
    return Compiler(path, name, family, "", os.uname().machine, cplusplus=name.endswith(b"++"))


def compiler_named(name: str) -> Compiler:
    found = shutil.which(name, path="/usr/bin:/bin")
    assert found is not None, f"{name} is not installed"
    return compiler_at(os.fsencode(found))


def run_in(directory: Path, argv: list[bytes], env: dict[bytes, bytes]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, cwd=directory, env=env, capture_output=True, stdin=subprocess.DEVNULL, check=False)


def touched(directory: Path, argv: list[bytes], env: dict[bytes, bytes]) -> set[bytes]:
    """Every path that a command opened, ran or looked at with success, made absolute."""
    log = directory / "strace.log"
    watch = [b"strace", b"-f", b"-s", b"4096", b"-e", b"trace=file", b"-o", os.fsencode(log)]
    ran = run_in(directory, [*watch, *argv], env)
    assert ran.returncode in {0, 1}, ran.stderr
    found = set()
    for line in log.read_bytes().splitlines():
        match = _CALL.match(line)
        if match is None or b" = -1 " in match[3] or not match[2] or _MADE.search(match[3]):
            continue
        found.add(os.path.join(os.fsencode(directory), match[2]))
    assert len(found) > 10, "strace saw nothing"
    return found


def headers_of(directory: Path, argv: list[bytes], env: dict[bytes, bytes]) -> set[bytes]:
    """The inputs of a compilation as the compiler lists them."""
    ran = run_in(directory, [*argv, b"-M", b"-MF", b"inputs.d"], env)
    if ran.returncode:
        return set()
    words = (directory / "inputs.d").read_bytes().replace(b"\\\n", b" ").partition(b":")[2].split()
    return {os.path.join(os.fsencode(directory), word) for word in words}


def outside(files: ToolchainFiles, paths: set[bytes], inputs: set[bytes], directory: Path) -> set[bytes]:
    """Which of the paths neither the toolchain nor the inputs hold, with every link and directory on the way."""
    known = {entry.path for entry in files.entries}
    around = Collector()
    for path in inputs:
        around.add(path)
    known |= set(around.entries)
    missing = set()
    for path in paths:
        if NOT_NEEDED.match(path) or path.startswith((os.fsencode(directory), b"/tmp")):
            continue
        walk = Collector()
        walk.add(path)
        missing |= {
            place
            for place, entry in walk.entries.items()
            # A directory of headers of which none is an input: no header is found in it, whether it is there or not.
            if place not in known and not (entry.kind is EntryKind.DIRECTORY and b"/include/" in place)
        }
    return missing
