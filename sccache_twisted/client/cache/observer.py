"""Notes of what became of each look-up, for ``why``: taken in passing, written down in a thread some seconds later.

Knows when a note is complete. Refuses to make anybody wait, or fail: a call pays for one append, and what can't be
written is told in the log once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import Factory, define, evolve
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool

from sccache_twisted.client.cache.noting import ForeignHit, note_of, place_of
from sccache_twisted.client.cache.recipe import Recipe, Request, Sighted
from sccache_twisted.client.calls import Call
from sccache_twisted.compilers.languages import COMPILED, language_of
from sccache_twisted.errors import StorageError
from sccache_twisted.hashing.note import Look, Note, State, bounded_words, unpack
from sccache_twisted.logs import events
from sccache_twisted.logs.events import EventLog
from sccache_twisted.storage.notebook import Notebook

FLUSH_SECONDS = 10.0
_MOST_WAITING = 20_000
_MOST_SOURCES = 16
FAILED = "compile_failed"
"""The reason of a result that isn't stored since the compiler failed; no word of the documented set."""


_Hits = dict[tuple[object, ...], bytes]
"""The hits that were noted, by what tells them apart, and their sources as they are known there."""

_Waiting = Callable[[], list[Note]] | Sighted | ForeignHit
"""What makes notes, or a hit."""


@define
class Trail:
    """How a look-up goes. ``why_not``: why its result is not stored."""

    look: Look = Look.NOTHING
    troubles: list[str] = Factory(list)
    made: Recipe | None = None
    by_text: bool = False
    why_not: str = ""
    noted: bool = False


class Observer:
    """Collects notes. Without a ``notebook`` there are none."""

    def __init__(self, reactor: Any, notebook: Notebook | None = None) -> None:
        self._reactor = reactor
        self._notebook = notebook
        self._waiting: deque[_Waiting] = deque(maxlen=_MOST_WAITING)
        self._hits: _Hits = {}
        self._timer: IDelayedCall | None = None
        self._lock = DeferredLock()
        self._log = EventLog.of("sccache_twisted.client", role="client")
        self._told = False

    def hit(self, hit: Sighted | ForeignHit) -> None:
        """A result was found by command and source."""
        self._later(hit)

    def ended(self, sighted: Sighted, trail: Trail, *, stored: bool) -> None:
        """A call is over that found nothing by command and source; of each only the first end is noted."""
        if not trail.noted:
            trail.noted = True
            self._later(lambda: [_missed(sighted, trail, stored=stored)])

    def refused(self, call: Call, cwd: bytes, reason: str, request: Request | None = None) -> None:
        """Nothing was looked for, for a documented reason. Without a request the sources are guessed by their names."""
        self._later(lambda: _refused(call, cwd, reason, request))

    def notes_of(self, path: bytes) -> Deferred[list[Note]]:
        """The notes about a source, or an output, by its absolute path. Fails with StorageError."""
        return Deferred.fromCoroutine(self._notes_of(path))

    async def _notes_of(self, path: bytes) -> list[Note]:
        if self._notebook is None:
            return []
        await self._flush()
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._notebook.of, path)

    async def stop(self) -> None:
        """Write what waits to be written."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        await self._flush()

    def _later(self, noting: _Waiting) -> None:
        if self._notebook is None:
            return
        self._waiting.append(noting)
        if self._timer is None or not self._timer.active():
            self._timer = self._reactor.callLater(FLUSH_SECONDS, self._flush_now)

    def _flush_now(self) -> None:
        Deferred.fromCoroutine(self._flush()).addErrback(
            lambda failure: self._log.log.failure("notes could not be written", failure)
        )

    async def _flush(self) -> None:
        notebook = self._notebook
        if notebook is None:
            return
        await self._lock.acquire()
        try:
            waiting = list(self._waiting)
            self._waiting.clear()
            if waiting:
                pool = self._reactor.getThreadPool()
                await deferToThreadPool(self._reactor, pool, _write, notebook, waiting, self._hits)
        except StorageError as problem:
            if not self._told:
                self._told = True
                self._log.emit(events.CACHE_FAILED, what="note", reason=problem.sentence)
        finally:
            self._lock.release()


def _write(notebook: Notebook, waiting: list[_Waiting], noted: _Hits) -> None:
    """Write notes down. Most of a build are hits that were noted before: of them only the moment is new."""
    notes: list[Note] = []
    hits: dict[tuple[bytes, str], Sighted | ForeignHit] = {}
    for one in waiting:
        if not isinstance(one, Sighted | ForeignHit):
            notes += one()
            continue
        name = _name(one)
        source = noted.get(name)
        if source is None:
            note = _hit(one)
            if note is None:
                continue
            notes.append(note)
            if len(noted) >= _MOST_WAITING:
                noted.clear()
            noted[name] = note.source
        else:
            hits[source, one.key] = one
    if notes:
        notebook.add(notes)
    gone = notebook.again({name: _time(one) for name, one in hits.items()}) if hits else []
    if gone:
        notebook.add(note for name in gone if (note := _hit(hits[name])) is not None)


def _name(one: Sighted | ForeignHit) -> tuple[object, ...]:
    if isinstance(one, ForeignHit):
        return (one.source, one.output, one.key)
    request = one.request
    return (request.cwd, request.compilation.source, request.compilation.outputs, one.key)


def _time(one: Sighted | ForeignHit) -> int:
    return one.time_ns if isinstance(one, ForeignHit) else one.request.call.arrival_ns


def _hit(one: Sighted | ForeignHit) -> Note | None:
    if isinstance(one, ForeignHit):
        note = unpack(one.body)
        return None if note is None else evolve(note, time_ns=one.time_ns)
    return note_of(State.HIT, one)


def _missed(sighted: Sighted, trail: Trail, *, stored: bool) -> Note:
    state = State.TEXT_HIT if trail.by_text else State.MISS
    keys = trail.made.keys if trail.made is not None else ()
    return note_of(
        state,
        sighted,
        keys=keys,
        look=trail.look,
        troubles=tuple(trail.troubles),
        stored=stored,
        reason=trail.why_not,
    )


def _refused(call: Call, cwd: bytes, reason: str, request: Request | None) -> list[Note]:
    output = b""
    if request is not None:
        sources = [request.compilation.source]
        output = os.path.normpath(request.places[0].path) if request.places else b""
    else:
        words = [word for word in call.argv[1:] if word[:1] != b"-"]
        sources = [word for word in words if language_of(word, None, cplusplus=False) in COMPILED][:_MOST_SOURCES]
    argv = bounded_words(call.argv)
    return [
        Note(State.REFUSED, place_of(source, cwd), call.arrival_ns, output, cwd, argv, reason=reason)
        for source in sources
    ]
