"""A call as keys: before anything has run, and once its inputs are known. In threads.

Says for each call why its result can't be stored, in a word; refuses to know where results are kept.
"""

from __future__ import annotations

import os

from attrs import field, frozen

from sccache_twisted.client.cache.probes import Conditions, conditions
from sccache_twisted.client.cache.processor import processor
from sccache_twisted.client.cache.states import FileStates, View
from sccache_twisted.client.calls import Call
from sccache_twisted.client.inputs import Gathered, Listed, Question
from sccache_twisted.client.inputs.memo import Signature
from sccache_twisted.client.outputs import Place, absolute
from sccache_twisted.compilers import keying
from sccache_twisted.compilers.colour import coloured
from sccache_twisted.hashing.digests import digest_of
from sccache_twisted.hashing.keys import CommandFacts, inputs_key, manifest_key, text_key
from sccache_twisted.model import Compilation

_BUSTER = b"SCCACHE_C_CUSTOM_CACHE_BUSTER"
_LARGEST_TEXT = 256 << 20


@frozen
class Request:
    """A call that was understood. ``cwd`` is the directory as the user sees it."""

    call: Call
    compilation: Compilation
    cwd: bytes
    places: tuple[Place, ...]


@frozen
class Sighted:
    """What is known of a call before anything has run: enough to look for its manifest."""

    request: Request
    facts: CommandFacts
    source_digest: str
    key: str


@frozen
class Recipe:
    """Where the result of a call is to be found or stored.

    ``text_key`` is None where comments may show. ``inputs`` are all files that were read, with their signatures: for
    as long as these hold, and ``conditions`` do, a compilation sees what was keyed.
    """

    sighted: Sighted
    inputs_key: str
    text_key: str | None
    conditions: Conditions | None
    inputs: tuple[tuple[bytes, Signature], ...] = field(repr=False)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys under which a result may lie, the one that is true more often first."""
        return (self.inputs_key,) if self.text_key is None else (self.text_key, self.inputs_key)


def sight(request: Request, toolchain: str, states: FileStates) -> Sighted | None:
    """What is known of a call; None when its source can't be read."""
    call, compilation = request.call, request.compilation
    source = states.digest(absolute(compilation.source, request.cwd))
    if source is None or (compilation.native and not processor()):
        return None
    compiler = compilation.compiler
    facts = CommandFacts(
        toolchain=toolchain,
        executable=compiler.executable,
        argv0=compiler.argv0,
        family=compiler.family.value,
        language=compilation.language,
        args=keying.keyed_args(compilation, coloured(compilation.args, compilation, call.stderr_is_tty, call.env)),
        env=keying.keyed_environment(tuple(call.env.items())),
        source=compilation.source,
        directory=request.cwd if keying.shows_directory(compilation) else None,
        outputs=tuple(output.kind.value for output in compilation.outputs),
        directories=tuple(os.path.isdir(absolute(path, request.cwd)) for path in compilation.include_dirs),
        processor=processor() if compilation.native else "",
        buster=call.env.get(_BUSTER, b""),
    )
    return Sighted(request, facts, source, manifest_key(facts, source))


def recipe(
    sighted: Sighted, question: Question, gathered: Gathered, listed: Listed, states: FileStates, *, fixed_time: bool
) -> Recipe | str:
    """The keys of a call whose inputs are known, or a word for why its result can't be stored.

    ``fixed_time``: the compiler takes the date and the time of day from the environment.
    """
    compilation = question.compilation
    read = _read(sighted, gathered, states)
    if isinstance(read, str):
        return read
    text = b""
    if listed.text:
        try:
            if os.stat(listed.text).st_size > _LARGEST_TEXT:
                return "too_large"
            with open(listed.text, "rb") as stream:
                text = stream.read()
        except OSError:
            return "unreadable_input"
        if gathered.time_macros and keying.shows_time(text, fixed=fixed_time):
            return "time_macros"
    text_digest = digest_of(text) if listed.text else ""
    by_text = None
    if (
        listed.text
        and keying.hides_comments(compilation)
        and b"warning:" not in listed.chatter
        and keying.text_hides_comments(compilation, text)
    ):
        # A depfile names files of which the text may show nothing, and what no dependency list tells isn't in the text.
        named = [(path, "") for path in question.listed]
        known = frozenset(question.listed)
        by_text = text_key(sighted.facts, text_digest, [*named, *(one for one in read if one[0] not in known)])
    found = conditions(question, gathered, View(states, question.cwd))
    if isinstance(found, str):
        return found
    return Recipe(
        sighted,
        inputs_key(sighted.facts, text_digest, read),
        by_text,
        found,
        tuple((facts.input.path, facts.signature) for _, facts in gathered.read),
    )


def predicted_recipe(sighted: Sighted, question: Question, gathered: Gathered, states: FileStates) -> Recipe | str:
    """The key of a call whose inputs were predicted, so that there is no text; else as :func:`recipe`."""
    read = _read(sighted, gathered, states)
    if isinstance(read, str):
        return read
    found = conditions(question, gathered, View(states, question.cwd))
    if not isinstance(found, Conditions):
        return found or "untraceable_input"
    signatures = tuple((facts.input.path, facts.signature) for _, facts in gathered.read)
    return Recipe(sighted, inputs_key(sighted.facts, "", read), None, found, signatures)


def _read(sighted: Sighted, gathered: Gathered, states: FileStates) -> tuple[tuple[bytes, str], ...] | str:
    """The files that were read, with their digests, or why what came of them can't be stored."""
    if gathered.fresh:
        return "too_new"
    read = tuple((path, str(facts.input.digest)) for path, facts in gathered.read)
    if not read or read[0][1] != sighted.source_digest:
        return "modified_input"
    for _, facts in gathered.read:
        states.learn(facts.signature, facts.input.digest)
    return "twin_headers" if _has_twins(gathered) else read


def _has_twins(gathered: Gathered) -> bool:
    """Whether two files of one content are to be read once: what is one file to a compiler depends on more than that.

    gcc looks at their times, clang at their inodes, and no key does.
    """
    places: dict[str, bytes] = {}
    for _, facts in gathered.read:
        place = facts.input.path
        if facts.input.size and places.setdefault(facts.input.digest, place) != place:
            try:
                with open(place, "rb") as stream:
                    text = stream.read()
            except OSError:
                return True
            if b"once" in text or b"import" in text:
                return True
    return False


def still_holds(recipe: Recipe, states: FileStates) -> bool:
    """Whether every input is as it was, and nothing has appeared that would have been read, as far as can be told."""
    if recipe.conditions is None:
        return False
    for path, signature in recipe.inputs:
        try:
            found = os.lstat(path)
        except OSError:
            return False
        if (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns) != signature:
            return False
    view = View(states, recipe.sighted.request.cwd)
    return not any(view.any_there(group) for group in recipe.conditions.absent)
