"""A cache on a disk that is full, and one whose files were damaged, behind builds of a real daemon."""

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bad_input_kit import tiny_disk
from lone_kit import UNITS, built, entries_in, hits_and_misses, incompressible, is_whole, lone_daemon, zero
from support.cluster import wait_for
from support.farm import Client
from support.small import fast_tree
from support.trees import differences


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A daemon with a cache on disk."""
    with lone_daemon(tmp_path / "client") as started:
        yield started


def settled(client: Client) -> dict[str, int]:
    """The counters, once every result has been stored or could not be."""

    def ended() -> dict[str, int] | None:
        stats = client.stats()
        return stats if stats["cache_writes"] + stats["cache_write_errors"] >= hits_and_misses(client)[1] else None

    return wait_for(ended, "every result is stored or given up")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: tuple[Callable[[Path], object], ...] = (
    _flip,
    lambda path: os.truncate(path, path.stat().st_size // 2),
    lambda path: os.truncate(path, 0),
    lambda path: path.write_bytes(b"garbage"),
    lambda path: path.write_bytes(max(path.parent.parent.parent.rglob("?" * 64)).read_bytes() + b"\0"),
)


def test_damaged_entries_are_misses_that_are_counted_and_replaced(client: Client, tmp_path: Path) -> None:
    """Every file of the cache is damaged in some way: no build sees it, the count is right, then all are hits again."""
    tree = fast_tree(tmp_path / "tree", len(DAMAGES))
    plain = tree.build_aside(tmp_path / "plain")
    assert differences(plain, built(tree, client, tmp_path / "cold")) == []
    settled(client)
    cache = Path(client.env["SCCACHE_DIR"])
    damaged = sorted(entries_in(cache))
    assert len(damaged) == 2 * len(DAMAGES)
    for number, path in enumerate(damaged):
        DAMAGES[number % len(DAMAGES)](path)
    assert not any(map(is_whole, damaged))
    zero(client)
    since = client.mark()
    assert differences(plain, built(tree, client, tmp_path / "damaged")) == []
    assert settled(client)["cache_read_errors"] == len(damaged)
    assert hits_and_misses(client) == (0, len(DAMAGES))
    dropped = {event["key"] for event in client.events("cache_damaged", since=since)}
    assert dropped == {path.name for path in damaged}
    assert all(map(is_whole, entries_in(cache)))
    zero(client)
    assert differences(plain, built(tree, client, tmp_path / "warm")) == []
    assert hits_and_misses(client) == (len(DAMAGES), 0)


@pytest.mark.root
def test_builds_on_a_disk_that_is_full(tmp_path: Path) -> None:
    """What fits is stored and found, the rest fails to be stored and is counted; with room all is stored."""
    tree = incompressible(tmp_path / "tree", random.Random(1))
    plain = tree.build_aside(tmp_path / "plain")
    with (
        tiny_disk(tmp_path / "disk", "4m") as disk,
        lone_daemon(tmp_path / "client", SCCACHE_DIR=str(disk / "cache")) as client,
    ):
        assert differences(plain, built(tree, client, tmp_path / "cold", "-j4")) == []
        cold = settled(client)
        assert cold["cache_writes"] > 0
        assert cold["cache_write_errors"] > 0
        assert "the disk is full" in client.events("cache_failed")[0]["reason"]
        # A build that finds what there is, and has everything else from the compiler.
        zero(client)
        assert differences(plain, built(tree, client, tmp_path / "full", "-j4")) == []
        settled(client)
        assert hits_and_misses(client)[0] > 0
        cache = disk / "cache"
        assert os.listdir(cache / "writing") == []
        assert all(map(is_whole, entries_in(cache)))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        zero(client)
        assert differences(plain, built(tree, client, tmp_path / "room", "-j4")) == []
        assert settled(client)["cache_write_errors"] == 0
        zero(client)
        assert differences(plain, built(tree, client, tmp_path / "warm", "-j4")) == []
        assert hits_and_misses(client) == (UNITS, 0)
