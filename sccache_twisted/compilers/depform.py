r"""A depfile as what it tells, so that another caller's can be written from it, byte for byte.

Knows how gcc and clang, from their tenth versions on, lay one out: gcc's ``make_write`` in libcpp breaks a line that
would be longer than 72 columns, clang's ``outputDependencyFile`` counts up to 75. Refuses names that need escaping, and
whatever it could not lay out again as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sccache_twisted.model import Compiler, CompilerFamily

FORM = b"\0depfile\n"
"""How a form begins; no depfile begins with a zero byte."""

_SIMPLE = re.compile(rb"[A-Za-z0-9_./+@,%=~-]+")
_VERSION = re.compile(r"version (\d+)")
_FIRST_VERSION = 10
_CONTINUED = re.compile(rb" \\\n *")
_GCC_COLUMNS = 72
_CLANG_COLUMNS = 75


def is_simple(name: bytes) -> bool:
    """Whether a name stands in a depfile as it is."""
    return _SIMPLE.fullmatch(name) is not None


def is_known_to(compiler: Compiler) -> bool:
    """Whether depfiles of this compiler are laid out as is known here."""
    version = _VERSION.search(compiler.version)
    return version is not None and int(version[1]) >= _FIRST_VERSION


def form_of(
    depfile: bytes, family: CompilerFamily, targets: Sequence[bytes], canonical: Callable[[bytes], bytes]
) -> bytes | None:
    """What a depfile with these targets tells, in canonical paths; None where it can't be written again from that."""
    rule, _, rest = _CONTINUED.sub(b" ", depfile).partition(b"\n")
    prefix = b" ".join(targets) + b":"
    if not rule.startswith(prefix + b" "):
        return None
    names = rule[len(prefix) + 1 :].split(b" ")
    phony = [line for line in rest.split(b"\n") if line]
    gap = b"gap" if b"\n\n" in rest else b""
    if not all(map(is_simple, names)) or not all(line[-1:] == b":" and is_simple(line[:-1]) for line in phony):
        return None
    told = [line[:-1] for line in phony]
    if _written(family, targets, names, told, gap) != depfile:
        return None
    lines = (gap, b" ".join(map(canonical, names)), b" ".join(map(canonical, told)))
    return FORM + b"\n".join(lines)


def written(
    form: bytes, family: CompilerFamily, targets: Sequence[bytes], localised: Callable[[bytes], bytes | None]
) -> bytes | None:
    """The depfile that the compiler writes for these targets here; None where the form's paths are not this place's."""
    gap, _, rest = form[len(FORM) :].partition(b"\n")
    names, _, told = rest.partition(b"\n")
    here = [localised(name) for name in names.split(b" ")]
    phony = [localised(name) for name in told.split(b" ") if name]
    if not all(here) or not all(phony):
        return None
    return _written(family, targets, [one for one in here if one], [one for one in phony if one], gap)


def _written(
    family: CompilerFamily, targets: Sequence[bytes], names: Sequence[bytes], phony: Sequence[bytes], gap: bytes
) -> bytes:
    lay_out = _gcc_rule if family is CompilerFamily.GCC else _clang_rule
    before = b"\n" if gap else b""
    return lay_out(targets, names) + b"".join(before + name + b":\n" for name in phony)


def _gcc_rule(targets: Sequence[bytes], names: Sequence[bytes]) -> bytes:
    out = bytearray()
    column = 0

    def put(name: bytes) -> None:
        nonlocal column, out
        if column:
            if column + len(name) > _GCC_COLUMNS:
                out += b" \\\n"
                column = 0
            column += 1
            out += b" "
        column += len(name)
        out += name

    for target in targets:
        put(target)
    out += b":"
    column += 1
    for name in names:
        put(name)
    return bytes(out) + b"\n"


def _clang_rule(targets: Sequence[bytes], names: Sequence[bytes]) -> bytes:
    out = bytearray()
    column = 0
    for target in targets:
        if not column:
            column = len(target)
        elif column + len(target) + 2 > _CLANG_COLUMNS:
            column = len(target) + 2
            out += b" \\\n  "
        else:
            column += len(target) + 1
            out += b" "
        out += target
    out += b":"
    column += 1
    for name in names:
        if column + len(name) + 3 > _CLANG_COLUMNS:
            out += b" \\\n "
            column = 2
        out += b" " + name
        column += len(name) + 1
    return bytes(out) + b"\n"
