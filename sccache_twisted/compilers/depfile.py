r"""Dependency files, as gcc and clang write them.

The escaping is GNU make's, as far as the compilers apply it: ``$`` doubled; a blank preceded by a
backslash, and the backslashes right before it doubled; ``#`` preceded by a backslash; nothing else. A
tab is never a separator: gcc escapes it and clang does not. clang writes ``/`` for a backslash in a
name, which nothing can undo; and a name that ends in a backslash can't be told from one that goes on
with a blank.
"""

from __future__ import annotations

import re

_CONTINUED = re.compile(rb"\\\r?\n")
_COLON = re.compile(rb":(?=[ \t\r\n]|\Z)")
_PLAIN = re.compile(rb"[^ ]+")
_ESCAPED_BLANK = re.compile(rb"(\\+)([ \t])|\\(#)")


def _unescape_part(match: re.Match[bytes]) -> bytes:
    slashes, blank, hash_sign = match.groups()
    if hash_sign:
        return b"#"
    halved = b"\\" * (len(slashes) // 2)
    return halved + bytes(blank)


def _names(text: bytes) -> list[bytes]:
    """The names of one logical line; a run of backslashes before a blank that is even in number ends a name."""
    if b"\\" not in text:
        return [name.replace(b"$$", b"$") for name in _PLAIN.findall(text)] if b"$" in text else _PLAIN.findall(text)
    names: list[bytes] = []
    current = b""
    for piece in text.split(b" "):
        slashes = len(piece) - len(piece.rstrip(b"\\"))
        if slashes % 2:
            current += piece + b" "
            continue
        if current or piece:
            names.append(current + piece)
        current = b""
    if current:
        names.append(current.rstrip(b" "))
    return [_ESCAPED_BLANK.sub(_unescape_part, name).replace(b"$$", b"$") for name in names]


def parse_depfile(data: bytes) -> tuple[bytes, ...]:
    """The prerequisites of the first rule in their order, as the compiler spelled them; none if there is no rule.

    The rules for headers alone that ``-MP`` adds are left out.
    """
    rule = _first_rule(data)[0].rstrip(b"\r")
    colon = _COLON.search(rule)
    return tuple(_names(rule[colon.end() :])) if colon is not None else ()


def is_one_rule(data: bytes) -> bool:
    """Whether there is nothing behind the first rule: a name that holds a line break is written as it is."""
    return not _first_rule(data)[2].strip()


def _first_rule(data: bytes) -> tuple[bytes, bytes, bytes]:
    return _CONTINUED.sub(b" ", data).lstrip(b"\r\n").partition(b"\n")
