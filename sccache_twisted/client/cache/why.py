"""Why a file was compiled again: its last look-up against what is known of it.

Knows notes and manifests. Refuses to guess: where neither tells the cause, it says so. An answer is what becomes JSON:
``state``, one of hit, text_hit, miss, not_cached, unknown; ``causes``, each with a ``kind`` and a ``sentence``; what
was compared with what.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from attrs import define
from twisted.internet.threads import deferToThreadPool

from sccache_twisted.client.cache.observer import FAILED
from sccache_twisted.client.cache.service import CompileCache
from sccache_twisted.client.cache.states import View
from sccache_twisted.compilers.reasons import REASONS
from sccache_twisted.compilers.reasons import sentence as sentence_of
from sccache_twisted.compilers.sharing import BOUND, Place
from sccache_twisted.hashing import manifest as manifests
from sccache_twisted.hashing.compare import Cause, Now, changed_files, nearest, nearest_set, shown
from sccache_twisted.hashing.envelope import Damaged
from sccache_twisted.hashing.manifest import DependencySet
from sccache_twisted.hashing.note import Look, Note, State

MOST_CAUSES = 20


@define
class _Told:
    """What was found out about a miss. ``other``: the call that it was compared with."""

    causes: list[Cause]
    other: Note | None = None


class Why:
    """Answers for one cache."""

    def __init__(self, reactor: Any, cache: CompileCache) -> None:
        self._reactor = reactor
        self._cache = cache

    async def answer(self, path: bytes) -> dict[str, Any]:
        """Why the last call for a source, or for the object at this absolute path, was what it was.

        Fails with StorageError where the notes can't be read.
        """
        await self._cache.settled()
        names = _names(path)
        plain = names[0]
        notes: list[Note] = []
        for name in names:
            notes = notes or await self._cache.observer.notes_of(name)
        if not notes:
            return {"file": shown(plain), "state": "unknown", "causes": []}
        mine = [note for note in notes if note.output == plain] if notes[0].source != plain else notes
        last = (mine or notes)[0]
        told = await self._told(last, notes)
        told["file"] = shown(plain)
        if last.state in {State.HIT, State.TEXT_HIT}:
            missed = next((note for note in mine if note.state is State.MISS), None)
            told["last_miss"] = await self._told(missed, notes) if missed is not None else None
        return told

    async def _told(self, note: Note, notes: Sequence[Note]) -> dict[str, Any]:
        found = _Told([])
        if note.state is State.MISS:
            same = [one for one in notes if one.source == note.source and one.facts]
            earlier = [one for one in same if one.time_ns < note.time_ns]
            found = await self._missed(note, earlier)
        elif note.state is State.TEXT_HIT:
            found.causes = await self._files(note)
        answer: dict[str, Any] = {
            "state": note.state.value,
            "source": shown(note.source),
            "output": shown(note.output),
            "time": note.time_ns / 1e9,
            "command": [shown(word) for word in note.argv],
            "cwd": shown(note.cwd),
            "causes": [cause.as_json() for cause in found.causes[:MOST_CAUSES]],
            "more_causes": max(0, len(found.causes) - MOST_CAUSES),
            "stored": note.stored,
            "reason": note.reason,
            "reason_sentence": _reason(note.reason),
            "compared_with": None,
        }
        if found.other is not None:
            other = found.other
            answer["compared_with"] = {"time": other.time_ns / 1e9, "command": [shown(word) for word in other.argv]}
        return answer

    # --- misses ---

    async def _missed(self, note: Note, earlier: Sequence[Note]) -> _Told:
        if note.look is Look.RECACHE:
            sentence = "SCCACHE_RECACHE was set for this call, so nothing was looked for"
            return _Told([Cause("recache", sentence)])
        troubles = [Cause("store", f"the store did not help: {trouble.rstrip('.')}") for trouble in note.troubles]
        if note.look is Look.NO_SET:
            return _Told([*troubles, *await self._files(note)])
        if note.look is Look.DAMAGED:
            return _Told([*troubles, Cause("damaged", "what was stored is damaged, and was removed")])
        if note.look is Look.UNFIT:
            sentence = "the stored result has not the outputs of this command, or they could not be written"
            return _Told([*troubles, Cause("unfit", sentence)])
        if troubles:
            return _Told(troubles)
        if note.look is Look.NO_ENTRY or note.known_ns:
            return _Told([_evicted(note)])
        found = nearest(note, earlier)
        if found is None:
            return _Told([Cause("first", "no earlier compilation of this file is known")])
        other, causes = found
        if not causes:
            causes = [Cause("unknown", "nothing that is known of it differs from an earlier compilation")]
        elif all(cause.kind == "source" for cause in causes):
            causes += await self._between(other, note)
        return _Told(causes, other)

    async def _files(self, note: Note) -> list[Cause]:
        """Why no set of the note's own manifest was true."""
        sets = await self._sets(note)
        mine = next((one for one in sets if one.key in note.keys), None)
        others = [one for one in sets if one is not mine]
        if not others:
            return (
                [] if note.state is State.TEXT_HIT else [Cause("unknown", "what it depended on is not known any more")]
            )
        pool = self._reactor.getThreadPool()
        causes = await deferToThreadPool(self._reactor, pool, _compared, others, mine, self._view(note))
        if not causes and note.state is State.MISS:
            causes = [Cause("unknown", "a file had changed, and is now as it was")]
        return causes

    async def _between(self, other: Note, note: Note) -> list[Cause]:
        """The files that changed between two compilations of different sources, where both manifests are there."""
        old = await self._sets(other)
        new = await self._sets(note)
        was = next((one for one in old if one.key in other.keys), old[0] if old else None)
        now = next((one for one in new if one.key in note.keys), None)
        return changed_files(was, now) if was is not None and now is not None else []

    async def _sets(self, note: Note) -> tuple[DependencySet, ...]:
        stored = await self._cache.ask(note.key)
        if stored is None:
            return ()
        try:
            pool = self._reactor.getThreadPool()
            manifest = await deferToThreadPool(self._reactor, pool, manifests.unpack, note.key, stored)
        except Damaged:
            return ()
        place = Place(note.base, ())
        return tuple(one for one in (_localised(one, place, note.own_key) for one in manifest.sets) if one is not None)

    def _view(self, note: Note) -> View:
        return View(self._cache.states, note.cwd)


def _localised(one: DependencySet, place: Place, own_key: str) -> DependencySet | None:
    """A set with the paths of a place; None for one that is another place's."""
    present, absent = [], []
    for path, digest in one.present:
        if path == BOUND and digest == own_key:
            continue
        here = place.localised(path) if path != BOUND else None
        if here is None:
            return None
        present.append((here, digest))
    for directory, names in one.absent:
        here = place.localised(directory)
        if here is None:
            return None
        absent.append((here, names))
    return DependencySet(tuple(present), tuple(absent), one.key)


def _names(path: bytes) -> list[bytes]:
    """What a file may be known by: as it is spelled, and without links."""
    plain = os.path.normpath(path)
    return list(dict.fromkeys((plain, os.path.realpath(plain))))


def _compared(others: Sequence[DependencySet], mine: DependencySet | None, view: View) -> list[Cause]:
    if mine is None:
        return nearest_set(others, Now(view.digest, _there(view)))
    read = dict(mine.present)
    missing = frozenset(
        (directory + b"/" + name if directory else name) for directory, names in mine.absent for name in names
    )
    there = _there(view)
    return nearest_set(
        others,
        Now(read.get, lambda path: path not in missing and there(path), frozenset(read)),
    )


def _there(view: View) -> Any:
    return lambda path: os.path.isdir(view.absolute(path)) if path.endswith(b"/") else view.is_file(path)


def _evicted(note: Note) -> Cause:
    when = ""
    if note.known_ns:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(note.known_ns / 1e9))
        when = f" of {moment}"
    sentence = (
        f"the result{when} is not stored any more: it was cleared, or had to make room (cache size tells the limit)"
    )
    return Cause("evicted", sentence)


def _reason(word: str) -> str:
    if word == FAILED:
        return "The compiler failed, and failures are not stored."
    return sentence_of(word) if word in REASONS else word
