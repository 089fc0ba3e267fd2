"""The keys of the cache: what a result depends on, framed so that no two different sets of facts look the same.

Three keys, from the fewest facts to the most:

* the **manifest key**: the command and the source; what it leads to lists which other files matter;
* the **text key**: the command and the preprocessed text, for results in which nothing else can show;
* the **inputs key**: the command, the text, and the content of every file that was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen
from blake3 import blake3

KEY_VERSION = 1
"""Changes with the meaning of any fact, so that no result of an older meaning is found."""


@frozen
class CommandFacts:
    """What of a command shows in its result. ``directory`` is None where it can't show.

    ``directories``: whether each directory that the command names exists. ``processor`` names this machine's, where
    the command asks for it. ``buster`` is whatever the user says makes results different.
    """

    toolchain: str
    executable: bytes
    argv0: bytes
    family: str
    language: str
    args: tuple[bytes, ...]
    env: tuple[tuple[bytes, bytes], ...]
    source: bytes
    directory: bytes | None
    outputs: tuple[str, ...]
    directories: tuple[bool, ...] = ()
    processor: str = ""
    buster: bytes = b""


def framed(*parts: object) -> bytes:
    """Parts as bytes from which they could be read back: each with its type and its length.

    A part is None, a bool, an int, a str, bytes, or a sequence of such parts.
    """
    out = bytearray()
    _frame(out, parts)
    return bytes(out)


def manifest_key(facts: CommandFacts, source_digest: str) -> str:
    """The key of the manifest for a command and the content of its source."""
    return _key("manifest", facts, source_digest)


def text_key(facts: CommandFacts, text_digest: str, unlisted: Iterable[tuple[bytes, str]]) -> str:
    """The key of a result that depends on the preprocessed text alone, and on files whose content isn't in it.

    ``unlisted``: their paths as spelled, with their digests.
    """
    return _key("text", facts, text_digest, sorted(unlisted))


def inputs_key(facts: CommandFacts, text_digest: str, inputs: Iterable[tuple[bytes, str]]) -> str:
    """The key of a result that depends on the preprocessed text and on the content of each input.

    ``text_digest`` is empty for a source that needs no preprocessor.
    """
    return _key("inputs", facts, text_digest, sorted(inputs))


def _key(purpose: str, facts: CommandFacts, *more: object) -> str:
    told = (
        facts.toolchain,
        facts.executable,
        facts.argv0,
        facts.family,
        facts.language,
        facts.args,
        facts.env,
        facts.source,
        facts.directory,
        facts.outputs,
        facts.directories,
        facts.processor,
        facts.buster,
    )
    return blake3(framed("sccache-twisted", KEY_VERSION, purpose, told, *more)).hexdigest()


def _frame(out: bytearray, value: object) -> None:
    if value is None:
        out += b"n"
    elif isinstance(value, bool):
        out += b"t" if value else b"f"
    elif isinstance(value, int):
        _sized(out, b"i", str(value).encode())
    elif isinstance(value, str):
        _sized(out, b"s", value.encode("utf-8", "surrogateescape"))
    elif isinstance(value, bytes):
        _sized(out, b"b", value)
    elif isinstance(value, Sequence):
        out += b"l%d:" % len(value)
        for item in value:
            _frame(out, item)
    else:
        raise TypeError(f"{type(value).__name__} cannot be part of a key")


def _sized(out: bytearray, kind: bytes, data: bytes) -> None:
    out += kind + b"%d:" % len(data) + data
