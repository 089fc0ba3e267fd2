"""Which files a compilation will read, judged by the last time, so that no preprocessor need run.

The dependencies of the last time are shipped at once. That this can't go wrong silently rests on what else is there:
for every ``#include`` in every file of the job, also in code that is switched off, each path that it could lead to
is in the sandbox exactly if it is on this machine. What was read the last time lies there with its content, anything
else as a **tripwire**, a file that says ``#error``. So every lookup in the sandbox ends as it would here, and a
compilation that reads something new trips, instead of finding less or something else. Then it is listed properly.

A file that was read under one name may be found under another, by a link or by ``x/..``: then what it includes is
looked for beside that name, so those paths count as well. Refuses whatever it can't follow: includes by a macro,
frameworks, a date that may show.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Final

from attrs import define, frozen

from sccache_twisted.client.inputs.memo import FileMemo
from sccache_twisted.client.inputs.question import Gathered, Question
from sccache_twisted.client.inputs.surroundings import Surroundings
from sccache_twisted.compilers.scan import Directive, OperandKind, ScanResult
from sccache_twisted.compilers.searchpath import SearchPath, candidates, join
from sccache_twisted.model import Digest

_MOST: Final = 5000
_MOST_SURROUNDINGS: Final = 200
_INSTALLED: Final = b"/usr/"
_FRAMEWORKS: Final = (b"-F", b"-iframework")


@define
class _Remembered:
    """The last time of one command.

    ``strays``: watched paths that are files, and ``aliases`` those of them that are other names of what was read, as of
    ``epoch``. ``places``: where what was read really lies. ``certain``: nothing is looked for beside another name but
    what is included.

    ``digests``: of what was read. ``bare``: of the same without comments, by path, where these don't show.
    """

    listed: tuple[bytes, ...]
    search_path: SearchPath
    surroundings: Surroundings
    read: tuple[bytes, ...]
    mentions: tuple[ScanResult, ...]
    places: tuple[bytes, ...]
    strays: tuple[bytes, ...]
    aliases: frozenset[bytes]
    epoch: int
    certain: bool
    digests: tuple[Digest, ...]
    bare: dict[bytes, Digest]


@frozen
class Prediction:
    """What will be read, as far as is known.

    ``strays``: the files to which an ``#include`` could lead; those that are no inputs become tripwires. ``aliases``
    are other names of what is read.
    """

    listed: tuple[bytes, ...]
    search_path: SearchPath
    strays: tuple[bytes, ...]
    aliases: frozenset[bytes]
    read: tuple[bytes, ...]
    mentions: tuple[ScanResult, ...]
    digests: tuple[Digest, ...]
    bare: Mapping[bytes, Digest]

    def confirmed(self, gathered: Gathered) -> bool:
        """Whether the files are the same as the last time, and mention the same."""
        if len(gathered.read) != len(self.read) or gathered.time_macros or gathered.vague:
            return False
        expected = zip(self.read, self.mentions, strict=True)
        for (path, facts), (was, mentioned) in zip(gathered.read, expected, strict=True):
            if path != was or (facts.mentions is not mentioned and facts.mentions != mentioned):
                return False
        return True

    def changes(self, gathered: Gathered, memo: FileMemo) -> bool:
        """Whether anything is different from the last time that could make the preprocessed text a different one."""
        for (path, facts), digest in zip(gathered.read, self.digests, strict=True):
            if facts.input.digest != digest and self.bare.get(path) != memo.bare(facts):
                return True
        return False


class Predictions:
    """What the commands of one daemon read the last time, the least recently used forgotten first. For threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._surroundings: OrderedDict[tuple[bytes, SearchPath], Surroundings] = OrderedDict()
        self._paths: dict[bytes, bytes] = {}

    def learn(self, command: str, question: Question, gathered: Gathered, memo: FileMemo | None) -> None:
        """Remember what a command read, if that can be predicted at all. ``command`` stands for all but the files.

        ``memo`` is given where comments don't show in the result.
        """
        if not _predictable(question, gathered):
            self.forget(command)
            return
        digests = tuple(facts.input.digest for _, facts in gathered.read)
        bare = _bare(gathered, memo) if memo is not None else {}
        with self._lock:
            known = self._remembered.get(command)
            if known is not None and self._is_as(known, question, gathered):
                known.digests, known.bare = digests, bare
                self._remembered.move_to_end(command)
                return
            surroundings = self._around(question)
            mentions = tuple(facts.mentions for _, facts in gathered.read)
            read = tuple(self._paths.setdefault(path, path) for path, _ in gathered.read)
            places = tuple(facts.input.path for _, facts in gathered.read)
            remembered = self._remembered[command] = _Remembered(
                listed=tuple(self._paths.setdefault(path, path) for path in question.listed),
                search_path=question.search_path,
                surroundings=surroundings,
                read=read,
                mentions=mentions,
                places=places,
                strays=(),
                aliases=frozenset(),
                epoch=0,
                certain=False,
                digests=digests,
                bare=bare,
            )
            self._look_around(remembered)
            self._remembered.move_to_end(command)
            if len(self._remembered) > _MOST:
                self._remembered.popitem(last=False)
            if len(self._paths) > 40 * _MOST:
                self._paths.clear()

    def knows(self, command: str) -> bool:
        """Whether anything is remembered of a command."""
        return command in self._remembered

    def predict(self, command: str, cwd: bytes) -> Prediction | None:
        """What a command will read, if that is known. Blocks for a stat of each directory on its search path."""
        with self._lock:
            known = self._remembered.get(command)
            if known is None:
                return None
            self._remembered.move_to_end(command)
            if any(os.path.isdir(join(cwd, path)) for path in known.search_path.missing_dirs):
                return None
            surroundings = known.surroundings
            surroundings.refresh()
            if known.epoch != surroundings.epoch:
                self._look_around(known)
            if not known.certain:
                return None
            return Prediction(
                known.listed,
                known.search_path,
                known.strays,
                known.aliases,
                known.read,
                known.mentions,
                known.digests,
                known.bare,
            )

    def forget(self, command: str) -> None:
        """The last time says nothing about the next."""
        with self._lock:
            self._remembered.pop(command, None)

    @staticmethod
    def _is_as(known: _Remembered, question: Question, gathered: Gathered) -> bool:
        return (
            known.listed == question.listed
            and known.search_path == question.search_path
            and known.read == tuple(path for path, _ in gathered.read)
            and known.mentions == tuple(facts.mentions for _, facts in gathered.read)
        )

    def _around(self, question: Question) -> Surroundings:
        key = (question.cwd, question.search_path)
        found = self._surroundings.get(key)
        if found is None:
            found = self._surroundings[key] = Surroundings(question.cwd)
            if len(self._surroundings) > _MOST_SURROUNDINGS:
                self._surroundings.popitem(last=False)
        self._surroundings.move_to_end(key)
        return found

    def _look_around(self, known: _Remembered) -> None:
        """Find every path that could be looked at, and which of them are files; again with each other name found."""
        mentioned = dict(zip(known.places, known.mentions, strict=True))
        watched = _by_option(known.listed, known.search_path)
        pending = list(zip(known.read, known.mentions, strict=True))
        names = set(known.read)
        looked: dict[bytes, None] = {}
        done: set[object] = set()
        certain = True
        while pending:
            for path, mentions in pending:
                watched.update(_candidates(path, mentions, known.search_path, done))
            known.surroundings.watch(watched)
            known.surroundings.refresh()
            found = [path for path in watched if path not in looked and known.surroundings.is_there(path)]
            looked.update(dict.fromkeys(watched))
            pending = []
            for path in found:
                place = path if path in names else known.surroundings.place_of(path)
                if path not in names and place in mentioned:
                    names.add(path)
                    certain = certain and not mentioned[place].tells_more
                    pending.append((path, mentioned[place]))
        there = (path for path in watched if known.surroundings.is_there(path))
        known.strays = tuple(self._paths.setdefault(path, path) for path in there)
        known.aliases = frozenset(names.difference(known.read))
        known.epoch = known.surroundings.epoch
        known.certain = certain


def _bare(gathered: Gathered, memo: FileMemo) -> dict[bytes, Digest]:
    """Digests of what may change from day to day: not of what a package manager has installed."""
    changing = ((path, facts) for path, facts in gathered.read if not facts.input.path.startswith(_INSTALLED))
    return {path: memo.bare(facts) for path, facts in changing}


def _predictable(question: Question, gathered: Gathered) -> bool:
    compilation = question.compilation
    if compilation.preprocessed or gathered.time_macros or gathered.vague:
        return False
    if any(argument.startswith(_FRAMEWORKS) for argument in compilation.args):
        return False
    if not question.search_path.angle_dirs:
        return False  # nothing was understood of where the compiler searches
    operands = (operand for _, facts in gathered.read for operand in facts.mentions.includes)
    return not any(operand.kind is OperandKind.COMPUTED for operand in operands)


def _candidates(path: bytes, mentioned: ScanResult, search_path: SearchPath, done: set[object]) -> dict[bytes, None]:
    """Every path that could be looked at for what a file includes; what is ``done`` need not be told again."""
    found: dict[bytes, None] = {}
    directory = os.path.dirname(path)
    for operand in mentioned.includes:
        anywhere = operand.kind is OperandKind.ANGLE and operand.directive is Directive.INCLUDE
        once = (operand.kind, operand.directive, None if anywhere else directory, operand.text)
        if once not in done:
            done.add(once)
            found.update(dict.fromkeys(candidates(operand, directory, search_path)))
    return found


def _by_option(listed: Sequence[bytes], search_path: SearchPath) -> dict[bytes, None]:
    """The same for what is read by an option, or by the compiler's own accord: whatever is listed may be."""
    watched: dict[bytes, None] = {}
    on_path = (*search_path.quote_dirs, *search_path.angle_dirs)
    for path in listed[1:]:
        _every_place(path, on_path, watched)
    return watched


def _every_place(path: bytes, on_path: Sequence[bytes], watched: dict[bytes, None]) -> None:
    watched[path] = None
    for directory in on_path:
        start = join(directory, b"x")[:-1]
        if path.startswith(start):
            name = path[len(start) :]
            watched.update(dict.fromkeys(join(other, name) for other in (b"", *on_path)))
