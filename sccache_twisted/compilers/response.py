"""Response files: ``@file`` among the arguments stands for the arguments in the file.

gcc's rules, which are clang's too: blanks separate, single and double quotes group, a backslash takes
the next byte as it is, inside quotes as well. Files nest; relative names are relative to the working
directory, wherever the file that names them lies. An ``@file`` that can't be read is an argument like
any other to the compilers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

DEPTH = 10
SIZE_BYTES = 16 << 20

_BLANK = frozenset(b" \t\n\v\f\r")
_BACKSLASH, _SINGLE, _DOUBLE = b"\\'\""


ARGUMENT_BYTES = 128 << 10
ARGUMENTS_BYTES = 1800 << 10
"""What the kernel gives a new program: so much in one argument, and so much in all, with room for an environment."""


class TooMuch(ValueError):
    """Response files nest too deeply, or hold more than may stand on a command line."""


def split(text: bytes) -> list[bytes]:
    """The arguments in the text of a response file."""
    if b"\\" not in text and b"'" not in text and b'"' not in text:
        return text.split()
    arguments: list[bytes] = []
    current = bytearray()
    begun = escaped = False
    quote = 0
    for byte in text:
        if escaped:
            current.append(byte)
            escaped = False
        elif byte == _BACKSLASH:
            begun = escaped = True
        elif quote:
            if byte == quote:
                quote = 0
            else:
                current.append(byte)
        elif byte in _BLANK:
            if begun:
                arguments.append(bytes(current))
                current.clear()
                begun = False
        else:
            begun = True
            if byte in {_SINGLE, _DOUBLE}:
                quote = byte
            else:
                current.append(byte)
    if begun:
        arguments.append(bytes(current))
    return arguments


def expand(arguments: Sequence[bytes], cwd: bytes, read_file: Callable[[bytes], bytes | None]) -> tuple[bytes, ...]:
    """All arguments with response files replaced by what they hold; :class:`TooMuch` beyond the bounds.

    ``read_file`` gives the content of an absolute path or None.
    """
    if not any(argument[:1] == b"@" for argument in arguments):
        return tuple(arguments)
    room = SIZE_BYTES

    def resolve(some: Sequence[bytes], depth: int) -> list[bytes]:
        nonlocal room
        resolved: list[bytes] = []
        for argument in some:
            name = argument[1:]
            text = None
            if argument[:1] == b"@" and name:
                text = read_file(name if name[:1] == b"/" else cwd.rstrip(b"/") + b"/" + name)
            if text is None:
                resolved.append(argument)
                continue
            room -= len(text)
            if depth == DEPTH or room < 0:
                raise TooMuch(f"more than {DEPTH} levels or {SIZE_BYTES} bytes of response files")
            resolved += resolve(split(text), depth + 1)
        return resolved

    resolved = tuple(resolve(arguments, 0))
    if sum(len(argument) + 9 for argument in resolved) > ARGUMENTS_BYTES or max(map(len, resolved)) >= ARGUMENT_BYTES:
        raise TooMuch("more in response files than a program can be given")
    return resolved
