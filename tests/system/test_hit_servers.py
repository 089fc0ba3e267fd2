"""More than one process for hits: what hit servers answer, what they leave, how they begin, end and fail.

Real daemons, real launchers, real compilers. A daemon is pressed by callers that ask for hits as fast as they are
answered, until it has noticed that it is the limit.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lone_kit import hits_and_misses, lone_daemon, zero
from support.cluster import wait_for
from support.farm import Client
from support.processes import below
from support.small import SmallTree, fast_tree
from typing_extensions import Self

from sccache_twisted.wire import launcher as messages

UNITS = 6
CALLERS = 6
OLD_NS = 50 * 10**6
LONG_AGO_NS = 1_600_000_000 * 10**9
SLOW = "int f(int n) { return n < 2 ? n : f(n - 1) + f(n - 2); }\n" + "".join(
    f"int g{n}(int x) {{ return f(x) * {n} + f({n}); }}\n" for n in range(300)
)


# --- callers ---------------------------------------------------------------------------------------


def said_to(client: Client, message: messages.Message) -> messages.Message | None:
    """What the daemon's socket answers; None if it hangs up without a word."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(os.fspath(client.socket))
        said = b""
        with contextlib.suppress(ConnectionResetError):
            connection.sendall(messages.encode(message))
            while piece := connection.recv(1 << 16):
                said += piece
    return messages.decode(said[4:5], said[5:]) if said else None


def query(client: Client, name: str, *args: str) -> dict:
    """What the daemon answers to a query."""
    answer = said_to(client, messages.Query(name, args))
    assert isinstance(answer, messages.Answer), answer
    return json.loads(answer.text)


def told(asked: socket.socket) -> dict:
    """What comes back on a connection over which a query was sent."""
    with asked:
        said = asked.makefile("rb").read()
    answer = messages.decode(said[4:5], said[5:])
    assert isinstance(answer, messages.Answer)
    return json.loads(answer.text)


class Pressing:
    """Callers that ask for hits, one after another, while the block runs; ``answered`` counts."""

    def __init__(self, client: Client, tree: SmallTree) -> None:
        env = tuple(os.fsencode(f"{name}={value}") for name, value in client.env.items())
        self._client = client
        self._requests = [
            messages.LaunchRequest(
                os.fsencode(tree.root), 0o022, False, (b"gcc", b"-c", unit.encode(), b"-o", b"pressed.o"), env
            )
            for unit in tree.units
        ]
        self.request = self._requests[0]
        self._over = threading.Event()
        self._answers: list[messages.Message | None] = []
        self._threads = [threading.Thread(target=self._ask, args=(first,)) for first in range(CALLERS)]

    @property
    def answered(self) -> int:
        """Calls that were answered; every answer must be a hit's."""
        answers = [answer for answer in self._answers if answer is not None]
        assert {type(answer) for answer in answers} <= {messages.Done}
        return len(answers)

    @property
    def asked(self) -> int:
        """Calls that ended in whatever way."""
        return len(self._answers)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, first: int) -> None:
        while not self._over.is_set():
            self._answers.append(said_to(self._client, self._requests[first % len(self._requests)]))


def helper_of(client: Client, since: int = 0) -> int:
    """The pid of the daemon's hit server, once it serves."""
    found = wait_for(
        lambda: client.events("hit_server_started", since=since), f"a hit server serves: {client.said()}", 40
    )
    return int(found[-1]["process"])


def pressed(client: Client, tree: SmallTree) -> int:
    """Press a daemon until a hit server serves beside it; its pid."""
    since = client.mark()
    with Pressing(client, tree):
        # Not by its log: reading that again and again would take the time that the callers need.
        wait_for(lambda: below(client.ready()["pid"]), "the daemon starts a hit server", 40)
    return helper_of(client, since)


def compiled(client: Client, tree: SmallTree, *words: str) -> None:
    """Compile every unit through the launcher."""
    for unit in tree.units:
        done = client.call("gcc", *words, "-c", unit, "-o", f"{unit}.o", cwd=tree.root)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def aged(*paths: Path) -> None:
    """Wait until files are so old that what is made of them may be stored."""
    newest = max(path.stat().st_ctime_ns for path in paths)
    wait_for(lambda: time.time_ns() - newest > OLD_NS, "the files have come of age")


def stored(client: Client, root: Path) -> SmallTree:
    """A tree whose results are in the cache."""
    tree = fast_tree(root, UNITS)
    aged(*root.iterdir())
    compiled(client, tree)
    wait_for(lambda: client.stats()["cache_writes"] == UNITS, "all is stored")
    return tree


def mark(client: Client) -> int:
    """How many lines the daemon's log has, with everything in it that was answered."""
    query(client, "ping")
    return client.mark()


def answered_by(client: Client, since: int) -> list[tuple[str, int]]:
    """Every decision since then, and the process that made it."""
    query(client, "ping")  # before it answers, a daemon hears what its hit servers have said
    return [(event["decision"], event["process"]) for event in client.events("call_decided", since=since)]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, buried or not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def in_crowd(count: int, work: Callable[[int], object]) -> list[object]:
    """The results of so many threads at once."""
    results: list[object] = [None] * count

    def run(number: int) -> None:
        results[number] = work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# --- daemons ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(home: Path, **server: object) -> Iterator[tuple[Client, SmallTree, int]]:
    """A daemon, a tree that it knows, and the hit server beside it."""
    home.mkdir(exist_ok=True)
    with lone_daemon(home / "client", {"server": {"processes": 2, **server}}) as client:
        tree = stored(client, home / "tree")
        yield client, tree, pressed(client, tree)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, SmallTree, int]]:
    """A daemon, a tree that it knows, and the hit server beside it, for all who leave it as it is."""
    with serving(tmp_path_factory.mktemp("served"), hit_servers_idle_seconds=300) as three:
        yield three


def plain_object(tree: SmallTree, unit: str) -> bytes:
    """What the compiler alone makes of a unit."""
    subprocess.run(["gcc", "-c", unit, "-o", "plain.o"], cwd=tree.root, check=True)
    return (tree.root / "plain.o").read_bytes()


# --- what they answer ------------------------------------------------------------------------------


def test_hits_are_answered_by_another_process(served) -> None:
    """Beside a daemon that was the limit another process answers hits, and its objects are the compiler's."""
    client, tree, helper = served
    for unit in tree.units:
        (tree.root / f"{unit}.o").unlink()
    since = mark(client)
    compiled(client, tree)
    assert helper != client.ready()["pid"]
    assert query(client, "ping")["pid"] == client.ready()["pid"]
    assert answered_by(client, since) == [("hit", helper)] * UNITS
    for unit in tree.units:
        assert (tree.root / f"{unit}.o").read_bytes() == plain_object(tree, unit)


def _figures(client: Client, tree: SmallTree, root: Path) -> tuple[dict, list[dict]]:
    """Hits, a miss and what is no hit for other reasons; the statistics and what ``why`` tells of it."""
    zero(client)
    compiled(client, tree)
    odd = tree.units[0]
    for words, env in (
        (("gcc", "--version"), {}),
        (("gcc", "-DNEW", "-c", odd, "-o", "new.o"), {}),
        (("gcc", "-c", odd, "-o", "uncached.o"), {"SCCACHE_NO_CACHE": "1"}),
        (("gcc", "-c", odd, "-o", "again.o"), {"SCCACHE_RECACHE": "1"}),
        (("gcc", "-c", "missing.c", "-o", "missing.o"), {}),
        (("true",), {}),
    ):
        client.call(*words, cwd=root, **env)
    wait_for(lambda: client.stats()["cache_writes"] == 2, "the new results are stored")
    compiled(client, tree)
    told = [query(client, "why", os.fspath(root / unit)) for unit in tree.units]
    stats = {name: value for name, value in client.stats().items() if not name.endswith("_duration")}
    shown = [{name: one[name] for name in ("state", "command", "reason", "stored", "causes")} for one in told]
    return stats, shown


def test_statistics_are_those_of_one_process(served, tmp_path: Path) -> None:
    """Counters of every kind, by language and compiler too, and ``why`` are the same with and without a hit server."""
    client, tree, helper = served
    since = mark(client)
    with lone_daemon(tmp_path / "alone", {"server": {"processes": 1}}) as alone:
        other = stored(alone, tmp_path / "tree")
        theirs = _figures(client, tree, tree.root)
        assert theirs == _figures(alone, other, other.root)
    assert theirs[0]["cache_hits"]["counts"] == {"C/C++": 2 * UNITS}
    assert theirs[0]["cache_hits"]["adv_counts"] == {"c [gcc]": 2 * UNITS}
    assert [one["state"] for one in theirs[1]] == ["hit"] * UNITS
    assert answered_by(client, since).count(("hit", helper)) == 2 * UNITS


def test_equal_misses_are_compiled_once(served) -> None:
    """Ten calls at once for what nobody has compiled, taken by a hit server, make one compilation and nine hits."""
    client, tree, helper = served
    (tree.root / "slow.c").write_text(SLOW)
    aged(tree.root / "slow.c")
    zero(client)
    done = in_crowd(10, lambda n: client.call("gcc", "-O2", "-c", "slow.c", "-o", f"slow{n}.o", cwd=tree.root))
    assert [one.returncode for one in done] == [0] * 10
    stats = client.stats()
    assert (stats["compilations"], stats["compile_requests"]) == (1, 10)
    assert hits_and_misses(client) == (9, 1)
    assert len({(tree.root / f"slow{n}.o").read_bytes() for n in range(10)}) == 1
    assert not is_gone(helper)


def test_use_by_a_hit_server_is_use(served) -> None:
    """Of entries that nobody has used for long, the one that a hit server has used since stays."""
    client, tree, helper = served
    for path in Path(client.env["SCCACHE_DIR"]).rglob("?" * 64):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    used, unused = tree.units[:2]
    since = mark(client)
    client.call("gcc", "-c", used, "-o", "used.o", cwd=tree.root)
    assert answered_by(client, since) == [("hit", helper)]
    query(client, "cache-remove", "", str(time.time_ns() - 3600 * 10**9))
    zero(client)
    for unit in (used, unused):
        client.call("gcc", "-c", unit, "-o", "used.o", cwd=tree.root)
    assert hits_and_misses(client) == (1, 1)
    compiled(client, tree)


def test_no_answer_tells_of_less_than_was_answered(tmp_path: Path) -> None:
    """Hits are answered while the daemon stands still; what it says when it goes on has every one of them."""
    with serving(tmp_path, processes=3) as (client, tree, _):
        wait_for(lambda: len(client.events("hit_server_started")) == 2, "both hit servers serve")
        zero(client)
        request = Pressing(client, tree).request
        for count in range(1, 21):
            client.send(signal.SIGSTOP)
            try:
                assert isinstance(said_to(client, request), messages.Done)
                asking = socket.socket(socket.AF_UNIX)
                asking.connect(os.fspath(client.socket))
                asking.sendall(messages.encode(messages.Query("stats")))
            finally:
                client.send(signal.SIGCONT)
            assert sum(told(asking)["stats"]["cache_hits"]["counts"].values()) == count


def test_a_compiler_that_the_daemon_meets_later_is_told(served) -> None:
    """Of a compiler that nobody had called before the hit server began, it answers hits a moment later."""
    client, tree, helper = served
    words = ("g++", "-x", "c", "-c", tree.units[0], "-o", "later.o")
    first = mark(client)
    client.call(*words, cwd=tree.root)
    assert answered_by(client, first) == [("here", client.ready()["pid"])]

    def answered() -> bool:
        since = mark(client)
        client.call(*words, cwd=tree.root)
        return answered_by(client, since) == [("hit", helper)]

    wait_for(answered, "the hit server knows the compiler")


# --- how they fail ---------------------------------------------------------------------------------


def test_a_killed_hit_server_costs_no_call(tmp_path: Path) -> None:
    """A hit server that is killed while launchers call loses none of them, and every answer was counted."""
    with serving(tmp_path) as (client, tree, helper):
        zero(client)
        with Pressing(client, tree) as callers:
            wait_for(lambda: callers.answered > 50, "callers are answered")
            os.kill(helper, signal.SIGKILL)
            done = in_crowd(12, lambda n: client.call("gcc", "-c", tree.units[0], "-o", f"o{n}.o", cwd=tree.root))
            wait_for(lambda: client.events("hit_server_lost"), "the daemon notices")
        assert [(one.returncode, one.stderr) for one in done] == [(0, b"")] * 12
        assert len({(tree.root / f"o{n}.o").read_bytes() for n in range(12)}) == 1
        # One call was in its hands: counted or not, as far as it had come.
        assert 0 <= callers.asked - callers.answered <= 1
        counted = hits_and_misses(client)[0]
        assert callers.answered + 12 - 1 <= counted <= callers.answered + 12 + 1
        assert client.events("hit_server_lost")[0]["process"] == helper
        since = mark(client)
        compiled(client, tree)
        assert {process for _, process in answered_by(client, since)} == {client.ready()["pid"]}


def test_a_stopped_hit_server_is_noticed_and_killed(tmp_path: Path) -> None:
    """A hit server that stands still takes no caller with it: the daemon answers after a moment, and ends it."""
    with serving(tmp_path) as (client, tree, helper):
        zero(client)
        os.kill(helper, signal.SIGSTOP)
        done = in_crowd(6, lambda n: client.call("gcc", "-c", tree.units[0], "-o", f"o{n}.o", cwd=tree.root))
        assert [(one.returncode, one.stderr) for one in done] == [(0, b"")] * 6
        assert hits_and_misses(client) == (6, 0)
        lost = wait_for(lambda: client.events("hit_server_lost"), "the daemon ends it")
        assert [(event["process"], event["reason"]) for event in lost] == [(helper, "signal 9")]
        assert is_gone(helper)


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_no_hit_server_outlives_a_killed_daemon(tmp_path: Path, stopped: bool) -> None:
    """When the daemon is killed, its hit server ends, also one that stands still."""
    with serving(tmp_path) as (client, _, helper):
        if stopped:
            os.kill(helper, signal.SIGSTOP)
        client.kill()
        wait_for(lambda: is_gone(helper), "the hit server ends")


def test_memory_before_the_disk_is_the_daemons_alone(tmp_path: Path) -> None:
    """Where the daemon has a level in memory too, a hit server answers from the disk, and counts there."""
    tables = {"server": {"processes": 2}, "cache.multilevel": {"chain": ["memory", "disk"]}}
    with lone_daemon(tmp_path / "client", tables) as client:
        tree = stored(client, tmp_path / "tree")
        helper = pressed(client, tree)
        zero(client)
        since = mark(client)
        compiled(client, tree)
        assert answered_by(client, since) == [("hit", helper)] * UNITS
        memory, disk = client.stats()["multi_level"]
        assert (memory["hits"], memory["misses"]) == (0, 0)
        assert (disk["hits"], disk["misses"]) == (2 * UNITS, 0)


# --- how they begin and end ------------------------------------------------------------------------


def test_hit_servers_come_and_go_with_the_load(tmp_path: Path) -> None:
    """A daemon begins alone, has a hit server while it is pressed, and is alone again when nobody calls."""
    with lone_daemon(tmp_path / "client", {"server": {"processes": 2, "hit_servers_idle_seconds": 1}}) as client:
        tree = stored(client, tmp_path / "tree")
        assert below(client.ready()["pid"]) == []
        helper = pressed(client, tree)
        assert helper != client.ready()["pid"]
        wait_for(lambda: client.events("hit_server_ended"), "it is not needed any more")
        assert is_gone(helper)
        assert client.events("hit_server_lost") == []
        since = mark(client)
        compiled(client, tree)
        assert answered_by(client, since) == [("hit", client.ready()["pid"])] * UNITS


def test_a_daemon_of_one_process_stays_alone(tmp_path: Path) -> None:
    """With server.processes = 1 nothing is started, however much is asked."""
    with lone_daemon(tmp_path / "client", {"server": {"processes": 1}}) as client:
        tree = stored(client, tmp_path / "tree")
        with Pressing(client, tree) as callers:
            wait_for(lambda: callers.answered > 1500, "it has much to do", 60)
            assert below(client.ready()["pid"]) == []


def test_stopping_the_daemon_ends_its_hit_servers(tmp_path: Path) -> None:
    """``--stop-server`` ends the hit server in order, and nobody listens any more."""
    with serving(tmp_path) as (client, _, helper):
        client.call("--stop-server", cwd=tmp_path)
        assert client.process is not None
        assert client.process.wait(30) == 0
        assert is_gone(helper)
        assert [event["process"] for event in client.events("hit_server_ended")] == [helper]
        assert client.events("hit_server_lost") == []
        assert not client.socket.exists()


def test_a_call_to_a_hit_server_keeps_the_daemon_awake(tmp_path: Path) -> None:
    """A daemon that ends after two idle seconds lives as long as a hit server has callers, and then ends with it."""
    with serving(tmp_path, idle_seconds=2) as (client, tree, helper):
        pid = client.ready()["pid"]
        until = time.monotonic() + 3.5
        with Pressing(client, tree):
            while time.monotonic() < until:
                client.call("gcc", "-c", tree.units[0], "-o", "awake.o", cwd=tree.root)
        assert not is_gone(pid)
        assert client.process is not None
        assert client.process.wait(30) == 0
        assert is_gone(helper)
