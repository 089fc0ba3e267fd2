"""The way of a call to its hit, as the daemon goes it, in a process that starts no other.

Knows what the daemon has told of compilers and places. Refuses to know anything but hits: whatever takes more than a
look is None, and the daemon's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from sccache_twisted.client.cache import Request
from sccache_twisted.client.cache.noting import note_of
from sccache_twisted.client.cache.quick import Hit, hit
from sccache_twisted.client.cache.recipe import sight
from sccache_twisted.client.cache.states import FileStates
from sccache_twisted.client.callers import call_of
from sccache_twisted.client.calls import apparent_cwd
from sccache_twisted.client.detect import CompilerFinder
from sccache_twisted.client.understanding import understand
from sccache_twisted.compilers.commandline import searched_files
from sccache_twisted.errors import InternalError
from sccache_twisted.hashing import note as notes
from sccache_twisted.hashing.note import State
from sccache_twisted.interfaces import Finished, IProcessRunner
from sccache_twisted.storage.disk import DiskStore
from sccache_twisted.toolchains import ToolchainCache
from sccache_twisted.wire.hits import Compilers, Served, Terms
from sccache_twisted.wire.launcher import LaunchRequest


@implementer(IProcessRunner)
class _NoProcesses:
    """Runs nothing."""

    def run(
        self,
        argv: Sequence[bytes],
        *,
        executable: bytes,  # noqa: ARG002 - as the interface has it
        cwd: bytes,  # noqa: ARG002
        env: Mapping[bytes, bytes],  # noqa: ARG002
        umask: int,  # noqa: ARG002
        limit: int,  # noqa: ARG002
    ) -> Deferred[Finished]:
        """See IProcessRunner; always fails."""
        return fail(InternalError(f"A hit server would have run {argv[0]!r}."))


class Answering:
    """Finds hits. StorageError when a directory of ``terms`` can't be had."""

    def __init__(self, terms: Terms) -> None:
        self._bases = terms.bases
        self._finder = CompilerFinder(_NoProcesses())
        self._toolchains = ToolchainCache(terms.toolchains)
        # Reading needs no reactor.
        self._store = DiskStore(None, terms.objects, terms.capacity)
        self._states = FileStates()

    def learn(self, compilers: Compilers) -> None:
        """Take over what the daemon knows."""
        self._finder.learn(compilers.known)

    def hit(self, asked: LaunchRequest) -> Hit | None:
        """The result of a call, written as its compiler would have; None for what is the daemon's."""
        request = self._request(asked)
        if request is None:
            return None
        toolchain = self._toolchains.lookup(request.compilation.compiler, request.call.env)
        if toolchain is None:
            return None
        sighted = sight(request, toolchain.digest, self._states, self._bases)
        return hit(sighted, self._store, self._states) if sighted is not None else None

    def _request(self, asked: LaunchRequest) -> Request | None:
        call = call_of(asked)
        if not call.argv or call.no_cache or call.recache:
            return None
        found = self._finder.resolve(call.argv[0], call.cwd, call.env)
        if found is None:
            return None
        executable, argv0 = found
        if argv0 != call.argv[0]:
            call = evolve(call, argv=(argv0, *call.argv[1:]))
        compiler = self._finder.recall(executable, argv0)
        if compiler is None or searched_files(compiler, call.argv):
            return None
        request = understand(compiler, call, apparent_cwd(call.cwd, call.env), None)
        return request if isinstance(request, Request) and request.compilation.distributable else None


def served(found: Hit) -> Served:
    """What the daemon is told of a hit."""
    request, note = found.sighted.request, note_of(State.HIT, found.sighted)
    compilation = request.compilation
    return Served(
        program=request.call.argv[0],
        directory=request.call.cwd,
        language=compilation.language,
        family=compilation.compiler.family.value,
        read_seconds=found.read_seconds,
        write_seconds=found.write_seconds,
        source=note.source,
        output=note.output,
        key=note.key,
        time_ns=note.time_ns,
        note=notes.pack(note),
    )
