"""Every word for why a request did not become a compilation on a worker, with its sentence.

The words are stable: ``--show-stats``, logs and ``docs/`` use them as they stand here. Where ccache has a
word for the same thing, it is the same word.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class Place(Enum):
    """Which count a reason belongs to."""

    NOT_COMPILATION = "requests_not_compile"
    NOT_CACHEABLE = "not_cached"
    LOCAL = "local_compiles"


@frozen
class Reason:
    """A word, the count it belongs to, and a sentence for the user."""

    word: str
    place: Place
    sentence: str


_NOT_COMPILATION = {
    "link": "The command links, or compiles and links in one.",
    "preprocess": "The command only preprocesses, or only lists dependencies.",
    "query": "The command asks the compiler about itself.",
    "stdin": "The source comes from standard input.",
    "syntax_only": "The command checks the syntax and writes no object.",
    "no_input": "The command names no source.",
}

_NOT_CACHEABLE = {
    "bad_compiler_arguments": "The command line is incomplete.",
    "bad_input_file": "The source is no regular file, or an argument names an open descriptor, as /dev/fd/63 does.",
    "bad_output_file": "An output is a device, has no name, or has the name of another file of the same command.",
    "modules": "The command uses or makes C++ or clang modules.",
    "multiple_source_files": "The command compiles several sources at once, or names files for the linker too.",
    "output_to_stdout": "The object or a file beside it goes to standard output.",
    "precompiled_header": "The command precompiles a header.",
    "response_file": "A response file can't be read, nests too deeply, or is too long.",
    "unsupported_compiler_option": "An option writes files that can't be told beforehand, or is not understood.",
    "unsupported_environment_variable": "A variable makes the compiler write more files, or changes what it runs.",
    "unsupported_source_language": "The source is in a language that is not taken over.",
    "unsupported_compiler": "The compiler is of no known family.",
    "verbose": "The command shows how the compiler works, with paths that differ from run to run.",
    "no_cache": "SCCACHE_NO_CACHE was set for this call.",
    "missing_output": "An output was not there, or was not the compiler's any more, when it was to be stored.",
    "too_many_arguments": "The command has more arguments than fit into a sandbox.",
    "too_large": "The preprocessed text is too long.",
    "too_new": "A source or header changed so shortly before that its time can't tell whether it changed again.",
    "twin_headers": "Two headers with #pragma once have one content: which is read depends on times or on inodes.",
    "untraceable_input": "Where the compiler looked for headers can't be told, so a change meanwhile goes unnoticed.",
}

_LOCAL = {
    "compiler_plugin": "The compiler loads a plugin by name alone, or one that is told of files or lacks libraries.",
    "computed_include_operand": "A file asks for another one by a name that only the preprocessor can compute.",
    "confirm_error": "The compiler failed on a worker, and runs here once to confirm it.",
    "daemon_lost": "The launcher lost its daemon and compiled for itself.",
    "killed": "The compiler was killed on workers twice: out of memory, by a signal, or at its time limit.",
    "modified_input": "A source or header changed while it was read.",
    "native_unknown": "The driver's own steps for this processor could not be understood.",
    "no_dist": "SCCACHE_NO_DIST was set for this call.",
    "no_scheduler": "No scheduler could be reached.",
    "no_toolchain": "The compiler could not be packaged.",
    "no_workers": "The scheduler knows no living worker that can run this toolchain.",
    "not_configured": "No scheduler is configured.",
    "pch": "clang checks a precompiled header against files that no list names.",
    "preprocessor_error": "The run that lists dependencies failed, so the compiler itself shows why.",
    "retry_limit": "The job failed on workers as often as it may.",
    "time_macros": "The source uses __DATE__, __TIME__ or __TIMESTAMP__, and SOURCE_DATE_EPOCH is not set.",
    "toolchain_option": "An option chooses other programs or files than the packaged toolchain holds.",
    "undeclared_output": "The compiler wrote a file that had not been foreseen.",
    "unreadable_input": "A file that the compilation needs can't be read, or is not a regular file.",
    "worker_lost_limit": "The workers that ran the job were lost as often as it may happen.",
}

REASONS: dict[str, Reason] = {
    word: Reason(word, place, sentence)
    for place, table in (
        (Place.NOT_COMPILATION, _NOT_COMPILATION),
        (Place.NOT_CACHEABLE, _NOT_CACHEABLE),
        (Place.LOCAL, _LOCAL),
    )
    for word, sentence in sorted(table.items())
}
"""All reasons by their words."""


def sentence(word: str) -> str:
    """The sentence for a word; the word itself for one that is not documented."""
    found = REASONS.get(word)
    return found.sentence if found is not None else word
