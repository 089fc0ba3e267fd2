"""What each effect notes on the pad. All handlers have one signature: the pad, the row, the value."""

# ruff: noqa: ARG001, ARG005 - one signature for all, whichever part of it a handler needs

from __future__ import annotations

from collections.abc import Callable

from sccache_twisted.compilers import passed
from sccache_twisted.compilers.facts import Facts
from sccache_twisted.compilers.options import Arity, Effect, Option
from sccache_twisted.model import CompilerFamily

_NO_DEBUG = frozenset((b"0", b"gdb0", b"stabs0", b"xcoff0", b"vms0"))
_DEBUG_KINDS = (
    b"gdb",
    b"dwarf",
    b"line-",
    b"mlt",
    b"full",
    b"used",
    b"lldb",
    b"sce",
    b"dbx",
    b"codeview",
    b"stabs",
    b"xcoff",
    b"vms",
    b"btf",
    b"ctf",
)
_DEBUG_DETAILS = frozenset((b"dwarf32", b"dwarf64", b"dwarf-aranges"))
"""Of these, what asks gcc for no debug information."""

_CLANG_KINDS = frozenset((b"dwarf32", b"dwarf64", b"inline-line-tables", b"no-inline-line-tables"))
"""What sounds like a detail and asks clang for debug information."""

_HARMLESS_DUMPS = frozenset(b"ADIMNPUp")


def _debug(facts: Facts, option: Option, value: bytes) -> None:
    kind = not value or value.isdigit() or (value.startswith(_DEBUG_KINDS) and value not in _DEBUG_DETAILS)
    if value in _NO_DEBUG:
        facts.debug = facts.skeleton = False
    elif kind or (value in _CLANG_KINDS and facts.compiler.family is CompilerFamily.CLANG):
        facts.debug = True
        facts.skeleton = value not in {b"line-directives-only", b"codeview"}


def _split_dwarf(facts: Facts, option: Option, value: bytes) -> None:
    if value:
        facts.split_form = value.decode("latin-1")
    # clang's -gsplit-dwarf= outlives a later -gsplit-dwarf, though not -gno-split-dwarf.
    facts.split_dwarf = "no" if option.detail == "no" else facts.split_form


def _searched(facts: Facts, option: Option, value: bytes) -> None:
    facts.configurations.append(value)


def _sysroot(facts: Facts, option: Option, value: bytes) -> None:
    facts.sysroot = value
    facts.directories.append(value)
    if option.detail == "all" and facts.compiler.family is CompilerFamily.CLANG:
        # clang looks for a gcc installation below it, with files that no depfile lists.
        facts.stays("toolchain_option")


def _profile(facts: Facts, option: Option, value: bytes) -> None:
    if option.spelling.startswith(b"-fauto-profile"):
        facts.reads((value or b"fbdata.afdo",))
    else:
        facts.profiles.append(value or None)


def _dumps(facts: Facts, option: Option, value: bytes) -> None:
    if not _HARMLESS_DUMPS.issuperset(value):
        facts.refuse("unsupported_compiler_option", b"-d" + value)


def _assembler(facts: Facts, option: Option, value: bytes) -> None:
    passed.assembler_pass(facts, value.split(b",") if option.arity is Arity.JOINED else [value])


def _language(facts: Facts, option: Option, value: bytes) -> None:
    facts.language = None if value == b"none" else value


def _directory(facts: Facts, option: Option, value: bytes) -> None:
    (facts.below_sysroot if value[:1] == b"=" else facts.directories).append(value)


def _refuse(facts: Facts, option: Option, value: bytes) -> None:
    joined = option.arity is Arity.JOINED or option.spelling == b"-"
    facts.refuse(option.detail, option.spelling + value if joined else option.spelling)


def _not_compilation(facts: Facts, option: Option, value: bytes) -> None:
    facts.not_compilation = facts.not_compilation or option.detail


def _set(field: str, fixed: object = None) -> Callable[[Facts, Option, bytes], None]:
    """A handler that keeps an option's value, or a fixed one, in a field of the pad."""
    if fixed is None:
        return lambda facts, option, value: setattr(facts, field, value)
    return lambda facts, option, value: setattr(facts, field, fixed)


HANDLERS: dict[Effect, Callable[[Facts, Option, bytes], None]] = {
    Effect.ASSEMBLE_TO_OBJECT: _set("to_object", True),
    Effect.COMPILE_TO_ASSEMBLY: _set("to_assembly", True),
    Effect.NOT_COMPILATION: _not_compilation,
    Effect.NOT_CACHEABLE: _refuse,
    Effect.LOCAL: lambda facts, option, value: facts.stays(option.detail),
    Effect.OUTPUT: _set("output"),
    Effect.LANGUAGE: _language,
    Effect.DEPENDENCIES: _set("dependencies", True),
    Effect.DEPFILE: _set("depfile"),
    Effect.PREPROCESSOR_ARGUMENT: lambda facts, option, value: passed.preprocessor_argument(facts, value),
    Effect.ASSEMBLER_PASS: _assembler,
    Effect.FRONTEND_ARGUMENT: lambda facts, option, value: passed.frontend_argument(facts, value),
    Effect.DIRECTORY: _directory,
    Effect.SYSROOT: _sysroot,
    Effect.PREFIX: _set("prefix"),
    Effect.PREFIXED_DIRECTORY: lambda facts, option, value: facts.directories.append(facts.prefix + value),
    Effect.SYSROOT_DIRECTORY: lambda facts, option, value: facts.below_sysroot.append(b"=" + value),
    Effect.FORCED_INCLUDE: lambda facts, option, value: facts.forced_includes.append(value),
    Effect.HIDDEN_INPUT: lambda facts, option, value: facts.reads((value,)),
    Effect.SEARCHED_INPUT: _searched,
    Effect.PLUGIN: lambda facts, option, value: passed.plugin(facts, value),
    Effect.PLUGIN_ARGUMENT: lambda facts, option, value: passed.plugin_argument(facts, value.partition(b"=")[2]),
    Effect.BACKEND_ARGUMENT: lambda facts, option, value: passed.backend_argument(facts, value),
    Effect.PROFILE: _profile,
    Effect.PROFILE_DIRECTORY: _set("profile_directory"),
    Effect.DEBUG: _debug,
    Effect.SPLIT_DWARF: _split_dwarf,
    Effect.LTO: _set("lto", True),
    Effect.NO_LTO: _set("lto", False),
    Effect.STACK_USAGE: _set("stack_usage", True),
    Effect.CALLGRAPH: _set("callgraph", True),
    Effect.COVERAGE: _set("coverage", True),
    Effect.TEST_COVERAGE: lambda facts, option, value: setattr(facts, "test_coverage", option.detail == "yes"),
    Effect.COVERAGE_NOTES: _set("coverage_notes"),
    Effect.DIAGNOSTICS: _set("diagnostics"),
    Effect.DUMPS: _dumps,
    Effect.BITCODE: _set("bitcode", True),
    Effect.MACHINE: lambda facts, option, value: setattr(facts, "native", facts.native or value.startswith(b"native")),
}
"""What every effect does that is more than its argument; the walk over the line handles two itself."""
