"""The cache as users meet it: real daemons, a real worker, real disks."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_input_kit import tiny_disk
from support.cluster import Cluster, wait_for
from support.processes import with_variable
from support.trees.commands import clean_environment

from sccache_twisted.compilers.depfile import parse_depfile

CC = '#include "b.h"\n#include <string>\nstd::string f(int x) { int unused; return std::to_string(x) + B; }\n'
C = '#include "b.h"\n#include <stdio.h>\nint f(int x) { int unused; return x * printf(B); }\n'
HEADER = '/* words */\n#define B "b"\n'
LINES = (
    "gcc -Iinc -Wall -O2 -MD -c a.c -o a.o",
    "g++ -Iinc -Wall -g -gsplit-dwarf -MD -MP -c a.cc -o a.o",
    "gcc -Iinc -Wall --coverage -fstack-usage -c a.c -o a.o",
    "clang -Iinc -Wall -g -gsplit-dwarf -MMD -c a.c -o a.o",
    "clang++ -Iinc -Wall -O1 -c a.cc -o a.o",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One worker, and a client that stores what it compiled."""
    with Cluster(1, slots=2, cache=True) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with sources that are no news any more."""
    (tmp_path / "inc").mkdir()
    (tmp_path / "a.c").write_text(C)
    (tmp_path / "a.cc").write_text(CC)
    (tmp_path / "inc/b.h").write_text(HEADER)
    no_news(tmp_path)
    return tmp_path


def no_news(root: Path) -> None:
    """Wait until every file is older than what counts as too new."""
    newest = max(path.stat().st_ctime_ns for path in root.rglob("*"))
    wait_for(lambda: time.time_ns() - newest > 50_000_000, "the sources are no news")


def compiled(cluster: Cluster, folder: Path, line: str, env: dict[str, str] | None = None) -> dict[str, object]:
    """What one call left behind, and said. Its files are removed."""
    done = subprocess.run(
        [*cluster.launcher, *line.split()],
        cwd=folder,
        env={**cluster.env, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = {"stdout": done.stdout, "stderr": done.stderr}
    for path in folder.glob("a.*"):
        if path.suffix not in {".c", ".cc"}:
            found[path.name] = (path.read_bytes(), path.stat().st_mode)
            path.unlink()
    return found


def counts(cluster: Cluster, env: dict[str, str] | None = None) -> tuple[int, int, int]:
    """Hits, misses, and compilations on workers."""
    told = cluster.stats(env)
    stats = told.told["stats"]
    hits, misses = (sum(stats[name]["counts"].values()) for name in ("cache_hits", "cache_misses"))
    return hits, misses, sum(told.dist_compiles.values())


def stored(cluster: Cluster, count: int) -> None:
    """Wait until so many results have been stored since the counters were set to nought."""
    wait_for(lambda: cluster.stats().told["stats"]["cache_writes"] >= count, "the results are stored")


def daemon_pid(env: dict[str, str]) -> int:
    """The daemon behind a client's environment: with its socket in its own."""
    (pid,) = with_variable("SCCACHE_SERVER_UDS", env["SCCACHE_SERVER_UDS"])
    return pid


LOOKS = {
    "inotify_add_watch",
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getcwd",
}
"""What changes nothing, of the calls that name files."""


@contextlib.contextmanager
def traced(pid: int, log: Path) -> Iterator[None]:
    """Write down which processes and threads a process begins, and every call of its that names a file."""
    with subprocess.Popen(
        ["strace", "-f", "-y", "-e", "trace=process,%file", "-o", str(log), "-p", str(pid)], stderr=subprocess.PIPE
    ) as tracer:
        assert tracer.stderr is not None
        assert b"attached" in tracer.stderr.readline()
        yield
        tracer.send_signal(signal.SIGINT)
        tracer.stderr.read()


def changes(log: str, writable: Path) -> list[str]:
    """The calls in a log that do more than look and read, but for those that make files in one directory."""
    found = []
    for call in re.findall(r"^\d+ +(\w+\(.*)", log, re.MULTILINE):
        name, _, words = call.partition("(")
        inside = any(f"{mark}{writable}" in words for mark in '"<')
        reads = name in LOOKS or (
            name.startswith("open") and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC|TMPFILE)", words)
        )
        # A stored result that is used is younger for it; that counts by its open file.
        used = name == "utimensat" and re.match(r"\d+<[^>]*>, NULL, NULL,", words)
        thread = name in {"clone", "clone3"} and "CLONE_THREAD" in words
        ends = name in {"exit", "rseq", "set_robust_list"}
        if not (reads or used or thread or ends or (inside and name in {"openat", "linkat", "renameat", "unlinkat"})):
            found.append(call)
    return found


@pytest.mark.parametrize("line", LINES)
def test_a_hit_is_the_miss_again_and_only_looks_and_reads(
    cluster: Cluster, folder: Path, tmp_path: Path, line: str
) -> None:
    """Files, modes and words are those of the miss; strace sees the daemon begin no process and write the outputs only.

    It opens nothing for writing but files beside the outputs, that take their places: nothing in the cache, no memo.
    """
    cluster.zero_stats()
    log = tmp_path / "strace.log"
    with traced(daemon_pid(cluster.env), log):
        first = compiled(cluster, folder, line)
        stored(cluster, 1)
    # The judgement is worth something: it sees what a miss does.
    found = changes(log.read_text(), folder)
    assert [call for call in found if re.match(r"(clone3?|v?fork)\(", call)]
    assert [call for call in found if cluster.env["SCCACHE_DIR"] in call]
    # What is noted of the miss would be written some seconds later; who asks for it has it written now.
    asked = [*cluster.launcher, "why", "a.c", "a.cc"]
    assert b"was a miss" in subprocess.run(asked, cwd=folder, env=cluster.env, capture_output=True, check=False).stdout
    with traced(daemon_pid(cluster.env), log):
        second = compiled(cluster, folder, line)
    assert second == first
    assert counts(cluster) == (1, 1, 1)
    assert changes(log.read_text(), folder) == []
    assert f'"{folder}/a.c' in log.read_text()


def test_results_outlive_the_daemon_and_its_death(cluster: Cluster, folder: Path) -> None:
    """A new daemon finds what one that was killed had stored."""
    line = "gcc -Iinc -O3 -c a.c -o a.o"
    cluster.zero_stats()
    first = compiled(cluster, folder, line)
    stored(cluster, 1)
    handle = os.pidfd_open(daemon_pid(cluster.env))
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    assert select.select([handle], [], [], 20)[0], "the daemon does not end"
    os.close(handle)
    assert compiled(cluster, folder, line) == first
    assert counts(cluster) == (1, 0, 0)


def test_two_daemons_share_a_directory(cluster: Cluster, folder: Path) -> None:
    """What one client compiled, another one finds, while both run."""
    line = "gcc -Iinc -Os -c a.c -o a.o"
    cluster.zero_stats()
    first = compiled(cluster, folder, line)
    stored(cluster, 1)
    with cluster.another_client("second", {"SCCACHE_DIR": cluster.env["SCCACHE_DIR"]}) as other:
        assert compiled(cluster, folder, line, other) == first
        assert counts(cluster, other) == (1, 0, 0)


def test_a_call_that_stays_here_is_stored_and_found(cluster: Cluster, folder: Path) -> None:
    """What a launcher compiled by itself is stored too; a changed header is a miss, its comment alone is not."""
    line = "gcc -Iinc -O1 -c a.c -o a.o"
    here = {"SCCACHE_NO_DIST": "1"}
    cluster.zero_stats()
    first = compiled(cluster, folder, line, here)
    stored(cluster, 1)
    assert compiled(cluster, folder, line, here) == first
    assert cluster.stats().local_compiles == {"no_dist": 1}
    (folder / "inc/b.h").write_text(HEADER.replace("words", "other words"))
    no_news(folder)
    assert compiled(cluster, folder, line) == first
    assert counts(cluster) == (2, 1, 0)
    (folder / "inc/b.h").write_text(HEADER.replace('"b"', '"c"'))
    no_news(folder)
    assert compiled(cluster, folder, line) != first
    assert counts(cluster) == (2, 2, 1)


def test_statistics_have_sccaches_shape(cluster: Cluster, folder: Path) -> None:
    """Hits and misses by language and compiler, where the entries are, how many bytes there are and may be."""
    cluster.zero_stats()
    for line in ("gcc -Iinc -DX -c a.c -o a.o", "clang++ -Iinc -DX -c a.cc -o a.o"):
        compiled(cluster, folder, line)
    stored(cluster, 2)
    compiled(cluster, folder, "gcc -Iinc -DX -c a.c -o a.o")
    compiled(cluster, folder, "gcc -Iinc -DX -c a.c -o a.o", {"SCCACHE_RECACHE": "1"})
    compiled(cluster, folder, "gcc -Iinc -DX -c a.c -o a.o", {"SCCACHE_NO_CACHE": "1"})
    stored(cluster, 3)
    told = cluster.stats().told
    stats = told["stats"]
    assert stats["cache_hits"] == {"counts": {"C/C++": 1}, "adv_counts": {"c [gcc]": 1}}
    assert stats["cache_misses"] == {"counts": {"C/C++": 3}, "adv_counts": {"c [gcc]": 2, "c++ [clang]": 1}}
    assert (stats["forced_recaches"], stats["not_cached"]) == (1, {"no_cache": 1})
    assert (stats["cache_read_errors"], stats["cache_write_errors"], stats["cache_timeouts"]) == (0, 0, 0)
    assert told["cache_location"] == f'Local disk: "{cluster.env["SCCACHE_DIR"]}"'
    assert told["max_cache_size"] == 10 << 30
    assert 0 < told["cache_size"] < 10 << 20


@contextlib.contextmanager
def lone_client(directory: Path, extra: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a client without a cluster."""
    env = clean_environment(
        {
            "SCCACHE_CONF": str(directory / "client.toml"),
            "SCCACHE_SERVER_UDS": str(directory / "d.sock"),
            "SCCACHE_DIST_CACHE_DIR": str(directory / "toolchains"),
            **extra,
        }
    )
    (directory / "client.toml").touch(0o600)
    try:
        yield env
    finally:
        subprocess.run([*Cluster(0).launcher, "--stop-server"], env=env, capture_output=True, check=False, timeout=60)


@pytest.mark.root
def test_a_full_disk_costs_only_the_cache(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Builds go on when nothing can be stored, each failure is counted, and nothing half-written is left."""
    place = tmp_path_factory.mktemp("d")
    launcher = Cluster(0).launcher
    with tiny_disk(place / "disk", "64k") as disk, lone_client(place, {"SCCACHE_DIR": str(disk / "cache")}) as env:
        (disk / "ballast").write_bytes(bytes(52 << 10))
        for number in range(3):
            line = [*launcher, "gcc", "-Iinc", "-g3", f"-DN={number}", "-c", "a.c", "-o", "a.o"]
            subprocess.run(line, cwd=folder, env=env, check=True, timeout=60)
            (folder / "a.o").unlink()

        def counted() -> dict[str, object]:
            told = [*launcher, "--show-stats", "--stats-format", "json"]
            return json.loads(subprocess.run(told, env=env, capture_output=True, check=True, timeout=60).stdout)[
                "stats"
            ]

        wait_for(lambda: counted()["cache_write_errors"] == 3, "three failures to store are counted")
        assert counted()["cache_writes"] == 0
        assert os.listdir(disk / "cache" / "writing") == []
        (disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        line = [*launcher, "gcc", "-Iinc", "-c", "a.c", "-o", "a.o"]
        subprocess.run(line, cwd=folder, env=env, check=True, timeout=60)
        wait_for(lambda: counted()["cache_writes"] == 1, "there is room again")


def test_checkouts_below_base_directories_share(cluster: Cluster, tmp_path: Path) -> None:
    """With SCCACHE_BASEDIRS what one checkout compiled is a hit in another, whose depfile is its own."""
    checkouts = [tmp_path / "one", tmp_path / "deeper" / "two"]
    for checkout in checkouts:
        (checkout / "inc").mkdir(parents=True)
        (checkout / "inc" / "b.h").write_text(HEADER)
        (checkout / "a.c").write_text(C.replace("int unused; ", ""))
    no_news(tmp_path)
    bases = ":".join(map(str, checkouts))
    with cluster.another_client("based", {"SCCACHE_BASEDIRS": bases}) as env:
        made = []
        for checkout in checkouts:
            line = f"gcc -g -ffile-prefix-map={checkout}=. -I{checkout}/inc -MD -c {checkout}/a.c -o a.o"
            made.append(compiled(cluster, checkout, line, env))
            wait_for(lambda: cluster.stats(env).told["stats"]["cache_writes"] == 1, "the first one is stored")
        assert counts(cluster, env) == (1, 1, 1)
        assert cluster.stats(env).told["basedirs"] == bases.split(":")
        one, two = (entry.pop("a.d")[0] for entry in made)
        for depfile, checkout in zip((one, two), checkouts, strict=True):
            assert parse_depfile(depfile)[0] == f"{checkout}/a.c".encode()
            assert f"{checkout}/inc/b.h".encode() in parse_depfile(depfile)
        assert made[0] == made[1]
