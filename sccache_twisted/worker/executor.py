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
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.errors import (
    BadAction,
    BadOutput,
    JobCancelled,
    JobKilled,
    MissingInputs,
    SandboxFailed,
    TooLarge,
    ToolchainAbsent,
    WorkerFault,
    WorkerStorage,
)
from sccache_twisted.interfaces import IJobRunner
from sccache_twisted.logs import EventLog, events
from sccache_twisted.model import Action, ActionResult, Digest, FileInput, RunFigures, Try
from sccache_twisted.storage.blobs import BlobStore
from sccache_twisted.toolchains import Toolchain, ToolchainStore
from sccache_twisted.worker.bubblewrap import Bubblewrap, check_words, options
from sccache_twisted.worker.cgroups import Group
from sccache_twisted.worker.jobroot import JobRoot, Owner
from sccache_twisted.worker.judge import Seen, judge
from sccache_twisted.worker.limits import JobLimits, kernel_bounds, lacking, machine_oom_kills
from sccache_twisted.worker.outputs import collect, undeclared
from sccache_twisted.worker.plan import Directory, Plan, ToolchainFile, plan, toolchain_tree
from sccache_twisted.worker.sampler import Sampler, Watch
from sccache_twisted.worker.sandbox import Left, Sandboxed, adopt_orphans
from sccache_twisted.worker.threads import Threads, settled

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
        self.sampler = Sampler(reactor, threads, workshop.limits, workshop.jobs)
        self.groups: Sequence[Group] = ()
        self.starter = ToolchainFile(workshop.starter) if workshop.starter else None
        self._roots: dict[int, JobRoot] = {}
        self._settling: dict[int, Deferred[None]] = {}
        workshop.toolchains.dropped = self._toolchain_dropped
        workshop.blobs.damaged = self._blob_damaged

    def start(self, groups: Sequence[Group]) -> None:
        """Begin to run jobs, in the process that is to be their parent.

        ``groups`` has a control group for each slot, or is empty where none can be made.
        """
        self.groups = groups
        adopt_orphans()

    def run(self, attempt: Try, action: Action, slot: int) -> Deferred[ActionResult]:
        """See IJobRunner; also fails with ToolchainAbsent, JobCancelled and WorkerFault."""
        return Deferred.fromCoroutine(self._run(attempt, action, slot))

    async def clear(self) -> None:
        """Remove every root, when no job runs."""
        for slot in list(self._settling):
            await self._settled(slot)
        for root in self._roots.values():
            await self.threads.run(root.discard)

    async def _run(self, attempt: Try, action: Action, slot: int) -> ActionResult:
        if len(action.then) >= _MOST_COMMANDS:
            raise BadAction(f"the job has more than {_MOST_COMMANDS} commands")
        check_words(action)
        shop = self.workshop
        digests = {entry.digest for entry in action.inputs if isinstance(entry, FileInput)}
        if not shop.toolchains.pin(action.toolchain):
            raise ToolchainAbsent
        absent = shop.blobs.pin(digests)
        root = self._root(slot)
        try:
            if absent:
                raise MissingInputs(f"{len(absent)} input blobs are not on the worker")
            await self._settled(slot)
            try:
                return await _Job(self, root, attempt, action, slot).run()
            finally:
                self._settle(slot, root)
        except CancelledError:
            raise JobCancelled from None
        except OSError as problem:
            raise WorkerFault(f"the worker failed: {problem}") from problem
        finally:
            shop.blobs.unpin(digests.difference(absent))
            shop.toolchains.unpin(action.toolchain)

    def _toolchain_dropped(self, digest: Digest, reason: str) -> None:
        self.reactor.callFromThread(self.log.emit, events.TOOLCHAIN_DROPPED, toolchain=digest, reason=reason)

    def _blob_damaged(self, digest: Digest) -> None:
        self.reactor.callFromThread(self.log.emit, events.BLOB_CORRUPT, digest=digest)

    def _root(self, slot: int) -> JobRoot:
        if slot not in self._roots:
            owner = self.workshop.owners[slot] if self.workshop.owners else None
            self._roots[slot] = JobRoot(os.path.join(self.workshop.jobs, b"slot-%d" % slot), owner)
        return self._roots[slot]

    def _settle(self, slot: int, root: JobRoot) -> None:
        """Put a slot's root in order behind the job's answer; the slot's next job waits for that."""

        def failed(failure: Failure) -> None:
            _log.failure("the root of slot {slot} could not be removed", failure, slot=slot)

        self._settling[slot] = self.threads.defer(root.settle).addErrback(failed)

    async def _settled(self, slot: int) -> None:
        settling = self._settling.get(slot)
        if settling is not None:
            await settled(settling)
            if self._settling.get(slot) is settling:
                del self._settling[slot]


class _Trees:
    """The trees of the toolchains used last, by digest. Shared between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trees: OrderedDict[Digest, tuple[Toolchain, Directory]] = OrderedDict()

    def of(self, toolchain: Toolchain) -> Directory:
        with self._lock:
            known, tree = self._trees.get(toolchain.digest, (None, None))
            if tree is None or known is not toolchain:
                # One that was dropped and sent again has new files: nothing of the old may be taken for it.
                tree = toolchain_tree(toolchain.entries, toolchain.root)
                self._trees[toolchain.digest] = (toolchain, tree)
            self._trees.move_to_end(toolchain.digest)
            if len(self._trees) > _MOST_TREES:
                self._trees.popitem(last=False)
            return tree


class _Job:
    """One run of one action."""

    def __init__(self, executor: Executor, root: JobRoot, attempt: Try, action: Action, slot: int) -> None:
        self._executor = executor
        self._root = root
        self._shop = shop = executor.workshop
        self._attempt = attempt
        self._action = action
        self._owner = shop.owners[slot] if shop.owners else None
        self._group = executor.groups[slot] if executor.groups else None
        self._commands: list[Sandboxed] = []
        self._toolchain: Toolchain | None = None
        self._over: JobKilled | WorkerStorage | None = None
        self._oom_before = 0

    async def run(self) -> ActionResult:
        """Run; when this ends nothing of the job lives any more."""
        seconds, threads = self._executor.reactor.seconds, self._executor.threads
        began = seconds()
        try:
            # All are started now: each waits for its turn at no cost.
            for command in ((self._action.executable, self._action.argv), *self._action.then):
                self._commands.append(self._start(command))
            world = await threads.both(self._build, self._confine)
            prepared = seconds()
            left = await self._run_all(world)
            if left[-1].exit_code:
                await threads.run(self._suspect_toolchain)
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

    def _lost_to_memory(self) -> bool:
        # What the kernel killed on the whole machine may have been another's.
        return self._group is not None and self._oom_kills() > self._oom_before

    def _build(self) -> Plan:
        if lacking(self._shop.limits, self._shop.jobs):
            raise WorkerStorage("the worker's disk is almost full, so it runs no job (limits.free_space)")
        toolchain = self._shop.toolchains.get(self._action.toolchain)
        if toolchain is None or not self._shop.toolchains.verify(toolchain.digest):
            raise ToolchainAbsent
        self._toolchain = toolchain
        planned = plan(self._action, self._executor.trees.of(toolchain), self._executor.starter)
        self._root.build(planned, self._copy)
        return planned

    def _suspect_toolchain(self) -> None:
        """Damaged between the look at it and its start, a compiler may fail as if it had an error to report."""
        toolchains, digest = self._shop.toolchains, self._action.toolchain
        if toolchains.get(digest) is not self._toolchain or not toolchains.verify(digest):
            raise ToolchainAbsent

    def _copy(self, entry: FileInput, directory: int, name: bytes) -> None:
        mode = 0o555 if entry.executable else 0o444
        self._shop.blobs.copy_to(entry.digest, directory, name, entry.mtime_ns, mode)

    def _collect(self, world: Plan, left: Sequence[Left], figures: RunFigures) -> ActionResult:
        outputs = collect(self._root.root, world.outputs, self._shop.max_output_bytes)
        return ActionResult(
            exit_code=left[-1].exit_code or 0,
            stdout=b"".join(one.ended.stdout for one in left),
            stderr=b"".join(one.ended.stderr for one in left),
            outputs=outputs,
            figures=figures,
            undeclared=undeclared(self._root.root, world),
        )

    # --- in the reactor's thread ------------------------------------------------------------------

    async def _run_all(self, world: Plan) -> list[Left]:
        """Run the commands one after another until one fails; raises why an answer is not the compiler's."""
        self._executor.log.emit(events.JOB_RUNNING, attempt=self._attempt)
        began = self._executor.reactor.seconds()
        limit = self._shop.limits.wall_seconds
        timer = self._executor.reactor.callLater(limit, self._stop, JobKilled(f"the job ran for more than {limit:g} s"))
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

    async def _run_one(self, command: Sandboxed, world: Plan) -> Left:
        root, temporary = self._root.root, self._root.temporary
        watch = Watch(
            command.pid, [*(root + path for path in world.writable), temporary], self._lost_to_memory, self._stop
        )
        if self._over is None:
            action = self._action
            command.let_go(options(world, root, temporary, action.cwd, action.env, command.status_fd))
        self._executor.sampler.add(watch)
        try:
            left = await command.run_to_end()
        except TooLarge:
            limit = self._shop.max_stream_bytes
            raise BadOutput(f"the job wrote more than {limit} bytes to its stdout or stderr") from None
        finally:
            self._executor.sampler.discard(watch)
        wrong = judge(self._seen(left)) if left.exit_code != 0 or self._over is not None else None
        if wrong is not None:
            raise wrong
        return left

    def _seen(self, left: Left) -> Seen:
        disk = os.statvfs(self._root.temporary)
        return Seen(
            exit_code=left.exit_code,
            signal=left.ended.signal,
            stderr=left.ended.stderr,
            over=self._over,
            oom_kills=self._oom_kills() - self._oom_before,
            free_bytes=disk.f_bavail * disk.f_frsize,
        )

    def _stop(self, why: JobKilled | WorkerStorage) -> None:
        """The job is over a bound."""
        if self._over is None:
            self._over = why
            self._executor.log.emit(events.JOB_KILLED, attempt=self._attempt, reason=why.sentence)
        for command in self._commands:
            command.kill()
