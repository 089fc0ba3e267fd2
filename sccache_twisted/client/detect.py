"""Which compiler a command means: found on the caller's PATH, never ourselves, asked once what it is.

Answers are remembered by the signature of the file that the name leads to, so a changed compiler is asked anew.
"""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from attrs import evolve, frozen

from sccache_twisted.compilers.identify import compiler_name, identify
from sccache_twisted.errors import SccacheTwistedError
from sccache_twisted.interfaces import IProcessRunner
from sccache_twisted.model import Compiler

GUARD = b"_SCCACHE_TWISTED_RUNNING"
LAUNCHER_MARK = b"sccache-twisted launcher"
_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"
_OUTPUT_LIMIT = 1 << 20
_MOST_REMEMBERED = 4096

Signature = tuple[int, int, int, int, int]


class Program(Enum):
    """What stands at a path."""

    NONE = "no program"
    OURSELVES = "the launcher"
    REAL = "another program"


@frozen
class _Known:
    """What was found out about a file; ``compiler`` is None for one that is no compiler we know."""

    signature: Signature
    launcher: bool
    compiler: Compiler | None = None
    asked: bool = False


class CompilerFinder:
    """Finds and identifies compilers. ``more_names``: program names that are taken for compilers besides the usual."""

    def __init__(self, runner: IProcessRunner, more_names: Sequence[str] = ()) -> None:
        self._runner = runner
        self._more_names = frozenset(map(os.fsencode, more_names))
        self._known: dict[bytes, _Known] = {}
        self._files: dict[tuple[bytes, Signature, bytes], bytes] = {}
        self.learnt = 0
        """Grows with every compiler that is identified."""

    def resolve(self, name: bytes, cwd: bytes, env: Mapping[bytes, bytes]) -> tuple[bytes, bytes] | None:
        """The absolute path of the program that a name means to the caller, and by which name to call it.

        None if there is no such program but ourselves. Symbolic links are not followed: compilers look at the name
        that they were called by. gcc looks for itself on PATH by that name, and must not find us: behind a link to
        ourselves it is called by its path.
        """
        if b"/" in name:
            path = name if name.startswith(b"/") else cwd.rstrip(b"/") + b"/" + name
            return (path, name) if self._is_program(path) is Program.REAL else None
        passed_over = False
        for directory in env.get(b"PATH", _DEFAULT_PATH).split(b":"):
            path = (directory or b".") + b"/" + name
            if not path.startswith(b"/"):
                path = cwd.rstrip(b"/") + b"/" + path
            program = self._is_program(path)
            if program is Program.REAL:
                return path, path if passed_over else name
            passed_over = passed_over or program is Program.OURSELVES
        return None

    def may_compile(self, executable: bytes) -> bool:
        """Whether a program's name is a compiler's; others are not even asked."""
        return compiler_name(executable) is not None or os.path.basename(executable) in self._more_names

    async def identify(
        self, executable: bytes, argv0: bytes, cwd: bytes, env: Mapping[bytes, bytes]
    ) -> Compiler | None:
        """The compiler behind a resolved path, or None if it is neither gcc nor clang."""
        signature = file_signature(executable)
        known = self._known.get(executable)
        if known is None or known.signature != signature or not known.asked:
            compiler = await self._ask(executable, argv0, cwd, env)
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[executable] = known = _Known(signature, launcher=False, compiler=compiler, asked=True)
            self.learnt += 1
        return _called(known.compiler, argv0)

    def identified(self) -> tuple[tuple[Compiler, Signature], ...]:
        """The compilers that were identified, with the signatures of their files."""
        return tuple((one.compiler, one.signature) for one in self._known.values() if one.compiler is not None)

    def learn(self, identified: Iterable[tuple[Compiler, Signature]]) -> None:
        """Take over what another finder has identified."""
        for compiler, signature in identified:
            self._known[compiler.executable] = _Known(signature, launcher=False, compiler=compiler, asked=True)

    def recall(self, executable: bytes, argv0: bytes) -> Compiler | None:
        """The compiler behind a resolved path, as far as it is known without asking it."""
        known = self._known.get(executable)
        if known is None or known.signature != file_signature(executable):
            return None
        return _called(known.compiler, argv0)

    async def _ask(self, executable: bytes, argv0: bytes, cwd: bytes, env: Mapping[bytes, bytes]) -> Compiler | None:
        # A wrapper may look for a compiler by name and find us: the guard makes our launcher stand aside.
        asking = {**env, b"LC_ALL": b"C", GUARD: executable}
        try:
            said = await self._runner.run(
                [argv0, b"-v"], executable=executable, cwd=cwd, env=asking, umask=0o077, limit=_OUTPUT_LIMIT
            )
        except SccacheTwistedError:
            return None
        found = identify(said.stdout + said.stderr)
        if found is None:
            return None
        name = compiler_name(executable)
        return Compiler(
            executable=executable,
            argv0=argv0,
            family=found.family,
            version=found.version,
            arch=platform.machine(),
            cplusplus=name is not None and name.cplusplus,
        )

    async def find_files(
        self, compiler: Compiler, names: Sequence[bytes], cwd: bytes, env: Mapping[bytes, bytes]
    ) -> dict[bytes, bytes]:
        """Where a driver finds files of its own by name; those that it doesn't find are missing.

        None with a LIBRARY_PATH, by which it finds more than a worker's would.
        """
        found: dict[bytes, bytes] = {}
        for name in names if not env.get(b"LIBRARY_PATH") else ():
            key = (compiler.executable, file_signature(compiler.executable), name)
            path = self._files.get(key)
            if path is None:
                path = await self._find_file(compiler, name, cwd, env)
                if len(self._files) >= _MOST_REMEMBERED:
                    self._files.clear()
                self._files[key] = path
            if path.startswith(b"/"):
                found[name] = path
        return found

    async def _find_file(self, compiler: Compiler, name: bytes, cwd: bytes, env: Mapping[bytes, bytes]) -> bytes:
        asking = {**env, b"LC_ALL": b"C", GUARD: compiler.executable}
        words = [compiler.argv0, b"-print-file-name=" + name]
        try:
            said = await self._runner.run(
                words, executable=compiler.executable, cwd=cwd, env=asking, umask=0o077, limit=_OUTPUT_LIMIT
            )
        except SccacheTwistedError:
            return b""
        return said.stdout.rstrip(b"\n") if said.status == 0 else b""

    def _is_program(self, path: bytes) -> Program:
        try:
            found = os.stat(path)
        except OSError:
            return Program.NONE
        if not stat.S_ISREG(found.st_mode) or not os.access(path, os.X_OK):
            return Program.NONE
        signature = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._known.get(path)
        if known is None or known.signature != signature:
            known = self._known[path] = _Known(signature, launcher=_is_launcher(path))
        return Program.OURSELVES if known.launcher else Program.REAL


def _called(found: Compiler | None, argv0: bytes) -> Compiler | None:
    """A compiler by the name that it is called by now."""
    return found if found is None or found.argv0 == argv0 else evolve(found, argv0=argv0)


def file_signature(path: bytes) -> Signature:
    """What tells a changed file from an unchanged one, links followed; zeros for what is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0, 0, 0)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _is_launcher(path: bytes) -> bool:
    try:
        with open(path, "rb") as stream:
            start = stream.read(4096)
    except OSError:
        return False
    # The script says so in its second line, the native launcher in a note behind its ELF headers.
    return LAUNCHER_MARK in (start if start.startswith(b"\x7fELF") else start[:64])
