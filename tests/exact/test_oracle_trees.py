"""The input oracle over the compile commands of real trees: what the compiler finds and misses is what is shipped."""

import os
import time
from itertools import cycle

import pytest
import pytest_twisted
from oracle import Around, World, client, held_against, response_files, summary
from strace_log import traced
from support.trees import TREES, Kind, Layout, record, site, subset, workplace
from support.trees.commands import clean_environment
from twisted.internet import reactor

from sccache_twisted.client.calls import Call

SEED = 4
UNITS = 10
# Abseil's heavier half takes seconds a file.
LIGHTEST = {"re2": 0.3}


async def problems_of(commands, ours, logs):
    """What the oracle says of each command, by its name; an AssertionError for one that does not compile."""
    told = {}
    for command in commands:
        words, cwd = [os.fsencode(word) for word in command.argv], os.fsencode(command.cwd)
        around = clean_environment({} if command.pwd is None else {"PWD": command.pwd})
        env = {os.fsencode(name): os.fsencode(value) for name, value in around.items()}
        ran, seen = traced(words, cwd, env, logs, 0o022)
        assert ran.returncode == 0, ran.stderr.decode()
        call = Call(tuple(words), cwd, env, 0o022, stderr_is_tty=False, arrival_ns=time.time_ns())
        shipped = await ours.shipped(call)
        assert shipped.action is not None, (command.name, shipped.reason)
        told[command.name] = held_against(seen, World(shipped), Around(env, {}, response_files(words, cwd)))
    return told


async def hold(tree, compiler, toolchain_store, count):
    """Lay a tree out, and hold ``count`` of its commands (None: all) against the oracle."""
    layout, kind = next((layout, kind) for layout in Layout for kind in reversed(Kind) if tree.allows(layout, kind))
    with site(kind, layout) as where, workplace() as logs, client(reactor, toolchain_store) as ours:
        recorded = record(tree, layout)
        recorded.lay_out(where)
        commands = recorded.replay(where, compiler, ("-O1", "-g"))
        if count is not None:
            commands = subset(commands, count, seed=SEED, lightest=LIGHTEST.get(tree.name, 1.0))
        told = await problems_of(commands, ours, logs)
        assert len(told) >= (count or UNITS)
        assert summary(told) == ""


@pytest.mark.timeout(600)  # the first one may have to record its tree
@pytest.mark.parametrize(("tree", "compiler"), list(zip(sorted(TREES), cycle(("gcc", "clang")), strict=False)))
@pytest_twisted.ensureDeferred
async def test_units_of_a_tree_are_shipped_whole(toolchain_store, tree, compiler):
    """Ten units of each tree: all that the compiler opened and looked at, and nothing that it missed."""
    await hold(TREES[tree], compiler, toolchain_store, UNITS)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("tree", sorted(TREES))
@pytest_twisted.ensureDeferred
async def test_whole_trees_are_shipped_whole(toolchain_store, tree, compiler):
    """Every unit of each tree."""
    await hold(TREES[tree], compiler, toolchain_store, None)
