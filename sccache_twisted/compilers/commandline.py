"""A command line becomes a compilation that can be described whole, or a reason why it can't.

:func:`parse` goes through the arguments once; each option is looked up in its family's table and ticked
off on a pad of :class:`~sccache_twisted.compilers.facts.Facts`; what the pad says at the end is the
answer. Whatever is not certain here is left to the compiler itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from sccache_twisted.compilers import environment, passed
from sccache_twisted.compilers.clang_options import CLANG
from sccache_twisted.compilers.effects import HANDLERS
from sccache_twisted.compilers.facts import Facts
from sccache_twisted.compilers.gcc_options import GCC
from sccache_twisted.compilers.hidden import hidden_inputs
from sccache_twisted.compilers.languages import ASSEMBLER, COMPILED, HEADER, PREPROCESSED, language_of
from sccache_twisted.compilers.options import Arity, Effect, OptionTable
from sccache_twisted.compilers.outputs import predict
from sccache_twisted.compilers.response import TooMuch, expand, split
from sccache_twisted.model import (
    Compilation,
    Compiler,
    CompilerFamily,
    NotCacheable,
    NotCompilation,
    ParsedCommand,
)

_RESTLESS = re.compile(rb"native|%include|(?:^|\s)@", re.MULTILINE)
"""What a file of options may not hold: this machine's processor, and the names of further such files."""

MOST_ARGUMENTS = 6000
"""bubblewrap takes 9000 words, and its own are among them."""

Reader = Callable[[bytes], bytes | None]
"""Gives the content of a file by its absolute path, or None."""

_DESCRIPTOR = re.compile(rb"/dev/(?:fd/|std(?:in|out|err)\b)|/proc/(?:self|thread-self)/")
"""Names that mean another file to each process."""

TABLES: dict[CompilerFamily, OptionTable] = {CompilerFamily.GCC: GCC, CompilerFamily.CLANG: CLANG}


def _read_options(facts: Facts, args: Sequence[bytes]) -> list[bytes]:
    """Tick off every argument; returns those that the listing run gets."""
    classify = TABLES[facts.compiler.family].classify
    listing: list[bytes] = []
    position, count = 0, len(args)
    while position < count:
        argument = args[position]
        position += 1
        if argument[:1] != b"-" or argument == b"-" or facts.options_ended:
            facts.inputs.append((argument, facts.language))
            listing.append(argument)
            continue
        option, value = classify(argument)
        effect = option.effect
        words: tuple[bytes, ...] = (argument,)
        if value is None and option.arity is not Arity.FLAG:
            following = position + option.values
            if following > count:
                facts.refuse("bad_compiler_arguments", argument)
                break
            value = args[position]
            words = (argument, *args[position:following])
            position = following
        if effect is Effect.PREPROCESSOR_PASS:
            if not passed.preprocessor_pass(facts, value or b""):
                continue
        elif effect is Effect.END_OF_OPTIONS:
            facts.options_ended = True
        else:
            handler = HANDLERS.get(effect)
            if handler is not None:
                handler(facts, option, value or b"")
        if option.listing:
            listing += words
    return listing


def _read_configurations(facts: Facts, read_file: Reader, found: Mapping[bytes, bytes]) -> None:
    """Look into the files that options name for more options; what they hold must be harmless to travel.

    One that is named without a directory is where the driver found it, if anybody has asked.
    """
    for name in facts.configurations:
        path = name if b"/" in name else found.get(name, b"")
        text = read_file(path if path[:1] == b"/" else facts.cwd.rstrip(b"/") + b"/" + path) if path else None
        if path:
            facts.reads((path,))
        if text is None or _RESTLESS.search(text):
            facts.stays("toolchain_option")
        elif facts.compiler.family is CompilerFamily.CLANG:
            inside = Facts(facts.compiler, facts.cwd)
            lines = text.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").split(b"\n")
            words = split(b"\n".join(line for line in lines if not line.lstrip().startswith(b"#")))
            _read_options(inside, words)
            facts.directories += inside.directories
            facts.debug = facts.debug or inside.debug
            plain = Facts(facts.compiler, facts.cwd, directories=inside.directories)
            plain.debug, plain.skeleton = inside.debug, inside.skeleton
            if inside != plain:
                facts.stays("toolchain_option")


def _unusual_output(facts: Facts) -> NotCacheable | None:
    """Why the files that were named to be written can't be described as plain new files."""
    for path in (facts.output, facts.depfile, facts.preprocessor_depfile, facts.diagnostics, facts.listing_file):
        if path is None:
            continue
        if path == b"-":
            return NotCacheable("output_to_stdout", "-")
        if not path or path.endswith(b"/") or path.startswith(b"/dev/"):
            return NotCacheable("bad_output_file", path.decode("utf-8", "backslashreplace"))
    return None


def _directories(facts: Facts, env: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    found = [*facts.directories, *environment.include_directories(env)]
    found += [facts.sysroot + directory[1:] for directory in facts.below_sysroot]
    return tuple(dict.fromkeys(directory for directory in found if directory))


def _refusal(facts: Facts, env: Mapping[bytes, bytes]) -> NotCompilation | NotCacheable | None:
    """What the options alone rule out."""
    if facts.not_compilation:
        return NotCompilation(facts.not_compilation)
    if any(path == b"-" for path, _ in facts.inputs):
        return NotCompilation("stdin")
    if not facts.inputs:
        return NotCompilation("no_input")
    if not facts.to_object and not facts.to_assembly:
        return NotCompilation("link")
    if facts.refusal is not None:
        reason, detail = facts.refusal
        return NotCacheable(reason, detail.decode("utf-8", "backslashreplace"))
    variable = environment.unsupported_variable(env)
    if variable is not None:
        return NotCacheable("unsupported_environment_variable", variable.decode("ascii"))
    return _unusual_output(facts)


def searched_files(compiler: Compiler, args: Sequence[bytes]) -> list[bytes]:
    """Names of files that the driver looks up in places of its own, and can be asked for: gcc's specs."""
    if compiler.family is not CompilerFamily.GCC:
        return []
    names = [argument.partition(b"specs=")[2] for argument in args if argument.startswith((b"-specs=", b"--specs="))]
    return [name for name in names if name and b"/" not in name]


def _descriptor(args: Sequence[bytes]) -> bytes | None:
    """The first argument that names an open descriptor of whoever looks; what a macro says is no name."""
    together = b"\0".join(args)
    if b"/dev/" in together or b"/proc/" in together:
        for argument in args:
            if argument[:2] not in {b"-D", b"-U"} and _DESCRIPTOR.search(argument):
                return argument
    return None


def parse(
    compiler: Compiler,
    args: Sequence[bytes],
    cwd: bytes,
    env: Mapping[bytes, bytes],
    read_file: Reader,
    found: Mapping[bytes, bytes] | None = None,
) -> ParsedCommand:
    """What the arguments behind argv[0] ask of a compiler in a working directory (absolute, as the user sees it).

    ``read_file`` gives the content of a response file by its absolute path, or None; ``found`` are the paths of
    files that :func:`searched_files` names. Never raises: a command line that makes no sense is the compiler's to
    complain about.
    """
    # Not even looked at: the caller's descriptors are not ours.
    unseen = next((one for one in args if one[:1] == b"@" and _DESCRIPTOR.search(one)), None)
    if unseen is not None:
        return NotCacheable("response_file", unseen.decode("utf-8", "backslashreplace"))
    try:
        expanded = expand(args, cwd, read_file)
    except TooMuch as error:
        return NotCacheable("response_file", str(error))
    if len(expanded) > MOST_ARGUMENTS:
        return NotCacheable("too_many_arguments", str(len(expanded)))
    facts = Facts(compiler, cwd)
    listing = _read_options(facts, expanded)
    refusal = _refusal(facts, env)
    if refusal is not None:
        return refusal
    unseen = _descriptor(expanded)
    if unseen is not None:
        return NotCacheable("bad_input_file", unseen.decode("utf-8", "backslashreplace"))
    _read_configurations(facts, read_file, found or {})
    if len(facts.inputs) > 1:
        return NotCacheable("multiple_source_files", str(len(facts.inputs)))
    source, chosen = facts.inputs[0]
    language = language_of(source, chosen, cplusplus=compiler.cplusplus)
    readable = source.decode("utf-8", "backslashreplace")
    if source[:1] == b"@" and not facts.options_ended:
        return NotCacheable("response_file", readable)
    if language is None:
        return NotCompilation("no_input")
    if language in ASSEMBLER and facts.to_assembly:
        return NotCompilation("preprocess")
    if language == HEADER:
        return NotCacheable("precompiled_header", readable)
    if language not in COMPILED:
        return NotCacheable("unsupported_source_language", readable)
    if source.startswith(b"/dev/"):
        return NotCacheable("bad_input_file", readable)
    if facts.assembler_debug and language not in ASSEMBLER:
        return NotCacheable("unsupported_compiler_option", facts.assembler_debug.decode("utf-8", "backslashreplace"))
    outputs = predict(facts, source, language)
    paths = [output.path for output in outputs]
    if len(set(paths)) < len(paths) or source in paths:
        return NotCacheable("bad_output_file", "two files of one name")
    return Compilation(
        compiler=compiler,
        args=expanded,
        language=language,
        source=source,
        outputs=outputs,
        listing_args=tuple(listing),
        include_dirs=_directories(facts, env),
        hidden_inputs=hidden_inputs(facts, source),
        plugins=tuple(facts.plugins),
        debug=facts.debug,
        native=facts.native,
        preprocessed=language in PREPROCESSED,
        distributable=not facts.local_reason,
        local_reason=facts.local_reason,
    )
