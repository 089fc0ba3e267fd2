"""Builds that must not notice what happens to the farm: none local, none failed, none twice, every object equal."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from sccache_twisted.cli.processes import state
from support import jobs
from support.cluster import wait_for
from support.farm.roles import Client, Event, Worker
from support.processes import compilers_below
from support.small import SmallTree, running, slow_tree
from support.trees import Side, differences, snapshot

BUILD_SECONDS = 240.0
TRANSPORT = {"connection_failed", "silence"}


def seeds(few: int = 1, many: int = 20) -> list[ParameterSet]:
    """Seeds for a case: a few in ``make test``, many in ``make test-full``."""
    return [pytest.param(seed, marks=() if seed < few else (pytest.mark.full,)) for seed in range(many)]


class Build:
    """A make that runs, or has ended."""

    def __init__(self, yard: "Yard", client: Client, make: object, before: object, since: int) -> None:
        self._yard = yard
        self._client = client
        self._make = make
        self._before = before
        self._since = since

    def events(self, *names: str) -> list[Event]:
        """What the client logged since the build began."""
        return self._client.events(*names, since=self._since)

    def running(self, server_id: str | None = None) -> dict[jobs.Attempt, Event]:
        """The attempts whose compiler runs, on this worker or on any."""
        return jobs.running(self.events(), server_id)

    def wait_for(self, fact: Callable[[], object], what: str) -> None:
        """Wait for a fact that comes about before the build ends."""
        wait_for(lambda: self._still(bool(fact())), what, BUILD_SECONDS)

    def wait_for_done(self, count: int) -> None:
        """Wait until this many jobs are done."""
        self.wait_for(lambda: len(self.events("job_done")) >= count, f"{count} jobs are done")

    def _still(self, fact: bool) -> bool:
        assert fact or self._make.poll() is None, "the build ended before what was waited for"
        return fact

    def finish(self, kept: Path) -> dict[str, Event]:
        """Wait for its end; each job's one and only job_done.

        Asserts that it succeeded without a word of the launcher's, that nothing was compiled here, that every unit was
        done exactly once, and that every file is the compiler's own.
        """
        said = self._make.communicate(timeout=BUILD_SECONDS)[0].decode("utf-8", "replace")
        assert self._make.returncode == 0, said
        assert "sccache-twisted:" not in said
        local = self.events("job_local")
        assert not local, local
        done = self.events("job_done")
        assert Counter(event["job_id"] for event in done).most_common(1)[0][1] == 1
        assert sorted(event["label"].rpartition("/")[2] for event in done) == sorted(self._yard.tree.units)
        found = self._yard.tree.aside(self._before, kept)
        assert differences(self._yard.plain, found) == []
        return {event["job_id"]: event for event in done}


class Yard:
    """A tree of slow units, and what the compiler alone makes of it.

    ``spins``: 100,000 take the compiler about half a second. ``header``: what every unit includes.
    """

    def __init__(self, directory: Path, units: int, spins: int, header: str = "") -> None:
        self.tree: SmallTree = slow_tree(directory / "tree", units, header)
        self._spins = f"SPINS={spins}"
        self.plain: Side = self.tree.build_aside(directory / "plain", "-j4", self._spins)

    @contextlib.contextmanager
    def build(self, client: Client, parallel: int = 8) -> Iterator[Build]:
        """A make of the tree by this client, killed with the block if it still runs."""
        before, since = snapshot(self.tree.root), client.mark()
        compiler = f"CXX={' '.join(client.launcher)} g++"
        with running(self.tree.make(f"-j{parallel}", compiler, self._spins, env=client.env)) as make:
            try:
                yield Build(self, client, make, before, since)
            finally:
                for name in self.tree.left:
                    (self.tree.root / name).unlink()


@contextlib.contextmanager
def standing_still(workers: Sequence[Worker]) -> Iterator[None]:
    """Every slot of these workers holds a compiler that is stopped for as long as the block lasts."""
    with contextlib.ExitStack() as stopped:
        held: dict[int, set[int]] = {worker.pid: set() for worker in workers}

        def all_held() -> bool:
            for worker in workers:
                for pid in {process.pid for process in compilers_below(worker.pid)} - held[worker.pid]:
                    # It may end before it is stopped; then its slot will soon have another one.
                    with contextlib.suppress(ProcessLookupError):
                        handle = os.pidfd_open(pid)
                        stopped.callback(os.close, handle)
                        signal.pidfd_send_signal(handle, signal.SIGSTOP)
                        stopped.callback(_resume, handle)
                        held[worker.pid].add(pid)
                # One that was about to end when it was stopped is gone soon.
                held[worker.pid] = {pid for pid in held[worker.pid] if state(pid) == "T"}
            return all(len(held[worker.pid]) == worker.slots for worker in workers)

        wait_for(all_held, "every slot holds a compiler", 60)
        yield


def _resume(handle: int) -> None:
    # Its worker may have been killed, and it with it.
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGCONT)


def struck(build: Build, hit: dict[jobs.Attempt, Event], codes: set[str]) -> dict[jobs.Attempt, Event]:
    """Of the attempts that were hit, those that failed by it; there is at least one, and each has a later success."""
    failed = jobs.attempts(build.events(), "job_failed")
    found = {attempt: failed[attempt] for attempt in hit if attempt in failed}
    assert found, "what was meant to be hit had ended before"
    assert {event["code"] for event in found.values()} <= codes
    done = {event["job_id"]: event for event in build.events("job_done")}
    for job_id, attempt in found:
        assert done[job_id]["attempt"] > attempt
    return found
