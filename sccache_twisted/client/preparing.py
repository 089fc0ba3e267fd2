"""What a compilation reads and where its result is kept: from a listing, or predicted. In threads.

And whether that still held when the result was there. Knows inputs, toolchains and keys; refuses to know how a result
is made.
"""

from __future__ import annotations

from attrs import frozen

from sccache_twisted.client.cache import CompileCache, Lookup, Recipe
from sccache_twisted.client.calls import Call
from sccache_twisted.client.inputs import (
    FileMemo,
    Gathered,
    InputsChanged,
    Listed,
    Predictions,
    Question,
    gather,
    still_current,
)
from sccache_twisted.client.inputs.listing import kernel_time_ns
from sccache_twisted.client.inputs.memo import Signature
from sccache_twisted.client.outputs import Place, write_outputs
from sccache_twisted.client.surroundings import time_is_fixed
from sccache_twisted.client.toolchains import Toolchains
from sccache_twisted.compilers.environment import zone_files
from sccache_twisted.hashing.keys import manifest_key
from sccache_twisted.model import Compilation, Digest, OutputFile, RunsLocally
from sccache_twisted.toolchains import PackagedToolchain


@frozen
class Case:
    """A call that was understood, on its way. ``local``: why it stays on this machine whatever its inputs are."""

    call: Call
    compilation: Compilation
    cwd: bytes
    places: tuple[Place, ...]
    local: RunsLocally | None
    lookup: Lookup | None

    @property
    def command(self) -> str:
        """What stands for the command whatever its files hold; empty where nobody looked it up."""
        return manifest_key(self.lookup.sighted.facts, "") if self.lookup is not None else ""


@frozen
class Prepared:
    """All that was found out about a compilation: its inputs, the toolchain for it, where its result is kept.

    ``recipe`` is a word where the result can't be kept, None where nobody asked. ``predicted``: what was gathered for,
    where no preprocessor has run; such a result's recipe is made when it is there.
    """

    gathered: Gathered
    toolchain: PackagedToolchain
    recipe: Recipe | str | None = None
    predicted: Question | None = None


class Preparer:
    """Prepares compilations. ``cache`` is None where nothing is stored; ``predict``: whether inputs are predicted."""

    def __init__(self, toolchains: Toolchains, cache: CompileCache | None, *, predict: bool = True) -> None:
        self._toolchains = toolchains
        self._cache = cache
        self._memo = FileMemo()
        self._predictions = Predictions() if predict else None

    def listed(self, case: Case, listed: Listed, earlier: dict[bytes, Signature] | None) -> Prepared | RunsLocally:
        """From the preprocessor's own word; InputsChanged when it should be listed once more."""
        call = case.call
        compilation = self._toolchains.with_libraries(case.compilation, case.cwd, call.env)
        if isinstance(compilation, RunsLocally):
            return compilation
        toolchain = self._toolchains.packaged(compilation.compiler, call.env)
        if isinstance(toolchain, RunsLocally):
            return toolchain
        try:
            dependencies, search_path = listed.read(compilation)
        except OSError as problem:
            return RunsLocally("unreadable_input", f"the dependency list: {problem.strerror}.")
        times, zone = (call.arrival_ns, listed.began_ns), zone_files(call.env)
        question = Question(compilation, case.cwd, dependencies, search_path, *times, earlier, zone)
        gathered = gather(question, self._memo)
        if isinstance(gathered, RunsLocally):
            return gathered
        fixed_time = time_is_fixed(call, compilation)
        if gathered.time_macros and not fixed_time and listed.shows_time():
            return RunsLocally("time_macros")
        if self._cache is None or case.lookup is None:
            return Prepared(gathered, toolchain)
        made = self._cache.recipe(case.lookup, question, gathered, listed, fixed_time=fixed_time)
        if self._predictions is not None and case.local is None:
            by_text = isinstance(made, Recipe) and made.own.text is not None
            self._predictions.learn(case.command, question, gathered, self._memo if by_text else None)
        return Prepared(gathered, toolchain, made)

    def toolchain(self, case: Case) -> Digest | None:
        """The toolchain's digest, as it will be in what is prepared; None where there is none."""
        packaged = self._toolchains.packaged(case.compilation.compiler, case.call.env)
        return None if isinstance(packaged, RunsLocally) else packaged.digest

    def may_predict(self, case: Case) -> bool:
        """Whether :meth:`predicted` knows the command at all. Costs no look at any file."""
        if self._predictions is None or case.lookup is None or case.local is not None or case.call.recache:
            return False
        return self._predictions.knows(case.command)

    def predicted(self, case: Case) -> Prepared | None:
        """From what the command read the last time; None where that is not known, or not sure."""
        if self._predictions is None or case.lookup is None or case.local is not None or case.call.recache:
            return None
        call = case.call
        foreseen = self._predictions.predict(case.command, case.cwd)
        if foreseen is None:
            return None
        compilation = self._toolchains.with_libraries(case.compilation, case.cwd, call.env)
        if isinstance(compilation, RunsLocally):
            return None
        toolchain = self._toolchains.packaged(compilation.compiler, call.env)
        if isinstance(toolchain, RunsLocally):
            return None
        question = Question(
            compilation,
            case.cwd,
            foreseen.listed,
            foreseen.search_path,
            call.arrival_ns,
            kernel_time_ns(),
            strays=foreseen.strays,
            aliases=foreseen.aliases,
            alone=True,
        )
        try:
            gathered = gather(question, self._memo)
        except InputsChanged:
            return None
        if not isinstance(gathered, Gathered) or not foreseen.confirmed(gathered):
            return None
        if not foreseen.changes(gathered, self._memo):
            return None  # the preprocessed text would be the same, and a result may lie under it
        return Prepared(gathered, toolchain, None, question)

    def mistaken(self, case: Case) -> None:
        """A prediction was wrong."""
        if self._predictions is not None:
            self._predictions.forget(case.command)


def settle(
    compilation: Compilation, places: tuple[Place, ...], files: list[OutputFile], umask: int, gathered: Gathered
) -> bool:
    """Write the outputs, unless an input that was too new has changed since; False then. In a thread."""
    if not still_current(gathered.fresh):
        return False
    write_outputs(compilation, places, files, umask)
    return True
