"""Just enough of ELF to say in which sections two objects differ (64-bit little-endian: what these compilers write)."""

import struct

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NO_BITS = 8
_SPLIT_UNITS = {b"\4", b"\5"}  # DW_UT_skeleton, DW_UT_split_compile


def sections(image: bytes) -> dict[str, bytes]:
    """Map each section's name (with #2, #3… for repeated names) to its bytes; ValueError for anything else than ELF."""
    if image[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    try:
        head = _HEADER.unpack_from(image)
        table, size, count, names_at = head[6], head[11], head[12], head[13]
        rows = [_SECTION.unpack_from(image, table + size * n) for n in range(count)]
        names = _content(image, rows[names_at])
        found: dict[str, bytes] = {}
        for row in rows:
            name = names[row[0] : names.index(b"\0", row[0])].decode("ascii", "replace")
            unique, n = name, 1
            while unique in found:
                n += 1
                unique = f"{name}#{n}"
            found[unique] = _content(image, row)
    except (struct.error, IndexError) as problem:
        raise ValueError(f"a damaged ELF file: {problem}") from problem
    return found


def differing_sections(left: bytes, right: bytes) -> list[str]:
    """Name the sections whose bytes differ, or that only one side has; ValueError unless both are ELF."""
    ours, theirs = sections(left), sections(right)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def is_linked(image: bytes) -> bool:
    """Whether a file is made of others' objects: an archive, or ELF of another type than relocatable."""
    return image.startswith((b"!<arch>", b"!<thin>")) or (image[:4] == b"\x7fELF" and image[16:18] != b"\x01\0")


def dwo_id(image: bytes) -> bytes | None:
    """The eight bytes that tie a DWARF 5 skeleton unit to its .dwo; None in a file without."""
    at = _dwo_id_offset(image)
    return None if at is None else image[at : at + 8]


def without_dwo_id(image: bytes) -> bytes:
    """The file with that id set to nought."""
    at = _dwo_id_offset(image)
    return image if at is None else image[:at] + bytes(8) + image[at + 8 :]


def _dwo_id_offset(image: bytes) -> int | None:
    """Where the first unit's id is: after length (4), version (2), unit type, address size, abbreviations (4)."""
    try:
        head = _HEADER.unpack_from(image)
        rows = [_SECTION.unpack_from(image, head[6] + head[11] * n) for n in range(head[12])]
        names = _content(image, rows[head[13]])
    except (struct.error, IndexError):
        return None
    for row in rows:
        name = names[row[0] : names.find(b"\0", row[0])]
        unit = image[row[4] : row[4] + 7]
        if name in {b".debug_info", b".debug_info.dwo"} and unit[4:6] == b"\5\0" and unit[6:7] in _SPLIT_UNITS:
            return int(row[4]) + 12
    return None


def _content(image: bytes, row: tuple[int, ...]) -> bytes:
    return b"" if row[1] == _NO_BITS else image[row[4] : row[4] + row[5]]
