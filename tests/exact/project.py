"""A small project made to break exactness: its files, its one command line, and where that is expected to run."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import field, frozen

C = ("gcc", "clang")
CXX = ("g++", "clang++")
BOTH = (*C, *CXX)
GCC = ("gcc",)
GXX = ("g++",)
CLANG = ("clang",)
CLANGXX = ("clang++",)

BASE_TIME_NS = 1_577_880_000_123_456_789
"""When all files were written: the beginning of 2020, with nanoseconds."""

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}


@frozen
class Link:
    """A symbolic link. ``{site}`` in its target stands for the project's root."""

    target: str


@frozen
class HardLink:
    """Another name of a file of the project."""

    of: str


@frozen
class At:
    """A file with a modification time of its own, in seconds after the others'."""

    text: str | bytes
    seconds: float


class Folder:
    """An empty directory."""


Content = str | bytes | Link | HardLink | At | Folder


@frozen
class Project:
    """One project.

    ``line`` is split at blanks unless it is a sequence; ``{cc}`` in it is the compiler, ``{site}`` the root, also in
    ``env`` and ``pwd``. ``by`` are the compilers. ``stays``: the reason why it is not distributed, for all compilers or
    by the name of one; "" where a worker must run it. ``cwd`` is below the root; ``pwd`` what PWD says, None for
    nothing. ``prepared`` are commands that run before. ``status`` is the compilers' own. ``fresh`` files are as new as
    the call. ``varies``: the id between an object and its .dwo is another one with every run.
    """

    name: str
    files: Mapping[str, Content]
    line: str | Sequence[str | bytes] = "{cc} -c a.c -o a.o"
    by: tuple[str, ...] = BOTH
    stays: str | Mapping[str, str] = ""
    env: Mapping[str, str | bytes | None] = field(factory=dict)
    cwd: str = "."
    pwd: str | bytes | None = "{site}"
    prepared: tuple[str, ...] = ()
    status: int | Mapping[str, int] = 0
    umask: int = 0o022
    fresh: bool = False
    varies: bool = False

    def reason(self, compiler: str) -> str:
        """Why it stays here with that compiler; empty if it doesn't."""
        return self.stays if isinstance(self.stays, str) else self.stays.get(compiler, "")

    def ends_with(self, compiler: str) -> int:
        """The exit status with that compiler."""
        return self.status if isinstance(self.status, int) else self.status.get(compiler, 0)

    def words(self, compiler: str, site: Path) -> list[bytes]:
        """The command line."""
        words = self.line.split() if isinstance(self.line, str) else self.line
        return [_filled(word, compiler, site) for word in words]

    def environment(self, compiler: str, site: Path) -> dict[bytes, bytes]:
        """The whole environment, PWD included."""
        told: dict[str, str | bytes | None] = {**ENVIRONMENT, "PWD": self.pwd, **self.env}
        return {os.fsencode(key): _filled(value, compiler, site) for key, value in told.items() if value is not None}

    def lay_out(self, site: Path, compiler: str) -> None:
        """Write the files below an empty directory, and prepare what is to be prepared."""
        for number, (name, content) in enumerate(self.files.items()):
            place = os.path.join(os.fsencode(site), os.fsencode(name))
            os.makedirs(os.path.dirname(place), exist_ok=True)
            _write(place, content, site, BASE_TIME_NS + number, fresh=self.fresh)
        for command in self.prepared:
            filled = command.replace("{cc}", compiler).replace("{site}", str(site))
            argv = ("sh", "-c", filled)
            done = subprocess.run(argv, cwd=site, env=ENVIRONMENT, capture_output=True, check=False)
            assert done.returncode == 0, (filled, done.stderr.decode())


def _filled(word: str | bytes, compiler: str, site: Path) -> bytes:
    return os.fsencode(word).replace(b"{cc}", compiler.encode()).replace(b"{site}", os.fsencode(site))


def _write(place: bytes, content: Content, site: Path, time_ns: int, *, fresh: bool) -> None:
    if isinstance(content, Folder):
        os.makedirs(place, exist_ok=True)
        return
    if isinstance(content, Link):
        os.symlink(content.target.replace("{site}", str(site)), place)
        return
    if isinstance(content, HardLink):
        os.link(os.path.join(os.fsencode(site), os.fsencode(content.of)), place)
        return
    if isinstance(content, At):
        time_ns += int(content.seconds * 1e9)
        content = content.text
    data = content if isinstance(content, bytes) else content.encode()
    with open(place, "wb") as stream:
        stream.write(data.replace(b"{site}", os.fsencode(site)))
    if not fresh:
        os.utime(place, ns=(time_ns, time_ns))
