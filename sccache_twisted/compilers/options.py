"""How one option is written and what it does to a compilation.

A table is built once for each family and only ever looked up: an exact spelling, else the part up to
and including ``=``, else the longest joined spelling among the few that begin with the same two bytes,
else the short option that a long form stands for. It knows nothing of any particular option, nor of the
order in which they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import lru_cache

from attrs import frozen

MEMO = 8192
"""How many different arguments a table remembers; a build repeats the same few hundred."""


class Arity(Enum):
    """Where an option's value stands."""

    FLAG = "flag"
    JOINED = "joined"
    SEPARATE = "separate"
    JOINED_OR_SEPARATE = "joined or separate"
    JOINED_AND_SEPARATE = "a part of its name is joined, its value follows"


class Effect(Enum):
    """What an option does to a compilation. A row of the table says which; the command line says the rest."""

    KEY = "reaches the compiler and may change the result"
    LINKER = "means something to the linker only"
    ASSEMBLE_TO_OBJECT = "stop at an object"
    COMPILE_TO_ASSEMBLY = "stop at assembly"
    NOT_COMPILATION = "asks for something else than a compilation"
    NOT_CACHEABLE = "is not taken over"
    LOCAL = "is one compilation that must stay on this machine"
    OUTPUT = "names the object"
    LANGUAGE = "names the language of the inputs that follow"
    DEPENDENCIES = "writes a depfile"
    DEPFILE = "names the depfile"
    DEPENDENCY_DETAIL = "shapes the depfile's content"
    PREPROCESSOR_PASS = "passes arguments to the preprocessor"  # noqa: S105 - not a password
    PREPROCESSOR_ARGUMENT = "passes one argument to the preprocessor"
    ASSEMBLER_PASS = "passes arguments to the assembler"  # noqa: S105 - not a password
    FRONTEND_ARGUMENT = "passes one argument to clang's compiler proper"
    DIRECTORY = "names a directory that is searched"
    SYSROOT = "names the directory that stands for /"
    PREFIX = "names what later directories begin with"
    PREFIXED_DIRECTORY = "names the rest of such a directory"
    SYSROOT_DIRECTORY = "names a directory below the sysroot"
    FORCED_INCLUDE = "names a file that is included first"
    HIDDEN_INPUT = "names a file that is read and that no depfile lists"
    SEARCHED_INPUT = "names such a file, or a word that the driver looks up in places of its own"
    PLUGIN = "names a plugin that is loaded"
    PLUGIN_ARGUMENT = "tells something to a plugin"
    BACKEND_ARGUMENT = "passes one argument to LLVM"
    PROFILE = "reads a profile"
    PROFILE_DIRECTORY = "names where profiles lie"
    DEBUG = "sets the kind of debug information"
    SPLIT_DWARF = "splits debug information off, or not"
    LTO = "defers code generation"
    NO_LTO = "does not defer code generation"
    STACK_USAGE = "writes a .su file"
    CALLGRAPH = "writes a .ci file"
    COVERAGE = "writes a .gcno file, whatever else is said"
    TEST_COVERAGE = "writes a .gcno file, or not"
    COVERAGE_NOTES = "names the .gcno file"
    DIAGNOSTICS = "names a file for serialized diagnostics"
    DUMPS = "asks for dumps by letters"
    BITCODE = "writes LLVM bitcode instead of machine code"
    MACHINE = "chooses a processor"
    END_OF_OPTIONS = "ends the options"


@frozen
class Option:
    """One row: a spelling, where its value stands, what it does.

    ``detail`` is the word for a refusal or a local compilation, or a word that tells rows of one effect
    apart. ``listing``: whether the run that lists dependencies gets it too. ``values``: how many arguments
    behind it are its own, where its value is separate.
    """

    spelling: bytes
    arity: Arity = Arity.FLAG
    effect: Effect = Effect.KEY
    detail: str = ""
    listing: bool = True
    values: int = 1


def rows(
    spellings: str,
    arity: Arity = Arity.FLAG,
    effect: Effect = Effect.KEY,
    detail: str = "",
    *,
    listing: bool = True,
    values: int = 1,
) -> tuple[Option, ...]:
    """Rows that differ in their spelling only, from spellings with blanks between."""
    return tuple(Option(word.encode(), arity, effect, detail, listing, values) for word in spellings.split())


UNKNOWN = Option(b"-")
"""An option of no table: passed on and keyed as it is written."""

UNKNOWN_WRITER = Option(b"-", effect=Effect.NOT_CACHEABLE, detail="unsupported_compiler_option")
"""An option of no table that seems to name a file to write."""

_WRITING = (b"dump", b"output", b"record", b"report", b"save", b"log", b"trace-", b"-file", b"emit")


class OptionTable:
    """All the options of one compiler family. A later row of the same spelling replaces an earlier one.

    ``long_forms``: beginnings of options that stand for others, each with what it stands for, the longest first.
    """

    def __init__(self, options: Iterable[Option], long_forms: Sequence[tuple[bytes, bytes]] = ()) -> None:
        exact: dict[bytes, Option] = {}
        equals: dict[bytes, Option] = {}
        joined: dict[bytes, dict[bytes, Option]] = {}
        for option in options:
            exact[option.spelling] = option
            if option.arity not in {Arity.FLAG, Arity.SEPARATE}:
                if option.spelling.endswith(b"="):
                    equals[option.spelling] = option
                else:
                    joined.setdefault(option.spelling[:2], {})[option.spelling] = option
        self._long_forms = tuple(long_forms)
        self._exact = exact
        self._equals = equals
        self._joined = {
            start: tuple(sorted(group.values(), key=lambda option: -len(option.spelling)))
            for start, group in joined.items()
        }
        self.classify: Callable[[bytes], tuple[Option, bytes | None]] = lru_cache(MEMO)(self._classify)

    def options(self) -> tuple[Option, ...]:
        """Every row."""
        return tuple(self._exact.values())

    def _classify(self, argument: bytes) -> tuple[Option, bytes | None]:
        """The row for an argument that begins with ``-``, and its value; None where it has none or it comes next."""
        option = self._exact.get(argument)
        if option is not None:
            return option, b"" if option.arity is Arity.JOINED else None
        name, sign, value = argument.partition(b"=")
        if sign:
            option = self._equals.get(name + sign)
            if option is not None:
                return option, value
        for option in self._joined.get(argument[:2], ()):
            if argument.startswith(option.spelling):
                if option.arity is Arity.JOINED_AND_SEPARATE:
                    return option, None
                return option, argument[len(option.spelling) :]
        for beginning, short in self._long_forms:
            if argument.startswith(beginning):
                return self._classify(short + argument[len(beginning) :])
        if sign and value and name.startswith((b"-f", b"--")) and any(word in name for word in _WRITING):
            return UNKNOWN_WRITER, None
        return UNKNOWN, None
