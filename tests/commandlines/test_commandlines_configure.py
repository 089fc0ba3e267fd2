"""Configure scripts and CMake's checks ask the compiler behind us the same as the compiler alone, and hear the same."""

import shutil
import subprocess
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.trees.catalog import GEVENT, PYNACL
from support.trees.commands import clean_environment
from support.trees.fetch import fetch
from support.trees.sites import workplace

CHECKS = Path(__file__).parent / "checks"
LAUNCHER = Cluster(0).launcher[0]
# They tell the time, and of directories and files with random names.
LOGS = {".ninja_log", ".ninja_deps", "config.log", "CMakeOutput.log", "CMakeError.log", "CMakeConfigureLog.yaml"}
SECONDS = 900

TREES = {
    "libev": (GEVENT, "libev", "gcc", "g++"),
    "c-ares": (GEVENT, "c-ares", "clang", "clang++"),
    "libsodium": (PYNACL, ".", "gcc", "g++"),
}


@pytest.fixture(scope="module")
def cluster():
    """Two workers, and a client with a cache, so that a probe that is asked twice is answered out of it."""
    with Cluster(2, slots=2, cache=True) as started:
        yield started


def asked(argv, cwd, env):
    """What a script says on its terminal, and every file that is there afterwards but its logs."""
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    files = {}
    for path in sorted(cwd.rglob("*")):
        if path.is_file() and path.name not in LOGS:
            files[path.relative_to(cwd).as_posix()] = (path.stat().st_mode, path.read_bytes())
    return done.stdout, done.stderr, files


def compared(plain, ours):
    """The names of files that differ, for two answers that are equal otherwise."""
    assert ours[:2] == plain[:2]
    return [name for name in plain[2].keys() | ours[2].keys() if plain[2].get(name) != ours[2].get(name)]


def ran_elsewhere(cluster):
    """How much was compiled on this cluster's workers."""
    ran = cluster.stats().dist_compiles
    assert set(ran) <= set(cluster.status().workers)
    return sum(ran.values())


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "libev" else pytest.mark.full) for name in TREES]
)
def test_a_configure_script_hears_the_same(cluster, name):
    """CC is the launcher with a compiler: config.h, makefiles, libtool and each word on the terminal are equal."""
    source, folder, cc, cxx = TREES[name]
    told = []
    cluster.zero_stats()
    with workplace() as place:
        front = place / "front"
        for prefix in ("", LAUNCHER):
            # One name for both, since it ends up in the makefiles.
            front.write_text(f'#!/bin/sh\nexec {prefix} "$@"\n')
            front.chmod(0o755)
            tree = place / "tree"
            shutil.rmtree(tree, ignore_errors=True)
            shutil.copytree(fetch(source) / folder, tree, symlinks=True)
            env = clean_environment({"CC": f"{front} {cc}", "CXX": f"{front} {cxx}", "PWD": str(tree)})
            if prefix:
                env |= {key: value for key, value in cluster.env.items() if key.startswith("SCCACHE_")}
            told.append(asked(["sh", "./configure"], tree, env))
    assert compared(*told) == []
    assert any(path.endswith(("config.h", "Makefile")) for path in told[0][2])
    assert ran_elsewhere(cluster) > 20


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("generator", ["Unix Makefiles", "Ninja"])
@pytest.mark.parametrize(("cc", "cxx"), [("gcc", "g++"), ("clang", "clang++")])
def test_cmake_s_checks_hear_the_same(cluster, cc, cxx, generator):
    """The compiler is a link to the launcher: all answers, the cache and what CMake knows of the compiler are equal."""
    told = []
    cluster.zero_stats()
    with workplace() as place:
        for ours in (False, True):
            links = place / "bin"
            shutil.rmtree(links, ignore_errors=True)
            links.mkdir()
            for program in (cc, cxx):
                (links / program).symlink_to(LAUNCHER if ours else shutil.which(program))
            tree = place / "tree"
            shutil.rmtree(tree, ignore_errors=True)
            shutil.copytree(CHECKS, tree)
            env = clean_environment({"PWD": str(tree)})
            if ours:
                env |= {key: value for key, value in cluster.env.items() if key.startswith("SCCACHE_")}
            argv = ["cmake", "-G", generator, "-B", "build"]
            argv += [f"-DCMAKE_C_COMPILER={links / cc}", f"-DCMAKE_CXX_COMPILER={links / cxx}"]
            told.append(asked(argv, tree, env))
            assert b"HAVE_IPO" in told[-1][2]["build/answers.txt"][1]
    # The programs that are looked into are linked of objects with random names; gcc's LTO is random in itself.
    differing = [name for name in compared(*told) if not name.endswith((".bin", "a.out", ".o", ".a"))]
    assert differing == []
    assert ran_elsewhere(cluster) > 20
