r"""The driver's own steps, for compilations that ask for this machine's processor.

``-march=native`` on a worker would mean the worker's processor, and spelling it out would change the
producer string in the debug information. So the client asks its own driver with ``-###`` what it would
run (cc1, as, objcopy), and the worker runs exactly that. Both compilers write each command on a line that
begins with a blank; an argument in double quotes has ``"``, ``\`` and ``$`` preceded by a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from attrs import frozen

from sccache_twisted.model import Compilation, CompilerFamily

_WORD = re.compile(rb' +(?:"((?:[^"\\]|\\.)*)"|([^" ]+))', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_PLAIN = re.compile(rb"[\w@%+=:,./-]+\Z")
_IN_PROCESS = b" (in-process)"
_QUERY = b"-###"
_RECORDS = frozenset((b"-dwarf-debug-flags", b"-record-command-line"))


class NotUnderstood(ValueError):
    """The driver's answer has a form that is not known."""


@frozen
class Plan:
    """Commands to be run one after the other until one fails, and the files that pass between them."""

    steps: tuple[tuple[bytes, ...], ...]
    intermediates: tuple[bytes, ...] = ()


def query_args(compilation: Compilation) -> tuple[bytes, ...]:
    """The arguments to call the driver with; NotUnderstood for a line whose answer could not be read.

    For gcc without ``-pipe``, so that every step is a command of its own: the driver keeps that option to
    itself, and the object is the same.
    """
    if any(b"\n" in argument for argument in compilation.args):
        raise NotUnderstood("an argument holds a line break")
    gcc = compilation.compiler.family is CompilerFamily.GCC
    return (_QUERY, *(word for word in compilation.args if not (gcc and word in {b"-pipe", b"--pipe"})))


def _unasked(words: Sequence[bytes]) -> tuple[bytes, ...]:
    """A command without our question in the command line that clang hands on to be recorded."""
    return tuple(
        word.replace(b" " + _QUERY + b" ", b" ", 1) if before in _RECORDS else word
        for before, word in zip((b"", *words), words)  # noqa: B905 - the first one is longer
    )


def parse_commands(stderr: bytes) -> tuple[tuple[bytes, ...], ...]:
    """The commands in what ``cc -###`` wrote to its standard error; NotUnderstood if a line can't be read."""
    commands: list[tuple[bytes, ...]] = []
    for line in stderr.split(b"\n"):
        if line[:1] != b" " or line == _IN_PROCESS or not line.strip():
            continue
        words: list[bytes] = []
        position, plain = 0, None
        while match := _WORD.match(line, position):
            quoted, plain = match.groups()
            words.append(plain if quoted is None else _ESCAPE.sub(rb"\1", quoted))
            position = match.end()
        if line[position:].strip() or not words or plain == b"|":
            raise NotUnderstood(f"a line of -### can't be read: {line[:200]!r}")
        commands.append(_unasked(words))
    if not commands:
        raise NotUnderstood("-### named no command")
    return tuple(commands)


def _temporary(command: Sequence[bytes], temporary_dirs: Sequence[bytes]) -> bytes | None:
    """What the command writes for a later one: its ``-o``, if that lies in a directory for temporary files."""
    for name, value in pairwise(command):
        if name == b"-o" and value[: value.rfind(b"/")] in temporary_dirs and b"/" in value:
            return value
    return None


def plan(commands: Sequence[Sequence[bytes]], temporary_dirs: Sequence[bytes], place: bytes) -> Plan:
    """The same commands with every intermediate file renamed to ``<place>-<n><suffix>``.

    An intermediate is what one command writes into one of ``temporary_dirs`` (absolute: ``$TMPDIR`` or ``/tmp``)
    and a later one names. The plan for the same command line is the same every time.
    """
    renamed: dict[bytes, bytes] = {}
    for index, command in enumerate(commands):
        path = _temporary(command, temporary_dirs)
        if path is not None and any(path in later for later in commands[index + 1 :]):
            suffix = path[path.rfind(b".") :] if b"." in path[path.rfind(b"/") :] else b""
            renamed.setdefault(path, b"%s-%d%s" % (place, len(renamed), suffix))
    steps = tuple(tuple(renamed.get(word, word) for word in command) for command in commands)
    return Plan(steps, tuple(renamed.values()))


def shell_script(steps: Sequence[Sequence[bytes]]) -> bytes:
    """A POSIX shell's line that runs the steps until one fails, and ends with that one's status."""

    def quoted(word: bytes) -> bytes:
        return word if _PLAIN.match(word) else b"'" + word.replace(b"'", b"'\\''") + b"'"

    return b" && ".join(b" ".join(quoted(word) for word in step) for step in steps)
