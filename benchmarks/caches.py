"""The compile caches that are measured: how each is found, started and asked what it has found.

Every cache gets a directory of its own and stands alone: no scheduler, no remote store, no compiler but the local one.
What each needs to be at its best is set: sccache's preprocessor cache mode is on, as ccache's direct mode and ours are.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import peers

_NOT_OURS = ("SCCACHE_", "CCACHE_")


@dataclass
class Cache(peers.Way):
    """A way to compile that remembers. ``hits`` and ``cached`` are by its own counters."""

    words: list[str] = field(default_factory=list)
    """What prints its counters as JSON or, for ccache, as lines."""

    def hits(self) -> int | None:
        """Results that were found so far; None where nothing is remembered."""
        if not self.words:
            return None
        said = subprocess.run(self.words, env=self.env, check=True, capture_output=True, text=True).stdout
        if said.startswith("{"):
            return int(sum(json.loads(said)["stats"]["cache_hits"]["counts"].values()))
        counters = dict(line.split("\t")[:2] for line in said.splitlines() if "\t" in line)
        return int(counters["direct_cache_hit"]) + int(counters["preprocessed_cache_hit"])


def environment(**own: str) -> dict[str, str]:
    """This process's environment without any cache's settings, and with ``own``."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)} | own


@contextmanager
def plain(_directory: Path) -> Iterator[Cache]:
    """Only the compiler."""
    yield Cache("plain", env=environment())


@contextmanager
def ours(directory: Path, launcher: Path) -> Iterator[Cache]:
    """sccache-twisted without a cluster, as it starts by default."""
    directory.mkdir()
    config = directory / "client.toml"
    config.touch(mode=0o600)
    uds = directory / "socket"
    env = environment(
        SCCACHE_CONF=str(config),
        SCCACHE_SERVER_UDS=str(uds),
        SCCACHE_DIR=str(directory / "cache"),
        SCCACHE_DIST_CACHE_DIR=str(directory / "toolchains"),
    )
    program = str(Path(sys.executable).with_name("sccache-twisted"))
    with _daemon(program, env):
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(str(uds))
            peer = daemon.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid = struct.unpack("3i", peer)[0]
        told = [program, "--show-stats", "--stats-format", "json"]
        yield Cache("sccache-twisted", [str(launcher)], env, [pid], words=told)


@contextmanager
def sccache(directory: Path, program: Path) -> Iterator[Cache]:
    """Sccache with its daemon in the background."""
    directory.mkdir()
    uds = directory / "socket"
    env = environment(
        SCCACHE_CONF=str(directory / "none"),
        SCCACHE_SERVER_UDS=str(uds),
        SCCACHE_DIR=str(directory / "cache"),
        SCCACHE_DIRECT="true",
    )
    with peers.background(
        [str(program)], directory / "log", env=env | {"SCCACHE_START_SERVER": "1", "SCCACHE_NO_DAEMON": "1"}
    ) as process:
        peers.wait_for("sccache's daemon", uds.exists)
        told = [str(program), "--show-stats", "--stats-format", "json"]
        yield Cache(_version(program, "sccache"), [str(program)], env, [process.pid], words=told)


@contextmanager
def ccache(directory: Path, program: Path) -> Iterator[Cache]:
    """Ccache, which has no daemon."""
    directory.mkdir()
    env = environment(CCACHE_DIR=str(directory / "cache"), CCACHE_CONFIGPATH=str(directory / "none"))
    yield Cache(_version(program, "ccache"), [str(program)], env, words=[str(program), "--print-stats"])


def found(directory: Path, more: list[Path]) -> list[Path]:
    """The peers' programs in an environment, on PATH, and those that were named; one of each version."""
    places = [directory / "bin" / name for name in ("ccache", "sccache")]
    places += [Path(path) for name in ("ccache", "sccache") if (path := shutil.which(name))]
    programs: dict[str, Path] = {}
    for place in (*more, *places):
        if place.exists():
            programs.setdefault(_version(place, place.name), place)
    return list(programs.values())


@contextmanager
def _daemon(program: str, env: dict[str, str]) -> Iterator[None]:
    # In files: a daemon that inherits a pipe would keep its reader waiting.
    subprocess.run([program, "--start-server"], env=env, check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        with suppress(OSError):
            subprocess.run([program, "--stop-server"], env=env, check=False, stdout=subprocess.DEVNULL)


def _version(program: Path, name: str) -> str:
    said = subprocess.run([str(program), "--version"], check=True, capture_output=True, text=True).stdout
    return f"{name} {said.splitlines()[0].split()[-1]}"
