"""The team's Redis fails in the middle of a build: the build goes on, right and hardly slower, and hits return."""

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from lone_kit import built, finished, gets, hits_and_misses, lone_daemon, making, zero
from support.cluster import wait_for
from support.farm import Client
from support.small import fast_tree
from support.store_servers import RedisServer
from support.trees import differences, set_aside, snapshot
from typing_extensions import Self

UNITS = 32
DEADLINE = 0.25
WRITE_DEADLINE = 1.0
SLACK = 0.5
"""What four compilers on two cores may add before the daemon's next turn. A call without a deadline would last as long
as the fault, which is all the rest of the build."""

RULES = {
    "timeout": DEADLINE,
    "write_timeout": WRITE_DEADLINE,
    "breaker_failures": 3,
    "breaker_first": 0.2,
    "breaker_longest": 0.5,
}
NONSENSE = itertools.cycle(
    [b"\x00\xff nonsense\r\n", b"*1\r\n$-7\r\nnonsense", b"$99999999999\r\n", b"-\xfe\r\n:x\r\n"]
)


class Turncoat:
    """A port that leads to a server, until ``lying``: then every answer becomes nonsense, also on lines that are up."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listening]
        self.port = self._listening.getsockname()[1]
        self.lying = False
        self.lies = 0
        self._begin(self._accept)

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    @staticmethod
    def _begin(work, *args) -> None:
        threading.Thread(target=work, args=args, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                self._begin(self._pass_on, client, server, False)
                self._begin(self._pass_on, server, client, True)

    def _pass_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if answers and self.lying:
                    self.lies += 1
                    data = next(NONSENSE)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


class Fault:
    """A Redis behind a port, and what happens to it. ``outcomes`` are what look-ups that it hits may come to."""

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        self.server = RedisServer(place)
        self.outcomes = {"killed": {"error", "timeout"}, "stopped": {"timeout"}, "nonsense": {"error", "timeout"}}[name]

    def __enter__(self) -> Self:
        self.server.start()
        self.turncoat = Turncoat(self.server.port) if self.name == "nonsense" else None
        return self

    def __exit__(self, *_: object) -> None:
        if self.turncoat is not None:
            self.turncoat.close()
        self.server.kill()

    @property
    def port(self) -> int:
        return self.server.port if self.turncoat is None else self.turncoat.port

    def strike(self) -> None:
        {"killed": self.server.kill, "stopped": self.server.freeze, "nonsense": lambda: self._lie(True)}[self.name]()

    def mend(self) -> None:
        {"killed": self.server.start, "stopped": self.server.thaw, "nonsense": lambda: self._lie(False)}[self.name]()

    def _lie(self, lying: bool) -> None:
        assert self.turncoat is not None
        assert lying or self.turncoat.lies
        self.turncoat.lying = lying


@pytest.fixture(params=["killed", "stopped", "nonsense"])
def fault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fault]:
    """A Redis that works."""
    place = tmp_path / "redis"
    place.mkdir()
    with Fault(request.param, place) as made:
        yield made


@pytest.fixture
def client(fault: Fault, tmp_path: Path) -> Iterator[Client]:
    """A daemon whose only store it is."""
    tables = {"cache": RULES, "cache.redis": {"endpoint": f"redis://127.0.0.1:{fault.port}"}}
    with lone_daemon(tmp_path / "client", tables) as started:
        yield started


@pytest.mark.alone
def test_redis_fails_while_a_build_looks_up(fault: Fault, client: Client, tmp_path: Path) -> None:
    """No call to it outlasts its deadline, it is left alone, every object is right; once it is well all are hits."""
    tree = fast_tree(tmp_path / "tree", UNITS)
    plain = tree.build_aside(tmp_path / "plain", "-j4")
    assert differences(plain, built(tree, client, tmp_path / "cold", "-j4")) == []
    wait_for(lambda: client.stats()["cache_writes"] == UNITS, "all results are stored")
    zero(client)
    since, before = client.mark(), snapshot(tree.root)
    with making(tree, client, "-j4") as make:
        # A manifest and an entry each, four at a time: some of these are whole hits.
        wait_for(lambda: len(gets(client, since)) >= 8, "the build looks up")
        fault.strike()
        finished(make)
    assert differences(plain, set_aside(tree.root, before, tmp_path / "struck", {})) == []
    # It hit look-ups: some were answered before, and some failed as this fault makes them fail.
    called = gets(client, since)
    outcomes = {outcome for outcome, _ in called}
    assert outcomes & fault.outcomes
    assert outcomes <= {"hit", "miss"} | fault.outcomes
    assert max(seconds for _, seconds in called) <= DEADLINE + SLACK
    assert max((seconds for _, seconds in gets(client, since, "put")), default=0.0) <= WRITE_DEADLINE + SLACK
    assert "reads" in {event["operation"] for event in client.events("store_left_alone", since=since)}
    hits, misses = hits_and_misses(client)
    assert 0 < hits < UNITS
    assert hits + misses == UNITS
    # Left alone, it is asked less often than a build that trusted it would.
    assert len(called) < 2 * UNITS
    fault.mend()

    def all_hits() -> bool:
        """One more build, right whatever is found."""
        zero(client)
        again = built(tree, client, tmp_path / f"again-{client.mark()}", "-j4")
        assert differences(plain, again) == []
        return hits_and_misses(client) == (UNITS, 0)

    wait_for(all_hits, "everything is a hit again", 60)
    assert {event["operation"] for event in client.events("store_back", since=since)} >= {"reads"}
