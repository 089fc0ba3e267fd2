"""Two machines with checkouts of their own share a store: what one has compiled, the other only copies.

Every host is a network namespace; the store's server is on a third one. The logs and counters prove that the second
machine's build ran no compiler, here or on a worker.
"""

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from attrs import frozen
from support.cluster import wait_for
from support.farm import Client, Farm, Host
from support.small import MAKE_SECONDS, SmallTree, fast_tree
from support.store_servers import RedisServer, S3Server
from support.trees import Side, differences, set_aside, snapshot

pytestmark = pytest.mark.root

UNITS = 8
PATIENT = {"timeout": 10.0}
"""moto answers one caller at a time, and compilers take the machine."""

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@frozen
class Machine:
    """A host with a client and a checkout, which lies in ``tree`` and is ``seen`` elsewhere by who is on that host."""

    host: Host
    client: Client
    tree: SmallTree
    seen: Path

    def made(self, kept: Path, flags: str, compiler: str = "gcc") -> Side:
        """Make everything on that host, and move it away. ``{here}`` in the flags is where the checkout is seen."""
        before = snapshot(self.tree.root)
        words = ("make", "-C", str(self.seen), "-j4", f"CFLAGS={flags.format(here=self.seen)}", f"CC={compiler}")
        env = {**self.client.env, "PWD": str(self.seen)}
        done = subprocess.run(self.host.inside(*words), env=env, capture_output=True, timeout=MAKE_SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        assert b"sccache-twisted:" not in done.stdout + done.stderr
        return set_aside(self.tree.root, before, kept, {})

    def build(self, kept: Path, flags: str) -> Side:
        """The same through the cache, with counters that begin at nought."""
        subprocess.run([*self.client.launcher, "--zero-stats"], env=self.client.env, check=True, capture_output=True)
        return self.made(kept, flags, f"{self.client.launcher[-1]} gcc")

    @property
    def counted(self) -> tuple[int, int, int]:
        """Hits, misses, and what workers compiled; nothing was compiled here."""
        stats = self.client.stats()
        assert not any(stats["local_compiles"].values())
        hits, misses = (sum(stats[name]["counts"].values()) for name in ("cache_hits", "cache_misses"))
        return hits, misses, sum(stats["dist_compiles"].values())

    def stored(self) -> None:
        """Wait until every result is in the store."""
        wait_for(lambda: self.client.stats()["cache_writes"] == UNITS, "all results are stored")


class Site:
    """A farm with one worker, and a store's server on a host of its own. ``tables`` lead a client there."""

    def __init__(self, farm: Farm, tables: dict[str, dict[str, object]]) -> None:
        self.farm = farm
        self._tables = tables

    def machine(self, root: Path, seen: Path | None = None, *, below_base: bool = False) -> Machine:
        """One more machine, its checkout at ``root``; with ``seen`` it is mounted there for this machine alone.

        ``below_base``: the directory above is one of its base directories.
        """
        name = f"m{next(_numbers)}"
        host = self.farm.network.host(name, own_mounts=seen is not None)
        tree = fast_tree(root, UNITS)
        if seen is not None:
            seen.mkdir(exist_ok=True)
            subprocess.run(host.inside("mount", "--bind", str(root), str(seen)), check=True)
        bases = {"SCCACHE_BASEDIRS": str(root.parent)} if below_base else {}
        client = self.farm.client(name, tables=self._tables, SCCACHE_RECACHE="0", **KEYS, **bases)
        return Machine(host, client, tree, seen or root)

    def worker_ran(self) -> int:
        """How many compilers the worker has started so far."""
        return len(self.farm.worker("w1").events("job_running"))


_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    """A scheduler and a worker."""
    with Farm() as started:
        started.workers("w1")
        yield started


@pytest.fixture(scope="module")
def redis(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Redis on a host of its own."""
    host = farm.network.host("redis")
    # Nobody but the farm can reach it.
    options = ("--protected-mode", "no")
    with RedisServer(tmp_path_factory.mktemp("redis"), *options, bind=host.address, inside=host.inside()) as server:
        yield Site(farm, {"cache": PATIENT, "cache.redis": {"endpoint": f"redis://{host.address}:{server.port}"}})


@pytest.fixture(scope="module")
def s3(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An S3 server on a host of its own."""
    host = farm.network.host("s3")
    with S3Server(tmp_path_factory.mktemp("s3"), bind=host.address, inside=host.inside()) as server:
        endpoint = f"http://{host.address}:{server.port}"
        host.there(lambda: _bucket(endpoint))
        yield Site(farm, {"cache": PATIENT, "cache.s3": {"endpoint": endpoint, "bucket": "cache"}})


def _bucket(endpoint: str) -> None:
    names = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = botocore.session.Session().create_client("s3", region_name="us-east-1", endpoint_url=endpoint, **names)
    client.create_bucket(Bucket="cache")


def share(site: Site, first: Machine, second: Machine, kept: Path, flags: str) -> None:
    """The first compiles and stores; then the second has everything without a compiler, here or on a worker."""
    first.build(kept / "first", flags)
    assert first.counted == (0, UNITS, UNITS)
    first.stored()
    plain = second.made(kept / "plain", flags)
    ran, since = site.worker_ran(), second.client.mark()
    ours = second.build(kept / "ours", flags)
    assert differences(plain, ours) == []
    assert second.counted == (UNITS, 0, 0)
    assert site.worker_ran() == ran
    # No event that is about a job: none was queued, none ran, none stayed here.
    assert [event for event in second.client.events(since=since) if "job_id" in event] == []


@pytest.mark.parametrize("kind", ["redis", "s3"])
def test_what_one_machine_compiled_another_has_from_the_store(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    """Two checkouts at different paths, no debug information: all hits, each object the second checkout's own."""
    site = request.getfixturevalue(kind)
    first = site.machine(tmp_path / "home/anna/checkout")
    second = site.machine(tmp_path / "srv/builds/7")
    share(site, first, second, tmp_path, "-O1 -Wall")


def test_debug_information_is_shared_at_the_same_path(redis: Site, tmp_path: Path) -> None:
    """With -g the directory shows in the object: machines that have the checkout at one path share it."""
    seen = tmp_path / "seen"
    first, second = (redis.machine(tmp_path / name, seen) for name in ("first", "second"))
    share(redis, first, second, tmp_path, "-O1 -Wall -g")


@pytest.mark.parametrize("kind", ["redis", "s3"])
def test_debug_information_that_is_mapped_is_shared_below_base_directories(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    """With -g, each machine's own absolute paths mapped to one name, and base directories that differ: all hits."""
    site = request.getfixturevalue(kind)
    first = site.machine(tmp_path / "home/anna/checkout", below_base=True)
    second = site.machine(tmp_path / "srv/builds/checkout", below_base=True)
    share(site, first, second, tmp_path, "-O0 -Wall -g -ffile-prefix-map={here}=/src -I{here}")


def test_debug_information_of_another_path_is_not_taken(redis: Site, tmp_path: Path) -> None:
    """With -g and at different paths each machine compiles for itself, and its objects name its own paths."""
    first, second = (redis.machine(tmp_path / name) for name in ("first", "second"))
    first.build(tmp_path / "there", "-O2 -Wall -g")
    first.stored()
    plain = second.made(tmp_path / "plain", "-O2 -Wall -g")
    ours = second.build(tmp_path / "ours", "-O2 -Wall -g")
    assert differences(plain, ours) == []
    assert second.counted == (0, UNITS, UNITS)
    assert bytes(second.tree.root) in (ours.kept / "unit0.o").read_bytes()
