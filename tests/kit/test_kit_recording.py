"""Recordings: what the trees' own builds compile, replayed anywhere; and two plain builds are equal."""

import os

import pytest
from support.trees import (
    COMPILERS,
    FLAGS,
    TREES,
    CompileCommand,
    Kind,
    Layout,
    Toolchain,
    build_whole,
    differences,
    record,
    run_commands,
    set_aside,
    site,
    snapshot,
    subset,
    workplace,
)
from support.trees.recording import PLACEHOLDER
from support.trees.station import Station

RECORDINGS = [(name, layout) for name, tree in TREES.items() for layout in tree.layouts]
# At least so many translation units; the exact number depends on the machine's compiler and C library.
UNITS = {"lupa": 400, "libsodium": 180, "re2": 170}


@pytest.mark.timeout(900)  # the first time ever, every tree is configured and listed here
@pytest.mark.parametrize(("name", "layout"), RECORDINGS)
def test_a_tree_lists_its_compilations(name, layout):
    """A recording has the whole tree's compilations, each once, each with an output, a size and the cell's flags."""
    commands = record(TREES[name], layout).commands
    assert len(commands) >= UNITS[name]
    assert len({command.key for command in commands}) == len(commands)
    assert all(PLACEHOLDER in command.argv for command in commands)
    assert all(command.cost > 0 or command.argv[-1].endswith(".s") for command in commands)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(TREES))
def test_two_plain_builds_of_a_sample_are_equal(name):
    """The compilers themselves give the same bytes twice in the same directory, so any difference is ours.

    The one exception is the id of a split unit of gcc's, which must still agree with its object's.
    """
    tree = TREES[name]
    kind = Kind.SPACES if Kind.SPACES in tree.kinds else Kind.SYMLINK
    for compiler, flags in (("gcc", "O0"), ("clang", "O3"), ("gcc", "O3")):
        toolchain = Toolchain(compiler, FLAGS[flags])
        with site(kind, tree.layouts[-1]) as where, workplace() as aside:
            recorded = record(tree, where.layout)
            recorded.lay_out(where)
            commands = subset(recorded.replay(where, compiler, toolchain.flags), 4, seed=1, lightest=0.4)
            sides = []
            for turn in ("one", "other"):
                before = snapshot(where.root)
                results = run_commands(commands, jobs=2)
                sides.append(set_aside(where.root, before, aside / turn, results))
            assert differences(*sides, dwo_ids_vary=toolchain.dwo_ids_vary) == []
            assert [result.stderr for result in sides[0].results.values() if result.status] == []
            assert len([path for path in sides[0].files if path.endswith(".o")]) == len(commands)


def test_a_subset_is_drawn_by_seed_out_of_the_light():
    """The same seed draws the same commands, none heavier than the given share's heaviest."""
    commands = record(TREES["re2"], Layout.OUT_OF_SOURCE).commands
    drawn = subset(commands, 20, seed=3, lightest=0.5)
    assert drawn == subset(commands, 20, seed=3, lightest=0.5)
    assert len(set(drawn)) == 20
    median = sorted(command.cost for command in commands)[len(commands) // 2]
    assert max(command.cost for command in drawn) <= median


def test_the_recorder_hands_on_what_the_compiler_says(tmp_path):
    """In ``run`` mode the build sees the compiler's own output and status, and both are written down."""
    station = Station.laid_out(tmp_path / "station")
    station.set(phase="build")
    tmp_path.joinpath("a.c").write_text("int f(void) { return x; }\n", encoding="utf-8")
    argv = ("gcc", "-c", "a.c", "-o", "a.o")
    (plain,) = run_commands([_command(argv, tmp_path)], jobs=1).values()
    (through,) = run_commands([_command((*station.front, *argv), tmp_path)], jobs=1).values()
    assert plain.status == 1
    assert through == plain
    (entry,) = station.entries()
    assert entry.result == plain
    assert entry.command.key == (os.path.realpath(tmp_path), *argv)


def test_listing_a_probe_leaves_devices_alone(tmp_path):
    """A compilation to /dev/null is listed without a stand-in: nothing that exists is touched or removed."""
    station = Station.laid_out(tmp_path / "station")
    station.set(phase="build", mode="list")
    run_commands([_command((*station.front, "gcc", "-c", "-x", "c", "/dev/null", "-o", "/dev/null"), tmp_path)], jobs=1)
    (entry,) = station.entries()
    assert entry.made == ()


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("name", "layout"), RECORDINGS)
def test_two_whole_plain_builds_are_equal(name, layout, compiler):
    """Built whole twice by its own build system, a tree gives the same files and diagnostics but for named logs."""
    tree = TREES[name]
    with site(Kind.TMP, layout) as where, workplace() as place:
        station = Station.laid_out(place / "station")
        toolchain = Toolchain(compiler, FLAGS["O2"], station.front)
        one = build_whole(tree, where, station, toolchain, place / "one", jobs=2)
        other = build_whole(tree, where, station, toolchain, place / "other", jobs=2)
        assert len(one.compilations) >= UNITS[name]
        assert differences(one.side, other.side, tree.is_ignored) == []


def _command(argv, cwd):
    return CompileCommand(argv, str(cwd), str(cwd))
