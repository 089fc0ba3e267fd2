"""A manifest: which files decided earlier results of one command and one source, and which results those were.

A set of dependencies says of some files which content they had, and of some names that nothing was there: a header that
would have been found earlier on the search path, a target of ``__has_include``, a profile. A set whose every word is
still true leads to its result. Paths stay as the compiler spelled them, so relative ones mean the caller's directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from attrs import field, frozen

from sccache_twisted.hashing.envelope import Damaged, open_sealed, seal

_KIND = b"m"
VERSION = 1
MOST_SETS = 64
MOST_FACTS = 200_000
"""Bound on the files and names of all sets together, those that several sets share counted once."""

Names = tuple[bytes, tuple[bytes, ...]]
"""A directory as spelled (empty for the cwd), and sorted names that are no files in it.

The empty name, which comes first, says that the directory itself isn't there.
"""


@frozen
class DependencySet:
    """Files with their digests, names that are absent, and the key of the result that followed from them."""

    present: tuple[tuple[bytes, str], ...] = field(repr=False)
    absent: tuple[Names, ...] = field(repr=False)
    key: str

    @property
    def conditions(self) -> tuple[object, object]:
        """What must be true, whatever follows from it."""
        return self.present, self.absent


@frozen
class Manifest:
    """Sets of dependencies, the newest first."""

    sets: tuple[DependencySet, ...] = ()

    def with_set(self, new: DependencySet) -> Manifest:
        """The manifest with one more set at its front; what had the same conditions is replaced, the oldest may go."""
        return Manifest(tuple(_bounded((new, *(one for one in self.sets if one.conditions != new.conditions)))))

    def find(self, digest_of: Callable[[bytes], str | None], any_there: Callable[[Names], bool]) -> str | None:
        """The key of the newest set that is still true.

        ``digest_of`` gives a file's digest, or None if it can't be had; ``any_there`` whether one of the names is a
        file now. Each is asked once about the same thing.
        """
        digests: dict[bytes, str | None] = {}
        found: dict[Names, bool] = {}
        for one in self.sets:
            if _same(one.present, digests, digest_of) and _none(one.absent, found, any_there):
                return one.key
        return None


def grouped(paths: Iterable[bytes]) -> tuple[Names, ...]:
    """Paths by directory."""
    groups: dict[bytes, set[bytes]] = {}
    for path in paths:
        head, slash, name = path.rpartition(b"/")
        groups.setdefault(head or slash, set()).add(name)
    return tuple((directory, tuple(sorted(names))) for directory, names in sorted(groups.items()))


def pack(key: str, manifest: Manifest) -> bytes:
    """A manifest as bytes to be stored under ``key``. What several sets share is written once."""
    paths: dict[bytes, int] = {}
    files: dict[tuple[int, str], int] = {}
    groups: dict[Names, int] = {}
    sets = [
        (
            bytes.fromhex(one.key),
            [_index(files, (_index(paths, path), digest)) for path, digest in one.present],
            [_index(groups, group) for group in one.absent],
        )
        for one in manifest.sets
    ]
    shown = [(number, bytes.fromhex(digest)) for number, digest in files]
    return seal(key, _KIND, VERSION, (list(paths), shown, list(groups), sets))


def unpack(key: str, stored: bytes) -> Manifest:
    """The manifest that was packed for ``key``; Damaged if these bytes are anything else."""
    content = open_sealed(key, _KIND, VERSION, stored)
    try:
        paths, shown, told, sets = content
        _all(bytes, paths)
        _all(bytes, (digest for _, digest in shown))
        _places(number for number, _ in shown)
        files = [(paths[number], digest.hex()) for number, digest in shown]
        for directory, names in told:
            _all(bytes, (directory, *names))
        groups = [(directory, tuple(names)) for directory, names in told]
        for result, present, absent in sets:
            _all(bytes, (result,))
            _places(present)
            _places(absent)
        return Manifest(
            tuple(
                DependencySet(
                    tuple(map(files.__getitem__, present)), tuple(map(groups.__getitem__, absent)), result.hex()
                )
                for result, present, absent in sets
            )
        )
    except (TypeError, ValueError, IndexError) as problem:
        raise Damaged(f"it does not hold what a manifest holds ({problem})") from problem


def _bounded(sets: Iterable[DependencySet]) -> Iterator[DependencySet]:
    facts: set[object] = set()
    for number, one in enumerate(sets):
        facts.update(one.present)
        facts.update((directory, name) for directory, names in one.absent for name in names)
        if number == MOST_SETS or len(facts) > MOST_FACTS:
            return
        yield one


def _same(
    present: Iterable[tuple[bytes, str]],
    known: dict[bytes, str | None],
    digest_of: Callable[[bytes], str | None],
) -> bool:
    for path, digest in present:
        if path not in known:
            known[path] = digest_of(path)
        if known[path] != digest:
            return False
    return True


def _none(absent: Iterable[Names], known: dict[Names, bool], any_there: Callable[[Names], bool]) -> bool:
    for group in absent:
        if group not in known:
            known[group] = any_there(group)
        if known[group]:
            return False
    return True


def _index(table: dict, item: object) -> int:  # type: ignore[type-arg]  # any table, with items of its own kind
    return table.setdefault(item, len(table))  # type: ignore[no-any-return]  # as above


def _all(kind: type, values: Iterable[object]) -> None:
    found = set(map(type, values))
    if not found <= {kind}:
        raise TypeError(f"{', '.join(sorted(one.__name__ for one in found))} where {kind.__name__} belongs")


def _places(numbers: Iterable[int]) -> None:
    """Check indices: negative ones would be counted from the end."""
    known = list(numbers)
    _all(int, known)
    if min(known, default=0) < 0:
        raise ValueError("an index is negative")
