"""The file work of the cache: what takes long enough to be done in a thread.

Every function takes values and gives values; a failure that is to be expected is one of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from sccache_twisted.client.cache.recipe import Recipe, Sighted, still_holds
from sccache_twisted.client.cache.states import FileStates, View
from sccache_twisted.client.inputs.memo import Signature, signature_of
from sccache_twisted.client.outputs import Place, Unwritable, write_outputs
from sccache_twisted.compilers.depform import FORM, written
from sccache_twisted.hashing import entry as entries
from sccache_twisted.hashing import manifest as manifests
from sccache_twisted.hashing.entry import Entry, StoredOutput
from sccache_twisted.hashing.envelope import Damaged
from sccache_twisted.hashing.manifest import DependencySet, Manifest
from sccache_twisted.interfaces import Finished
from sccache_twisted.model import OutputFile, OutputKind

_NOWHERE: Signature = (0, 0, 0, 0, 0)


def find(sighted: Sighted, stored: bytes, states: FileStates) -> str | Damaged | None:
    """The key of a result whose conditions hold."""
    try:
        manifest = manifests.unpack(sighted.key, stored)
    except Damaged as damage:
        return damage
    view = View(states, sighted.request.cwd, sighted.place, sighted.own_key)
    key = manifest.find(view.digest, view.any_there)
    if key is not None:
        view.share()
    return key


def with_set(of: str, stored: bytes | None, made: Recipe, key: str) -> bytes:
    """A stored manifest, or a new one, with what leads to one more result."""
    manifest = Manifest()
    if stored is not None:
        try:
            manifest = manifests.unpack(of, stored)
        except Damaged:
            manifest = Manifest()  # what is written now takes its place
    conditions = made.conditions_for(key)
    if conditions is not None:
        manifest = manifest.with_set(DependencySet(conditions.present, conditions.absent, key))
    return manifests.pack(of, manifest)


def unpack(key: str, stored: bytes) -> Entry | Damaged:
    """The entry in what a store gave."""
    try:
        return entries.unpack(key, stored)
    except Damaged as damage:
        return damage


def write(sighted: Sighted, entry: Entry) -> bool:
    """Write all outputs of an entry; False when they are not those of this compilation, or can't be written."""
    request = sighted.request
    places: dict[int, Place] = dict(enumerate(request.places))
    files = []
    for output in entry.outputs:
        place = places.pop(output.role, None)
        if place is None or place.output.kind is not output.kind:
            return False
        data: bytes | None = output.data
        if output.kind is OutputKind.DEPFILE and output.data.startswith(FORM):
            data = _depfile(sighted, output.data)
        if data is None:
            return False
        files.append(OutputFile(place.path, data, output.mode))
    if any(place.output.required for place in places.values()):
        return False
    try:
        write_outputs(request.compilation, request.places, files, request.call.umask)
    except Unwritable:
        return False
    return True


def _depfile(sighted: Sighted, form: bytes) -> bytes | None:
    """The depfile of this call, with its own targets and paths; None where that can't be told."""
    place = sighted.place
    if place is None:
        return None
    return written(form, sighted.request.compilation.compiler.family, place.targets, place.localised)


def read_written(made: Recipe, before: Sequence[Signature], ended: Finished, states: FileStates) -> Entry | str | None:
    """What a compiler has written, or why it can't be stored; None for one that failed."""
    if ended.status != 0:
        return None
    if made.conditions is None:
        return "untraceable_input"
    if not still_holds(made, states):
        return "modified_input"
    outputs = []
    for role, (place, earlier) in enumerate(zip(made.sighted.request.places, before, strict=True)):
        now = stat(place.path)
        if now in {earlier, _NOWHERE}:
            if place.output.required:
                return "missing_output"
            continue
        try:
            with open(place.path, "rb") as stream:
                data = stream.read()
                found = os.fstat(stream.fileno())
        except OSError:
            return "missing_output"
        if signature_of(found) != now:
            return "missing_output"
        outputs.append(StoredOutput(role, place.output.kind, data, found.st_mode & 0o777))
    return Entry(tuple(outputs), ended.stdout, ended.stderr)


def stat(path: bytes) -> Signature:
    """The signature of what a path names, links followed; zeros where there is nothing."""
    try:
        return signature_of(os.stat(path))
    except OSError:
        return _NOWHERE
