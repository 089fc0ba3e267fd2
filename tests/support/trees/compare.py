"""What two builds of the same commands left behind, and in what they differ.

Both builds run in the same directory one after the other, since paths end up in objects: take a ``snapshot``, build,
``set_aside`` what appeared, build again, and hand both sides to ``differences``.
"""

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import field, frozen

from support.trees.commands import Result
from support.trees.elf import differing_sections, dwo_id, is_linked, without_dwo_id

Stamp = tuple[int, int, int, int]
_SHOWN_BYTES = 300


@frozen
class Side:
    """One build: each command's result, and each file that appeared, by its path below the root.

    Files lie in ``kept`` with their modes, at the paths they had.
    """

    kept: Path
    files: frozenset[str]
    results: Mapping[tuple[str, ...], Result] = field(factory=dict)


def snapshot(root: Path) -> dict[str, Stamp]:
    """Every file and link below ``root`` with what changes when it is written: inode, size, mtime, mode."""
    found: dict[str, Stamp] = {}
    for folder, folders, names in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in names + links:
            path = os.path.join(folder, name)
            told = os.lstat(path)
            found[os.path.relpath(path, root)] = (told.st_ino, told.st_size, told.st_mtime_ns, told.st_mode)
    return found


def appeared(before: Mapping[str, Stamp], after: Mapping[str, Stamp]) -> frozenset[str]:
    """The files that are new or were written."""
    return frozenset(path for path, stamp in after.items() if before.get(path) != stamp)


def set_aside(root: Path, before: Mapping[str, Stamp], kept: Path, results: Mapping[tuple[str, ...], Result]) -> Side:
    """Move all that appeared below ``root`` into ``kept``: the root is as before, and the build is a Side."""
    files = appeared(before, snapshot(root))
    for path in files:
        place = kept / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / path, place)
    return Side(kept, files, results)


def differences(
    plain: Side, ours: Side, ignore: Callable[[str], bool] = lambda _: False, *, dwo_ids_vary: bool = False
) -> list[str]:
    """One sentence for each file, mode, stream or status in which the second build is not the first.

    With ``dwo_ids_vary`` an object may differ in the id that ties it to its .dwo, if the two still agree; what is
    linked of such objects is not compared. gcc 12 hashes addresses of its own memory into that id, so that with
    address space randomisation two plain runs differ in it, -frandom-seed or not.
    """
    found = _torn_pairs(ours) if dwo_ids_vary else []
    for path in sorted(plain.files | ours.files):
        if ignore(path):
            continue
        if path not in ours.files:
            found.append(f"{path}: only the plain build wrote it")
        elif path not in plain.files:
            found.append(f"{path}: the plain build did not write it")
        else:
            found += [
                f"{path}: {what}" for what in _file_differences(plain.kept / path, ours.kept / path, dwo_ids_vary)
            ]
    for key in sorted(plain.results.keys() | ours.results.keys()):
        left, right = plain.results.get(key), ours.results.get(key)
        if left is None or right is None:
            found.append(f"{_call(key)}: ran only in {'our' if left is None else 'the plain'} build")
        else:
            found += [f"{_call(key)}: {what}" for what in _result_differences(left, right)]
    return found


def _file_differences(left: Path, right: Path, dwo_ids_vary: bool) -> list[str]:
    one, other = os.lstat(left), os.lstat(right)
    if stat.S_IFMT(one.st_mode) != stat.S_IFMT(other.st_mode):
        return [f"kind {stat.filemode(one.st_mode)} became {stat.filemode(other.st_mode)}"]
    if stat.S_ISLNK(one.st_mode):
        return [] if os.readlink(left) == os.readlink(right) else ["the link's target differs"]
    found = []
    if stat.S_IMODE(one.st_mode) != stat.S_IMODE(other.st_mode):
        found.append(f"mode {stat.S_IMODE(one.st_mode):o} became {stat.S_IMODE(other.st_mode):o}")
    a, b = left.read_bytes(), right.read_bytes()
    if dwo_ids_vary and a != b:
        if is_linked(a) and is_linked(b):
            return found
        a, b = without_dwo_id(a), without_dwo_id(b)
    if a != b:
        found.append(_content_difference(a, b))
    return found


def _torn_pairs(side: Side) -> list[str]:
    """Each .dwo whose id is not its object's."""
    found = []
    for path in sorted(side.files):
        twin = path.removesuffix(".dwo") + ".o"
        if path.endswith(".dwo") and twin in side.files:
            ids = [dwo_id(side.kept.joinpath(name).read_bytes()) for name in (path, twin)]
            if ids[0] is None or ids[0] != ids[1]:
                found.append(f"{path}: its id is not its object's")
    return found


def _content_difference(a: bytes, b: bytes) -> str:
    try:
        named = differing_sections(a, b)
    except ValueError:
        at = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        return f"from byte {at} on {_shown(a[at:])} became {_shown(b[at:])} (of {len(a)} and {len(b)} bytes)"
    return f"ELF sections differ: {', '.join(named) or 'none, only headers or padding'}"


def _result_differences(left: Result, right: Result) -> list[str]:
    found = [] if left.status == right.status else [f"status {left.status} became {right.status}"]
    for name in ("stdout", "stderr"):
        a, b = getattr(left, name), getattr(right, name)
        if a != b:
            found.append(f"{name} {_content_difference(a, b)}")
    return found


def _shown(text: bytes) -> str:
    return repr(text[:_SHOWN_BYTES]) + ("…" if len(text) > _SHOWN_BYTES else "")


def _call(key: tuple[str, ...]) -> str:
    """A command's output, or its last word, with its directory."""
    words = key[1:]
    name = words[words.index("-o") + 1] if "-o" in words else words[-1]
    return f"{name} (in {key[0]})"
