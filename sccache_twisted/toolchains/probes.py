"""Questions to a compiler driver and to the dynamic loader, and how their answers are read.

Knows gcc's and clang's ``-print-*`` options and the loader's ``--list``. Refuses to know which answers make
a toolchain. Each question starts a process and waits for it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from sccache_twisted.errors import CompilerNotPackageable
from sccache_twisted.model import Compiler
from sccache_twisted.toolchains.elf import read_elf

QUESTION_SECONDS = 30.0


@frozen
class Answer:
    """What a process said: exit status, and both its streams."""

    status: int
    stdout: bytes
    stderr: bytes


Runner = Callable[[Sequence[bytes], Mapping[bytes, bytes]], Answer]
"""Runs argv (its first word an absolute path) in an environment, stdin empty, and waits; OSError if it can't start."""


def run_here(argv: Sequence[bytes], env: Mapping[bytes, bytes]) -> Answer:
    """Run a command on this machine and wait, at most 30 seconds; OSError when it can't start or stays silent."""
    try:
        ran = subprocess.run(
            argv, env=dict(env), stdin=subprocess.DEVNULL, capture_output=True, timeout=QUESTION_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as problem:
        raise TimeoutError(f"no answer in {QUESTION_SECONDS:g} s") from problem
    return Answer(ran.returncode, ran.stdout, ran.stderr)


_LISTED = re.compile(rb"^\s*(?:\S.* => )?(/.*) \(0x[0-9a-f]+\)$")
_NOT_FOUND = re.compile(rb"^\s*(\S.*) => not found")


class Driver:
    """A compiler driver to be asked, in English and in one environment."""

    def __init__(self, compiler: Compiler, env: Mapping[bytes, bytes], run: Runner) -> None:
        self.executable = compiler.executable
        self._run = run
        # PATH and the loader's variables decide what is found; the locale must not translate the answers.
        self._env = {key: value for key, value in env.items() if key not in _TRANSLATING} | {b"LC_ALL": b"C"}
        self._path = env.get(b"PATH", b"").split(b":") if env.get(b"PATH") else [b"/usr/bin", b"/bin"]

    def ask(self, *options: bytes) -> Answer:
        """Run the driver with options; CompilerNotPackageable when it can't be run or fails."""
        try:
            answer = self._run([self.executable, *options], self._env)
        except OSError as problem:
            raise CompilerNotPackageable(f"{_show(self.executable)} cannot be run: {problem}") from problem
        if answer.status != 0:
            asked = b" ".join(options).decode(errors="replace")
            raise CompilerNotPackageable(f"{_show(self.executable)} {asked} failed with status {answer.status}.")
        return answer

    def line(self, *options: bytes) -> bytes:
        """The one line that the driver prints."""
        return self.ask(*options).stdout.partition(b"\n")[0]

    def file(self, name: bytes) -> bytes | None:
        """Where the driver finds a file of its own; None if it doesn't."""
        found = self.line(b"-print-file-name=" + name)
        return found if found.startswith(b"/") else None

    def program(self, name: bytes) -> tuple[bytes | None, list[bytes]]:
        """Where the driver finds a program, and the places earlier on PATH where it isn't but might come to be."""
        found = self.line(b"-print-prog-name=" + name)
        if found.startswith(b"/"):
            return found, []
        passed: list[bytes] = []
        for directory in self._path:
            if directory.startswith(b"/"):
                place = directory + b"/" + found
                if os.path.isfile(place) and os.access(place, os.X_OK):
                    return place, passed
                passed.append(place)
        return None, passed

    def variants(self) -> list[bytes]:
        """The options that choose another ABI, with directories of its own (gcc only): ``-m32``."""
        lines = self.ask(b"-print-multi-lib").stdout.splitlines()
        return [b"-" + option for line in lines for option in line.partition(b";")[2].split(b"@") if option]

    def search_directories(self, *options: bytes) -> tuple[bytes | None, list[bytes]]:
        """The install directory (gcc only) and every directory on the search paths for programs and libraries."""
        install, found = None, []
        for line in self.ask(*options, b"-print-search-dirs").stdout.splitlines():
            name, _, value = line.partition(b": ")
            if name == b"install":
                install = value
            elif name in {b"programs", b"libraries"}:
                found += [part for part in value.lstrip(b"=").split(b":") if part.startswith(b"/")]
        return install, found

    def chatter(self, language: bytes) -> list[bytes]:
        """The lines of ``-E -v`` on nothing: header directories, configuration files."""
        return self.ask(b"-E", b"-v", b"-x", language, b"/dev/null", b"-o", b"/dev/null").stderr.splitlines()

    def libraries(self, program: bytes) -> Libraries:
        """What the dynamic loader loads for an ELF program or library, by asking that loader."""
        elf = read_elf(program)
        if elf is None:
            raise CompilerNotPackageable(f"{_show(program)} is no ELF program but a script or a wrapper.")
        if not elf.interpreter:
            return Libraries(b"", (), needs_cache=False)
        found = self._loaded(elf.interpreter, program, [])
        bare = self._loaded(elf.interpreter, program, [b"--inhibit-cache"])
        same = bare is not None and [os.path.realpath(path) for path in bare] == [
            os.path.realpath(p) for p in found or ()
        ]
        if found is None:
            raise CompilerNotPackageable(
                f"the libraries of {_show(program)} cannot be listed by {_show(elf.interpreter)}."
            )
        return Libraries(elf.interpreter, tuple(found), needs_cache=not same)

    def plugin_needs(self, plugin: bytes) -> tuple[bytes, ...]:
        """What the loader maps for a plugin besides what the compiler's own programs have already.

        And the directory of plugins, which gcc looks at whether the plugin lies there or not.
        CompilerNotPackageable where it can't tell, or finds a library only by its cache, which no sandbox has.
        """
        programs = [os.path.realpath(self.executable), *(self.program(name)[0] for name in (b"cc1", b"cc1plus"))]
        loaded = [self.libraries(program) for program in programs if program is not None]
        found = self._loaded(loaded[0].loader, plugin, [b"--inhibit-cache"])
        if found is None:
            raise CompilerNotPackageable(f"the libraries of {_show(plugin)}, a plugin, cannot be found.")
        known = {path for each in loaded for path in each.paths}
        directory = self.file(b"plugin")
        return (*(path for path in found if path not in known), *([directory] if directory is not None else ()))

    def _loaded(self, loader: bytes, program: bytes, options: list[bytes]) -> list[bytes] | None:
        try:
            answer = self._run([loader, *options, b"--list", program], self._env)
        except OSError:
            return None
        if answer.status != 0:
            return None
        found = []
        for line in answer.stdout.splitlines():
            match = _LISTED.match(line)
            if match:
                found.append(match[1])
            elif missing := _NOT_FOUND.match(line):
                if options:
                    return None
                raise CompilerNotPackageable(f"{_show(program)} needs {_show(missing[1])}, which is not installed.")
        return found


@frozen
class Libraries:
    """A program's loader and the libraries it loads, as spelled; ``needs_cache``: only ld.so.cache leads to them."""

    loader: bytes
    paths: tuple[bytes, ...]
    needs_cache: bool


_TRANSLATING = {b"LANG", b"LANGUAGE", b"LC_ALL", b"LC_CTYPE", b"LC_MESSAGES"}


def header_directories(lines: list[bytes]) -> list[bytes]:
    """The header search path in a driver's chatter, with the directories that it names as not existing."""
    found, inside = [], False
    for line in lines:
        if line.endswith(b"search starts here:"):
            inside = True
        elif line.startswith(b"End of search list"):
            inside = False
        elif inside and line.startswith(b" /"):
            found.append(line[1:])
    return found


def configuration_files(lines: list[bytes]) -> list[bytes]:
    """The configuration and specs files in a driver's chatter."""
    marks = (b"Configuration file: ", b"Reading specs from ")
    return [line.partition(mark)[2] for line in lines for mark in marks if line.startswith(mark)]


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
