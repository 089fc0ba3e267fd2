"""Real compilers in the real sandbox, as root with a uid of the slot's own."""

import os
import subprocess

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from worker_kit import ENV, TRY, action_of

from sccache_twisted.errors import BadAction

pytestmark = pytest.mark.root

SOURCE = """
#include <stdio.h>
#include <vector>
#include "inc/own.h"
int f(int x) { std::vector<int> v(x); printf("%d", OWN); return v.size(); }
int g(int x) { if (x = 1) return 2; return x; }
"""


def locally(argv, cwd):
    return subprocess.run(argv, cwd=cwd, env=dict(ENV), capture_output=True, check=False)


def content(path):
    return path.read_bytes()


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "inc").mkdir()
    (tmp_path / "inc" / "own.h").write_text("#define OWN 7\n")
    (tmp_path / "a.cc").write_text(SOURCE)
    return tmp_path


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("options", [["-g", "-O2", "-Wall"], ["-O0", "-g3", "-save-temps=obj", "-MMD"]])
@pytest_twisted.ensureDeferred
async def test_object_and_diagnostics_equal_local_ones(shop, packaged, tree, compiler, options):
    """Objects with debug information, depfiles and diagnostics are those of a local run, byte for byte."""
    toolchain = packaged(compiler)
    shop.add_toolchain(toolchain.digest, toolchain.path)
    argv = [compiler, *options, "-c", "a.cc", "-o", "a.o"]
    action = action_of(toolchain.digest, argv, tree, ["a.o", "a.d"], shop.blobs)
    result = await shop.executor.run(TRY, action, 0)
    local = locally(argv, tree)
    assert (result.exit_code, result.stderr) == (0, local.stderr)
    assert local.stderr.count(b"warning") >= ("-Wall" in options)
    written = {output.path: output for output in result.outputs}
    assert written[os.fsencode(tree / "a.o")].data == content(tree / "a.o")
    assert written[os.fsencode(tree / "a.o")].mode == 0o644
    if "-MMD" in options:
        assert written[os.fsencode(tree / "a.d")].data == content(tree / "a.d")
        assert {os.fsencode(tree / "a.ii"), os.fsencode(tree / "a.s")} <= set(result.undeclared)
    assert b".sccache-twisted" not in written[os.fsencode(tree / "a.o")].data
    assert result.figures.cpu_seconds > 0


@pytest_twisted.ensureDeferred
async def test_argv0_is_what_the_user_typed(shop, packaged, tree):
    """A driver called by a bare name is told that name, as its messages show."""
    toolchain = packaged("gcc")
    shop.add_toolchain(toolchain.digest, toolchain.path)
    (tree / "a.c").write_text("int x;\n")
    argv = ["gcc", "-c", "a.c", "-o", "a.o"]
    action = action_of(toolchain.digest, argv, tree, ["a.o"], shop.blobs)
    wrong = attrs.evolve(action, argv=(*action.argv, b"absent.c"))
    result = await shop.executor.run(TRY, wrong, 0)
    local = locally([*argv, "absent.c"], tree)
    assert (result.exit_code, result.stderr) == (local.returncode, local.stderr)
    assert result.stderr.startswith(b"gcc: ")


@pytest_twisted.ensureDeferred
async def test_no_job_adds_options_to_its_sandbox(shop, packaged, tree):
    """A job whose environment would bind the host's root into its sandbox is refused before anything of it runs."""
    toolchain = packaged("gcc")
    shop.add_toolchain(toolchain.digest, toolchain.path)
    (tree / "a.c").write_text("int x;\n")
    action = action_of(toolchain.digest, ["gcc", "-c", "a.c", "-o", "a.o"], tree, ["a.o"], shop.blobs)
    hostile = attrs.evolve(action, env=(*action.env, (b"LANG", b"C\0--bind\0/\0/host")))
    with pytest.raises(BadAction, match="zero byte"):
        await shop.executor.run(TRY, hostile, 0)
    assert (await shop.executor.run(TRY, action, 0)).exit_code == 0


@pytest_twisted.ensureDeferred
async def test_four_at_once(shop, packaged, tmp_path):
    """Four slots compile at once and do not disturb one another."""
    toolchain = packaged("gcc")
    shop.add_toolchain(toolchain.digest, toolchain.path)
    actions = []
    for n in range(4):
        (tmp_path / f"s{n}.c").write_text(f"int f{n}(void) {{ return {n}; }}\n")
        argv = ["gcc", "-g", "-c", f"s{n}.c", "-o", f"s{n}.o"]
        locally(argv, tmp_path)
        actions.append(action_of(toolchain.digest, argv, tmp_path, [f"s{n}.o"], shop.blobs))
    results = await gatherResults([shop.executor.run(TRY, action, slot) for slot, action in enumerate(actions)])
    for n, result in enumerate(results):
        assert result.outputs[0].data == content(tmp_path / f"s{n}.o")
