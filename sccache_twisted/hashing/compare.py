"""What differs between two notes, and between what two results depended on, in sentences. Pure.

A cause has a ``kind``, which is stable, a ``sentence`` for a person, and what it names: ``name``, ``was``, ``now``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from attrs import asdict, frozen

from sccache_twisted.hashing.manifest import DependencySet
from sccache_twisted.hashing.note import Note

_COMPILER = ("toolchain", "executable", "argv0", "family")
_SPOKEN = {
    *_COMPILER,
    "language",
    "args",
    "env",
    "source",
    "directory",
    "outputs",
    "directories",
    "processor",
    "buster",
}


@frozen
class Cause:
    """One difference."""

    kind: str
    sentence: str
    name: str = ""
    was: str | None = None
    now: str | None = None

    def as_json(self) -> dict[str, Any]:
        """What is not empty, by name."""
        return {name: value for name, value in asdict(self).items() if value not in {"", None}}


def shown(value: bytes) -> str:
    """Bytes for a person."""
    return value.decode("utf-8", "backslashreplace")


def nearest(note: Note, others: Iterable[Note]) -> tuple[Note, list[Cause]] | None:
    """The other note with the fewest differences, the latest of several, and these differences."""
    best: tuple[Note, list[Cause]] | None = None
    for other in sorted(others, key=lambda one: -one.time_ns):
        found = differences(other, note)
        if best is None or len(found) < len(best[1]):
            best = other, found
    return best


def differences(was: Note, now: Note) -> list[Cause]:
    """Everything that was keyed and differs, what a person changes most often first."""
    causes = [*_compiler(was, now), *_arguments(was, now), *_variables(was, now)]
    old, new = was.facts, now.facts
    causes += (
        _changed(name, f"the {name}", old.get(name), new.get(name))
        for name in ("language", "outputs", "processor")
        if old.get(name) != new.get(name)
    )
    if old.get("source") != new.get("source"):
        causes.append(_changed("spelling", "the source's spelling", old.get("source"), new.get("source")))
    if old.get("directory") != new.get("directory"):
        what = "the working directory, which shows in the result,"
        causes.append(_changed("directory", what, old.get("directory"), new.get("directory")))
    causes += _directories(was, now)
    if old.get("buster") != new.get("buster"):
        what = "SCCACHE_C_CUSTOM_CACHE_BUSTER"
        causes.append(_changed("variable", what, old.get("buster"), new.get("buster"), name=what))
    causes += (
        _changed(name, name, old.get(name), new.get(name))
        for name in sorted({*old, *new} - _SPOKEN)
        if old.get(name) != new.get(name)
    )
    if was.source_digest != now.source_digest:
        causes.append(Cause("source", "the source changed", shown(now.source), was.source_digest, now.source_digest))
    return causes


def _compiler(was: Note, now: Note) -> Iterator[Cause]:
    old, new = was.facts, now.facts
    if old["executable"] != new["executable"]:
        told = [f"{shown(note.facts['executable'])} ({note.version})" for note in (was, now)]
        yield _changed("compiler", "the compiler", *told)
    elif old["toolchain"] != new["toolchain"]:
        program = shown(new["executable"])
        if was.version != now.version:
            yield _changed("compiler", f"the compiler {program}", was.version, now.version, name=program)
        else:
            sentence = f"the files of the compiler {program} changed, though it tells the same version ({now.version})"
            yield Cause("compiler", sentence, program, old["toolchain"], new["toolchain"])
    elif old["argv0"] != new["argv0"]:
        yield _changed("compiler", "the name by which the compiler is called", old["argv0"], new["argv0"])


def _arguments(was: Note, now: Note) -> Iterator[Cause]:
    old, new = was.facts["args"], now.facts["args"]
    if old == new:
        return
    if sorted(old) == sorted(new):
        yield Cause("argument", "the arguments stand in another order", "", _line(old), _line(new))
        return
    # A source that is spelled otherwise is told once, as such.
    spelled = {was.facts["source"]: b"", now.facts["source"]: b""}
    before, after = ([spelled.get(word, word) for word in words] for words in (old, new))
    for what, low, high, first, last in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        gone, come = list(before[low:high]), list(after[first:last])
        for one, other in _pairs(gone, come):
            yield _changed("argument", "argument", one, other, quiet=True)
        for one in gone:
            yield Cause("argument", f"argument {shown(one)} was removed", shown(one), shown(one))
        for one in come:
            yield Cause("argument", f"argument {shown(one)} was added", shown(one), None, shown(one))


def _pairs(gone: list[bytes], come: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Words that stand for one another, taken out of both: those that begin alike, or all if there are as many."""
    for one in list(gone):
        alike = next((other for other in come if other[:2] == one[:2] and other[:1] == b"-"), None)
        if alike is not None:
            gone.remove(one)
            come.remove(alike)
            yield one, alike
    if len(gone) == len(come):
        pairs = list(zip(gone, come, strict=True))
        gone.clear()
        come.clear()
        yield from pairs


def _variables(was: Note, now: Note) -> Iterator[Cause]:
    old, new = dict(was.facts["env"]), dict(now.facts["env"])
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield _changed("variable", f"variable {shown(name)}", old.get(name), new.get(name), name=shown(name))


def _directories(was: Note, now: Note) -> Iterator[Cause]:
    old = dict(zip(was.dirs, was.facts.get("directories", ()), strict=False))
    for path, there in zip(now.dirs, now.facts.get("directories", ()), strict=False):
        if path in old and old[path] != there:
            name = shown(path)
            yield Cause("include_directory", f"the directory {name} {'appeared' if there else 'is gone'}", name)


def _changed(kind: str, what: str, was: Any, now: Any, *, name: str = "", quiet: bool = False) -> Cause:
    old, new = _text(was), _text(now)
    if not old:
        sentence = f"{what} was added: {new}" if kind != "variable" else f"{what} was set to {new}"
    elif not new:
        sentence = f"{what} is gone; it was {old}"
    else:
        sentence = f"{what} {old} became {new}" if quiet else f"{what} was {old} and is {new}"
    return Cause(kind, sentence, name, old or None, new or None)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return shown(value)
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_text, value))
    return "" if value is None else str(value)


def _line(words: Iterable[bytes]) -> str:
    return " ".join(map(shown, words))


# --- what results depended on ----------------------------------------------------------------------


@frozen
class Now:
    """The files as a later compilation saw them, or as they are: contents by digest, and what is there."""

    digest: Callable[[bytes], str | None]
    is_there: Callable[[bytes], bool]
    reads: frozenset[bytes] | None = None
    """The files that it read, where that is known."""


def nearest_set(sets: Sequence[DependencySet], now: Now) -> list[Cause]:
    """Why none of these sets is true: what differs from the one that is nearest, the newest of several."""
    best: list[Cause] | None = None
    for one in sets:
        found = _unlike(one, now)
        if best is None or len(found) < len(best):
            best = found
    return best or []


def changed_files(was: DependencySet, now: DependencySet) -> list[Cause]:
    """The files that both read, with different content; the first of the sets is a source's own and is left out."""
    new = dict(now.present[1:])
    return [
        _file_changed(path, digest, new[path])
        for path, digest in was.present[1:]
        if path in new and new[path] != digest
    ]


def _unlike(one: DependencySet, now: Now) -> list[Cause]:
    appeared = [path for path in _absent(one) if _is_there_now(path, now)]
    causes: list[Cause] = []
    gone: list[bytes] = []
    for path, digest in one.present:
        found = now.digest(path)
        if found == digest:
            continue
        if found is None:
            gone.append(path)
        else:
            causes.append(_file_changed(path, digest, found))
    for path in appeared:
        name = path.rpartition(b"/")[2]
        hidden = next((old for old in gone if name and old.rpartition(b"/")[2] == name), None)
        if hidden is None:
            hidden = next((old for old, _ in one.present if name and old.rpartition(b"/")[2] == name), None)
        causes.append(_appeared(path, hidden))
        if hidden in gone:
            gone.remove(hidden)
    for path in gone:
        what = "is not read any more" if now.is_there(path) else "is gone"
        causes.append(Cause("header_gone", f"header {shown(path)} {what}", shown(path)))
    return causes


def _is_there_now(path: bytes, now: Now) -> bool:
    return path in now.reads or now.is_there(path) if now.reads is not None else now.is_there(path)


def _absent(one: DependencySet) -> Iterator[bytes]:
    for directory, names in one.absent:
        for name in names:
            yield _joined(directory, name)


def _joined(directory: bytes, name: bytes) -> bytes:
    if not directory:
        return name
    return directory + name if directory.endswith(b"/") else directory + b"/" + name


def _appeared(path: bytes, hidden: bytes | None) -> Cause:
    if path.endswith(b"/"):
        return Cause("include_directory", f"the directory {shown(path[:-1])} appeared on the search path", shown(path))
    if hidden is not None and hidden != path:
        sentence = f"header {shown(path)} appeared, and is found before {shown(hidden)}"
        return Cause("header_appeared", sentence, shown(path), shown(hidden))
    return Cause("header_appeared", f"file {shown(path)} appeared where the compiler looks for it", shown(path))


def _file_changed(path: bytes, was: str, now: str) -> Cause:
    return Cause("header", f"header {shown(path)} changed", shown(path), was, now)
