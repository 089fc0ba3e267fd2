"""What a command left behind, and in what two of them differ, less what two runs of one compiler don't share."""

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import field, frozen
from support.trees.elf import differing_sections, sections, without_dwo_id

_SHOWN = 200


@frozen
class Node:
    """What stands under a name. ``content`` is a file's bytes or a link's target."""

    kind: str
    mode: int
    links: int
    content: bytes = field(repr=False)


@frozen
class Outcome:
    """Exit status as the kernel tells it, both streams, and everything below the directory by its name."""

    status: int
    stdout: bytes
    stderr: bytes
    nodes: dict[str, Node] = field(repr=False)


def looked_at(site: Path) -> dict[str, Node]:
    """Everything below a directory but directories, by its name."""
    found = {}
    for folder, folders, names in os.walk(os.fsencode(site)):
        for name in names + [one for one in folders if os.path.islink(os.path.join(folder, one))]:
            path = os.path.join(folder, name)
            told = os.lstat(path)
            content = b""
            if stat.S_ISLNK(told.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(told.st_mode):
                with open(path, "rb") as stream:
                    content = stream.read()
            key = os.fsdecode(os.path.relpath(path, os.fsencode(site)))
            found[key] = Node(stat.filemode(told.st_mode)[0], stat.S_IMODE(told.st_mode), told.st_nlink, content)
    return found


def differences(plain: Outcome, ours: Outcome, masks: Sequence[str] = ()) -> list[str]:
    """One sentence for each thing in which a command behind us is not the command alone."""
    found = [] if plain.status == ours.status else [f"status {plain.status} became {ours.status}"]
    for name, one, other in (("stdout", plain.stdout, ours.stdout), ("stderr", plain.stderr, ours.stderr)):
        if _masked(one, masks) != _masked(other, masks):
            found.append(f"{name} {_shown(one)} became {_shown(other)}")
    for name in sorted(plain.nodes.keys() | ours.nodes.keys()):
        one, other = plain.nodes.get(name), ours.nodes.get(name)
        if one is None or other is None:
            found.append(f"{name}: {'the compiler alone did not write it' if one is None else 'was not written'}")
        elif (one.kind, one.mode, one.links) != (other.kind, other.mode, other.links):
            found.append(f"{name}: {one} became {other}")
        elif one.content != other.content:
            a, b = _masked(one.content, masks), _masked(other.content, masks)
            if a != b:
                found.append(f"{name}: {_content_difference(a, b)}")
    return found


def _masked(data: bytes, masks: Sequence[str]) -> bytes:
    for mask in masks:
        data = MASKS[mask](data)
    return data


def _content_difference(one: bytes, other: bytes) -> str:
    try:
        return f"ELF sections differ: {', '.join(differing_sections(one, other)) or 'only headers or padding'}"
    except ValueError:
        at = next((n for n, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
        return f"from byte {at} on {_shown(one[at:])} became {_shown(other[at:])}"


def _shown(text: bytes) -> str:
    return repr(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")


_COVERAGE_INFO = re.compile(rb"(\*[0-9]{2}[A-Z](?:\0{12}|\0{4})).{4}", re.DOTALL)
_STAMP_IN_ASSEMBLY = re.compile(rb"(?<=\t\.(?:quad|long)\t0\n\t\.long\t)-?\d+")
_TEMPORARY = re.compile(rb"(?:/tmp/)?(?:cc\w{6}|[\w.+-]+-[0-9a-f]{6})(?=\.\w)")
_LTO_NAME = re.compile(r"(\.gnu\.(?:debug)?lto_.*?)\.[0-9a-f]{1,16}(?=#|\Z)")
_LTO_IN_ASSEMBLY = re.compile(rb"(?<=\.)[0-9a-f]{6,16}\b")
_LTO_SYMBOL = re.compile(rb"\.[0-9a-f]{8,16}\0")


def _without_coverage_stamp(data: bytes) -> bytes:
    """A notes file without its third word, or an object without the same word in its record of it.

    gcc draws it at random in every run (unless -frandom-seed is given) to tell that notes and counts belong together.
    """
    if data[:4] == b"oncg":
        return data[:8] + bytes(4) + data[12:]
    if b"__gcov" in data and data[:4] != b"\x7fELF":
        return _STAMP_IN_ASSEMBLY.sub(b"", data)
    return _COVERAGE_INFO.sub(rb"\1\0\0\0\0", data)


def _without_lto_seed(data: bytes) -> bytes:
    """An object's sections without the random number in the names of gcc's intermediate ones, and without offsets.

    gcc draws it in every run (unless -frandom-seed is given) so that partial links don't mix two objects' sections.
    """
    try:
        found = sections(data)
    except ValueError:
        return _LTO_IN_ASSEMBLY.sub(b"", data) if b".gnu.lto_" in data else data
    named = sorted((_LTO_NAME.sub(r"\1", name), content) for name, content in found.items())
    return b"\n".join(
        name.encode() + b": " + _LTO_SYMBOL.sub(b"\0", content) for name, content in named if name != ".shstrtab"
    )


MASKS: dict[str, Callable[[bytes], bytes]] = {
    # gcc 12 hashes addresses of its own memory into the id that ties an object to its .dwo.
    "dwo id": lambda data: without_dwo_id(data) if data[:6] == b"\x7fELF\x02\x01" else data,
    "coverage stamp": _without_coverage_stamp,
    "lto seed": _without_lto_seed,
    # Drivers draw the names of what passes between their steps at random; -v and the assembler's complaints tell them.
    "temporary name": lambda data: _TEMPORARY.sub(b"", data),
    # Dumps and trees show where in the compiler's memory things lie, which the kernel draws at random.
    "addresses": lambda data: re.sub(rb"0x[0-9a-f]+|\b[0-9a-f]{9,12}\b", b"", data),
    # Reports of how long the compiler's passes took, and of how much memory.
    "times": lambda data: b"" if data.startswith((b'{"traceEvents"', b"\nTime variable")) else data,
    # __DATE__ and __TIME__ are other ones with every run.
    "time of day": lambda data: re.sub(rb"\w{3} [ \d]\d \d{4}\0\d\d:\d\d:\d\d|\d\d:\d\d:\d\d", b"", data),
    # gcc's precompiled headers are an image of its memory.
    "pch": lambda data: b"" if data[:4] == b"gpch" else data,
}
"""By their names in cases: what is put aside before two files are compared, each with its reason."""
