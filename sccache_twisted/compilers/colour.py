"""Colours in diagnostics: what to add to a command whose caller looks at a terminal and whose compiler doesn't.

An added option must not change the object. Measured: gcc 12 records ``-fdiagnostics-color`` nowhere, but
``-fdiagnostics-urls`` and ``-fmessage-length`` in the debug information and under ``-frecord-gcc-switches``;
clang 14 records what the driver was given, but only where it was told to record switches. No variable
makes a compiler colour a pipe. So colours come from an option; exactly what a terminal shows (links in
gcc's messages, source lines cut at its width) comes only from a terminal, which a worker can give the
compiler as its standard error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sccache_twisted.model import Compilation, CompilerFamily

_CHOSEN = (
    b"-fdiagnostics-color",
    b"-fno-diagnostics-color",
    b"-fcolor-diagnostics",
    b"-fno-color-diagnostics",
)
_RECORDING = frozenset(
    (
        b"-frecord-gcc-switches",
        b"-grecord-gcc-switches",
        b"-frecord-command-line",
        b"-grecord-command-line",
    )
)
_AUTO = frozenset((b"-fdiagnostics-color=auto", b"-fdiagnostics-color=tty"))


def _chosen(args: Sequence[bytes]) -> bool:
    """Whether the line says itself whether there are colours."""
    last = b""
    for argument in args:
        if argument.startswith(_CHOSEN):
            last = argument
    return bool(last) and last not in _AUTO


def colours_wanted(compilation: Compilation, stderr_is_tty: bool, env: Mapping[bytes, bytes]) -> bool:
    """Whether the compiler, run by the caller itself, would have coloured of its own accord."""
    if not stderr_is_tty or _chosen(compilation.args) or env.get(b"TERM", b"dumb") == b"dumb":
        return False
    if compilation.compiler.family is CompilerFamily.GCC:
        return env.get(b"GCC_COLORS") != b""
    return b"NO_COLOR" not in env


def colour_args(compilation: Compilation, stderr_is_tty: bool, env: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """What to add to the arguments so that the diagnostics are coloured as on the caller's terminal.

    Nothing where an added option would show in the object (clang told to record its switches).
    """
    if not colours_wanted(compilation, stderr_is_tty, env):
        return ()
    if compilation.compiler.family is CompilerFamily.GCC:
        return (b"-fdiagnostics-color=always",)
    return () if _RECORDING.intersection(compilation.args) else (b"-fcolor-diagnostics",)


def coloured(
    args: Sequence[bytes], compilation: Compilation, stderr_is_tty: bool, env: Mapping[bytes, bytes]
) -> tuple[bytes, ...]:
    """The compilation's arguments, as spelled, with :func:`colour_args` where options may stand."""
    added = colour_args(compilation, stderr_is_tty, env)
    end = args.index(b"--") if added and b"--" in args else len(args)
    return (*args[:end], *added, *args[end:])
