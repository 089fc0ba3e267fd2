"""Daemons that are killed while they store, again and again: no bad entry, nothing left behind, the bound holds."""

import contextlib
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from lone_kit import UNITS, entries_in, finished, gets, incompressible, is_whole, lone_daemon, making, taken
from support.cluster import wait_for
from support.farm import Client
from support.trees import differences, set_aside, snapshot

from sccache_twisted.storage.disk_files import DiskDirectory

CAPACITY = 9 << 20
"""Less than the tree's results take, so that they push each other out."""


def daemon(client: Client) -> int | None:
    """A handle on the daemon that a client's launchers would meet now; None if there is none."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(client.socket))
        except OSError:
            return None
        pid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    with contextlib.suppress(ProcessLookupError):
        return os.pidfd_open(pid)
    return None


def kill(client: Client, pause: Callable[[], None] = lambda: None) -> int:
    """Kill the daemon after a pause, should there be one, and wait for its end; how many were killed."""
    handle = daemon(client)
    if handle is None:
        return 0
    pause()
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    assert select.select([handle], [], [], 20)[0], "the daemon does not end"
    os.close(handle)
    return 1


def some_writes(client: Client, build: "subprocess.Popen[bytes]", draw: random.Random) -> None:
    """Wait until the daemons have stored a number of times that nobody knows before, or the build is over.

    On a busy machine launchers may not wait for a daemon to start, and then nothing is stored.
    """
    wanted = draw.randrange(UNITS)

    def far_enough() -> bool:
        return len(gets(client, 0, "put")) >= wanted or build.poll() is not None

    wait_for(far_enough, f"{wanted} writes have ended", 120)


def some_moment(cache: Path, draw: random.Random) -> None:
    """Look for a draft a number of times; with luck a write is under way then, more often than by chance."""
    wanted = draw.random() < 0.7
    for _ in range(draw.randrange(8000 if wanted else 100)):
        if wanted and os.listdir(cache / "writing"):
            break


def check(cache: Path) -> int:
    """While nobody stores: every entry is whole and its own, the bound holds. How many drafts were left behind.

    Whoever opens the directory removes those.
    """
    left = len(list(cache.glob("writing/*")))
    files = DiskDirectory(os.fsencode(cache), CAPACITY)
    assert os.listdir(cache / "writing") == []
    assert all(is_whole(path) for path in entries_in(cache))
    assert taken(cache) <= files.size() <= CAPACITY
    return left


class Bench:
    """Clients with one cache directory, a tree each, and what a compiler alone makes of it."""

    def __init__(self, clients: Sequence[Client], place: Path, seed: int) -> None:
        self.clients = clients
        self.cache = Path(clients[0].env["SCCACHE_DIR"])
        self.draw = random.Random(seed)
        self._place = place
        self.trees = [incompressible(place / f"tree{number}", self.draw) for number, _ in enumerate(clients)]
        self._plain = [tree.build_aside(place / "plain" / tree.root.name) for tree in self.trees]

    def round(self) -> int:
        """Builds during which each daemon is killed, and the ones that followed are too; how many were killed."""
        killed = 0
        before = [snapshot(tree.root) for tree in self.trees]
        for client in self.clients:
            client.log.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            builds = [
                (client, stack.enter_context(making(tree, client, "-j3")))
                for tree, client in zip(self.trees, self.clients, strict=True)
            ]
            for client, make in self.draw.sample(builds, len(builds)):
                some_writes(client, make, self.draw)
                killed += kill(client, lambda: some_moment(self.cache, self.draw))
            for _, make in builds:
                finished(make)
            for client, _ in self.draw.sample(builds, len(builds)):
                killed += kill(client)
        for tree, earlier, plain in zip(self.trees, before, self._plain, strict=True):
            kept = self._place / f"ours{self.draw.random()}"
            assert differences(plain, set_aside(tree.root, earlier, kept, {})) == []
            shutil.rmtree(kept)
        return killed


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """As many clients as the test asks for, whose daemons their launchers start."""
    with contextlib.ExitStack() as stack:
        shared = {"SCCACHE_DIR": str(tmp_path / "cache"), "SCCACHE_CACHE_SIZE": str(CAPACITY), "SCCACHE_RECACHE": "1"}
        clients = [
            stack.enter_context(lone_daemon(tmp_path / f"client{number}", start=False, **shared))
            for number in range(request.param)
        ]
        for client in clients:
            stack.callback(kill, client)
        yield Bench(clients, tmp_path, seed=request.param)


def kills(bench: Bench, least: int) -> int:
    """So many at least; after each round the directory is judged. How many left something behind."""
    killed = left = 0
    while killed < least:
        killed += bench.round()
        left += check(bench.cache)
    # They did come to store.
    assert len(entries_in(bench.cache)) > UNITS // 2
    return left


SHAPES = pytest.mark.parametrize("bench", [1, 2], ids=["one", "two"], indirect=True)


@SHAPES
def test_daemons_that_are_killed_while_they_store(bench: Bench) -> None:
    """SIGKILL of one, or of two on one directory, at moments that nobody chose: builds go on, the cache is sound."""
    kills(bench, 10)


@pytest.mark.full
@pytest.mark.timeout(7200)
@SHAPES
def test_a_thousand_daemons_that_are_killed_while_they_store(bench: Bench) -> None:
    """The same a thousand times; some of them were in the middle of a write."""
    assert kills(bench, 1000) > 0
