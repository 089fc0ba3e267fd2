"""A client daemon without a cluster, watched through its log: what it doesn't find, its callers compile here."""

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.farm import Client
from support.small import MAKE_SECONDS, SmallTree, running
from support.trees import Side, set_aside, snapshot
from support.trees.commands import clean_environment

from sccache_twisted.hashing import entry, manifest
from sccache_twisted.hashing.envelope import Damaged

UNITS = 12
DATA_BYTES = 1 << 20
MAKEFILE = f"""\
all: {" ".join(f"unit{number}.o" for number in range(UNITS))}
%.o: %.c
\t$(CC) -c $< -o $@
"""


class Here:
    """This machine, as a farm's host."""

    @staticmethod
    def inside(*argv: str) -> tuple[str, ...]:
        """A command as it is."""
        return argv


@contextlib.contextmanager
def lone_daemon(
    home: Path, tables: Mapping[str, Mapping[str, object]] | None = None, *, start: bool = True, **env: str
) -> Iterator[Client]:
    """A client with a store of its own below ``home``, killed with the block."""
    own = {
        "SCCACHE_CONF": str(home / "client.toml"),
        "SCCACHE_SERVER_UDS": str(home / "socket"),
        "SCCACHE_DIR": str(home / "cache"),
    }
    more = dict(tables or {})
    dist = {"cache_dir": str(home.parent / "toolchains"), **more.pop("dist", {})}
    client = Client("client", home.name, Here(), home, {"dist": dist, **more}, clean_environment({**own, **env}))
    home.chmod(0o700)
    client.socket = home / "socket"
    try:
        if start:
            client.start()
            client.ready()
        yield client
    finally:
        client.end()


def gets(client: Client, since: int, operation: str = "get") -> list[tuple[str, float]]:
    """Outcome and seconds of every look-up in a store, or of another operation, in the order in which they ended."""
    called = client.events("store_called", since=since)
    return [(event["outcome"], event["seconds"]) for event in called if event["operation"] == operation]


@contextlib.contextmanager
def making(tree: SmallTree, client: Client, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A make of the tree through a client."""
    with running(tree.make(*words, f"CC={' '.join(client.launcher)} gcc", env=client.env)) as make:
        yield make


def finished(make: "subprocess.Popen[bytes]") -> None:
    """Wait for a make's end; it must have succeeded, without a word of the launcher's."""
    said = make.communicate(timeout=MAKE_SECONDS)[0]
    assert make.returncode == 0, said
    assert b"sccache-twisted:" not in said


def built(tree: SmallTree, client: Client, kept: Path, *words: str) -> Side:
    """Make the tree through a client, and move away all that came into being."""
    before = snapshot(tree.root)
    with making(tree, client, *words) as make:
        finished(make)
    return set_aside(tree.root, before, kept, {})


def hits_and_misses(client: Client) -> tuple[int, int]:
    """What was found and what was not, since the counters were set to nought."""
    stats = client.stats()
    hits, misses = (sum(stats[name]["counts"].values()) for name in ("cache_hits", "cache_misses"))
    return hits, misses


def zero(client: Client) -> None:
    """Set the counters to nought."""
    subprocess.run([*client.launcher, "--zero-stats"], env=client.env, check=True, capture_output=True)


def incompressible(root: Path, draw: random.Random) -> SmallTree:
    """UNITS units that compile fast into objects of DATA_BYTES, which take a while to be written."""
    root.mkdir()
    names = tuple(f"unit{number}.c" for number in range(UNITS))
    for name in names:
        (root / f"{name}.data").write_bytes(draw.randbytes(DATA_BYTES))
        (root / name).write_text(f'__asm__(".incbin \\"{name}.data\\"");\n')
    (root / "Makefile").write_text(MAKEFILE)
    return SmallTree(root, names)


def is_whole(path: Path) -> bool:
    """Whether a file of a cache on disk is a manifest or an entry that was stored under its own name."""
    data = path.read_bytes()
    for unpack in (entry.unpack, manifest.unpack):
        with contextlib.suppress(Damaged):
            unpack(path.name, data)
            return True
    return False


def entries_in(cache: Path) -> list[Path]:
    """The files of a cache on disk that are entries."""
    return [path for path in cache.rglob("*") if len(path.name) == 64 and path.is_file()]


def taken(cache: Path) -> int:
    """The bytes that really are there, drafts and all, in whole blocks."""
    there = [path for path in cache.rglob("*") if path.is_file() and path.name not in {"size", "cleaning"}]
    return sum(-(-os.stat(path).st_size // 4096) * 4096 for path in there)
