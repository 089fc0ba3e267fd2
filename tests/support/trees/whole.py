"""A tree built whole by its own build system, with every file and every byte of diagnostics kept."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import frozen

from support.trees.build import Toolchain, Tree, run_steps
from support.trees.commands import CompileCommand
from support.trees.compare import Side, set_aside, snapshot
from support.trees.sites import Site
from support.trees.station import Station


@frozen
class Built:
    """A whole build: what to compare, and the compilations that the configuration and the build itself ran."""

    side: Side
    probes: tuple[CompileCommand, ...]
    compilations: tuple[CompileCommand, ...]


def build_whole(
    tree: Tree,
    where: Site,
    station: Station,
    toolchain: Toolchain,
    kept: Path,
    *,
    jobs: int,
    prefix: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
    configured: Callable[[], object] = lambda: None,
) -> Built:
    """Lay the tree out, configure and build it with ``prefix`` (a launcher's words) before each compiler.

    ``configured`` is called in between. Everything that appeared moves into ``kept``, and the site is empty again.
    ``toolchain.front`` must be the station's; so both builds of a comparison have the same words in their makefiles.
    Diagnostics are compared for the build, not for configure's probes, whose temporary names are random.
    """
    tree.lay_out(where)
    before = snapshot(where.root)
    station.forget()
    station.set(phase="configure", prefix=prefix)
    run_steps(tree.configure(where, toolchain), extra)
    configured()
    station.set(phase="build", prefix=prefix)
    run_steps(tree.build(where, toolchain, jobs), extra)
    entries = station.entries()
    built = [entry for entry in entries if entry.phase == "build" and entry.compiles]
    side = set_aside(where.root, before, kept, {entry.command.key: entry.result for entry in built})
    where.clear()
    return Built(
        side=side,
        probes=tuple(entry.command for entry in entries if entry.phase == "configure" and entry.compiles),
        compilations=tuple(entry.command for entry in built),
    )
