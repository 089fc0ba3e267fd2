"""One call's way through the cache, and what its result becomes there."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import Factory, define

from sccache_twisted.client.cache.observer import Trail
from sccache_twisted.client.cache.recipe import Sighted
from sccache_twisted.hashing.entry import Entry, StoredOutput
from sccache_twisted.model import OutputFile


@define
class Lookup:
    """One call's way through the cache. ``owner``: others wait for it."""

    sighted: Sighted
    owner: bool = False
    passed_on: bool = False
    """Somebody else ends it, when the result is there."""
    trail: Trail = Factory(Trail)


def entry_of(lookup: Lookup, outputs: Sequence[OutputFile], stdout: bytes, stderr: bytes) -> Entry:
    """A result that was made elsewhere, by what its outputs are and not by where they lie."""
    found = {output.path: output for output in outputs}
    stored = tuple(
        StoredOutput(role, place.output.kind, found[place.path].data, found[place.path].mode)
        for role, place in enumerate(lookup.sighted.request.places)
        if place.path in found
    )
    return Entry(stored, stdout, stderr)
