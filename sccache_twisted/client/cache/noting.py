"""What is written down of a look-up, wherever it was made: this process and a hit server note the same.

Knows what of a call becomes of a note. Refuses to know when notes are written.
"""

from __future__ import annotations

import os
from typing import Any

from attrs import frozen

from sccache_twisted.client.cache.recipe import Sighted
from sccache_twisted.client.outputs import absolute
from sccache_twisted.hashing.note import Note, State, bounded_words, told


@frozen
class ForeignHit:
    """A hit that another process has found: enough to tell it from others, and ``body``, its packed note."""

    source: bytes
    output: bytes
    key: str
    time_ns: int
    body: bytes


def place_of(path: bytes, cwd: bytes) -> bytes:
    """The path by which a file is known in notes."""
    return os.path.normpath(absolute(path, cwd))


def note_of(state: State, sighted: Sighted, **more: Any) -> Note:
    """The note of a call that was looked for."""
    request = sighted.request
    return Note(
        state=state,
        source=place_of(request.compilation.source, request.cwd),
        time_ns=request.call.arrival_ns,
        output=os.path.normpath(request.places[0].path) if request.places else b"",
        cwd=request.cwd,
        argv=bounded_words(request.call.argv),
        version=request.compilation.compiler.version,
        facts=told(sighted.facts),
        source_digest=sighted.source_digest,
        dirs=request.compilation.include_dirs,
        key=sighted.key,
        base=sighted.place.base if sighted.place is not None else b"",
        own_key=sighted.own_key,
        **more,
    )
