"""Arguments that the driver passes on: ``-Wp,``, ``-Xpreprocessor``, ``-Wa,``, ``-Xassembler``, ``-Xclang``; plugins.

Each function takes the pad, and the value as it is written; what can't be understood is refused, since
the programs behind the driver write files under many names.
"""

from __future__ import annotations

from sccache_twisted.compilers.clang_options import (
    CLANG,
    FRONTEND_EFFECTS,
    FRONTEND_FLAGS,
    FRONTEND_INCLUDES,
    FRONTEND_NAMES,
    FRONTEND_WITH_VALUE,
)
from sccache_twisted.compilers.facts import Facts
from sccache_twisted.model import CompilerFamily

_UNSUPPORTED = "unsupported_compiler_option"
_PLUGIN_ARGUMENT = b"-plugin-arg-"
_BACKEND_FILES = (b"file", b"path", b"-dir", b"-list", b"plugin")
_HARMLESS_TO_PREPROCESS = (b"-D", b"-U", b"-f", b"-W")

_ASSEMBLER_DEBUG = (b"-g", b"--g")
"""``-gdwarf-5``, ``--gstabs``, ``--gen-debug`` and their kin."""


def preprocessor_pass(facts: Facts, value: bytes) -> bool:
    """``-Wp,value``; returns whether it may reach the listing run."""
    first, *rest = value.split(b",")
    if first in {b"-MD", b"-MMD"} and len(rest) == 1 and rest[0]:
        if facts.compiler.family is CompilerFamily.GCC:
            facts.preprocessor_depfile = rest[0]
        else:
            # clang takes it for -MD -MF file, where it stands.
            facts.dependencies = True
            facts.depfile = rest[0]
        return False
    for piece in (first, *rest):
        if not piece.startswith(_HARMLESS_TO_PREPROCESS):
            facts.refuse(_UNSUPPORTED, b"-Wp," + value)
    return True


def preprocessor_argument(facts: Facts, value: bytes) -> None:
    """``-Xpreprocessor value``."""
    if not value.startswith(_HARMLESS_TO_PREPROCESS):
        facts.refuse(_UNSUPPORTED, b"-Xpreprocessor " + value)


def assembler_pass(facts: Facts, pieces: list[bytes]) -> None:
    """``-Wa,piece,piece`` or ``-Xassembler piece``: listings, directories; dependency files are refused.

    The assembler's own depfile names the driver's temporary file, so two runs never give the same; its own debug
    information does so too, unless the source is assembly.
    """
    awaits_directory = False
    for piece in pieces:
        if awaits_directory:
            facts.directories.append(piece)
            awaits_directory = False
        elif piece == b"-I":
            awaits_directory = True
        elif piece.startswith(b"-I"):
            facts.directories.append(piece[2:])
        elif piece.startswith(b"-a"):
            _, sign, name = piece.partition(b"=")
            if sign:
                facts.listing_file = name
        elif piece.startswith(_ASSEMBLER_DEBUG):
            facts.assembler_debug = b"-Wa," + piece
        elif piece.startswith((b"--MD", b"-MD", b"-o", b"@", b"--statistics")) or piece[:1] != b"-":
            facts.refuse(_UNSUPPORTED, b"-Wa," + piece)
    if awaits_directory:
        facts.refuse(_UNSUPPORTED, b"-Wa,-I")


def plugin(facts: Facts, path: bytes) -> None:
    """A plugin by its path, which the compiler loads as it is spelled; by name alone it looks for it itself."""
    if b"/" in path:
        facts.reads((path,))
        facts.plugins.append(path)
    else:
        facts.stays("compiler_plugin")


def plugin_argument(facts: Facts, value: bytes) -> None:
    """What a plugin is told, and only it understands: nothing that may be the name of a file leaves this machine."""
    if b"/" in value or b"." in value:
        facts.stays("compiler_plugin")


def backend_argument(facts: Facts, value: bytes) -> None:
    """``-mllvm value``: some load plugins, some name files."""
    name, _, rest = value.partition(b"=")
    if name.lstrip(b"-").startswith(b"load"):
        facts.stays("compiler_plugin")
    elif b"/" in rest or any(part in name.replace(b"profil", b"") for part in _BACKEND_FILES):
        facts.refuse(_UNSUPPORTED, b"-mllvm " + value)


def frontend_argument(facts: Facts, value: bytes) -> None:
    """``-Xclang value``: what chooses code and warnings passes, precompiled headers stay here."""
    awaited, facts.frontend_awaits = facts.frontend_awaits, b""
    if awaited:
        if awaited in FRONTEND_INCLUDES:
            facts.forced_includes.append(value)
        elif awaited == b"-load":
            plugin(facts, value)
        elif awaited == b"-mllvm":
            backend_argument(facts, value)
        elif awaited.startswith(_PLUGIN_ARGUMENT):
            plugin_argument(facts, value)
    elif value in FRONTEND_WITH_VALUE or value in FRONTEND_INCLUDES or value.startswith(_PLUGIN_ARGUMENT):
        facts.frontend_awaits = value
    elif value == b"-include-pch":
        facts.frontend_awaits = value
        facts.stays("pch")
    elif value == b"-emit-pch":
        facts.refuse("precompiled_header", b"-Xclang " + value)
    elif value == b"-fno-pch-timestamp":
        pass
    elif not _is_harmless(value):
        facts.refuse(_UNSUPPORTED, b"-Xclang " + value)


def _is_harmless(value: bytes) -> bool:
    """Whether an argument for clang's compiler proper chooses code or warnings and touches no file."""
    if not value.startswith(FRONTEND_FLAGS) or CLANG.classify(value)[0].effect not in FRONTEND_EFFECTS:
        return False
    return value.startswith((b"-W", b"-D", b"-U", b"-I")) or not any(name in value for name in FRONTEND_NAMES)
