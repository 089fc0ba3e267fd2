"""The archive that a toolchain travels in: a canonical tar, written here, and read from peers that may lie.

The writer leaves no choice: members in the order of their paths, numbers and owners fixed, time zero, so
that equal content gives equal bytes. Times can be dropped because no compiler looks at those of its own
parts; only inputs, which travel otherwise, have times that matter. Names are relative to the root, without a
leading slash. Names over 100 bytes use GNU's ``L`` and ``K`` members.

The reader takes directories, regular files and symbolic links; a member's directory must come before it.
Everything else is refused with a sentence. It holds one header and one piece of data, whatever it is fed.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import Protocol

from attrs import frozen

from sccache_twisted.errors import BadArchive, TooLarge
from sccache_twisted.toolchains.tree import Entry, EntryKind, file_mode

BLOCK = 512
END = bytes(2 * BLOCK)
_LONG_NAME = b"././@LongLink"
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_TYPES = {EntryKind.FILE: b"0", EntryKind.LINK: b"2", EntryKind.DIRECTORY: b"5"}
_REFUSED = {
    b"1": "a hard link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"x": "extended attributes",
    b"g": "global attributes",
    b"X": "extended attributes",
    b"M": "a part of a volume",
    b"D": "a dump directory",
    b"V": "a volume label",
}


@frozen
class ArchiveLimits:
    """How much an archive may hold: bytes of tar, members, bytes of one name or target, names within names."""

    unpacked_bytes: int = 8 << 30
    members: int = 50_000
    name_bytes: int = 4000
    depth: int = 100


def member_header(entry: Entry) -> bytes:
    """What stands before an entry's content in the tar."""
    name = entry.path.lstrip(b"/")
    before = b""
    if len(name) > 100:
        before += _long(b"L", name)
    if len(entry.target) > 100:
        before += _long(b"K", entry.target)
    return before + _header(name[:100], entry.mode, entry.size, _TYPES[entry.kind], entry.target[:100])


def padding(size: int) -> bytes:
    """The zeros that fill a content up to a whole block."""
    return bytes(-size % BLOCK)


def _long(kind: bytes, text: bytes) -> bytes:
    body = text + b"\0"
    return _header(_LONG_NAME, 0, len(body), kind, b"") + body + padding(len(body))


def _header(name: bytes, mode: int, size: int, kind: bytes, target: bytes) -> bytes:
    zero = b"0000000\0"
    fields = [name, b"%07o\0" % mode, zero, zero, b"%011o\0" % size, b"00000000000\0", b" " * 8, kind, target]
    fields += [b"ustar\00000", b"", b"", zero, zero, b""]
    fields[6] = b"%06o\0 " % sum(_HEADER.pack(*fields))
    return _HEADER.pack(*fields)


class ArchiveSink(Protocol):
    """Who makes of an archive what it says. Paths come checked, relative, without a trailing slash."""

    def directory(self, path: bytes) -> None:
        """A directory."""

    def link(self, path: bytes, target: bytes) -> None:
        """A symbolic link, not to be followed."""

    def begin_file(self, path: bytes, mode: int, size: int) -> None:
        """A file of a size known beforehand; its content follows."""

    def content(self, piece: memoryview) -> None:
        """The next piece of the file's content."""

    def end_file(self) -> None:
        """The file is complete."""


class ArchiveReader:
    """Reads a tar in pieces of any size and tells a sink; BadArchive and TooLarge say what is wrong with it."""

    def __init__(self, sink: ArchiveSink, limits: ArchiveLimits) -> None:
        self._sink = sink
        self._limits = limits
        self._kinds: dict[bytes, EntryKind] = {b"": EntryKind.DIRECTORY}
        self._read = 0
        self._long: dict[bytes, bytes] = {}
        self._ended = False
        self._steps = self._members()
        self._wanted: int = next(self._steps)
        self._held = bytearray()
        self._in_file = False

    @property
    def complete(self) -> bool:
        """Whether the archive's end has been read."""
        return self._ended

    def feed(self, data: bytes) -> None:
        """Read on."""
        self._read += len(data)
        if self._read > self._limits.unpacked_bytes:
            raise TooLarge(f"the toolchain unpacks to more than {self._limits.unpacked_bytes} bytes.")
        view = memoryview(data)
        while view:
            if self._ended:
                raise BadArchive("the toolchain archive goes on after its end.")
            part = view[: self._wanted - len(self._held)]
            view = view[len(part) :]
            if self._in_file:
                self._sink.content(part)
                self._wanted -= len(part)
                if self._wanted == 0:
                    self._step(b"")
            else:
                self._held += part
                if len(self._held) == self._wanted:
                    whole, self._held = bytes(self._held), bytearray()
                    self._step(whole)

    def _step(self, block: bytes) -> None:
        try:
            self._wanted = self._steps.send(block)
        except StopIteration:
            self._ended = True

    def _members(self) -> Generator[int, bytes, None]:
        """Asks for so many bytes, receives them, and so on to the end. File content goes past it, to the sink."""
        while True:
            block = yield BLOCK
            if not any(block):
                if any((yield BLOCK)):
                    raise BadArchive("the toolchain archive has a single empty block inside.")
                if self._long:
                    raise BadArchive("the toolchain archive ends behind the name of a member.")
                return
            name, mode, size, kind, target = _parse(block)
            if kind in {b"L", b"K"}:
                yield from self._read_long(kind, size)
                continue
            path = self._checked(self._long.pop(b"L", name), kind)
            target = self._long.pop(b"K", target)
            if kind == b"2":
                if not 0 < len(target) <= self._limits.name_bytes or b"\0" in target or size:
                    raise BadArchive(f"the target of the link {_show(path)} is empty or too long.")
                self._sink.link(path, target)
            elif kind == b"5":
                if size:
                    raise BadArchive(f"the directory {_show(path)} has content.")
                self._sink.directory(path)
            else:
                if self._read + size > self._limits.unpacked_bytes + BLOCK:
                    raise TooLarge(
                        f"{_show(path)} makes the toolchain larger than {self._limits.unpacked_bytes} bytes."
                    )
                self._sink.begin_file(path, file_mode(mode), size)
                if size:
                    self._in_file = True
                    yield size
                    self._in_file = False
                self._sink.end_file()
                if size % BLOCK and any((yield BLOCK - size % BLOCK)):
                    raise BadArchive(f"the padding behind {_show(path)} is not empty.")

    def _read_long(self, kind: bytes, size: int) -> Generator[int, bytes, None]:
        if kind in self._long or not 0 < size <= self._limits.name_bytes + 1:
            raise BadArchive(f"a name in the toolchain archive is longer than {self._limits.name_bytes} bytes.")
        body = yield size + -size % BLOCK
        text, zero, rest = body.partition(b"\0")
        if len(text) + 1 != size or not zero or any(rest):
            raise BadArchive("a long name in the toolchain archive is damaged.")
        self._long[kind] = text

    def _checked(self, name: bytes, kind: bytes) -> bytes:
        """A member's path, if it may be one; remembers it."""
        if kind in _REFUSED:
            raise BadArchive(f"{_show(name)} is {_REFUSED[kind]}.")
        if kind not in {b"0", b"\0", b"2", b"5"}:
            raise BadArchive(f"{_show(name)} is a member of the unknown type {kind!r}.")
        path = name[:-1] if kind == b"5" and name.endswith(b"/") else name
        if path.startswith(b"/"):
            raise BadArchive(f"the name {_show(path)} is absolute.")
        parts = path.split(b"/")
        if any(part in {b"", b".", b".."} for part in parts):
            raise BadArchive(f"the name {_show(path)!r} has an empty component, '.' or '..'.")
        if len(path) > self._limits.name_bytes or len(parts) > self._limits.depth or max(map(len, parts)) > 255:
            raise BadArchive(f"the name {_show(path[:80])}... is too long or too deep.")
        if path in self._kinds:
            raise BadArchive(f"{_show(path)} is there twice.")
        parent = path.rpartition(b"/")[0]
        above = self._kinds.get(parent)
        if above is not EntryKind.DIRECTORY:
            what = "was not announced" if above is None else f"is a {above.value}"
            raise BadArchive(f"{_show(path)} lies below {_show(parent)}, which {what}.")
        if len(self._kinds) > self._limits.members:
            raise TooLarge(f"the toolchain has more than {self._limits.members} members.")
        kinds = {b"5": EntryKind.DIRECTORY, b"2": EntryKind.LINK}
        self._kinds[path] = kinds.get(kind, EntryKind.FILE)
        return path


def _parse(block: bytes) -> tuple[bytes, int, int, bytes, bytes]:
    """Name, mode, size, type and target in a header; BadArchive when it is none."""
    fields = _HEADER.unpack(block)
    if not fields[9].startswith(b"ustar"):
        raise BadArchive("the toolchain archive is no tar, or damaged.")
    if _number(fields[6]) != sum(block) - sum(fields[6]) + 8 * 32:
        raise BadArchive("a header in the toolchain archive has a wrong checksum.")
    name = _text(fields[0])
    # Where ustar has its prefix GNU has other things, of which nothing is wanted.
    prefix = _text(fields[14]) if fields[9].startswith(b"ustar\0") else b""
    kind: bytes = fields[7]
    return (prefix + b"/" + name if prefix else name), _number(fields[1]), _number(fields[4]), kind, _text(fields[8])


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    text = field.strip(b" \0")
    if not text or any(digit not in b"01234567" for digit in text):
        raise BadArchive("a header in the toolchain archive has a number that is none.")
    return int(text, 8)


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
