"""Runs actions: rebuild the world, run the compiler in it, judge, collect, take the world down again.

The sandbox's process is started first and waits for its options, so that what it costs to start and to put it under
its limits passes while the root is being built. Knows stores, roots and processes. Refuses to know leases,
connections and schedulers.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.errors import (
    BadAction,
    BadOutput,
    JobCancelled,
    MissingInputs,
    SandboxFailed,
    TooLarge,
    ToolchainAbsent,
    WorkerFault,
)
from sccache_twisted.interfaces import IJobRunner
from sccache_twisted.logs import EventLog, events
from sccache_twisted.model import Action, ActionResult, Digest, FileInput, RunFigures, Try
from sccache_twisted.storage.blobs import BlobStore
from sccache_twisted.toolchains import Toolchain, ToolchainStore
from sccache_twisted.worker import jobroot
from sccache_twisted.worker.bubblewrap import Bubblewrap, options
from sccache_twisted.worker.cgroups import Group
from sccache_twisted.worker.jobroot import Owner
from sccache_twisted.worker.judge import Seen, judge
from sccache_twisted.worker.limits import JobLimits, kernel_bounds, machine_oom_kills
from sccache_twisted.worker.plan import Directory, Plan, plan, toolchain_tree
from sccache_twisted.worker.sampler import Sampler, Watch
from sccache_twisted.worker.sandbox import Left, Sandboxed, adopt_orphans
from sccache_twisted.worker.threads import Threads

_MOST_TREES: Final = 16
_MOST_COMMANDS: Final = 16

_log = Logger(namespace="sccache_twisted.worker")


@frozen
class Workshop:
    """What an executor works with. ``jobs`` is the directory of job roots, on the file system of both stores.

    ``owners`` has a uid for each slot, or is empty when jobs run as this user. ``starter`` is the path of the starter
    program, or empty.
    """

    toolchains: ToolchainStore
    blobs: BlobStore
    jobs: bytes
    bubblewrap: Bubblewrap
    owners: Sequence[Owner]
    starter: bytes
    limits: JobLimits
    max_stream_bytes: int
    max_output_bytes: int


@implementer(IJobRunner)
class Executor:
    """An IJobRunner. Call it in the reactor's thread; one job a slot at a time."""

    def __init__(self, reactor: Any, threads: Threads, workshop: Workshop, log: EventLog) -> None:
        self.reactor = reactor
        self.threads = threads
        self.workshop = workshop
        self.log = log
        self.trees = _Trees()
        self.bounds = kernel_bounds(workshop.limits, own_uid=bool(workshop.owners))
        self.sampler = Sampler(reactor, threads, workshop.limits)
        self._removals: set[Deferred[None]] = set()
        self.groups: Sequence[Group] = ()
        self._serial = 0

    def start(self, groups: Sequence[Group]) -> None:
        """Begin to run jobs, in the process that is to be their parent.

        ``groups`` has a control group for each slot, or is empty where none can be made.
        """
        self.groups = groups
        adopt_orphans()

    def run(self, attempt: Try, action: Action, slot: int) -> Deferred[ActionResult]:
        """See IJobRunner; also fails with ToolchainAbsent, JobCancelled and WorkerFault."""
        return Deferred.fromCoroutine(self._run(attempt, action, slot))

    def idle(self) -> Deferred[object]:
        """Fires when no file of an ended job is left."""
        removed: Deferred[Any] = DeferredList(list(self._removals))
        return removed

    async def _run(self, attempt: Try, action: Action, slot: int) -> ActionResult:
        if len(action.then) >= _MOST_COMMANDS:
            raise BadAction(f"the job has more than {_MOST_COMMANDS} commands")
        shop = self.workshop
        digests = {entry.digest for entry in action.inputs if isinstance(entry, FileInput)}
        if not shop.toolchains.pin(action.toolchain):
            raise ToolchainAbsent
        absent = shop.blobs.pin(digests)
        self._serial += 1
        directory = os.path.join(shop.jobs, b"%d-%d" % (os.getpid(), self._serial))
        try:
            if absent:
                raise MissingInputs(f"{len(absent)} input blobs are not on the worker")
            return await _Job(self, attempt, action, slot).run(directory)
        except CancelledError:
            raise JobCancelled from None
        except OSError as problem:
            raise WorkerFault(f"the worker failed: {problem}") from problem
        finally:
            shop.blobs.unpin(digests.difference(absent))
            shop.toolchains.unpin(action.toolchain)
            self._remove(directory)

    def _remove(self, directory: bytes) -> None:
        """Remove a job's files behind its answer; whoever stops the worker waits for :meth:`idle`."""
        removal: Deferred[None] = self.threads.defer(jobroot.remove, directory)
        self._removals.add(removal)

        def removed(_: object) -> None:
            self._removals.discard(removal)

        def failed(failure: Failure) -> None:
            _log.failure("{path} could not be removed", failure, path=directory)

        removal.addErrback(failed).addCallback(removed)


class _Trees:
    """The trees of the toolchains used last, by digest. Shared between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trees: OrderedDict[Digest, Directory] = OrderedDict()

    def of(self, toolchain: Toolchain) -> Directory:
        with self._lock:
            tree = self._trees.get(toolchain.digest)
            if tree is None:
                tree = self._trees[toolchain.digest] = toolchain_tree(toolchain.entries, toolchain.root)
            self._trees.move_to_end(toolchain.digest)
            if len(self._trees) > _MOST_TREES:
                self._trees.popitem(last=False)
            return tree


@frozen
class _World:
    """A built root: its plan, and its own two directories."""

    plan: Plan
    root: bytes
    temporary: bytes


class _Job:
    """One run of one action."""

    def __init__(self, executor: Executor, attempt: Try, action: Action, slot: int) -> None:
        self._executor = executor
        self._shop = shop = executor.workshop
        self._attempt = attempt
        self._action = action
        self._owner = shop.owners[slot] if shop.owners else None
        self._group = executor.groups[slot] if executor.groups else None
        self._commands: list[Sandboxed] = []
        self._over = ""
        self._oom_before = 0

    async def run(self, directory: bytes) -> ActionResult:
        """Run in a new directory; when this ends nothing lives there any more."""
        seconds, threads = self._executor.reactor.seconds, self._executor.threads
        began = seconds()
        try:
            # All are started now: each waits for its turn at no cost.
            for command in ((self._action.executable, self._action.argv), *self._action.then):
                self._commands.append(self._start(command))
            world = await threads.both(partial(self._build, directory), self._confine)
            prepared = seconds()
            left = await self._run_all(world)
        finally:
            for waiting in self._commands:
                waiting.kill()
            for waiting in self._commands:
                with suppress(CancelledError, TooLarge):
                    await waiting.run_to_end()
        figures = RunFigures(
            prepare_seconds=prepared - began,
            wall_seconds=seconds() - prepared,
            cpu_seconds=sum(one.cpu_seconds for one in left),
            peak_memory_bytes=max(one.peak_memory_bytes for one in left),
        )
        return await threads.run(self._collect, world, left, figures)

    def _start(self, command: tuple[bytes, tuple[bytes, ...]]) -> Sandboxed:
        return Sandboxed(
            self._executor.reactor,
            self._shop.bubblewrap,
            self._owner,
            self._executor.bounds,
            command,
            umask=self._action.umask,
            limit=self._shop.max_stream_bytes,
            starter=bool(self._shop.starter),
        )

    # --- in threads -------------------------------------------------------------------------------

    def _confine(self) -> None:
        """Put the waiting commands under their limits."""
        self._oom_before = self._oom_kills()
        if self._group is None:
            return
        for command in self._commands:
            try:
                self._group.enter(command.pid)
            except ProcessLookupError:
                continue  # killed meanwhile; whoever waits for it will hear
            except OSError as problem:
                raise SandboxFailed(f"the job could not be put under its limits: {problem}") from problem

    def _oom_kills(self) -> int:
        return machine_oom_kills() if self._group is None else self._group.oom_kills()

    def _build(self, directory: bytes) -> _World:
        toolchain = self._shop.toolchains.get(self._action.toolchain)
        if toolchain is None or not self._shop.toolchains.verify(toolchain.digest):
            raise ToolchainAbsent
        planned = plan(self._action, self._executor.trees.of(toolchain), self._shop.starter)
        world = _World(planned, os.path.join(directory, b"root"), os.path.join(directory, b"tmp"))
        with jobroot.storage(directory):
            for place in (directory, world.temporary):
                os.mkdir(place, 0o700)
                if self._owner is not None:
                    os.chown(place, self._owner.uid, self._owner.gid)
        jobroot.build(planned, world.root, self._copy, self._owner)
        return world

    def _copy(self, entry: FileInput, directory: int, name: bytes) -> None:
        mode = 0o555 if entry.executable else 0o444
        self._shop.blobs.copy_to(entry.digest, directory, name, entry.mtime_ns, mode)

    def _collect(self, world: _World, left: Sequence[Left], figures: RunFigures) -> ActionResult:
        outputs = jobroot.collect(world.root, world.plan.outputs, self._shop.max_output_bytes)
        return ActionResult(
            exit_code=left[-1].exit_code or 0,
            stdout=b"".join(one.ended.stdout for one in left),
            stderr=b"".join(one.ended.stderr for one in left),
            outputs=outputs,
            figures=figures,
            undeclared=jobroot.undeclared(world.root, world.plan),
        )

    # --- in the reactor's thread ------------------------------------------------------------------

    async def _run_all(self, world: _World) -> list[Left]:
        """Run the commands one after another until one fails; raises why an answer is not the compiler's."""
        self._executor.log.emit(events.JOB_RUNNING, attempt=self._attempt)
        began = self._executor.reactor.seconds()
        limit = self._shop.limits.wall_seconds
        timer = self._executor.reactor.callLater(limit, self._stop, f"the job ran for more than {limit:g} s")
        left: list[Left] = []
        try:
            for command in self._commands:
                left.append(await self._run_one(command, world))
                if left[-1].exit_code:
                    break
        finally:
            if timer.active():
                timer.cancel()
        self._executor.log.emit(
            events.JOB_FINISHED,
            attempt=self._attempt,
            exit_code=left[-1].exit_code,
            seconds=self._executor.reactor.seconds() - began,
        )
        return left

    async def _run_one(self, command: Sandboxed, world: _World) -> Left:
        writable = [world.root + path for path in world.plan.writable]
        watch = Watch(command.pid, [*writable, world.temporary], self._stop)
        if not self._over:
            command.let_go(
                options(world.plan, world.root, world.temporary, self._action.cwd, self._action.env, command.status_fd)
            )
        self._executor.sampler.add(watch)
        try:
            left = await command.run_to_end()
        except TooLarge:
            limit = self._shop.max_stream_bytes
            raise BadOutput(f"the job wrote more than {limit} bytes to its stdout or stderr") from None
        finally:
            self._executor.sampler.discard(watch)
        wrong = judge(self._seen(left, world)) if left.exit_code != 0 or self._over else None
        if wrong is not None:
            raise wrong
        return left

    def _seen(self, left: Left, world: _World) -> Seen:
        disk = os.statvfs(world.temporary)
        return Seen(
            exit_code=left.exit_code,
            signal=left.ended.signal,
            stderr=left.ended.stderr,
            over=self._over,
            oom_kills=self._oom_kills() - self._oom_before,
            free_bytes=disk.f_bavail * disk.f_frsize,
        )

    def _stop(self, sentence: str) -> None:
        """The job is over a bound."""
        if not self._over:
            self._over = sentence
            self._executor.log.emit(events.JOB_KILLED, attempt=self._attempt, reason=sentence)
        for command in self._commands:
            command.kill()
