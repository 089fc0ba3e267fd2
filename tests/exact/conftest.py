"""One cluster and one client of its own for all projects."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support.cluster import Cluster, wait_for


class Workbench:
    """The cluster with the client's log, read as it grows, and a site that every project has to itself in turn."""

    def __init__(self, cluster: Cluster, place: Path) -> None:
        self.cluster = cluster
        self.site = place / "site"
        self.kept = place / "kept"
        self.logs = place / "logs"
        self.logs.mkdir()
        self._log = cluster.directory / "logs" / "client.log"
        self._read = 0
        self.env = {
            os.fsencode(name): os.fsencode(value) for name, value in cluster.env.items() if name.startswith("SCCACHE_")
        }
        self.servers = {worker.server_id for worker in cluster.status().workers.values()}

    def news(self) -> list[dict[str, Any]]:
        """What the client has logged since the last time."""
        if not self._log.exists():
            return []
        with self._log.open("rb") as stream:
            stream.seek(self._read)
            whole, mark, _ = stream.read().rpartition(b"\n")
        self._read += len(whole + mark)
        return [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]

    def heard(self, *names: str) -> list[dict[str, Any]]:
        """The news as soon as one of these events is among them."""
        heard: list[dict[str, Any]] = []

        def listen() -> bool:
            heard.extend(self.news())
            return any(event.get("event") in names for event in heard)

        wait_for(listen, f"the client logs {' or '.join(names)}")
        return heard


@pytest.fixture(scope="session")
def toolchain_store():
    """Where the daemon and the oracle's client keep packaged toolchains, each made once."""
    with tempfile.TemporaryDirectory(prefix="exact-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def extra():
    """The cluster's own variables: results come out of no cache."""
    return {"SCCACHE_RECACHE": "1", "SCCACHE_LOG": "debug"}


@pytest.fixture(scope="module")
def bench(toolchain_store, extra):
    """Two workers."""
    with (
        Cluster(2, slots=1, extra={**extra, "SCCACHE_DIST_CACHE_DIR": str(toolchain_store)}) as cluster,
        tempfile.TemporaryDirectory(prefix="exact-", dir="/tmp", ignore_cleanup_errors=True) as path,
    ):
        os.chmod(path, 0o755)
        yield Workbench(cluster, Path(path))
