"""What the tests of this room share: real compilers, parsed and run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sccache_twisted.compilers.commandline import parse
from sccache_twisted.model import Compilation, Compiler, CompilerFamily, ParsedCommand

ENV = {b"PATH": os.environb[b"PATH"], b"LC_ALL": b"C.UTF-8"}


def family_of(name: str) -> CompilerFamily:
    """The family that a compiler's name stands for."""
    return CompilerFamily.CLANG if "clang" in name else CompilerFamily.GCC


def compiler(name: str) -> Compiler:
    """The installed compiler of this name."""
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return Compiler(
        os.fsencode(found),
        name.encode(),
        family_of(name),
        "",
        os.uname().machine,
        cplusplus=name.endswith(("++", "++-12")),
    )


def understand(
    name: str,
    args: Sequence[str | bytes],
    cwd: Path | str = "/nowhere",
    env: Mapping[bytes, bytes] | None = None,
    files: Mapping[bytes, bytes] | None = None,
) -> ParsedCommand:
    """Parse a command line with response files out of ``files``."""
    return parse(
        compiler(name),
        [os.fsencode(arg) for arg in args],
        os.fsencode(str(cwd)),
        ENV if env is None else env,
        (files or {}).get,
    )


def compilation(name: str, *args: str | bytes) -> Compilation:
    """Parse a command line that must be a compilation."""
    parsed = understand(name, args)
    assert isinstance(parsed, Compilation), parsed
    return parsed


def files_below(directory: Path) -> set[bytes]:
    """All regular files below a directory, relative to it."""
    root = os.fsencode(directory)
    return {os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names}


def run(
    name: str, args: Sequence[str | bytes], cwd: Path, env: Mapping[bytes, bytes] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the real compiler with nothing on its standard input."""
    return subprocess.run(
        [os.fsencode(part) for part in (name, *args)],
        cwd=cwd,
        env=dict(ENV if env is None else env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
