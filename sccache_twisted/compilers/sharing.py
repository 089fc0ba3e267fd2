"""When a result made in one place is the result of another: what of a command names places, and what tells of them.

A *base directory* is where a checkout lies. In facts that are shared, whatever lies below it is spelled relative to it,
and nothing else is. That is right only where the compiler can't have looked at the base directory's own name: each rule
here says of a command or of a text that it couldn't, and in doubt that it could. What can't be seen beforehand, a path
in an object after all, is looked for in the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from attrs import frozen

from sccache_twisted.compilers import keying
from sccache_twisted.compilers.commandline import TABLES
from sccache_twisted.compilers.depform import is_known_to, is_simple
from sccache_twisted.compilers.options import Arity, Effect, Option
from sccache_twisted.model import Compilation, CompilerFamily, OutputKind

SHARED = b"\0"
"""In front of the arguments of shared facts: no other facts are like them. No argument holds a zero byte."""

_HERE, _ELSEWHERE, BOUND = b"\0", b"\0!", b"\0\0"

_MAPS = (b"-ffile-prefix-map=", b"-fdebug-prefix-map=", b"-fmacro-prefix-map=")
_DEBUG_MAPS = _MAPS[:2]
_PATHS = {
    Effect.DIRECTORY,
    Effect.PREFIX,
    Effect.PREFIXED_DIRECTORY,
    Effect.FORCED_INCLUDE,
    Effect.OUTPUT,
}
_DEPFILE_DETAILS = (b"-MT", b"-MQ")
_SYSTEM_DIRECTORIES = (
    b"-isystem",
    b"-idirafter",
    b"-iwithprefix",
    b"--include-with-prefix",
    b"--include-directory-after",
)

_TELLING = (
    *keying.TELLING,
    *keying.COLUMNS,
    b"emit-llvm",  # bitcode, in which no path can be looked for
    b"-gz",
    b"-mllvm",
    b"unique-internal-linkage",  # names after the digest of a path
    b"file-list",  # functions chosen by parts of their file's path
    b"suppression-mappings",
)
_TELLING_WORDS = (b"source_location", b"__builtin_FILE", b"__builtin_dump_struct")
_CLANG_TELLING_WORDS = (b"__PRETTY_FUNCTION__", b"__builtin_sycl")
_SIMPLE_BASE = re.compile(rb"(?:/[A-Za-z0-9_.+@,%~-]+)+")
_MARKER = rb'^(# \d+ ")%b(?=[/"])'

_ELF, _ELF64_LITTLE = b"\x7fELF", b"\x7fELF\x02\x01"
_COMPRESSED = 0x800


@frozen
class Place:
    """What the facts of a call are relative to.

    ``base`` is the base directory, without a slash at its end; empty: none. ``targets`` are a depfile's, as the command
    has them; empty where no depfile is written.
    """

    base: bytes
    targets: tuple[bytes, ...]

    def canonical(self, path: bytes) -> bytes:
        """A path as spelled, so that below the base directory it is the same in every place."""
        if not self.base or path[:1] != b"/":
            return path
        rest = below(path, self.base)
        return _ELSEWHERE + path if rest is None else _HERE + rest

    def localised(self, path: bytes) -> bytes | None:
        """What a canonical path is here; None for one that elsewhere lies beyond the base directory, and here below."""
        if path[:1] != b"\0":
            return path
        if path[:2] != _ELSEWHERE:
            return self.base + path[1:]
        return path[2:] if below(path[2:], self.base) is None else None


def below(path: bytes, base: bytes) -> bytes | None:
    """What of a path is behind a base directory, with its slash; None where it does not lie there."""
    rest = path[len(base) :]
    return rest if path.startswith(base) and rest[:1] in {b"", b"/"} else None


def base_directory(bases: Sequence[bytes], cwd: bytes, source: bytes) -> bytes:
    """The innermost base directory in which a command runs, else in which its source lies; or empty."""
    for path in (cwd, source):
        within = [base for base in bases if _SIMPLE_BASE.fullmatch(base) and below(path, base) is not None]
        if within:
            return max(within, key=len)
    return b""


def place_of(compilation: Compilation, base: bytes, cwd: bytes) -> Place | None:
    """What the facts of a command may be relative to, or None where it makes results of its own place only."""
    kinds = [output.kind for output in compilation.outputs]
    targets: tuple[bytes, ...] = ()
    if OutputKind.DEPFILE in kinds:
        if not is_known_to(compilation.compiler):
            return None
        targets = _targets(compilation)
        if not all(map(is_simple, targets)):
            return None
    if base and hides_base(compilation, base, cwd):
        return Place(base, targets)
    return Place(b"", targets) if targets and keying.is_plain(compilation) else None


def hides_base(compilation: Compilation, base: bytes, cwd: bytes) -> bool:
    """Whether the base directory's name can't show in a result of this command, as far as the command tells."""
    others = [argument for argument in compilation.args if not argument.startswith(_MAPS)]
    if (
        compilation.language not in {"c", "c++"}
        or not {output.kind for output in compilation.outputs} <= keying.PLAIN_OUTPUTS
        or keying.mentions(others, _TELLING)
        or not all(_maps_alike(argument, base) for argument in compilation.args if argument.startswith(_MAPS))
    ):
        return False
    mapped = any(
        below(_old(argument).rstrip(b"/"), base) is not None
        for argument in compilation.args
        if argument.startswith(_DEBUG_MAPS)
    )
    # Debug information may tell a path relative to the working directory, or to what both have in common.
    return not compilation.debug or (mapped and below(cwd, base) is not None)


def followed_directories(compilation: Compilation, base: bytes, cwd: bytes) -> Iterator[bytes]:
    """Directories below the base directory in which gcc follows links, and spells headers by what they lead to."""
    if compilation.compiler.family is CompilerFamily.GCC and b"-fno-canonical-system-headers" not in compilation.args:
        for option, _, value in options_of(compilation, compilation.args):
            if option is not None and option.spelling.startswith(_SYSTEM_DIRECTORIES):
                path = value if value[:1] == b"/" else cwd.rstrip(b"/") + b"/" + value
                if below(path, base) is not None:
                    yield path


def shared_args(compilation: Compilation, args: Sequence[bytes], place: Place) -> tuple[bytes, ...]:
    """``args``, a spelling of the compilation's arguments, without names that show nowhere, relative to a place.

    Of a depfile its own name and the names of its targets do not count: who takes a result writes his own.
    """
    nameless = {Effect.DEPFILE, Effect.OUTPUT}
    kept = [SHARED]
    for option, written, value in options_of(compilation, args):
        if option is None:
            mapped = written.startswith(_MAPS)
            named = place.canonical(written) if written == compilation.source else written
            kept.append(_mapping(written, place) if mapped else named)
        elif option.effect in nameless or (place.targets and option.spelling in _DEPFILE_DETAILS):
            kept.append(option.spelling)
        else:
            kept += (written, place.canonical(value) if option.effect in _PATHS else value)
    return tuple(kept)


def options_of(compilation: Compilation, args: Sequence[bytes]) -> Iterator[tuple[Option | None, bytes, bytes]]:
    """Each option that has one value: its row, how it is written before its value, the value.

    ``-Idir`` is written ``-I``, and ``-I dir`` too, but with a blank behind. What else stands on the line has no row
    and no value, also what isn't what it seems: a long form that stands for another.
    """
    classify = TABLES[compilation.compiler.family].classify
    position = 0
    while position < len(args):
        argument = args[position]
        position += 1
        if argument == b"--":
            yield from ((None, rest, b"") for rest in args[position - 1 :])
            return
        if argument[:1] != b"-" or argument == b"-" or argument.startswith(_MAPS):
            yield None, argument, b""
            continue
        option, value = classify(argument)
        more = 0 if value is not None or option.arity is Arity.FLAG else option.values
        if value and argument == option.spelling + value:
            yield option, option.spelling, value
        elif more == 1 and argument == option.spelling and position < len(args):
            yield option, option.spelling + b" ", args[position]
        else:
            yield from ((None, one, b"") for one in args[position - 1 : position + more])
        position += more


def _targets(compilation: Compilation) -> tuple[bytes, ...]:
    named = [
        value
        for option, _, value in options_of(compilation, compilation.args)
        if option is not None and option.spelling in _DEPFILE_DETAILS
    ]
    return tuple(named) or (compilation.main_output,)


def _old(argument: bytes) -> bytes:
    return argument.partition(b"=")[2].rpartition(b"=")[0]


def _maps_alike(argument: bytes, base: bytes) -> bool:
    """Whether a prefix map does the same with what lies below the base directory, whatever that is called.

    Prefixes are compared byte by byte, so a part of the base directory's name is a prefix as well.
    """
    _, _, mapping = argument.partition(b"=")
    if mapping.count(b"=") != 1:
        return False
    old, _, new = mapping.partition(b"=")
    if below(old, base) is None and (base + b"/").startswith(old):
        return False
    return not (new[:1] == b"/" and (base.startswith(new) or new.startswith(base)))


def _mapping(argument: bytes, place: Place) -> bytes:
    name, _, mapping = argument.partition(b"=")
    old, sign, new = mapping.rpartition(b"=")
    return name + b"=" + place.canonical(old) + sign + new


# --- texts and results ---


def shared_text(compilation: Compilation, text: bytes, base: bytes) -> bytes | None:
    """A preprocessed text with its line markers relative to the base directory; None where more may tell its name."""
    words: tuple[bytes, ...] = _TELLING_WORDS
    if compilation.compiler.family is CompilerFamily.CLANG:
        words += _CLANG_TELLING_WORDS  # unnamed types are named by the path of their file
    if any(word in text for word in words):
        return None
    shared = re.sub(_MARKER % re.escape(base), rb"\1" + b"\0", text, flags=re.MULTILINE)
    return None if base in shared else shared


def tells(data: bytes, base: bytes) -> bool:
    """Whether a result holds the base directory's name, or may: what is compressed can't be looked into."""
    return base in data or _has_compressed_sections(data)


def _has_compressed_sections(data: bytes) -> bool:
    if not data.startswith(_ELF):
        return False
    if not data.startswith(_ELF64_LITTLE):
        return True
    start = int.from_bytes(data[40:48], "little")
    size, count = (int.from_bytes(data[at : at + 2], "little") for at in (58, 60))
    headers = [data[at : at + 16] for at in range(start, start + size * count, size)] if size else []
    # The flags are the second eight bytes of a header; old compressed sections are known by their names.
    flags = [int.from_bytes(one[8:], "little") for one in headers if len(one) == 16]
    return not flags or any(one & _COMPRESSED for one in flags) or b".zdebug" in data
