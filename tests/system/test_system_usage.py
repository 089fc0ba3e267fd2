"""How users call it: variables for one call, links with a compiler's name, and statistics that scripts read."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.processes import with_variable, with_words
from support.trees.commands import clean_environment

SOURCE = "int answer(void) { return 42; }\n"

# sccache's own keys, so that scripts made for it go on working, and ours.
TOP_KEYS = {
    "stats",
    "cache_location",
    "cache_size",
    "max_cache_size",
    "use_preprocessor_cache_mode",
    "version",
    "basedirs",
}
STATS_KEYS = {
    "compile_requests",
    "requests_unsupported_compiler",
    "requests_not_compile",
    "requests_not_cacheable",
    "requests_executed",
    "cache_errors",
    "cache_hits",
    "cache_misses",
    "cache_timeouts",
    "cache_read_errors",
    "non_cacheable_compilations",
    "forced_recaches",
    "cache_write_errors",
    "cache_writes",
    "cache_write_duration",
    "cache_read_hit_duration",
    "compilations",
    "compiler_write_duration",
    "compile_fails",
    "not_cached",
    "dist_compiles",
    "dist_errors",
    "multi_level",
    "local_compiles",
    "not_compile",
    "dist_retries",
}


@pytest.fixture(scope="module")
def cluster():
    """One worker."""
    with Cluster(1, slots=2) as started:
        yield started


@pytest.fixture
def folder(tmp_path):
    """A directory with sources, and ``plain.o`` as the compilers make it by themselves."""
    for name in ("a.c", "a.cc"):
        (tmp_path / name).write_text(SOURCE, encoding="utf-8")
    return tmp_path


def test_no_dist_keeps_one_call_here(cluster, folder):
    """SCCACHE_NO_DIST=1 counts for the call that has it, also when the daemon runs already, and for no other."""
    plain = _plain(folder, "gcc", "a.c")
    cluster.zero_stats()
    assert _ours(cluster, folder, "gcc", "a.c", SCCACHE_NO_DIST="1") == plain
    assert cluster.stats().local_compiles == {"no_dist": 1}
    assert cluster.stats().dist_compiles == {}
    assert _ours(cluster, folder, "gcc", "a.c") == plain
    assert cluster.stats().local_compiles == {"no_dist": 1}
    assert cluster.stats().dist_compiles == {"worker-1": 1}


def test_each_socket_has_a_daemon(cluster, folder):
    """SCCACHE_SERVER_UDS names the socket: a new one gets a daemon of its own, reachable by its user alone."""
    plain = _plain(folder, "gcc", "a.c")
    cluster.zero_stats()
    with cluster.another_client("elsewhere") as env:
        socket = Path(env["SCCACHE_SERVER_UDS"])
        assert not socket.exists()
        assert _ours(cluster, folder, "gcc", "a.c", **env) == plain
        told = socket.stat()
        assert stat.S_ISSOCK(told.st_mode)
        assert stat.S_IMODE(told.st_mode) == 0o600
        assert len(_daemons(env)) == 1
        assert cluster.stats(env).dist_compiles == {"worker-1": 1}
        assert cluster.stats().dist_compiles == {}
    assert _daemons(env) == set()
    assert not socket.exists()


@pytest.mark.parametrize(("name", "source"), [("gcc", "a.c"), ("g++", "a.cc"), ("clang", "a.c")])
def test_a_link_with_a_compilers_name_is_that_compiler(cluster, folder, name, source):
    """A link to the launcher, first on PATH, sends compilations to workers and is the compiler for the rest."""
    links = folder / "links"
    links.mkdir()
    (links / name).symlink_to(cluster.launcher[0])
    path = f"{links}:{os.environ['PATH']}"
    plain = _plain(folder, name, source)
    cluster.zero_stats()
    argv = (name, "-O1", "-g", "-c", source, "-o", "made.o")
    assert _run(argv, folder, {**cluster.env, "PATH": path}, executable=str(links / name)) == plain
    stats = cluster.stats()
    assert stats.local_compiles == {}
    assert stats.dist_compiles == {"worker-1": 1}
    version = subprocess.run(
        [str(links / name), "--version"], env={**cluster.env, "PATH": path}, capture_output=True, check=True
    )
    alone = subprocess.run([name, "--version"], env=clean_environment(), capture_output=True, check=True)
    assert version.stdout == alone.stdout


def test_statistics_have_sccaches_shape(cluster, folder):
    """Every key of sccache's is there with its kind of value, and ours; dist_compiles counts by the worker's name."""
    cluster.zero_stats()
    plain = _plain(folder, "gcc", "a.c")
    assert _ours(cluster, folder, "gcc", "a.c") == plain
    assert subprocess.run(
        [*cluster.launcher, "gcc", "-E", "a.c"], cwd=folder, env=cluster.env, capture_output=True, check=True
    ).stdout
    told = cluster.stats().told
    assert told.keys() >= TOP_KEYS
    stats = told["stats"]
    assert stats.keys() >= STATS_KEYS
    for name in ("cache_errors", "cache_hits", "cache_misses"):
        assert stats[name].keys() >= {"counts", "adv_counts"}
    for name in ("cache_write_duration", "cache_read_hit_duration", "compiler_write_duration"):
        assert stats[name].keys() >= {"secs", "nanos"}
    counters = ("compile_requests", "requests_executed", "requests_not_compile", "compilations", "dist_retries")
    assert {name: stats[name] for name in counters} == {
        "compile_requests": 2,
        "requests_executed": 1,
        "requests_not_compile": 1,
        "compilations": 1,
        "dist_retries": 0,
    }
    assert stats["dist_compiles"] == {"worker-1": 1}
    assert stats["local_compiles"] == {}
    text = subprocess.run([*cluster.launcher, "--show-stats"], env=cluster.env, capture_output=True, check=True).stdout
    assert b"worker-1" in text
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def _plain(folder, compiler, source):
    return _run((compiler, "-O1", "-g", "-c", source, "-o", "made.o"), folder, clean_environment())


def _ours(cluster, folder, compiler, source, **more):
    argv = (*cluster.launcher, compiler, "-O1", "-g", "-c", source, "-o", "made.o")
    return _run(argv, folder, {**cluster.env, **more})


def _run(argv, folder, env, executable=None):
    """The status, both streams, and the object, which is gone afterwards."""
    done = subprocess.run(
        argv,
        executable=executable,
        cwd=folder,
        env={**env, "PWD": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    made = folder / "made.o"
    content = made.read_bytes()
    made.unlink()
    return done.returncode, done.stdout, done.stderr, content


def _daemons(env):
    return set(with_words(b"sccache-client")) & set(with_variable("SCCACHE_SERVER_UDS", env["SCCACHE_SERVER_UDS"]))
