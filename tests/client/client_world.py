"""A cluster of one root: a dispatcher that runs actions in a root of nothing but their inputs and the toolchain."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from client_kit import TOOLCHAIN, env_of, rebuilt
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from sccache_twisted.client.cache import CompileCache
from sccache_twisted.client.cache.observer import Observer
from sccache_twisted.client.calls import Answered, Call, Decision, ExecHere, RunHere
from sccache_twisted.client.detect import CompilerFinder
from sccache_twisted.client.inputs import Gathered, Lister
from sccache_twisted.client.pipeline import Pipeline
from sccache_twisted.client.stats import Statistics
from sccache_twisted.client.toolchains import Toolchains
from sccache_twisted.interfaces import Finished, IBlobSource, ICacheStore, IDispatcher, IReservation, RemoteRun
from sccache_twisted.model import (
    JOB_TEMPORARY,
    Action,
    ActionResult,
    Digest,
    JobFigures,
    JobId,
    OutputFile,
    mint_server_id,
)
from sccache_twisted.net.processes import ProcessRunner
from sccache_twisted.storage.notebook import Notebook
from sccache_twisted.toolchains import ToolchainCache

SERVER = mint_server_id("world", bytes(8))


@implementer(IReservation)
class Kept:
    """A slot that was asked for ahead, and what became of it: ``used``, or ``released`` with a reason."""

    def __init__(self, toolchain: Digest, arch: str, label: str) -> None:
        self.wish = (toolchain, arch)
        self.label = label
        self.used = False
        self.released = ""

    def release(self, reason: str) -> None:
        assert not self.used, "a slot is given back by somebody who has passed it on"
        self.released = reason


@implementer(IDispatcher)
class World:
    """Runs every action at once. ``spoil`` may change the result, ``before`` is called first."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.spoil: Callable[[ActionResult], ActionResult] = lambda result: result
        self.before: Callable[[], None] = lambda: None
        self.failure: Exception | None = None
        self.local: list[str] = []
        self.reservations: list[Kept] = []

    def reserve(self, toolchain: Digest, arch: str, label: str) -> Kept:
        self.reservations.append(Kept(toolchain, arch, label))
        return self.reservations[-1]

    def stayed_local(self, reason: str) -> None:
        self.local.append(reason)

    def dispatch(
        self,
        action: Action,
        arch: str,
        archive: Callable[[], str],
        blobs: IBlobSource,
        label: str,
        again: Callable[[], Deferred[object]] | None = None,
        reservation: Kept | None = None,
    ) -> Deferred[RemoteRun]:
        if reservation is not None:
            assert reservation.wish == (action.toolchain, arch)
            assert reservation.label == label
            reservation.used = True
        assert os.path.getsize(archive()) > 0
        self.actions.append(action)
        self.before()
        if self.failure is not None:
            return fail(self.failure)
        try:
            result = self.spoil(run(action))
        except Exception as problem:  # noqa: BLE001 - the test shall see whatever it is
            return fail(problem)
        return succeed(RemoteRun(result, JobFigures(JobId("job"), 1, SERVER)))


def run(action: Action) -> ActionResult:
    """All steps of an action in a root made for it; argv[0] is the program's path, which changes no object."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        rebuilt(Gathered(action.inputs, action.outputs), root)
        Path(f"{root}{os.fsdecode(JOB_TEMPORARY)}").mkdir(parents=True)
        stdout = stderr = b""
        status = 0
        for executable, argv in ((action.executable, action.argv), *action.then):
            command = ["bwrap", "--bind", str(root), "/"]
            for directory in (*TOOLCHAIN, "/usr/lib64"):
                if os.path.isdir(directory):
                    command += ["--ro-bind", directory, directory]
            command += ["--dev", "/dev", "--chdir", os.fsdecode(action.cwd), "--clearenv"]
            for name, value in (*action.env, (b"PWD", action.cwd)):
                command += ["--setenv", os.fsdecode(name), os.fsdecode(value)]
            command += ["--", os.fsdecode(executable), *map(os.fsdecode, argv[1:])]
            ended = subprocess.run(command, capture_output=True, check=False, umask=action.umask)
            stdout += ended.stdout
            stderr += ended.stderr
            status = ended.returncode
            if status:
                break
        outputs = []
        for path in action.outputs:
            place = f"{temporary}{os.fsdecode(path)}"
            if os.path.isfile(place):
                outputs.append(OutputFile(path, Path(place).read_bytes(), os.stat(place).st_mode & 0o777))
        return ActionResult(status, stdout, stderr, tuple(outputs))


class Bench:
    """A pipeline before a world, to be called as a launcher calls it. With a ``store`` it caches, and ``notes`` it."""

    def __init__(
        self,
        reactor: Any,
        cache: Path,
        world: World | None,
        store: ICacheStore | None = None,
        notes: Path | None = None,
        bases: Sequence[bytes] = (),
    ) -> None:
        self.world = world
        self.statistics = Statistics()
        self.runner = ProcessRunner(reactor)
        self.lister = Lister(reactor, self.runner, 3)
        self.finder = CompilerFinder(self.runner)
        toolchains = Toolchains(ToolchainCache(os.fsencode(cache)))
        self.cache = None
        if store is not None:
            observer = Observer(reactor, None if notes is None else Notebook(os.fsencode(notes)))
            self.cache = CompileCache(reactor, store, toolchains, self.statistics, observer=observer, bases=bases)
        self.pipeline = Pipeline(
            reactor, self.runner, self.finder, self.lister, toolchains, world, self.statistics, self.cache
        )

    async def decide(
        self,
        words: list[str],
        cwd: Path,
        env: Mapping[bytes, bytes] | None = None,
        *,
        umask: int = 0o022,
        tty: bool = False,
    ) -> Decision:
        env = env_of() if env is None else env
        argv = tuple(os.fsencode(word) for word in words)
        return await self.pipeline.decide(Call(argv, os.fsencode(cwd), env, umask, tty, time.time_ns()))

    async def call(
        self, words: list[str], cwd: Path, env: Mapping[bytes, bytes] | None = None, **more: Any
    ) -> Answered:
        """A call to its end, as a launcher takes it there."""
        env = env_of() if env is None else env
        decision = await self.decide(words, cwd, env, **more)
        if isinstance(decision, Answered):
            return decision
        ended = await self.runner.run(
            decision.argv, executable=decision.executable, cwd=os.fsencode(cwd), env=env, umask=0o022, limit=1 << 24
        )
        if isinstance(decision, RunHere):
            return await self.pipeline.finished(decision, ended)
        assert isinstance(decision, ExecHere)
        return Answered(ended.status, ended.stdout, ended.stderr)

    def close(self) -> None:
        self.lister.close()


def plain(words: list[str], cwd: Path, env: Mapping[bytes, bytes] | None = None, umask: int = 0o022) -> Finished:
    """The compiler alone."""
    env = env_of() if env is None else env
    ended = subprocess.run(words, cwd=cwd, env=dict(env), capture_output=True, check=False, umask=umask)
    return Finished(ended.returncode, ended.stdout, ended.stderr)


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its mode and content."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
    }
