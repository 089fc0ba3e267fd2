"""Long use leaves nothing behind: no process, mount, file or descriptor, and no memory but what caches may hold."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import frozen
from support.cluster import Cluster, wait_for
from support.processes import below, command_line, compilers_below, processes, with_variable, with_words
from support.small import FOR_EVER, fast_tree, slow_tree

pytestmark = pytest.mark.alone  # whoever makes network namespaces meanwhile leaves mounts

ROUND = 25
"""Jobs of one round: two are cancelled while they run, two do not compile, the others do."""
PARALLEL = 4
SLOTS = 2
UNITS = 21
KEPT = {"worker-1": SLOTS, "worker-2": SLOTS, "client": 2 * SLOTS, "scheduler": 0}
"""Connections that are kept for the next job, at most; those of a job that was cancelled are closed."""
WARM_UP = 2
GROWTH = 6 << 20
"""Bytes a role may grow by after its warm-up: what an allocator holds back, and tables of the last jobs."""
STEADY = 1 << 20
"""Bytes a role may grow by for each further thousand jobs, when all that is bounded has long been filled."""


@frozen
class Left:
    """What a cluster at rest holds. Memory in bytes by role; everything else by role and name."""

    descriptors: Mapping[str, Mapping[str, int]]
    sockets: Mapping[str, int]
    mounts: Mapping[str, tuple[str, ...]]
    files: frozenset[str]
    children: tuple[str, ...]
    memory: Mapping[str, int]


class User:
    """A cluster, its daemon, and somebody who compiles all day."""

    def __init__(self, cluster: Cluster, place: Path) -> None:
        self.cluster = cluster
        self.temporary = Path(cluster.env["TMPDIR"])
        self.fast = fast_tree(place / "fast", UNITS)
        self.slow = slow_tree(place / "slow", 1)
        (self.fast.root / "wrong.c").write_text('#include "common.h"\nint wrong(void) { return nowhere; }\n')
        status = cluster.status()
        self._workers = {name: worker.pid for name, worker in status.workers.items()}
        self.roles = {**self._workers, "scheduler": status.scheduler_pid}
        self._launchers: list[subprocess.Popen[bytes]] = []
        self.ran = {"compiled": 0, "failed": 0, "cancelled": 0}

    def round(self) -> None:
        """25 jobs, four at a time. Those that fail are confirmed here, in slots that all daemons of a user share."""
        sources = [*self.fast.units, "wrong.c", "wrong.c"]
        with ThreadPoolExecutor(PARALLEL) as pool:
            cancelled = pool.submit(lambda: [self._cancelled() for _ in range(2)])
            for source, status in zip(sources, pool.map(self._compiled, sources), strict=True):
                assert status == (1 if source == "wrong.c" else 0), source
                self.ran["failed" if status else "compiled"] += 1
            self.ran["cancelled"] += len(cancelled.result())

    def _start(self, root: Path, *words: str) -> "subprocess.Popen[bytes]":
        self._launchers = [one for one in self._launchers if one.poll() is None]
        launcher = subprocess.Popen(
            [*self.cluster.launcher, *words],
            cwd=root,
            env={**self.cluster.env, "PWD": str(root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._launchers.append(launcher)
        return launcher

    def end(self) -> None:
        """Kill what still runs, with the compilers that it may have started itself."""
        for launcher in self._launchers:
            if launcher.poll() is None:
                os.killpg(launcher.pid, signal.SIGKILL)
                launcher.wait()

    def _compiled(self, source: str) -> int:
        return self._start(self.fast.root, "gcc", "-O1", "-g", "-c", source, "-o", f"{source}.o").wait(timeout=120)

    def _slow(self) -> "subprocess.Popen[bytes]":
        limits = (f"-fconstexpr-ops-limit={FOR_EVER}", f"-fconstexpr-loop-limit={FOR_EVER}")
        words = ("g++", "-std=c++17", f"-DSPINS={FOR_EVER}", *limits, "-c", self.slow.units[0], "-o", "slow.o")
        return self._start(self.slow.root, *words)

    def _cancelled(self) -> None:
        """Interrupt a compilation when a worker's compiler is in the middle of it."""
        launcher = self._slow()
        wait_for(self._slow_compilers, "a worker compiles the slow unit", timeout=60)
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(timeout=60) != 0
        wait_for(lambda: not self._slow_compilers(), "the worker has stopped it", timeout=10)

    def _slow_compilers(self) -> list[int]:
        found = [one.pid for pid in self._workers.values() for one in compilers_below(pid)]
        return [pid for pid in found if any(b"SPINS" in word for word in command_line(pid))]

    def find_daemon(self) -> None:
        """From now on the client's daemon is looked at too."""
        uds = self.cluster.env["SCCACHE_SERVER_UDS"]
        (self.roles["client"],) = set(with_words(b"sccache-client")) & set(with_variable("SCCACHE_SERVER_UDS", uds))

    def at_rest(self) -> Left:
        """What is there when nothing runs and everything has been put in order."""
        wait_for(lambda: self.cluster.busy_slots() == 0, "all slots are free")
        wait_for(lambda: not self._children(), "no process is left")
        wait_for(lambda: not any(self._left_by_jobs()), "the roots of all slots are in order")
        held = {role: _descriptors(pid) for role, pid in self.roles.items()}
        return Left(
            descriptors={
                role: {name: n for name, n in each.items() if name != "socket"} for role, each in held.items()
            },
            sockets={role: each.get("socket", 0) for role, each in held.items()},
            mounts={role: _mounts(pid) for role, pid in {"ourselves": os.getpid(), **self.roles}.items()},
            files=frozenset(self._files()),
            children=tuple(self._children()),
            memory={role: _own_memory(pid) for role, pid in self.roles.items()},
        )

    def _children(self) -> list[str]:
        known = processes()
        ours = set(self.roles.values())
        children = {one.pid for pid in ours for one in below(pid, known)}
        # What no role is a parent of any more, but works for this cluster: named by its directory, or as a job's user.
        place = os.fsencode(self.cluster.directory.parent)
        strays = {pid for pid in known if any(place in word for word in command_line(pid))}
        return sorted(f"{pid} {command_line(pid)[:3]}" for pid in (children | strays) - ours)

    def _jobs(self) -> list[Path]:
        return sorted(self.cluster.directory.glob("**/jobs/slot-*"))

    def _left_by_jobs(self) -> list[str]:
        """What lies in slots that is not of the last job's planned world."""
        found = []
        for slot in self._jobs():
            found += [f"{slot}/{name}" for name in os.listdir(slot) if name not in {"root", "tmp"}]
            found += [f"{slot}/tmp/{name}" for name in os.listdir(slot / "tmp")]
            for name in ("fast", "slow"):
                found += [str(path) for path in slot.glob(f"root/**/{name}/*") if path.suffix in {".o", ".d", ".s"}]
        return found

    def _files(self) -> set[str]:
        """Names of files that may not become more: not of what the caches of the stores may keep, nor of logs.

        A toolchain is one file wherever it is kept: a worker may be given its first job for one at any time.
        """
        found = set()
        for top in (self.cluster.directory, self.temporary):
            for here, directories, files in os.walk(top):
                if os.path.basename(here) in {"blobs", "root"}:
                    directories.clear()
                    continue
                changing = r"\d+(?=\.sock|\.log|/toolchains/)"
                found |= {re.sub(changing, "N", f"{here}/{name}") for name in [*directories, *files]}
        return found


def _descriptors(pid: int) -> dict[str, int]:
    """Open descriptors by what they lead to; sockets and pipes by kind."""
    found: dict[str, int] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            leads_to = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        kind = leads_to.partition(":")[0] if leads_to.startswith(("socket:", "pipe:")) else leads_to
        found[kind] = found.get(kind, 0) + 1
    return found


def _mounts(pid: int) -> tuple[str, ...]:
    """A process's mounts, without those of others that come and go."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if "sct-" in line or "sccache-twisted" in line)


def _own_memory(pid: int) -> int:
    """Bytes of a process that are its own and not a file's."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)[1])


@pytest.fixture
def user(tmp_path):
    """Somebody with two workers of two slots, whose temporary files all go to one place."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # A background job of a shell ignores ^C, and so would all that it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Cluster(2, slots=SLOTS, extra={"TMPDIR": str(temporary), "SCCACHE_LOCAL_SLOTS": "16"}) as cluster:
            made = User(cluster, tmp_path)
            try:
                yield made
            finally:
                made.end()
    finally:
        signal.signal(signal.SIGINT, before)


def _use(user, rounds):
    for _ in range(rounds):
        user.round()


def _same(before, after):
    """All but memory is as it was; of connections some are kept."""
    assert after.children == before.children == ()
    assert after.mounts == before.mounts
    assert after.descriptors == before.descriptors
    more = {role: count - before.sockets[role] for role, count in after.sockets.items()}
    assert all(count <= KEPT[role] for role, count in more.items()), (before.sockets, after.sockets)
    assert after.files - before.files == frozenset()


@pytest.mark.timeout(600)
def test_use_leaves_nothing_behind(user):
    """After 150 jobs, some of which failed or were cancelled, a cluster holds what it held after the first 50."""
    user.round()
    user.find_daemon()
    _use(user, WARM_UP - 1)
    before = user.at_rest()
    _use(user, 4)
    after = user.at_rest()
    _same(before, after)
    assert user.ran == {"compiled": UNITS * 6, "failed": 2 * 6, "cancelled": 2 * 6}
    assert sum(user.cluster.stats().dist_compiles.values()) >= UNITS * 6
    grown = {role: after.memory[role] - before.memory[role] for role in before.memory}
    assert all(size < GROWTH for size in grown.values()), grown


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_long_use_leaves_nothing_behind(user):
    """So it does after 5,000; and the second half of them takes no memory for each job."""
    user.round()
    user.find_daemon()
    _use(user, WARM_UP - 1)
    before = user.at_rest()
    _use(user, 98)
    half = user.at_rest()
    _use(user, 100)
    after = user.at_rest()
    print({role: [each.memory[role] >> 10 for each in (before, half, after)] for role in before.memory})  # noqa: T201
    print(before.sockets, half.sockets, after.sockets)  # noqa: T201
    _same(before, half)
    _same(half, after)
    assert sum(user.ran.values()) == 5000
    steady = {role: after.memory[role] - half.memory[role] for role in before.memory}
    assert all(size < 2.5 * STEADY for size in steady.values()), steady
