"""Which compiler is this? By its name, and by what it says of itself."""

from __future__ import annotations

import re

from attrs import frozen

from sccache_twisted.model import CompilerFamily

_NAME = re.compile(
    rb"(?:[A-Za-z0-9_.]+-)*?(?P<kind>gcc|g\+\+|cc|c\+\+|clang\+\+|clang)"
    rb"(?:-(?P<version>[0-9]+(?:\.[0-9]+)*))?(?:-(?:win32|posix))?\Z"
)
_GCC_VERSION = re.compile(rb"^gcc version [^\r\n]+", re.MULTILINE)
_CLANG_VERSION = re.compile(rb"^[^\r\n]*\bclang version [^\r\n]+", re.MULTILINE)
_GCC_BANNER = re.compile(rb"\s*(?!Copyright)\S+ \([^)\r\n]*\) [0-9][^\r\n]*")
_TARGET = re.compile(rb"^Target: *([^\r\n]+)", re.MULTILINE)


@frozen
class CompilerName:
    """What a program's name promises: the family (None for ``cc`` and ``c++``), and whether it is for C++."""

    family: CompilerFamily | None
    cplusplus: bool


@frozen
class Identity:
    """What a compiler says of itself; ``target`` is the triple that it compiles for, empty if it did not say."""

    family: CompilerFamily
    version: str
    target: str = ""


def compiler_name(program: bytes) -> CompilerName | None:
    """What the name of a program (a path or a word) promises; None for one that is no compiler's.

    ``gcc``, ``g++-12``, ``x86_64-linux-gnu-gcc-12``, ``clang++-14``, ``cc``; not ``gcc-ar`` nor ``clang-cpp``.
    """
    match = _NAME.match(program[program.rfind(b"/") + 1 :])
    if match is None:
        return None
    kind = match.group("kind")
    family = None
    if kind.startswith(b"clang"):
        family = CompilerFamily.CLANG
    elif kind in {b"gcc", b"g++"}:
        family = CompilerFamily.GCC
    return CompilerName(family, kind.endswith(b"++"))


def identify(output: bytes) -> Identity | None:
    """The compiler behind the output of ``cc -v`` or ``cc --version`` (both streams), or of ``cc -dM -E``.

    The sentences are translated: run it under ``LC_ALL=C``. None for one that is neither gcc nor clang.
    """
    target = _TARGET.search(output)
    triple = target.group(1).decode("utf-8", "replace").strip() if target else ""
    for pattern, family in ((_CLANG_VERSION, CompilerFamily.CLANG), (_GCC_VERSION, CompilerFamily.GCC)):
        match = pattern.search(output)
        if match is not None:
            return Identity(family, match.group().decode("utf-8", "replace").strip(), triple)
    macros = _macros(output)
    if macros is not None:
        return macros
    if b"Free Software Foundation" in output:
        match = _GCC_BANNER.match(output)
        if match is not None:
            return Identity(CompilerFamily.GCC, match.group().decode("utf-8", "replace").strip(), triple)
    return None


def _macros(output: bytes) -> Identity | None:
    """The same by predefined macros; icc and others that pretend to be gcc define more than these."""
    defined = dict(re.findall(rb"^#define (__\w+__) ([^\r\n]*)", output, re.MULTILINE))
    version = defined.get(b"__VERSION__", b"").strip(b'"').decode("utf-8", "replace")
    if b"__clang__" in defined:
        return Identity(CompilerFamily.CLANG, version)
    if b"__GNUC__" in defined and b"__INTEL_COMPILER" not in output:
        return Identity(CompilerFamily.GCC, f"gcc version {version}")
    return None
