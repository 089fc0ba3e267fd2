"""Which files a compilation writes, and what they are called.

Measured with gcc 12.2 and clang 14, and measured again by the tests. The names of the files beside the
object follow the object: clang replaces everything from the last dot of its name; gcc does so for the
depfile, and for the others leaves a name that begins with its only dot alone (``.hid`` → ``.hid.su``).
"""

from __future__ import annotations

from sccache_twisted.compilers.facts import Facts
from sccache_twisted.compilers.languages import ASSEMBLER, PREPROCESSED
from sccache_twisted.model import CompilerFamily, Output, OutputKind


def stem(path: bytes, *, keep_hidden: bool = False) -> bytes:
    """A path up to the last dot of its last component; with ``keep_hidden`` that dot must not be the first byte."""
    slash = path.rfind(b"/")
    dot = path.rfind(b".")
    return path[:dot] if dot > slash + keep_hidden else path


def main_output(facts: Facts, source: bytes) -> bytes:
    """The object or assembly file: the last ``-o``, else the source's name with another suffix, in the cwd."""
    if facts.output is not None:
        return facts.output
    name = stem(source[source.rfind(b"/") + 1 :], keep_hidden=True)
    if facts.bitcode:
        return name + (b".ll" if facts.to_assembly else b".bc")
    return name + (b".s" if facts.to_assembly else b".o")


def _depfile(facts: Facts, main: bytes, language: str) -> bytes | None:
    if language in PREPROCESSED:
        return None
    if facts.preprocessor_depfile is not None:
        return facts.preprocessor_depfile
    if not facts.dependencies:
        return None
    return facts.depfile if facts.depfile is not None else stem(main) + b".d"


def _split_file(facts: Facts, source: bytes, beside: bytes, language: str) -> bytes | None:
    """The file for split debug information, if there will be one."""
    if facts.split_dwarf != "split":
        return None
    if facts.compiler.family is CompilerFamily.GCC:
        # objcopy makes it from the object, whatever the debug level is.
        return None if facts.to_assembly else beside + b".dwo"
    if language not in ASSEMBLER and (not facts.skeleton or facts.lto or facts.bitcode):
        return None
    if facts.to_assembly and not facts.to_object:
        # clang follows -o only where it reads -c too.
        return stem(source[source.rfind(b"/") + 1 :]) + b".dwo"
    return beside + b".dwo"


def predict(facts: Facts, source: bytes, language: str) -> tuple[Output, ...]:
    """Every file that a successful compilation writes, the main one first, as spelled relative to the cwd."""
    main = main_output(facts, source)
    gcc = facts.compiler.family is CompilerFamily.GCC
    beside = stem(main, keep_hidden=gcc)
    found = [Output(OutputKind.ASSEMBLY if facts.to_assembly else OutputKind.OBJECT, main)]
    depfile = _depfile(facts, main, language)
    if depfile is not None:
        found.append(Output(OutputKind.DEPFILE, depfile))
    split = _split_file(facts, source, beside, language)
    if split is not None:
        found.append(Output(OutputKind.DWO, split))
    if language not in ASSEMBLER:
        if facts.stack_usage and not facts.lto and not facts.bitcode:
            # clang writes none for a source without functions.
            found.append(Output(OutputKind.STACK_USAGE, beside + b".su", required=gcc))
        if facts.callgraph and gcc and not facts.lto:
            found.append(Output(OutputKind.CALLGRAPH, beside + b".ci"))
        if facts.coverage or facts.test_coverage:
            notes = facts.coverage_notes if facts.coverage_notes is not None else beside + b".gcno"
            found.append(Output(OutputKind.COVERAGE_NOTES, notes))
    if facts.diagnostics is not None:
        found.append(Output(OutputKind.DIAGNOSTICS, facts.diagnostics))
    if facts.listing_file is not None and not facts.to_assembly:
        found.append(Output(OutputKind.LISTING, facts.listing_file))
    return tuple(found)
