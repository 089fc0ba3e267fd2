"""The three trees: how each is configured and built, under which flags, and where its own build allows it."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import field, frozen

from support.trees.catalog import LUPA, PYNACL, RE2, Source
from support.trees.commands import clean_environment
from support.trees.fetch import fetch
from support.trees.sites import Kind, Layout, Site

HERE = Path(__file__).resolve().parent
STEP_SECONDS = 3600
COMPILERS = ("gcc", "clang")
# clang writes a .dwo only if -g is there too.
FLAGS: dict[str, tuple[str, ...]] = {
    "O0": ("-O0", "-g"),
    "O2": ("-O2", "-g"),
    "O3": ("-O3", "-g", "-march=native", "-gsplit-dwarf"),
}
CXX = {"gcc": "g++", "clang": "clang++"}


class BuildFailed(Exception):
    """A tree's own build ended with an error."""


@frozen
class Toolchain:
    """How a build calls its compiler: ``front`` are the words before it, ``flags`` its optimisation and debug options.

    ``host`` is given when ``front`` only lists compilations: it compiles the programs that the build itself runs.
    """

    compiler: str
    flags: tuple[str, ...]
    front: tuple[str, ...] = ()
    host: str | None = None

    @property
    def dwo_ids_vary(self) -> bool:
        """Whether two runs of the compiler alone differ in the id of a split unit (see ``compare``)."""
        return self.compiler == "gcc" and "-gsplit-dwarf" in self.flags

    @property
    def cc(self) -> str:
        """The C compiler as one make variable."""
        return " ".join((*self.front, self.compiler))

    @property
    def options(self) -> str:
        """The flags as one make variable."""
        return " ".join(self.flags)


@frozen
class Step:
    """One command of a build."""

    argv: tuple[str, ...]
    cwd: Path


@frozen
class Tree:
    """A source tree with its own build system.

    ``ignored`` are names of files that two plain builds write differently: logs with times and process ids, probes.
    """

    name: str
    source: Source
    layouts: tuple[Layout, ...]
    kinds: tuple[Kind, ...]
    configure: Callable[[Site, Toolchain], list[Step]]
    build: Callable[[Site, Toolchain, int], list[Step]]
    overlay: Path | None = None
    ignored: frozenset[str] = field(factory=frozenset)

    def allows(self, layout: Layout, kind: Kind) -> bool:
        """Whether the tree's own build works there."""
        return layout in self.layouts and kind in self.kinds

    def lay_out(self, where: Site) -> None:
        """Fetch the tree if need be and copy it to a site."""
        where.lay_out(fetch(self.source), self.overlay)

    def is_ignored(self, path: str) -> bool:
        """Whether a file differs between two plain builds by its nature."""
        return os.path.basename(path) in self.ignored


def run_steps(steps: Sequence[Step], extra: Mapping[str, str] | None = None) -> None:
    """Run the steps of a build in turn; BuildFailed with the end of its output if one fails."""
    for step in steps:
        environment = clean_environment({**(extra or {}), "PWD": str(step.cwd)})
        done = subprocess.run(
            step.argv,
            cwd=step.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_SECONDS,
            check=False,
        )
        if done.returncode:
            told = done.stdout[-4000:].decode("utf-8", "replace")
            raise BuildFailed(f"{' '.join(step.argv)} in {step.cwd} ended with {done.returncode}:\n{told}")


def _nothing(_where: Site, _toolchain: Toolchain) -> list[Step]:
    return []


def _build_lupa(where: Site, toolchain: Toolchain, jobs: int) -> list[Step]:
    """Five Lua versions and two LuaJITs, without readline, which this machine need not have."""
    make = ("make", f"-j{jobs}", f"CC={toolchain.cc}")
    flags = f"CFLAGS={toolchain.options} -Wall $(MYCFLAGS)"
    # What host programs are made with must run; what can't be linked must not be stripped either.
    host = () if toolchain.host is None else (f"HOST_CC={toolchain.host}", "TARGET_STRIP=:")
    posix = ("MYCFLAGS=$(LOCAL) -std=gnu99 -DLUA_USE_POSIX -DLUA_USE_DLOPEN", "MYLIBS=-ldl")
    steps = [Step((*make, flags, "posix"), where.build / "lua51")]
    # The makefile of 5.2 forgets three files, without which nothing links.
    steps.append(
        Step((*make, flags, *posix, "a", "lua.o", "lctype.o", "lcorolib.o", "lbitlib.o"), where.build / "lua52")
    )
    steps += [Step((*make, flags, *posix, "a", "lua"), where.build / f"lua5{minor}") for minor in (3, 4, 5)]
    jit = (*make, *host, f"CCOPT={toolchain.options} -fomit-frame-pointer")
    return steps + [Step(jit, where.build / f"luajit2{minor}") for minor in (0, 1)]


def _configure_libsodium(where: Site, toolchain: Toolchain) -> list[Step]:
    script = "./configure" if where.layout is Layout.IN_SOURCE else str(where.source / "configure")
    return [Step((script, f"CC={toolchain.cc}", f"CFLAGS={toolchain.options}"), where.build)]


def _build_libsodium(where: Site, _toolchain: Toolchain, jobs: int) -> list[Step]:
    """The library and its test programs, which are compiled and linked but not run."""
    return [
        Step(("make", f"-j{jobs}"), where.build),
        Step(("make", f"-j{jobs}", "check", "TESTS="), where.build),
    ]


def _configure_re2(where: Site, toolchain: Toolchain) -> list[Step]:
    cxx = CXX[toolchain.compiler]
    argv = ["cmake", "-G", "Ninja", "-S", str(where.source), "-B", str(where.build), "-DCMAKE_BUILD_TYPE="]
    argv += [f"-DCMAKE_C_COMPILER={toolchain.compiler}", f"-DCMAKE_CXX_COMPILER={cxx}"]
    argv += [f"-DCMAKE_C_FLAGS={toolchain.options}", f"-DCMAKE_CXX_FLAGS={toolchain.options}"]
    if toolchain.front:
        launcher = ";".join(toolchain.front)
        argv += [f"-DCMAKE_C_COMPILER_LAUNCHER={launcher}", f"-DCMAKE_CXX_COMPILER_LAUNCHER={launcher}"]
    return [Step(tuple(argv), where.build)]


def _build_re2(where: Site, _toolchain: Toolchain, jobs: int) -> list[Step]:
    return [Step(("ninja", f"-j{jobs}"), where.build)]


_BY_CMAKE = frozenset(
    {
        *(".ninja_log", ".ninja_deps", "CMakeOutput.log", "CMakeError.log", "CMakeConfigureLog.yaml"),
        # Compiled with -g in a directory whose name is drawn each time.
        *("CMakeDetermineCompilerABI_C.bin", "CMakeDetermineCompilerABI_CXX.bin"),
    }
)

TREES: dict[str, Tree] = {
    tree.name: tree
    for tree in (
        Tree(
            name="lupa",
            source=LUPA,
            layouts=(Layout.IN_SOURCE,),
            kinds=tuple(Kind),
            configure=_nothing,
            build=_build_lupa,
        ),
        Tree(
            name="libsodium",
            source=PYNACL,
            layouts=tuple(Layout),
            kinds=(Kind.TMP, Kind.SYMLINK),
            configure=_configure_libsodium,
            build=_build_libsodium,
            ignored=frozenset({"config.log"}),
        ),
        Tree(
            name="re2",
            source=RE2,
            layouts=tuple(Layout),
            kinds=tuple(Kind),
            configure=_configure_re2,
            build=_build_re2,
            overlay=HERE / "re2",
            ignored=_BY_CMAKE,
        ),
    )
}
