"""The client as a library, in a program of one's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve
from client_kit import env_of
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults

from sccache_twisted.client import Client
from sccache_twisted.config import ClientSettings
from sccache_twisted.errors import ConfigError

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@asynccontextmanager
async def client(tmp_path: Path, disk_size: int = 0, **settings: object) -> AsyncIterator[Client]:
    """A client that stores nothing unless it is told to."""
    made = evolve(ClientSettings(), cache_dir=str(tmp_path / "cache"), disk_size=disk_size, **settings)
    async with Client.from_settings(made, reactor) as running:
        yield running


def source(cwd: Path, text: str) -> Path:
    (cwd / "a.c").write_text(text)
    return cwd


def no_news(path: Path) -> None:
    """Wait until a file is older than what counts as too new to be stored."""
    while time.time_ns() - path.stat().st_ctime_ns < 50_000_000:
        time.sleep(0.005)


@pytest_twisted.ensureDeferred
async def test_compiles_here(tmp_path: Path) -> None:
    """Without a scheduler a compilation runs here, and says why."""
    cwd = source(tmp_path, "int main(void) { int unused; return 0; }\n")
    async with client(tmp_path) as running:
        compiled = await running.compile([b"gcc", b"-Wall", b"-c", b"a.c"], os.fsencode(cwd), env_of(), umask=0o027)
        assert (compiled.status, compiled.where, compiled.local_reason) == (0, "local", "not_configured")
        assert b"unused variable" in compiled.stderr
        assert oct((cwd / "a.o").stat().st_mode)[-3:] == "640"
        assert running.statistics["stats"]["local_compiles"] == {"not_configured": 1}


@pytest_twisted.ensureDeferred
async def test_finds_what_an_earlier_client_stored(tmp_path: Path) -> None:
    """A result outlives the client that compiled it, and says where it came from."""
    cwd = source(tmp_path, "int main(void) { int unused; return 0; }\n")
    no_news(cwd / "a.c")
    found = []
    for _ in range(2):
        async with client(tmp_path, disk_size=1 << 20) as running:
            compiled = await running.compile([b"gcc", b"-Wall", b"-c", b"a.c"], os.fsencode(cwd), env_of())
        found.append((compiled.where, compiled.status, compiled.stderr, (cwd / "a.o").read_bytes()))
        (cwd / "a.o").unlink()
    assert [one[0] for one in found] == ["local", "cache"]
    assert found[0][1:] == found[1][1:]


@pytest_twisted.ensureDeferred
async def test_failure_is_a_status(tmp_path: Path) -> None:
    """A compiler that fails is no failure of the call, nor is a command that is no compilation, or no program."""
    cwd = os.fsencode(source(tmp_path, "syntax error\n"))
    async with client(tmp_path) as running:
        failed = await running.compile([b"gcc", b"-c", b"a.c"], cwd, env_of())
        assert failed.status == 1
        assert b"error:" in failed.stderr
        asked = await running.compile([b"gcc", b"--version"], cwd, env_of())
        assert (asked.status, asked.local_reason) == (0, "query")
        missing = await running.compile([b"nosuchcc"], cwd, env_of())
        assert missing.status == 127


@pytest_twisted.ensureDeferred
async def test_local_slots(tmp_path: Path) -> None:
    """A library's local compilations keep within the slots as well."""
    cwd = source(tmp_path, "int a;\n")
    async with client(tmp_path, local_slots=1) as running:
        calls = [
            running.compile([b"gcc", b"-c", b"a.c", b"-o", b"%d.o" % number], os.fsencode(cwd), env_of())
            for number in range(5)
        ]
        assert [compiled.status for compiled in await gatherResults(calls)] == [0] * 5


@pytest_twisted.ensureDeferred
async def test_cancel(tmp_path: Path) -> None:
    """A cancelled call ends its compiler and gives its slot back."""
    cwd = source(tmp_path, "int a;\n")
    blocking = tmp_path / "bin/gcc"
    blocking.parent.mkdir()
    blocking.write_text('#!/bin/sh\ncase "$*" in *-v*) echo "gcc version 12.2.0" >&2; exit;; esac\nread x < "$FIFO"\n')
    blocking.chmod(0o755)
    os.mkfifo(tmp_path / "fifo")
    env = env_of(PATH=f"{blocking.parent}:/usr/bin:/bin", FIFO=str(tmp_path / "fifo"))
    async with client(tmp_path, local_slots=1) as running:
        call = running.compile([b"gcc", b"-c", b"a.c"], os.fsencode(cwd), env)
        call.addTimeout(2.0, reactor, lambda outcome, _: outcome)
        with pytest.raises(CancelledError):
            await call
        after = await running.compile([b"gcc", b"-c", b"a.c"], os.fsencode(cwd), env_of())
        assert after.status == 0


@pytest_twisted.ensureDeferred
async def test_unreachable_scheduler(tmp_path: Path) -> None:
    """A scheduler that can't be reached is waited for during its grace, and then named as the reason."""
    cwd = source(tmp_path, "int a;\n")
    settings = {"schedulers": ("tcp://127.0.0.1:1",), "insecure": True, "scheduler_grace_seconds": 0.3}
    async with client(tmp_path, **settings) as running:
        compiled = await running.compile([b"gcc", b"-c", b"a.c"], os.fsencode(cwd), env_of())
        assert (compiled.status, compiled.local_reason) == (0, "no_scheduler")
    async with client(tmp_path, fallback="never", **settings) as running:
        compiled = await running.compile([b"gcc", b"-c", b"a.c"], os.fsencode(cwd), env_of())
        assert compiled.status == 1
        assert b"127.0.0.1:1" in compiled.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedulers": ("tcp://h:1",)}, "insecure"),
        ({"schedulers": ("nonsense",)}, "tls://HOST:PORT"),
        ({"schedulers": ("tls://h:1?pin=sha256:" + "0" * 64,), "token_file": "/nonexistent/token"}, "token"),
    ],
)
def test_bad_settings(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    """Settings that can't work are refused with what is wrong before anything is dialled."""
    made = evolve(ClientSettings(), cache_dir=str(tmp_path / "cache"), **settings)
    with pytest.raises(ConfigError, match=said):
        Client.from_settings(made, reactor)


def test_example(tmp_path: Path) -> None:
    """The example compiles a file and says where it ran."""
    source(tmp_path, "int a;\n")
    example = Path(__file__).parents[2] / "examples/compile_one.py"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(example.parents[1])}
    words = [sys.executable, str(example), "gcc", "-c", "a.c"]
    ended = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "compiled on this machine (not_configured), status 0\n"
    assert (tmp_path / "a.o").exists()
