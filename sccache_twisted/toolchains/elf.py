"""What an ELF file says of itself: whether it is one, and which loader it asks for.

Knows the header and the program headers (System V ABI, "Object Files"). Refuses to know how libraries are
searched: the loader itself is asked for that.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from attrs import frozen

_PT_INTERP = 3
_MAX_HEADERS = 4096


@frozen
class Elf:
    """An ELF file. ``interpreter`` is the dynamic loader's path, empty for a static program or a library."""

    interpreter: bytes


def read_elf(path: bytes) -> Elf | None:
    """The ELF facts of a file, or None when it is something else, damaged or cut short; OSError as from ``open``."""
    with open(path, "rb") as stream:
        try:
            return _read(stream)
        except struct.error:
            return None


def _read(stream: BinaryIO) -> Elf | None:
    ident = stream.read(16)
    if len(ident) < 16 or ident[:4] != b"\x7fELF" or ident[4] not in {1, 2} or ident[5] not in {1, 2}:
        return None
    order = "<" if ident[5] == 1 else ">"
    wide = ident[4] == 2
    header = struct.Struct(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"))
    fields = header.unpack(stream.read(header.size))
    table, each, count = fields[4], fields[8], fields[9]
    entry = struct.Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII"))
    if count > _MAX_HEADERS or each < entry.size:
        return None
    for index in range(count):
        stream.seek(table + index * each)
        values = entry.unpack(stream.read(entry.size))
        if values[0] == _PT_INTERP:
            offset, size = (values[2], values[5]) if wide else (values[1], values[4])
            stream.seek(offset)
            return Elf(stream.read(min(size, 4096)).rstrip(b"\0"))
    return Elf(b"")
