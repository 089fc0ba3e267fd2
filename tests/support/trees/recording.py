"""Each tree's compile commands, recorded once from its own build, to be replayed anywhere in any number.

A recording is made by the tree's own build system with the recorder before gcc: configured for real, then built in
``list`` mode, which generates the sources and lists the compilations. It is kept with the configured tree in the
cache directory. ``replay`` carries it to another directory, compiler and set of flags: words and paths are replaced,
nothing else. Whole builds (``whole``) configure each cell for itself instead.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, frozen

from support.trees.build import CXX, HERE, Toolchain, Tree, run_steps
from support.trees.commands import CompileCommand
from support.trees.fetch import cache_directory, only_one
from support.trees.sites import Layout, Site, workplace
from support.trees.station import Station

# Stands for the flags in a recorded command: a define that no source asks for.
PLACEHOLDER = "-DFLAGS_OF_THE_CELL"
_RECORDED_WITH = "gcc"


@frozen
class Recording:
    """A configured tree in ``content`` and the compile commands that its build ran below ``root``, which is gone."""

    content: Path
    root: str
    commands: tuple[CompileCommand, ...]

    def lay_out(self, where: Site) -> None:
        """Copy the configured tree to a site."""
        for name in os.listdir(self.content):
            shutil.copytree(self.content / name, where.root / name, symlinks=True)

    def replay(self, where: Site, compiler: str, flags: Sequence[str]) -> list[CompileCommand]:
        """The commands as the build would run them at that site with that compiler and those flags."""
        return [_carried(command, self.root, str(where.root), compiler, flags) for command in self.commands]


def record(tree: Tree, layout: Layout, *, jobs: int = 2) -> Recording:
    """The tree's recording, made now unless the cache directory has one of the same tree, kit and tools."""
    name = f"{tree.name}-{layout.value}-{_digest(tree)}"
    home = cache_directory() / "recordings" / name
    with only_one(f"recording-{tree.name}-{layout.value}"):
        if not home.is_dir():
            home.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home.parent) as draft:
                made = Path(draft, "made")
                _make(tree, layout, jobs, made)
                made.rename(home)
    told = json.loads(home.joinpath("commands.json").read_text(encoding="utf-8"))
    commands = tuple(CompileCommand.from_json(each) for each in told["commands"])
    return Recording(home / "content", told["root"], commands)


def subset(commands: Sequence[CompileCommand], count: int, *, seed: int, lightest: float = 1.0) -> list[CompileCommand]:
    """Draw ``count`` commands, out of the given share of those with the least to compile."""
    ranked = sorted(commands, key=lambda command: (command.cost, command.key))
    eligible = ranked[: max(count, int(len(ranked) * lightest))]
    return random.Random(seed).sample(eligible, min(count, len(eligible)))


def _make(tree: Tree, layout: Layout, jobs: int, made: Path) -> None:
    with workplace() as place:
        where = Site(place / "site", layout)
        where.root.mkdir()
        tree.lay_out(where)
        station = Station.laid_out(place / "station")
        toolchain = Toolchain(_RECORDED_WITH, (PLACEHOLDER,), station.front, host=_RECORDED_WITH)
        station.set(phase="configure")
        run_steps(tree.configure(where, toolchain))
        station.set(phase="build", mode="list")
        run_steps(tree.build(where, toolchain, jobs))
        entries = [entry for entry in station.entries() if entry.phase == "build"]
        for stand_in in {name for entry in entries for name in entry.made}:
            if Path(stand_in).is_relative_to(where.root) and os.path.isfile(stand_in):
                os.unlink(stand_in)
        commands = {entry.command.key: entry.command for entry in entries if entry.compiles and entry.made}
        made.mkdir()
        shutil.move(where.root, made / "content")
        listed = [command.as_json() for _, command in sorted(commands.items())]
        told = {"root": str(where.root), "commands": listed}
        made.joinpath("commands.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def _carried(command: CompileCommand, old: str, new: str, compiler: str, flags: Sequence[str]) -> CompileCommand:
    words: list[str] = []
    for word in command.argv:
        words += flags if word == PLACEHOLDER else [word.replace(old, new)]
    words[0] = _instead(words[0], compiler)
    pwd = None if command.pwd is None else command.pwd.replace(old, new)
    return evolve(command, argv=tuple(words), cwd=command.cwd.replace(old, new), pwd=pwd)


def _instead(driver: str, compiler: str) -> str:
    """The same kind of driver from another family, as spelled: /usr/bin/g++ becomes /usr/bin/clang++."""
    folder, name = os.path.split(driver)
    replaced = {_RECORDED_WITH: compiler, CXX[_RECORDED_WITH]: CXX[compiler]}[name]
    return os.path.join(folder, replaced)


def _digest(tree: Tree) -> str:
    """What a recording depends on: the archive, this kit, and the tools of this machine."""
    digest = hashlib.sha256(tree.source.sha256.encode())
    for name in ("build.py", "recording.py", "recorder.py", "re2/CMakeLists.txt"):
        digest.update(HERE.joinpath(name).read_bytes())
    for tool in ("gcc", "make", "cmake"):
        digest.update(subprocess.run([tool, "--version"], capture_output=True, check=True).stdout)
    return digest.hexdigest()[:16]
