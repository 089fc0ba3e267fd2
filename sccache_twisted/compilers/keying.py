"""What of a command line shows in a result, and so must be part of a cache key.

What is not certain counts as showing: a key that holds too much costs a hit, one that holds too little a wrong object.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sccache_twisted.compilers.commandline import TABLES
from sccache_twisted.compilers.environment import travels
from sccache_twisted.compilers.options import Arity, Effect
from sccache_twisted.model import Compilation, CompilerFamily, OutputKind

PLAIN_OUTPUTS = {OutputKind.OBJECT, OutputKind.ASSEMBLY, OutputKind.DEPFILE}
"""What tells no place by itself."""

TELLING = (
    b"absolute",
    b"assembler",
    b"compilation-dir",
    b"coverage",
    b"debug",
    b"diagnostics-format",
    b"dump",
    b"embed",
    b"file-prefix",
    b"lto",
    b"profile",
    b"record",
    b"thinlink",
    b"trace",
    b"working",
    b"-Wa,",
    b"-Wp,",
    b"-Xclang",
    b"-Xpreprocessor",
)
"""Parts of options that write paths, the command line or the working directory into a result, or may."""

COLUMNS = (b"sanitize", b"openmp", b"xray")
"""Parts of options that write columns into the code."""

_NAMING = {b"-I", b"-D", b"-U", b"-i", b"-o", b"-M", b"-L", b"-l"}
"""Beginnings of options that name files, directories and macros, whose names mean nothing here."""

_COMMENT_WARNINGS = (b"-W", b"-Wextra", b"-Weverything")
_COMMENT_WARNINGS_BEGIN = (b"-Wimplicit-fallthrough", b"-Wdocumentation", b"-Wcomment")

_TERMINAL_ONLY = {b"PATH", b"LD_LIBRARY_PATH", b"TERM", b"COLORTERM", b"COLUMNS"}
"""What a compiler sees and shows nowhere: it never looks at a terminal, is called by its path, and has its digest."""

_MONTH_DAY = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-3]\d "
_CLOCK = rb"[0-2]\d:[0-5]\d:[0-6]\d"
_DATE = re.compile(_MONTH_DAY + rb"\d{4}")
_TIME_OF_DAY = re.compile(_CLOCK)
_TIMESTAMP = re.compile(_MONTH_DAY + _CLOCK + rb" \d{4}")
_COLUMN_WORDS = (b"source_location", b"__builtin_COLUMN")


def mentions(args: Sequence[bytes], parts: Sequence[bytes]) -> bool:
    """Whether an option other than those that name files, directories and macros has any of these parts."""
    options = [argument for argument in args if argument[:1] == b"-" and argument[:2] not in _NAMING]
    return any(part in option for option in options for part in parts)


def is_plain(compilation: Compilation) -> bool:
    """Whether nothing is written but an object or assembly and a depfile, by options that tell of no place."""
    kinds = {output.kind for output in compilation.outputs}
    return kinds <= PLAIN_OUTPUTS and not mentions(compilation.args, TELLING)


def shows_directory(compilation: Compilation) -> bool:
    """Whether the working directory may show in the result: in debug information, in coverage notes."""
    return compilation.debug or not is_plain(compilation)


def keyed_args(compilation: Compilation, args: Sequence[bytes]) -> tuple[bytes, ...]:
    """``args``, a spelling of the compilation's arguments, without the names of outputs where they show nowhere.

    Without ``-MT`` or ``-MQ`` a depfile holds the object's name.
    """
    if not is_plain(compilation):
        return tuple(args)
    classify = TABLES[compilation.compiler.family].classify
    has_depfile = any(output.kind is OutputKind.DEPFILE for output in compilation.outputs)
    nameless = {Effect.DEPFILE}
    if not has_depfile or any(argument.startswith((b"-MT", b"-MQ")) for argument in args):
        nameless.add(Effect.OUTPUT)
    kept: list[bytes] = []
    position = 0
    while position < len(args):
        argument = args[position]
        position += 1
        if argument == b"--":
            return (*kept, *args[position - 1 :])
        if argument[:1] != b"-" or argument == b"-":
            kept.append(argument)
            continue
        option, value = classify(argument)
        separate = option.values if value is None and option.arity is not Arity.FLAG else 0
        if option.effect in nameless:
            kept.append(option.spelling)
        else:
            kept.append(argument)
            kept += args[position : position + separate]
        position += separate
    return tuple(kept)


def keyed_environment(env: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """The variables that show in a result, or may, sorted by name."""
    return tuple(sorted((name, value) for name, value in env if travels(name) and name not in _TERMINAL_ONLY))


def hides_comments(compilation: Compilation) -> bool:
    """Whether a change in a comment can't show in a result of this command that has no diagnostics.

    Columns, file digests and what a compiler reads in comments can show. What depends on the text itself,
    :func:`text_hides_comments` tells.
    """
    args = compilation.args
    return (
        not compilation.debug
        and compilation.language in {"c", "c++"}
        and is_plain(compilation)
        and not mentions(args, COLUMNS)
        and not any(argument in _COMMENT_WARNINGS or argument.startswith(_COMMENT_WARNINGS_BEGIN) for argument in args)
    )


def text_hides_comments(compilation: Compilation, text: bytes) -> bool:
    """Whether nothing in the preprocessed text asks for a column."""
    if compilation.compiler.family is CompilerFamily.CLANG and b"__PRETTY_FUNCTION__" in text:
        return False  # clang names a lambda by its line and column
    # A text has some megabytes: looking for words one by one is ten times faster than for a choice of them.
    return not any(word in text for word in _COLUMN_WORDS)


def shows_time(text: bytes, *, fixed: bool) -> bool:
    """Whether a date or a time of day stands anywhere in the preprocessed text, also within a string of something.

    ``fixed``: date and time are the environment's; then only a file's own time counts, as ``__TIMESTAMP__`` has it.
    """
    if fixed:
        return _TIMESTAMP.search(text) is not None
    return _DATE.search(text) is not None or _TIME_OF_DAY.search(text) is not None
