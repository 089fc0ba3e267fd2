"""Putting a job's inputs together: all of its file work, in one visit to a thread.

The dependency list is the start. Added are what ``__has_include`` and its kin find, what the assembler is told to
read, precompiled headers that gcc would take, hidden inputs by option, directories that are named and exist, and every
link on the way to any of them. What cannot be determined keeps the job on this machine, with its reason.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence

from sccache_twisted.client.inputs.memo import Changed, FileFacts, FileMemo, Signature, signature_of
from sccache_twisted.client.inputs.question import Gathered, InputsChanged, Question
from sccache_twisted.client.inputs.tripwire import TRIPWIRE, TRIPWIRE_DIGEST
from sccache_twisted.client.inputs.walk import Walk
from sccache_twisted.compilers.scan import Directive, Operand, OperandKind
from sccache_twisted.compilers.searchpath import candidates
from sccache_twisted.model import CompilerFamily, FileInput, Input, LinkInput, RunsLocally

FRESH_NS = 10_000_000
"""How far the kernel's file times may lag behind the clock, with a margin."""

_SECOND_NS = 1_000_000_000
_PASSING, _OF_THE_MACHINE = {b"/dev/null"}, (b"/proc/", b"/sys/", b"/dev/")
_ASSEMBLERS = {Directive.INCBIN, Directive.ASSEMBLER_INCLUDE}
"""The assembler looks in fewer directories than the search path has."""

_NUMBER = re.compile(rb"[\da-fA-FxXuUlL()+\- \t]*\Z")
_GCH_CANDIDATES = 4
_PRECOMPILED = (b".gch", b".pch")
_DEFINED = rb"(?:^|[\r\n])[ \t]*#[ \t]*define[ \t]+%b[ \t]+([^\r\n]+)"


class _Unfit(Exception):
    """The job can't leave this machine."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.local = RunsLocally(reason, sentence)


def gather(question: Question, memo: FileMemo) -> Gathered | RunsLocally:
    """All inputs of a compilation, or why it stays here; InputsChanged when it should be listed once more."""
    try:
        return _Gathering(question, memo).all()
    except _Unfit as unfit:
        return unfit.local


def still_current(fresh: Sequence[tuple[bytes, Signature]]) -> bool:
    """Whether none of the files that were too new has changed since it was read."""
    for path, signature in fresh:
        try:
            if signature_of(os.lstat(path)) != signature:
                return False
        except OSError:
            return False
    return True


class _Gathering:
    """The work on one question. The files found so far by physical place, and those still to be looked through."""

    def __init__(self, question: Question, memo: FileMemo) -> None:
        self._question = question
        self._memo = memo
        self._walk = Walk()
        self._prefix = question.cwd.rstrip(b"/") + b"/"
        self._files: dict[bytes, FileFacts] = {}
        self._read: dict[bytes, FileFacts] = {}
        self._absent: list[bytes] = []
        self._vague = False
        self._telling: list[tuple[bytes, FileFacts]] = []
        self._looked: dict[bytes, bool] = {}
        self._inodes: dict[tuple[int, int], bytes] = {}
        self._wrappers: frozenset[bytes] = frozenset()
        self._gone = False
        self._is_gcc = question.compilation.compiler.family is CompilerFamily.GCC

    def all(self) -> Gathered:
        question = self._question
        for path in question.listed:
            if not self._add(path):
                if question.compilation.preprocessed:
                    raise _Unfit("unreadable_input", f"{_show(path)} is not there.")
                self._gone = True
        self._precompiled()
        for path in question.compilation.hidden_inputs:
            self._add_whatever(path)
        self._follow_mentions()
        if self._is_gcc:
            self._skipped()
        if any(facts.mentions.time_macros for facts in self._files.values()):
            for path in question.zone_files:
                self._add_whatever(path)
        self._named_directories()
        wires = filter(None, [*map(self._tripwire, question.strays)])
        outputs = tuple(self._output_place(output.path) for output in question.compilation.outputs)
        fresh = self._judge_times()
        inputs: list[Input] = self._walk.inputs()
        inputs += [facts.input for place, facts in self._files.items() if place not in self._walk.links]
        inputs += {wire.path: wire for wire in wires}.values()
        time_macros = any(facts.mentions.time_macros for facts in self._files.values())
        read = tuple(self._read.items())
        return Gathered(tuple(inputs), outputs, fresh, time_macros, read, tuple(self._absent), self._vague)

    # --- files ---

    def _absolute(self, path: bytes) -> bytes:
        return path if path[:1] == b"/" else self._prefix + path

    def _add(self, path: bytes) -> bool:
        """Add a regular file as spelled; False if there is none."""
        found = self._walk.file(path if path[:1] == b"/" else self._prefix + path)
        if found is None:
            return path in _PASSING
        place, status = found
        known = self._files.get(place)
        if known is not None:
            self._read.setdefault(path, known)
            return True
        if not stat.S_ISREG(status.st_mode):
            if place in _PASSING:
                return True
            raise _Unfit("unreadable_input", f"{_show(path)} is not a regular file.")
        if place.startswith(_OF_THE_MACHINE):
            raise _Unfit("unreadable_input", f"{_show(path)} is this machine's own.")
        try:
            facts = self._memo.facts(place, status)
        except Changed:
            self._gone = True
            return True
        except OSError as problem:
            raise _Unfit("unreadable_input", f"{_show(path)}: {problem.strerror}.") from problem
        self._files[place] = self._read[path] = facts
        if status.st_nlink > 1 and not self._is_gcc:
            self._second_name(place, (status.st_dev, status.st_ino))
        if facts.tells:
            self._telling.append((path, facts))
        return True

    def _second_name(self, place: bytes, inode: tuple[int, int]) -> None:
        """Make a link of a file's second name: clang takes both for one file, as ``#pragma once`` shows.

        gcc compares times and contents instead, and would name the first in its depfile.
        """
        first = self._inodes.setdefault(inode, place)
        if first != place:
            self._walk.links[place] = LinkInput(place, first)

    def _add_whatever(self, path: bytes) -> None:
        """Add what a hidden input names, if there is anything: a file, or a directory that need only exist."""
        absolute = self._absolute(path)
        place = self._walk.directory(absolute.rstrip(b"/") or b"/")
        if path.endswith(_PRECOMPILED) and (place is not None or (not self._is_gcc and os.path.isfile(absolute))):
            raise _Unfit("pch", f"{_show(path)} may be used, and what it was made of is not known.")
        if place is not None:
            self._walk.must_exist(place)
            self._vague = self._vague or path.endswith(_PRECOMPILED)
        elif not self._add(path):
            self._absent.append(path)

    def _precompiled(self) -> None:
        """Like gcc, take ``x.h.gch`` for the first header that a source includes: no dependency list tells.

        It may even lie where there is no such header, in an earlier directory of the search path.
        """
        compilation = self._question.compilation
        if self._is_gcc and not compilation.preprocessed:
            for path in self._question.listed[1 : 1 + _GCH_CANDIDATES]:
                self._add_whatever(path + b".gch")
            source = self._question.listed[0]
            facts = self._read.get(source)
            for operand in facts.mentions.includes[:_GCH_CANDIDATES] if facts is not None else ():
                for path in candidates(operand, os.path.dirname(source), self._question.search_path):
                    absolute = self._absolute(path)
                    if os.path.exists(absolute + b".gch"):
                        self._add_whatever(path + b".gch")
                    if os.path.isfile(absolute):
                        break

    # --- mentions ---

    def _follow_mentions(self) -> None:
        position = 0
        while position < len(self._telling):
            spelled, facts = self._telling[position]
            position += 1
            mentions = facts.mentions
            shown = mentions.lines if self._is_gcc else ()
            for operand in (*mentions.probes, *mentions.assembled, *shown):
                self._resolve(operand, spelled)
            if not mentions.wrappers <= self._wrappers:
                self._wrappers |= mentions.wrappers
        if self._wrappers:
            self._follow_wrappers()

    def _skipped(self) -> None:
        """Add headers that gcc opens and lists nowhere: in time and content they equal one that came only once."""
        once = {
            (facts.input.size, facts.input.mtime_ns // _SECOND_NS)
            for facts in self._files.values()
            if facts.mentions.once
        }
        for spelled, facts in list(self._read.items()) if once else ():
            directory = os.path.dirname(spelled)
            for operand in facts.mentions.includes:
                paths = candidates(operand, directory, self._question.search_path)
                if any(path in self._read for path in paths):
                    continue
                for path in paths:
                    try:
                        found = os.stat(self._absolute(path))
                    except (OSError, ValueError):
                        continue
                    if (found.st_size, found.st_mtime_ns // _SECOND_NS) in once:
                        self._add(path)
                    break

    def _follow_wrappers(self) -> None:
        operands: list[tuple[Operand, bytes]] = []
        known: frozenset[bytes] = frozenset()
        while known != self._wrappers:
            known = self._wrappers
            operands.clear()
            for spelled, facts in list(self._read.items()):
                try:
                    found, further = self._memo.wrapped(facts, known)
                except (Changed, OSError):
                    self._gone = True
                    continue
                operands += [(operand, spelled) for operand in found]
                self._wrappers |= further
        for operand, spelled in operands:
            self._resolve(operand, spelled)

    def _resolve(self, operand: Operand, spelled: bytes) -> None:
        """Add the file that an operand finds, if it finds one."""
        if operand.kind is OperandKind.COMPUTED:
            for replacement in self._meanings(operand):
                self._resolve(replacement, spelled)
            return
        for path in candidates(operand, os.path.dirname(spelled), self._question.search_path):
            absolute = self._absolute(path)
            exists = self._looked.get(absolute)
            if exists is None:
                exists = self._looked[absolute] = self._look(path, absolute)
            if exists and operand.directive not in _ASSEMBLERS:
                return

    def _look(self, path: bytes, absolute: bytes) -> bool:
        """Whether there is a file, which then is an input. A directory in its place is seen by compilers as well."""
        try:
            mode = os.stat(absolute).st_mode
        except (OSError, ValueError):
            mode = 0
        if stat.S_ISREG(mode):
            self._add(path)
            return True
        self._absent.append(path)
        if stat.S_ISDIR(mode):
            place = self._walk.directory(absolute.rstrip(b"/") or b"/")
            if place is not None:
                self._walk.must_exist(place)
        return False

    def _meanings(self, operand: Operand) -> Iterator[Operand]:
        """What a macro used as an operand may stand for: every literal that it is defined as in this job's files.

        A macro without definition expands to nothing that could be found. One with a definition that is no literal
        keeps the job here.
        """
        if not re.fullmatch(rb"[A-Za-z_$][\w$]*", operand.text):
            raise _Unfit("computed_include_operand", f"{operand.directive.value} of {_show(operand.text)}.")
        pattern = re.compile(_DEFINED % re.escape(operand.text))
        for text in self._definitions(operand.text, pattern):
            literal = re.match(rb'"([^"]+)"|<([^>]+)>', text.strip())
            if literal is None and _NUMBER.match(text.partition(b"/")[0]):
                continue
            if literal is None:
                raise _Unfit("computed_include_operand", f"{operand.directive.value} of {_show(operand.text)}.")
            kind = OperandKind.QUOTED if literal[1] else OperandKind.ANGLE
            yield Operand(operand.directive, kind, literal[1] or literal[2])

    def _definitions(self, name: bytes, pattern: re.Pattern[bytes]) -> Iterator[bytes]:
        for argument in self._question.compilation.args:
            defined, equals, value = argument.removeprefix(b"-D").partition(b"=")
            if defined == name and equals:
                yield value
        for place in list(self._files):
            try:
                with open(place, "rb") as stream:
                    data = stream.read()
            except OSError:
                self._gone = True
                continue
            if name in data:
                yield from pattern.findall(data)

    def _tripwire(self, path: bytes) -> FileInput | None:
        """What stands for a file that is not expected to be read; None for one that is an input anyway."""
        found = self._walk.file(self._absolute(path))
        known = found is not None and (found[0] in self._files or found[0] in self._walk.links)
        if known and (path in self._read or path in self._question.aliases):
            return None
        # A new name of what is read: what it includes would be looked for beside it, and nobody knows what is there.
        self._gone = self._gone or found is None or known
        if found is None or known:
            return None
        place, status = found
        return FileInput(place, TRIPWIRE_DIGEST, len(TRIPWIRE), status.st_mtime_ns, executable=False)

    # --- directories ---

    def _named_directories(self) -> None:
        walk = self._walk
        for path in (b".", *self._question.compilation.include_dirs):
            absolute = self._question.cwd if path == b"." else self._absolute(path)
            place = walk.directory(absolute.rstrip(b"/") or b"/")
            if place is not None:
                walk.must_exist(place)
            elif path != b"." and os.path.isfile(absolute):
                self._add(absolute)

    def _output_place(self, path: bytes) -> bytes:
        """The physical path of an output: workers follow no link on the way to one."""
        head, _, name = self._absolute(path).rpartition(b"/")
        place = self._walk.directory(head)
        if place is None:
            raise _Unfit("bad_output_file", f"{_show(head)} is not a directory.")
        self._walk.must_exist(place)
        return place + b"/" + name

    # --- time ---

    def _judge_times(self) -> tuple[tuple[bytes, Signature], ...]:
        question = self._question
        fresh_from = question.arrival_ns - FRESH_NS
        changed_from = question.listing_began_ns
        earlier = question.earlier
        fresh = []
        changed = self._gone
        for place, facts in self._files.items():
            signature = facts.signature
            if signature[4] >= fresh_from or signature[3] >= fresh_from:
                fresh.append((place, signature))
                if earlier is not None and place in earlier:
                    changed = changed or earlier[place] != signature
                elif signature[4] >= changed_from:
                    changed = changed or not question.alone
        if changed:
            raise InputsChanged({place: facts.signature for place, facts in self._files.items()})
        return tuple(fresh)


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
