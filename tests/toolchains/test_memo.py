"""A compiler's digest is remembered for exactly as long as it is true."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from real_compilers import ENV, compiler_at, compiler_named

from sccache_twisted.errors import CompilerNotPackageable, StorageError
from sccache_twisted.toolchains import Answer, PackagedToolchain, ToolchainCache, run_here


class CountingRunner:
    """Asks real compilers, and counts how often."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, argv: Sequence[bytes], env: Mapping[bytes, bytes]) -> Answer:
        self.runs += 1
        return run_here(argv, env)


@pytest.fixture
def place(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path / "toolchains")


def test_a_warm_start_asks_and_packs_nothing(place: bytes, packaged_gcc: PackagedToolchain) -> None:
    """A new daemon finds what the last one packed, and starts no process for it."""
    gcc = compiler_named("gcc")
    assert ToolchainCache(place).lookup(gcc, ENV) is None
    cold = ToolchainCache(place).packaged(gcc, ENV)
    assert cold.digest == packaged_gcc.digest
    runner = CountingRunner()
    warm = ToolchainCache(place, runner)
    assert warm.lookup(gcc, ENV) == cold
    assert warm.packaged(gcc, ENV) == cold
    assert runner.runs == 0
    assert os.stat(cold.path).st_size == cold.archive_size


@pytest.fixture
def own_tools(tmp_path: Path) -> Path:
    """An assembler of our own, first on PATH, so that tests may change it."""
    mine = tmp_path / "bin"
    mine.mkdir()
    shutil.copy2("/usr/bin/as", mine / "as")
    return mine


def env_with(directory: Path) -> dict[bytes, bytes]:
    return ENV | {b"PATH": os.fsencode(directory) + b":" + ENV[b"PATH"]}


def test_every_change_of_a_file_is_noticed_at_the_next_request(place: bytes, own_tools: Path) -> None:
    """A file replaced, or overwritten in place with the same size and time, gives a new digest at once."""
    gcc, env, cache = compiler_named("gcc"), env_with(own_tools), ToolchainCache(place)
    assembler = own_tools / "as"
    seen = [cache.packaged(gcc, env)]
    assert cache.lookup(gcc, env) == seen[0]
    before = assembler.stat()
    with assembler.open("r+b") as out:  # the end of the section table, which nobody loads
        out.seek(-1, os.SEEK_END)
        out.write(b"\x7f")
    os.utime(assembler, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache.lookup(gcc, env) is None
    seen.append(cache.packaged(gcc, env))
    shutil.copy2("/usr/bin/as", own_tools / "new")
    (own_tools / "new").replace(assembler)
    assert cache.lookup(gcc, env) is None
    seen.append(cache.packaged(gcc, env))
    assert seen[0].digest == seen[2].digest != seen[1].digest
    assert os.listdir(place).count(os.path.basename(seen[1].path)) == 0, "the unused archive is removed"


def test_a_file_that_appears_is_noticed(place: bytes, own_tools: Path, tmp_path: Path) -> None:
    """An assembler that comes to stand earlier on PATH changes the toolchain."""
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    env = ENV | {b"PATH": b":".join((os.fsencode(earlier), os.fsencode(own_tools), ENV[b"PATH"]))}
    gcc, cache = compiler_named("gcc"), ToolchainCache(place)
    first = cache.packaged(gcc, env)
    shutil.copy2("/usr/bin/as", earlier / "as")
    assert cache.lookup(gcc, env) is None
    assert cache.packaged(gcc, env).digest != first.digest


def test_a_link_that_turns_elsewhere_is_noticed(place: bytes, tmp_path: Path) -> None:
    """update-alternatives under a running daemon: the next request gets the other compiler."""
    link = tmp_path / "cc"
    link.symlink_to("/usr/bin/gcc")
    cache, compiler = ToolchainCache(place), compiler_at(os.fsencode(link))
    first = cache.packaged(compiler, ENV)
    link.unlink()
    link.symlink_to("/usr/bin/g++")
    assert cache.lookup(compiler, ENV) is None
    assert cache.packaged(compiler, ENV).digest != first.digest


def test_a_lost_archive_is_packed_again(place: bytes) -> None:
    """An archive removed or cut by somebody is not promised to a worker."""
    gcc, cache = compiler_named("gcc"), ToolchainCache(place)
    first = cache.packaged(gcc, ENV)
    os.truncate(first.path, 100)
    assert cache.lookup(gcc, ENV) is None
    assert cache.packaged(gcc, ENV) == first


@pytest.mark.parametrize("damage", [b"", b"garbage", b"\xc1", None])
def test_a_damaged_memo_costs_one_packing(place: bytes, damage: bytes | None) -> None:
    """A memo that is cut, empty or nonsense is as good as none."""
    gcc = compiler_named("gcc")
    first = ToolchainCache(place).packaged(gcc, ENV)
    memo = next(Path(os.fsdecode(place)).glob("*.memo"))
    memo.write_bytes(memo.read_bytes()[:40] if damage is None else damage)
    cache = ToolchainCache(place)
    assert cache.lookup(gcc, ENV) is None
    assert cache.packaged(gcc, ENV) == first


def test_many_threads_pack_once(place: bytes) -> None:
    """Jobs that arrive together on a cold daemon share one packing, and lookups never wait for it."""
    gcc, runner = compiler_named("gcc"), CountingRunner()
    single = CountingRunner()
    ToolchainCache(place + b"-single", single).packaged(gcc, ENV)
    cache = ToolchainCache(place, runner)
    found: list[PackagedToolchain] = []
    threads = [threading.Thread(target=lambda: found.append(cache.packaged(gcc, ENV))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert runner.runs == single.runs


def test_what_cannot_be_packed_fails_each_time_with_its_reason(place: bytes, tmp_path: Path) -> None:
    """A wrapper is refused again at every request, and accepted once it is a compiler."""
    script = tmp_path / "gcc"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    cache, compiler = ToolchainCache(place), compiler_at(os.fsencode(script))
    for _ in range(2):
        with pytest.raises(CompilerNotPackageable):
            cache.packaged(compiler, ENV)
    script.unlink()
    script.symlink_to("/usr/bin/gcc")
    assert cache.packaged(compiler, ENV).digest


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A file where the cache's directory should be is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        ToolchainCache(os.fsencode(tmp_path / "file" / "cache"))
