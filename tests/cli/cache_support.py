"""A client without a cluster, as a user has one who wants only the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from support.cluster import wait_for
from support.trees.commands import clean_environment

from sccache_twisted.cli.daemon import ask, running_daemon
from sccache_twisted.client.stats import Statistics

LAUNCHER = shutil.which("sccache-twisted", path=str(Path(sys.executable).parent))


@frozen
class Client:
    """A configuration of its own, and its daemon's environment."""

    env: Mapping[str, str]

    def run(self, *words: str, cwd: Path | None = None, status: int = 0, **more: str) -> str:
        """Run the launcher with these words, ``more`` in its environment; its standard output."""
        ended = subprocess.run(
            [LAUNCHER, *words],
            cwd=cwd,
            env={**self.env, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ended.returncode == status, (ended.stdout, ended.stderr)
        return ended.stdout

    def compile(self, line: str, cwd: Path, status: int = 0, **more: str) -> None:
        """Compile once no file of ``cwd`` is too new, and wait until what follows has been stored."""
        settle(cwd)
        before = self.stats()
        self.run(*line.split(), cwd=cwd, status=status, **more)

        def stored() -> bool:
            now = self.stats()
            made = sum(now["cache_misses"]["counts"].values()) - sum(before["cache_misses"]["counts"].values())
            done = sum(
                now[name] - before[name]
                for name in ("cache_writes", "cache_write_errors", "non_cacheable_compilations", "compile_fails")
            )
            return made <= done

        wait_for(stored, "what was compiled is stored")

    def stats(self) -> dict[str, Any]:
        """The daemon's counters, asked without a process for it; all 0 when none runs."""
        connection = running_daemon({os.fsencode(name): os.fsencode(value) for name, value in self.env.items()})
        if connection is None:
            return Statistics().as_json()["stats"]
        with connection:
            return ask(connection, "stats")["stats"]

    def asked(self, *words: str, cwd: Path | None = None, status: int = 0) -> Any:
        """The JSON that a command answers."""
        return json.loads(self.run(*words, "--format", "json", cwd=cwd, status=status))

    def stop(self) -> None:
        """End the daemon."""
        self.run("--stop-server")


@contextmanager
def lone_client(extra: Mapping[str, str] | None = None) -> Iterator[Client]:
    """A client whose files lie where paths are short, ``extra`` in its environment."""
    with tempfile.TemporaryDirectory(prefix="sctc-", dir="/tmp") as name:
        place = Path(name)
        (place / "client.toml").touch(0o600)
        env = clean_environment(
            {
                "SCCACHE_CONF": str(place / "client.toml"),
                "SCCACHE_SERVER_UDS": str(place / "d.sock"),
                "SCCACHE_DIST_CACHE_DIR": str(place / "work"),
                "SCCACHE_DIR": str(place / "cache"),
                **(extra or {}),
            }
        )
        try:
            yield Client(env)
        finally:
            subprocess.run([LAUNCHER, "--stop-server"], env=env, capture_output=True, check=False, timeout=60)


def settle(root: Path) -> None:
    """Wait until every change in a tree is older than what counts as too new."""
    newest = max(path.lstat().st_ctime_ns for path in (root, *root.rglob("*")))
    while time.time_ns() - newest < 30_000_000:
        time.sleep(0.005)


def entries(env: Mapping[str, str]) -> int:
    """The entries in a client's directory, counted by their names."""
    return sum(len(name) == 64 for _, _, names in os.walk(env["SCCACHE_DIR"]) for name in names)
