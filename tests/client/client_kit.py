"""What tests of the client share: a lister at work on a real tree, and a root that holds nothing but its inputs."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

from twisted.internet import reactor

from sccache_twisted.client.inputs import FileMemo, Gathered, InputsChanged, Lister, Question, gather
from sccache_twisted.compilers.commandline import parse
from sccache_twisted.model import (
    Compilation,
    Compiler,
    CompilerFamily,
    DirectoryInput,
    FileInput,
    LinkInput,
    RunsLocally,
)
from sccache_twisted.net.processes import ProcessRunner

GCC = Compiler(b"/usr/bin/gcc", b"gcc", CompilerFamily.GCC, "gcc version 12.2.0", platform.machine())
GXX = Compiler(b"/usr/bin/g++", b"g++", CompilerFamily.GCC, "gcc version 12.2.0", platform.machine(), cplusplus=True)
CLANG = Compiler(b"/usr/bin/clang", b"clang", CompilerFamily.CLANG, "Debian clang version 14.0.6", platform.machine())
TOOLCHAIN = ("/usr/bin", "/usr/lib", "/etc/alternatives", "/usr/libexec")
"""What stands for the packaged toolchain: programs and libraries, but no header of /usr/include."""


def env_of(**more: str) -> dict[bytes, bytes]:
    base = {b"PATH": b"/usr/bin:/bin", b"LC_ALL": b"C.UTF-8"}
    return base | {os.fsencode(name): os.fsencode(value) for name, value in more.items()}


def understood(compiler: Compiler, words: list[str], cwd: Path, env: dict[bytes, bytes] | None = None) -> Compilation:
    parsed = parse(compiler, [os.fsencode(word) for word in words], os.fsencode(cwd), env or env_of(), lambda _: None)
    assert isinstance(parsed, Compilation), parsed
    return parsed


async def listed(
    compiler: Compiler,
    words: list[str],
    cwd: Path,
    *,
    env: dict[bytes, bytes] | None = None,
    memo: FileMemo | None = None,
    arrival_ns: int | None = None,
    tries: int = 2,
) -> Gathered | RunsLocally:
    """List and gather as the pipeline does, at most ``tries`` times."""
    env = env or env_of()
    compilation = understood(compiler, words, cwd, env)
    lister = Lister(reactor, ProcessRunner(reactor), 2)
    memo = memo or FileMemo()
    arrival_ns = time.time_ns() if arrival_ns is None else arrival_ns
    earlier = None
    try:
        for left in reversed(range(tries)):
            found = await lister.list(compilation, os.fsencode(cwd), env)
            if isinstance(found, RunsLocally):
                return found
            dependencies, search = found.read(compilation)
            question = Question(
                compilation, os.fsencode(cwd), dependencies, search, arrival_ns, found.began_ns, earlier
            )
            try:
                return gather(question, memo)
            except InputsChanged as changed:
                earlier = changed.signatures
                if not left:
                    raise
            finally:
                found.forget()
    finally:
        lister.close()
    raise AssertionError("no try was allowed")


def by_path(gathered: Gathered | RunsLocally) -> SimpleNamespace:
    assert isinstance(gathered, Gathered), gathered
    return SimpleNamespace(
        files={os.fsdecode(item.path) for item in gathered.inputs if isinstance(item, FileInput)},
        links={
            os.fsdecode(item.path): os.fsdecode(item.target) for item in gathered.inputs if isinstance(item, LinkInput)
        },
        directories={os.fsdecode(item.path) for item in gathered.inputs if isinstance(item, DirectoryInput)},
    )


def rebuilt(gathered: Gathered, root: Path) -> None:
    """Build a root that holds the inputs at their places, and nothing else of this machine."""
    for item in gathered.inputs:
        path = os.fsdecode(item.path)
        if path.startswith(TOOLCHAIN):
            continue
        place = Path(f"{root}{path}")
        if isinstance(item, DirectoryInput):
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(item, LinkInput):
            if not place.is_symlink():
                place.symlink_to(os.fsdecode(item.target))
        else:
            place.write_bytes(Path(path).read_bytes())
            os.utime(place, ns=(item.mtime_ns, item.mtime_ns))
    for directory in TOOLCHAIN:
        Path(f"{root}{directory}").mkdir(parents=True, exist_ok=True)
    for link in ("bin", "lib", "lib64"):
        if not (root / link).is_symlink():
            (root / link).symlink_to(f"usr/{link}")
    for directory in ("proc", "dev", "tmp"):
        (root / directory).mkdir(exist_ok=True)


def compiled_in(root: Path, compiler: Compiler, words: list[str], cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a root made by :func:`rebuilt`, together with the toolchain's programs."""
    binds = [
        part for directory in TOOLCHAIN if os.path.isdir(directory) for part in ("--ro-bind", directory, directory)
    ]
    command = ["bwrap", "--bind", str(root), "/", *binds]
    if os.path.isdir("/usr/lib64"):
        command += ["--ro-bind", "/usr/lib64", "/usr/lib64"]
    command += ["--dev", "/dev", "--chdir", str(cwd), "--clearenv", "--setenv", "PATH", "/usr/bin:/bin"]
    command += ["--setenv", "LC_ALL", "C.UTF-8", "--setenv", "PWD", str(cwd)]
    command += ["--", os.fsdecode(compiler.executable), *words]
    return subprocess.run(command, capture_output=True, check=False)
