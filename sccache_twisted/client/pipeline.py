"""What happens to a compiler call: parse, look up, list, send, confirm, write; and where it may stay here, why.

A decision is a value: the call is answered, or its caller becomes the compiler, or runs it in a local slot and
reports. Whoever asked carries it out: the daemon through its launcher, the library by itself.
"""

from __future__ import annotations

import os
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.internet.threads import deferToThreadPool

from sccache_twisted.client.action import Command, command_of, make_action
from sccache_twisted.client.cache import CompileCache, Recipe, Request
from sccache_twisted.client.cache.flights import Outcome
from sccache_twisted.client.cache.observer import FAILED
from sccache_twisted.client.calls import Answered, Call, Decision, ExecHere, LocalWatch, RunHere, apparent_cwd
from sccache_twisted.client.detect import CompilerFinder
from sccache_twisted.client.early import EarlyAsk, label_of
from sccache_twisted.client.fallback import FellBack, Found, InputChanged
from sccache_twisted.client.inputs import (
    InputBlobs,
    InputsChanged,
    Listed,
    Lister,
)
from sccache_twisted.client.inputs.memo import Signature
from sccache_twisted.client.inputs.tripwire import TRIPPED
from sccache_twisted.client.outputs import Unwritable
from sccache_twisted.client.preparing import Case, Prepared, Preparer, settle
from sccache_twisted.client.stats import Statistics
from sccache_twisted.client.staying import Staying, try_of
from sccache_twisted.client.surroundings import not_found
from sccache_twisted.client.toolchains import Toolchains
from sccache_twisted.client.understanding import understand
from sccache_twisted.compilers.commandline import searched_files
from sccache_twisted.errors import NoLocalFallback
from sccache_twisted.interfaces import Finished, IDispatcher, IProcessRunner, RemoteRun
from sccache_twisted.logs import events
from sccache_twisted.logs.events import EventLog
from sccache_twisted.model import (
    NotCacheable,
    NotCompilation,
    OutputFile,
    RunsLocally,
    worker_name,
)
from sccache_twisted.wire.hits import Served

_WHOLE_PROGRAM = "link"
"""The one reason for no compilation of ours that a source may have been compiled for."""


class Pipeline:
    """Decides calls. ``dispatcher`` is None where no scheduler is configured, ``cache`` where nothing is stored."""

    def __init__(
        self,
        reactor: Any,
        runner: IProcessRunner,
        finder: CompilerFinder,
        lister: Lister,
        toolchains: Toolchains,
        dispatcher: IDispatcher | None,
        statistics: Statistics,
        cache: CompileCache | None = None,
        *,
        predict: bool = True,
    ) -> None:
        self._cache = cache
        self._reactor = reactor
        self._finder = finder
        self._lister = lister
        self._dispatcher = dispatcher
        self._preparer = Preparer(toolchains, cache, predict=predict)
        self._runner = runner
        self._log = EventLog.of("sccache_twisted.client", role="client")
        self._staying = Staying(reactor, dispatcher, statistics)
        self.statistics = statistics

    async def decide(self, call: Call) -> Decision:
        """What becomes of a call. Cancelling stops everything that is done for it, here and elsewhere."""
        self.statistics.compile_requests += 1
        found = self.resolve(call)
        if found is None:
            return not_found(call)
        executable, argv0 = found
        if argv0 != call.argv[0]:
            call = evolve(call, argv=(argv0, *call.argv[1:]))
        compiler = None
        if self._finder.may_compile(executable):
            compiler = await self._finder.identify(executable, call.argv[0], call.cwd, call.env)
        if compiler is None:
            self.statistics.requests_unsupported_compiler += 1
            return ExecHere(executable, call.argv, "unsupported_compiler")
        cwd = apparent_cwd(call.cwd, call.env)
        named = searched_files(compiler, call.argv)
        found_files = await self._finder.find_files(compiler, named, cwd, call.env) if named else None
        asked = understand(compiler, call, cwd, found_files)
        if isinstance(asked, NotCompilation):
            self.statistics.not_compilation(asked.reason)
            if asked.reason == _WHOLE_PROGRAM:
                self._refused(call, cwd, asked.reason)
            return ExecHere(executable, call.argv, asked.reason)
        if isinstance(asked, NotCacheable):
            return self._not_cacheable(call, cwd, executable, asked.reason)
        self.statistics.requests_executed += 1
        if call.no_cache:
            self.statistics.not_cached["no_cache"] += 1
        elif call.recache:
            self.statistics.forced_recaches += 1
        try:
            return await self._compile(asked)
        except CancelledError:
            raise
        except Exception:
            self.statistics.cache_errors.add(asked.compilation)
            raise

    def served(self, hit: Served) -> None:
        """A hit server has answered a call: it counts as if it had been decided here."""
        self.statistics.compile_requests += 1
        self.statistics.requests_executed += 1
        if self._cache is not None:
            self._cache.hit_elsewhere(hit)

    def resolve(self, call: Call) -> tuple[bytes, bytes] | None:
        """The program that a call names, and the name to call it by; None if there is none but ourselves."""
        return self._finder.resolve(call.argv[0], call.cwd, call.env) if call.argv else None

    def _not_cacheable(self, call: Call, cwd: bytes, executable: bytes, reason: str) -> ExecHere:
        self.statistics.requests_not_cacheable += 1
        self.statistics.not_cached[reason] += 1
        self._refused(call, cwd, reason)
        return ExecHere(executable, call.argv, reason)

    def _refused(self, call: Call, cwd: bytes, reason: str, request: Request | None = None) -> None:
        if self._cache is not None:
            self._cache.observer.refused(call, cwd, reason, request)

    def _not_stored(self, case: Case, reason: str, *, counted: bool = True) -> None:
        """The result of a call that was looked for will not be stored."""
        if case.lookup is not None:
            case.lookup.trail.why_not = reason
            if counted:
                self.statistics.not_cacheable(reason)

    async def _compile(self, request: Request) -> Decision:
        call, compilation, cwd = request.call, request.compilation, request.cwd
        local: RunsLocally | None = None
        if self._dispatcher is None:
            local = RunsLocally("not_configured")
        elif call.no_dist:
            local = RunsLocally("no_dist")
        elif not compilation.distributable:
            local = RunsLocally(compilation.local_reason)
        lookup = None
        if self._cache is not None:
            if call.no_cache:
                self._refused(call, cwd, "no_cache", request)
            elif compilation.distributable:
                begun = await self._cache.begin(request)
                if isinstance(begun, Answered):
                    return begun
                lookup = begun
            else:
                self.statistics.not_cacheable(compilation.local_reason)
                self._refused(call, cwd, compilation.local_reason, request)
        if local is not None and lookup is None:
            return self._staying.here(call, compilation, local)
        case = Case(call, compilation, cwd, request.places, local, lookup)
        if self._cache is None or lookup is None:
            return await self._make(case)
        try:
            decision = await self._make(case)
        except BaseException:
            self._cache.end(lookup, Outcome.CANCELLED)
            raise
        if not lookup.passed_on:
            self._cache.end(lookup)
        return decision

    async def _make(self, case: Case) -> Decision:
        """The result of a compilation that is not known by its command and source alone."""
        early = EarlyAsk(case, self._dispatcher, self._preparer, self._in_thread)
        try:
            return await self._prepare(case, early)
        finally:
            early.end()

    async def _prepare(self, case: Case, early: EarlyAsk) -> Decision:
        call, compilation = case.call, case.compilation
        decision = await self._predicted(case, early)
        if decision is not None:
            return decision
        earlier: dict[bytes, Signature] | None = None
        for _ in range(2):
            listed = await self._lister.list(compilation, case.cwd, call.env, early.begin)
            if isinstance(listed, RunsLocally):
                self._not_stored(case, "preprocessor_error", counted=False)
                if case.local is not None:
                    return self._staying.here(call, compilation, case.local)
                self._staying.count(compilation, listed)
                return ExecHere(compilation.compiler.executable, call.argv, "preprocessor_error")
            try:
                return await self._with_inputs(case, listed, earlier, early)
            except InputsChanged as changed:
                earlier = changed.signatures
            except InputChanged:
                earlier = None
            finally:
                listed.forget()
        self._not_stored(case, "modified_input")
        return self._staying.here(call, compilation, case.local or RunsLocally("modified_input"))

    async def _predicted(self, case: Case, early: EarlyAsk) -> Decision | None:
        """The result of what needs no preprocessor; None where it does after all."""
        if self._cache is None or case.lookup is None or self._dispatcher is None:
            return None
        if self._preparer.may_predict(case):
            early.begin()
        prepared = await self._in_thread(self._preparer.predicted, case)
        if prepared is None:
            return None
        try:
            decision = await self._distribute(self._dispatcher, case, prepared, early)
        except InputChanged:
            return None
        if decision is None:
            self._preparer.mistaken(case)
        else:
            self._cache.missed(case.lookup)
        return decision

    async def _with_inputs(
        self, case: Case, listed: Listed, earlier: dict[bytes, Signature] | None, early: EarlyAsk
    ) -> Decision:
        call, compilation = case.call, case.compilation
        prepared = await self._in_thread(self._preparer.listed, case, listed, earlier)
        if isinstance(prepared, RunsLocally):
            self._not_stored(case, prepared.reason)
            return self._staying.here(call, compilation, case.local or prepared)
        if isinstance(prepared.recipe, str):
            self._not_stored(case, prepared.recipe)
        elif prepared.recipe is not None and self._cache is not None and case.lookup is not None:
            found = await self._cache.preprocessed(case.lookup, prepared.recipe)
            if found is not None:
                return found
        if case.local is not None or self._dispatcher is None:
            local = case.local or RunsLocally("not_configured")
            return self._staying.here(call, compilation, local, watch=self._watch(case, prepared))
        decision = await self._distribute(self._dispatcher, case, prepared, early)
        assert decision is not None, "only what was predicted can have been mistaken"  # noqa: S101 - see _judge
        return decision

    def _watch(self, case: Case, prepared: Prepared) -> LocalWatch | None:
        """Who keeps what a compiler on this machine will write, if anybody may."""
        if self._cache is None or case.lookup is None or not isinstance(prepared.recipe, Recipe):
            return None
        return self._cache.watch(case.lookup, prepared.recipe)

    async def _distribute(
        self, dispatcher: IDispatcher, case: Case, prepared: Prepared, early: EarlyAsk
    ) -> Decision | None:
        """Have a worker do it; None where what was predicted was not enough."""
        call, compilation, cwd = case.call, case.compilation, case.cwd
        gathered, toolchain = prepared.gathered, prepared.toolchain
        command = await command_of(self._runner, call, compilation, cwd)
        if isinstance(command, RunsLocally):
            return self._staying.here(call, compilation, command, watch=self._watch(case, prepared))
        action = make_action(call, compilation, command, gathered, toolchain.digest, cwd)
        began = self._reactor.seconds()
        again = None
        if self._cache is not None and case.lookup is not None and isinstance(prepared.recipe, Recipe):
            again = self._cache.again(case.lookup, prepared.recipe)
        try:
            remote = await dispatcher.dispatch(
                action,
                toolchain.arch,
                lambda: os.fsdecode(toolchain.path),
                InputBlobs(action.inputs),
                label_of(case),
                again,
                early.take(),
            )
        except Found as found:
            if not isinstance(found.answer, Answered):
                raise
            return found.answer
        except FellBack as fell:
            watch = self._watch(case, prepared)
            return self._staying.here(call, compilation, fell.local, attempt=fell.attempt, watch=watch)
        except NoLocalFallback as refused:
            self.statistics.compile_fails += 1
            return Answered(1, b"", f"sccache-twisted: {refused.explained()}\n".encode("utf-8", "surrogateescape"))
        return await self._judge(case, command, prepared, remote, began)

    async def _judge(
        self, case: Case, command: Command, prepared: Prepared, remote: RemoteRun, began: float
    ) -> Decision | None:
        call, compilation, places = case.call, case.compilation, case.places
        result, gathered = remote.result, prepared.gathered
        if prepared.predicted is not None and not self._as_predicted(remote):
            return None
        if result.exit_code != 0:
            self._not_stored(case, FAILED, counted=False)
            return self._staying.here(call, compilation, RunsLocally("confirm_error"), remote)
        if result.undeclared:
            self._not_stored(case, "undeclared_output", counted=False)
            names = ", ".join(map(os.fsdecode, result.undeclared[:3]))
            return self._staying.here(call, compilation, RunsLocally("undeclared_output", names), None, try_of(remote))
        # Workers name outputs by their physical places; what is written here goes where the user's spelling leads.
        spelled = dict(zip(gathered.outputs, (place.path for place in places), strict=True))
        files = [
            OutputFile(spelled[file.path], file.data, file.mode) for file in result.outputs if file.path in spelled
        ]
        try:
            current = await self._in_thread(settle, compilation, places, files, call.umask, gathered)
        except Unwritable as problem:
            self._not_stored(case, "bad_output_file", counted=False)
            return self._staying.here(
                call, compilation, RunsLocally("bad_output_file", str(problem)), None, try_of(remote)
            )
        if not current:
            self._not_stored(case, "modified_input", counted=False)
            return self._staying.here(call, compilation, RunsLocally("modified_input"), None, try_of(remote))
        self.statistics.compiler_write_seconds += self._reactor.seconds() - began
        self.statistics.compilations += 1
        self.statistics.dist_compiles[worker_name(remote.figures.server_id)] += 1
        stderr = command.said + result.stderr
        if self._cache is not None and case.lookup is not None:
            if prepared.predicted is not None:
                what = (prepared.predicted, gathered)
                self._cache.keep_predicted(case.lookup, *what, files, result.stdout, stderr)
            elif isinstance(prepared.recipe, Recipe):
                self._cache.keep(case.lookup, prepared.recipe, files, result.stdout, stderr)
        return Answered(0, result.stdout, stderr, remote)

    def _as_predicted(self, remote: RemoteRun) -> bool:
        """Whether a compiler read nothing but what was expected."""
        attempt, server_id = try_of(remote), remote.figures.server_id
        if remote.result.exit_code != 0 and TRIPPED in remote.result.stderr + remote.result.stdout:
            self.statistics.dist_mispredictions += 1
            self._log.emit(events.JOB_MISPREDICTED, attempt=attempt, server_id=server_id)
            return False
        self.statistics.dist_predictions += 1
        self._log.emit(events.JOB_PREDICTED, attempt=attempt, server_id=server_id)
        return True

    async def finished(self, decision: RunHere, local: Finished) -> Answered:
        """A local compilation has ended: its own output is the answer, whatever a worker had said.

        When it is cancelled, or its caller has gone and there is nothing to tell, call :meth:`abandoned` instead.
        """
        self.statistics.compilations += 1
        self.statistics.compiler_write_seconds += self._reactor.seconds() - decision.began
        if local.status != 0:
            self.statistics.compile_fails += 1
        remote = decision.remote
        if remote is not None:
            there = remote.result
            if (there.exit_code, there.stdout, there.stderr) != (local.status, local.stdout, local.stderr):
                self.statistics.dist_discrepancies += 1
                self._log.emit(
                    events.JOB_DISCREPANCY,
                    attempt=try_of(remote),
                    server_id=remote.figures.server_id,
                    remote=there.exit_code,
                    local=local.status,
                )
        if decision.watch is not None:
            await decision.watch.ended(local)
        return Answered(local.status, local.stdout, local.stderr)

    def abandoned(self, decision: RunHere) -> None:
        """Nobody will tell how a local compilation ended."""
        if decision.watch is not None:
            decision.watch.abandoned()

    # --- threads ---

    async def _in_thread(self, function: Any, *args: Any) -> Any:
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)
