"""What happens to a compiler call: parse, list, send, confirm, write; and at every turn where it may stay here, why.

A decision is a value: the call is answered, or its caller becomes the compiler, or runs it in a local slot and
reports. Whoever asked carries it out: the daemon through its launcher, the library by itself.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from attrs import evolve, frozen
from twisted.internet.threads import deferToThreadPool

from sccache_twisted.client.action import Command, command_of, make_action
from sccache_twisted.client.calls import Answered, Call, Decision, ExecHere, RunHere, apparent_cwd
from sccache_twisted.client.detect import CompilerFinder
from sccache_twisted.client.fallback import FellBack, InputChanged
from sccache_twisted.client.inputs import (
    FileMemo,
    Gathered,
    InputBlobs,
    InputsChanged,
    Listed,
    Lister,
    Question,
    gather,
    still_current,
)
from sccache_twisted.client.inputs.memo import Signature
from sccache_twisted.client.outputs import Place, Unwritable, obstacle, places_of, write_outputs
from sccache_twisted.client.stats import Statistics
from sccache_twisted.client.toolchains import Toolchains
from sccache_twisted.compilers.colour import coloured
from sccache_twisted.compilers.commandline import parse
from sccache_twisted.compilers.reasons import sentence
from sccache_twisted.errors import NoLocalFallback
from sccache_twisted.interfaces import Finished, IDispatcher, IProcessRunner, RemoteRun
from sccache_twisted.logs import events
from sccache_twisted.logs.events import EventLog
from sccache_twisted.model import (
    Compilation,
    CompilerFamily,
    NotCacheable,
    NotCompilation,
    OutputFile,
    RunsLocally,
    Try,
    worker_name,
)
from sccache_twisted.toolchains import PackagedToolchain


@frozen
class _Prepared:
    """All that a thread found out about a compilation: its inputs, and the toolchain for it."""

    gathered: Gathered
    toolchain: PackagedToolchain


class Pipeline:
    """Decides calls. ``dispatcher`` is None where no scheduler is configured."""

    def __init__(
        self,
        reactor: Any,
        runner: IProcessRunner,
        finder: CompilerFinder,
        lister: Lister,
        toolchains: Toolchains,
        dispatcher: IDispatcher | None,
        statistics: Statistics,
    ) -> None:
        self._reactor = reactor
        self._finder = finder
        self._lister = lister
        self._toolchains = toolchains
        self._dispatcher = dispatcher
        self._memo = FileMemo()
        self._runner = runner
        self._log = EventLog.of("sccache_twisted.client", role="client")
        self.statistics = statistics

    async def decide(self, call: Call) -> Decision:
        """What becomes of a call. Cancelling stops everything that is done for it, here and elsewhere."""
        self.statistics.compile_requests += 1
        found = self.resolve(call)
        if found is None:
            return _not_found(call)
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
        parsed = parse(compiler, call.argv[1:], cwd, call.env, _read_response_file)
        if isinstance(parsed, NotCompilation):
            self.statistics.requests_not_compile += 1
            return ExecHere(executable, call.argv, parsed.reason)
        if isinstance(parsed, NotCacheable):
            return self._not_cacheable(call, executable, parsed.reason)
        places = places_of(parsed, cwd)
        if _is_special(parsed.source, cwd):
            return self._not_cacheable(call, executable, "bad_input_file")
        if obstacle(places):
            return self._not_cacheable(call, executable, "bad_output_file")
        self.statistics.requests_executed += 1
        if call.no_cache:
            self.statistics.not_cached["no_cache"] += 1
        elif call.recache:
            self.statistics.forced_recaches += 1
        return await self._compile(call, parsed, cwd, places)

    def resolve(self, call: Call) -> tuple[bytes, bytes] | None:
        """The program that a call names, and the name to call it by; None if there is none but ourselves."""
        return self._finder.resolve(call.argv[0], call.cwd, call.env) if call.argv else None

    def _not_cacheable(self, call: Call, executable: bytes, reason: str) -> ExecHere:
        self.statistics.requests_not_cacheable += 1
        self.statistics.not_cached[reason] += 1
        return ExecHere(executable, call.argv, reason)

    async def _compile(self, call: Call, compilation: Compilation, cwd: bytes, places: tuple[Place, ...]) -> Decision:
        if self._dispatcher is None:
            return self._here(call, compilation, RunsLocally("not_configured"))
        if call.no_dist:
            return self._here(call, compilation, RunsLocally("no_dist"))
        if not compilation.distributable:
            return self._here(call, compilation, RunsLocally(compilation.local_reason))
        earlier: dict[bytes, Signature] | None = None
        for _ in range(2):
            listed = await self._lister.list(compilation, cwd, call.env)
            if isinstance(listed, RunsLocally):
                self._count_local(compilation, listed)
                return ExecHere(compilation.compiler.executable, call.argv, "preprocessor_error")
            try:
                return await self._distribute(self._dispatcher, call, compilation, cwd, places, listed, earlier)
            except InputsChanged as changed:
                earlier = changed.signatures
            except InputChanged:
                earlier = None
            finally:
                listed.forget()
        return self._here(call, compilation, RunsLocally("modified_input"))

    async def _distribute(
        self,
        dispatcher: IDispatcher,
        call: Call,
        compilation: Compilation,
        cwd: bytes,
        places: tuple[Place, ...],
        listed: Listed,
        earlier: dict[bytes, Signature] | None,
    ) -> Decision:
        prepared = await self._in_thread(self._prepare, call, compilation, cwd, listed, earlier)
        if isinstance(prepared, RunsLocally):
            return self._here(call, compilation, prepared)
        gathered, toolchain = prepared.gathered, prepared.toolchain
        command = await command_of(self._runner, call, compilation, cwd)
        if isinstance(command, RunsLocally):
            return self._here(call, compilation, command)
        action = make_action(call, command, gathered, toolchain.digest, cwd, call.env)
        source = compilation.source
        label = os.fsdecode(source if source.startswith(b"/") else cwd.rstrip(b"/") + b"/" + source)
        try:
            remote = await dispatcher.dispatch(
                action, toolchain.arch, lambda: os.fsdecode(toolchain.path), InputBlobs(action.inputs), label
            )
        except FellBack as fell:
            return self._here(call, compilation, fell.local, attempt=fell.attempt)
        except NoLocalFallback as refused:
            self.statistics.compile_fails += 1
            return Answered(1, b"", f"sccache-twisted: {refused.explained()}\n".encode("utf-8", "surrogateescape"))
        return await self._judge(call, compilation, places, command, gathered, remote)

    async def _judge(
        self,
        call: Call,
        compilation: Compilation,
        places: tuple[Place, ...],
        command: Command,
        gathered: Gathered,
        remote: RemoteRun,
    ) -> Decision:
        result = remote.result
        if result.exit_code != 0:
            return self._here(call, compilation, RunsLocally("confirm_error"), remote)
        if result.undeclared:
            names = ", ".join(map(os.fsdecode, result.undeclared[:3]))
            return self._here(call, compilation, RunsLocally("undeclared_output", names), None, _try_of(remote))
        # Workers name outputs by their physical places; what is written here goes where the user's spelling leads.
        spelled = dict(zip(gathered.outputs, (place.path for place in places), strict=True))
        files = [
            OutputFile(spelled[file.path], file.data, file.mode) for file in result.outputs if file.path in spelled
        ]
        began = self._reactor.seconds()
        try:
            current = await self._in_thread(_settle, compilation, places, files, call.umask, gathered)
        except Unwritable as problem:
            return self._here(call, compilation, RunsLocally("bad_output_file", str(problem)), None, _try_of(remote))
        if not current:
            return self._here(call, compilation, RunsLocally("modified_input"), None, _try_of(remote))
        self.statistics.compiler_write_seconds += self._reactor.seconds() - began
        self.statistics.compilations += 1
        self.statistics.dist_compiles[worker_name(remote.figures.server_id)] += 1
        return Answered(0, result.stdout, command.said + result.stderr, remote)

    def finished(self, decision: RunHere, local: Finished) -> Answered:
        """A local compilation has ended: its own output is the answer, whatever a worker had said."""
        self.statistics.compilations += 1
        if local.status != 0:
            self.statistics.compile_fails += 1
        remote = decision.remote
        if remote is not None:
            there = remote.result
            if (there.exit_code, there.stdout, there.stderr) != (local.status, local.stdout, local.stderr):
                self.statistics.dist_discrepancies += 1
                self._log.emit(
                    events.JOB_DISCREPANCY,
                    attempt=_try_of(remote),
                    server_id=remote.figures.server_id,
                    remote=there.exit_code,
                    local=local.status,
                )
        return Answered(local.status, local.stdout, local.stderr)

    # --- threads ---

    async def _in_thread(self, function: Any, *args: Any) -> Any:
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)

    def _prepare(
        self,
        call: Call,
        compilation: Compilation,
        cwd: bytes,
        listed: Listed,
        earlier: dict[bytes, Signature] | None,
    ) -> _Prepared | RunsLocally:
        toolchain = self._toolchains.packaged(compilation.compiler, call.env)
        if isinstance(toolchain, RunsLocally):
            return toolchain
        try:
            dependencies, search_path = listed.read(compilation)
        except OSError as problem:
            return RunsLocally("unreadable_input", f"the dependency list: {problem.strerror}.")
        question = Question(compilation, cwd, dependencies, search_path, call.arrival_ns, listed.began_ns, earlier)
        gathered = gather(question, self._memo)
        if isinstance(gathered, RunsLocally):
            return gathered
        if gathered.time_macros and not _time_is_fixed(call, compilation) and listed.shows_time():
            return RunsLocally("time_macros")
        return _Prepared(gathered, toolchain)

    # --- staying here ---

    def _here(
        self,
        call: Call,
        compilation: Compilation,
        local: RunsLocally,
        remote: RemoteRun | None = None,
        attempt: Try | None = None,
    ) -> RunHere:
        self._count_local(compilation, local, remote, attempt)
        # Its output is captured, so it sees no terminal either.
        args = coloured(call.argv[1:], compilation, call.stderr_is_tty, call.env)
        return RunHere(compilation.compiler.executable, (call.argv[0], *args), local.reason, remote)

    def _count_local(
        self,
        compilation: Compilation,
        local: RunsLocally,
        remote: RemoteRun | None = None,
        attempt: Try | None = None,
    ) -> None:
        self.statistics.local_compiles[local.reason] += 1
        if self._dispatcher is not None:
            self._dispatcher.stayed_local(local.reason)
        server_id = None
        if remote is not None:
            attempt = _try_of(remote)
            server_id = remote.figures.server_id
        self._log.emit(
            events.JOB_LOCAL,
            attempt=attempt,
            server_id=server_id,
            reason=local.reason,
            sentence=local.sentence or sentence(local.reason),
            source=os.fsdecode(compilation.source),
        )


def _try_of(remote: RemoteRun) -> Try:
    return Try(remote.figures.job_id, remote.figures.attempts)


def _settle(
    compilation: Compilation, places: tuple[Place, ...], files: list[OutputFile], umask: int, gathered: Gathered
) -> bool:
    """Write the outputs, unless an input that was too new has changed since; False then. In a thread."""
    if not still_current(gathered.fresh):
        return False
    write_outputs(compilation, places, files, umask)
    return True


def _time_is_fixed(call: Call, compilation: Compilation) -> bool:
    """Whether the compiler takes the time from SOURCE_DATE_EPOCH: gcc does, clang since 16."""
    if b"SOURCE_DATE_EPOCH" not in call.env:
        return False
    compiler = compilation.compiler
    if compiler.family is CompilerFamily.GCC:
        return True
    major = compiler.version.partition("clang version ")[2].partition(".")[0]
    return major.isdigit() and int(major) >= 16


def _not_found(call: Call) -> Answered:
    name = os.fsdecode(call.argv[0]) if call.argv else ""
    where = (
        "does not exist or is not executable" if "/" in name else "is not in PATH, or only as a link to sccache-twisted"
    )
    text = f"sccache-twisted: the compiler {name!r} {where}.\n"
    return Answered(127, b"", text.encode("utf-8", "surrogateescape"))


def _is_special(source: bytes, cwd: bytes) -> bool:
    """Whether a source is there and is no regular file: a FIFO must not be read twice."""
    try:
        return not stat.S_ISREG(os.stat(os.path.join(cwd, source)).st_mode)
    except OSError:
        return False


def _read_response_file(path: bytes) -> bytes | None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return None
