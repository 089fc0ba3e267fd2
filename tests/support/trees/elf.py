"""Just enough of ELF to say in which sections two objects differ (64-bit little-endian: what these compilers write)."""

import struct

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NO_BITS = 8


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


def _content(image: bytes, row: tuple[int, ...]) -> bytes:
    return b"" if row[1] == _NO_BITS else image[row[4] : row[4] + row[5]]
