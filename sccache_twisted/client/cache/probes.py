"""From the inputs of one compilation to the conditions under which its result would be the same again.

The files that were read, with their digests; and every name at which the compiler looked in vain before it found what
it read: earlier directories of the search path for each ``#include``, targets of ``__has_include``, precompiled
headers, profiles. Names too many cost a look each; a name too few could cost a wrong object, so mentions in comments
and in code that is switched off count too.
"""

from __future__ import annotations

import os

from attrs import frozen

from sccache_twisted.client.cache.states import View
from sccache_twisted.client.inputs import Gathered, Question
from sccache_twisted.client.inputs.gather import FRESH_NS
from sccache_twisted.compilers.scan import Directive, Operand, OperandKind
from sccache_twisted.compilers.searchpath import candidates, join
from sccache_twisted.hashing.manifest import Names, grouped
from sccache_twisted.model import CompilerFamily

_FRAMEWORKS = (b"-F", b"-iframework")
_GCH = b".gch"
_UNCERTAIN_GCH = "pch"


@frozen
class Conditions:
    """What a result depends on besides command and source: see :class:`~sccache_twisted.hashing.manifest`."""

    present: tuple[tuple[bytes, str], ...]
    absent: tuple[Names, ...]


def conditions(question: Question, gathered: Gathered, view: View) -> Conditions | str | None:
    """The conditions of a compilation, or None where they can't be told, or a word for why its inputs are not certain.

    Blocks: call it in a thread.
    """
    compilation = question.compilation
    if gathered.vague:
        return _UNCERTAIN_GCH
    if any(argument.startswith(_FRAMEWORKS) for argument in compilation.args):
        return None
    searched = question.search_path.angle_dirs or any(b"-nostdinc" in argument for argument in compilation.args)
    if not searched and not compilation.preprocessed:
        return None
    tracing = _Tracing(question, gathered, view)
    tracing.all()
    if tracing.problem:
        return tracing.problem
    present = tuple((path, facts.input.digest) for path, facts in gathered.read)
    return Conditions((*present, *tracing.links.items()), grouped(tracing.absent))


class _Tracing:
    """Follows every mention of a header along the search path, up to where it is found."""

    def __init__(self, question: Question, gathered: Gathered, view: View) -> None:
        self._question = question
        self._read = dict(gathered.read)
        self._view = view
        self.absent: set[bytes] = set(gathered.absent)
        self.links: dict[bytes, str] = {}
        """Files that were read by another name than the one at which they were found, as gcc's system headers are."""
        self._found: set[bytes] = set()
        self._computing: set[bytes] = {b""}
        self._done: set[tuple[object, bytes]] = set()
        self.problem = ""
        self._precompiled = question.compilation.compiler.family is CompilerFamily.GCC

    def all(self) -> None:
        """Find all absent names; ``problem`` is a word where a file is there that may or may not have been read."""
        if self._question.compilation.preprocessed:
            return
        # A directory that appears is searched; what ends in a slash stands for a directory.
        self.absent.update(directory + b"/" for directory in self._question.search_path.missing_dirs)
        source = self._question.listed[0]
        for path, facts in self._read.items():
            for operand in facts.mentions.includes:
                self._include(operand, os.path.dirname(path), first=path == source)
        for path in self._question.listed[1:]:
            if path not in self._found:
                self._unexplained(path)

    def _include(self, operand: Operand, directory: bytes, *, first: bool) -> None:
        if operand.kind is OperandKind.COMPUTED:
            self._computing.add(directory)
            return
        anywhere = operand.kind is OperandKind.ANGLE and operand.directive is Directive.INCLUDE
        once = (None if anywhere else (operand.kind, operand.directive, directory), operand.text)
        if once in self._done and not first:
            return
        self._done.add(once)
        for path in candidates(operand, directory, self._question.search_path):
            if first:
                self._no_precompiled(path)
            read = path in self._read
            if read or self._view.is_file(path):
                self._found.add(path)
                if not read:
                    self._unread(path)
                return
            self.absent.add(path)

    def _unread(self, path: bytes) -> None:
        """A file that was found and not read by this name: by another, or not at all, or it was not there."""
        facts = self._read.get(os.path.realpath(self._view.absolute(path)))
        if facts is not None:
            self.links[path] = facts.input.digest
        elif self._appeared(path):
            self.problem = "modified_input"

    def _appeared(self, path: bytes) -> bool:
        """Whether a file that would have been found was perhaps not there when the compiler looked for it."""
        try:
            return os.stat(self._view.absolute(path)).st_ctime_ns >= self._question.listing_began_ns - FRESH_NS
        except OSError:
            return True

    def _unexplained(self, path: bytes) -> None:
        """A file that no mention leads to: by a macro, by an option, by the compiler's own accord."""
        on_path = (*self._question.search_path.quote_dirs, *self._question.search_path.angle_dirs)
        for position, directory in enumerate(on_path):
            start = join(directory, b"x")[:-1]
            if path.startswith(start):
                name = path[len(start) :]
                for earlier in (*self._computing, *on_path[:position]):
                    self._in_vain(join(earlier, name))

    def _in_vain(self, path: bytes) -> None:
        self._no_precompiled(path)
        if not self._view.is_file(path):
            self.absent.add(path)

    def _no_precompiled(self, path: bytes) -> None:
        """Note that a path has no precompiled header; a problem if it has one that was not taken into account."""
        if not self._precompiled:
            return
        if not self._view.is_file(path + _GCH):
            self.absent.add(path + _GCH)
        elif path + _GCH not in self._read:
            self.problem = _UNCERTAIN_GCH
