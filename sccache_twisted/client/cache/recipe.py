"""A call as keys: before anything has run, and once its inputs are known. In threads.

Says for each call why its result can't be stored, in a word; refuses to know where results are kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from attrs import evolve, field, frozen

from sccache_twisted.client.cache.probes import Conditions, conditions
from sccache_twisted.client.cache.processor import processor
from sccache_twisted.client.cache.states import FileStates, View
from sccache_twisted.client.calls import Call
from sccache_twisted.client.inputs import Gathered, Listed, Question
from sccache_twisted.client.inputs.memo import Signature
from sccache_twisted.client.outputs import Place, absolute
from sccache_twisted.compilers import keying, sharing
from sccache_twisted.compilers.colour import coloured
from sccache_twisted.compilers.depform import form_of
from sccache_twisted.hashing.digests import digest_of
from sccache_twisted.hashing.entry import Entry
from sccache_twisted.hashing.keys import CommandFacts, inputs_key, manifest_key, text_key
from sccache_twisted.model import Compilation, OutputKind

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
    """What is known of a call before anything has run: enough to look for its manifest.

    ``key`` is the manifest's. ``place`` and ``shared`` are what the facts may be relative to, and the facts so spelled:
    then the manifest is theirs, and what is of this place only is bound in it to ``own_key``, the key of the facts as
    they are. Where results are of one place only there are none, and the two keys are one.
    """

    request: Request
    facts: CommandFacts
    source_digest: str
    own_key: str
    key: str
    place: sharing.Place | None = None
    shared: CommandFacts | None = None


@frozen
class Keys:
    """Under which keys a result may lie; ``text`` is None where comments may show."""

    inputs: str
    text: str | None

    @property
    def all(self) -> tuple[str, ...]:
        """Every key, the one that is true more often first."""
        return (self.inputs,) if self.text is None else (self.text, self.inputs)

    def of(self, entry: Entry) -> str:
        """The key under which to store."""
        return self.text if self.text is not None and entry.silent else self.inputs


@frozen
class Recipe:
    """Where the result of a call is to be found or stored: for this place only, or for others too where it may.

    ``inputs`` are all files that were read, with their signatures: for as long as these hold, and ``conditions`` do, a
    compilation sees what was keyed.
    """

    sighted: Sighted
    own: Keys
    shared: Keys | None
    conditions: Conditions | None
    inputs: tuple[tuple[bytes, Signature], ...] = field(repr=False)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys under which a result may lie."""
        return self.own.all if self.shared is None else (*self.shared.all, *self.own.all)

    def conditions_for(self, key: str) -> Conditions | None:
        """The conditions of the result under a key, as they stand in the manifest."""
        place, found = self.sighted.place, self.conditions
        if place is None or found is None:
            return found
        if self.shared is None or key not in self.shared.all:
            return evolve(found, present=((sharing.BOUND, self.sighted.own_key), *found.present))
        return Conditions(
            tuple((place.canonical(path), digest) for path, digest in found.present),
            tuple((place.canonical(directory), names) for directory, names in found.absent),
        )

    def to_store(self, entry: Entry) -> tuple[str, Entry]:
        """Under which key to store a result, and as what: for other places where nothing in it tells of this one."""
        shared = None if self.shared is None else _shared(self.sighted, entry)
        if shared is None or self.shared is None:
            return self.own.of(entry), entry
        return self.shared.of(shared), shared


def sight(request: Request, toolchain: str, states: FileStates, bases: tuple[bytes, ...] = ()) -> Sighted | None:
    """What is known of a call; None when its source can't be read. ``bases``: the user's base directories."""
    call, compilation = request.call, request.compilation
    source = states.digest(absolute(compilation.source, request.cwd))
    if source is None or (compilation.native and not processor()):
        return None
    compiler = compilation.compiler
    args = coloured(compilation.args, compilation, call.stderr_is_tty, call.env)
    facts = CommandFacts(
        toolchain=toolchain,
        executable=compiler.executable,
        argv0=compiler.argv0,
        family=compiler.family.value,
        language=compilation.language,
        args=keying.keyed_args(compilation, args),
        env=keying.keyed_environment(tuple(call.env.items())),
        source=compilation.source,
        directory=request.cwd if keying.shows_directory(compilation) else None,
        outputs=tuple(output.kind.value for output in compilation.outputs),
        directories=tuple(os.path.isdir(absolute(path, request.cwd)) for path in compilation.include_dirs),
        processor=processor() if compilation.native else "",
        buster=call.env.get(_BUSTER, b""),
    )
    own_key = manifest_key(facts, source)
    sighted = Sighted(request, facts, source, own_key, own_key)
    base = sharing.base_directory(bases, request.cwd, compilation.source)
    followed = sharing.followed_directories(compilation, base, request.cwd) if base else ()
    if any(os.path.realpath(path) != os.path.normpath(path) for path in followed):
        base = b""
    place = sharing.place_of(compilation, base, request.cwd)
    if place is None:
        return sighted
    shared = evolve(
        facts,
        args=sharing.shared_args(compilation, args, place),
        source=place.canonical(facts.source),
        directory=facts.directory and place.canonical(facts.directory),
    )
    return evolve(sighted, key=manifest_key(shared, source), place=place, shared=shared)


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
    hides_comments = (
        bool(listed.text)
        and keying.hides_comments(compilation)
        and b"warning:" not in listed.chatter
        and keying.text_hides_comments(compilation, text)
    )
    found = conditions(question, gathered, View(states, question.cwd))
    if isinstance(found, str):
        return found
    # A depfile names files of which the text may show nothing, and what no dependency list tells isn't in the text.
    known = frozenset(question.listed)
    named = [(path, "") for path in question.listed] + [one for one in read if one[0] not in known]
    own = _keys(sighted.facts, text if listed.text else None, read, named if hides_comments else None)
    shared, place = None, sighted.place
    shared_text: bytes | None = text
    if place is not None and place.base:
        shared_text = sharing.shared_text(compilation, text, place.base) if listed.text else None
        if shared_text is not None and states.any_mentions(place.base, (facts for _, facts in gathered.read)):
            shared_text = None
    if sighted.shared is not None and place is not None and shared_text is not None:
        here = [[(place.canonical(path), digest) for path, digest in facts] for facts in (read, named)]
        shared = _keys(
            sighted.shared, shared_text if listed.text else None, here[0], here[1] if hides_comments else None
        )
    inputs = tuple((facts.input.path, facts.signature) for _, facts in gathered.read)
    return Recipe(sighted, own, shared, found, inputs)


def _keys(
    facts: CommandFacts,
    text: bytes | None,
    read: Sequence[tuple[bytes, str]],
    named: Sequence[tuple[bytes, str]] | None,
) -> Keys:
    digest = "" if text is None else digest_of(text)
    return Keys(inputs_key(facts, digest, read), None if named is None else text_key(facts, digest, named))


def _shared(sighted: Sighted, entry: Entry) -> Entry | None:
    """A result as it is stored for other places; None where it tells of this one."""
    place, compilation = sighted.place, sighted.request.compilation
    if place is None:
        return None
    outputs = []
    for output in entry.outputs:
        if output.kind is OutputKind.DEPFILE:
            form = form_of(output.data, compilation.compiler.family, place.targets, place.canonical)
            if form is None:
                return None
            outputs.append(evolve(output, data=form))
        elif place.base and sharing.tells(output.data, place.base):
            return None
        else:
            outputs.append(output)
    if place.base and (place.base in entry.stdout or place.base in entry.stderr):
        return None
    return evolve(entry, outputs=tuple(outputs))


def predicted_recipe(sighted: Sighted, question: Question, gathered: Gathered, states: FileStates) -> Recipe | str:
    """The key of a call whose inputs were predicted, so that there is no text; else as :func:`recipe`."""
    read = _read(sighted, gathered, states)
    if isinstance(read, str):
        return read
    found = conditions(question, gathered, View(states, question.cwd))
    if not isinstance(found, Conditions):
        return found or "untraceable_input"
    own, shared = _keys(sighted.facts, None, read, None), None
    if sighted.shared is not None and sighted.place is not None and not sighted.place.base:
        # Whether the base directory's name shows, only the text could tell.
        shared = _keys(sighted.shared, None, read, None)
    signatures = tuple((facts.input.path, facts.signature) for _, facts in gathered.read)
    return Recipe(sighted, own, shared, found, signatures)


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
