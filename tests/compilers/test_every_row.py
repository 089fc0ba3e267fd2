"""Every matter of :mod:`option_rows`: is it taken over, does it leave the machine, what is written, what is keyed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from compilers_help import ENV, understand
from option_rows import FAR, ROWS, Row
from option_rows_code import MORE_ROWS

from sccache_twisted.compilers.keying import keyed_args, keyed_environment, shows_directory
from sccache_twisted.compilers.reasons import REASONS, Place
from sccache_twisted.model import Compilation, NotCacheable, NotCompilation, ParsedCommand

ALL = {**ROWS, **MORE_ROWS}
_FILES = {
    b"/w/line": b"-O1 'a b.c' -c",
    b"/w/nested": b"@first @/w/second",
    b"/w/first": b"-O1",
    b"/w/second": b"a\\ b.c\n-c",
    b"/w/endless": b"@endless",
    b"/w/./o.specs": b"*cpp:\n+ -DV\n\n",
    b"/w/./native.specs": b"*cc1:\n+ -march=native\n\n",
    b"/w/./o.cfg": b"-O2\n",
    b"/w/./native.cfg": b"-march=native\n",
}
_CLASSES = {Place.NOT_COMPILATION: NotCompilation, Place.NOT_CACHEABLE: NotCacheable, Place.LOCAL: Compilation}
_CASES = [(title, case) for title, row in ALL.items() for case in row.cases]
_PAIRS = [(title, pair, True) for title, row in ALL.items() for pair in row.same]
_PAIRS += [(title, pair, False) for title, row in ALL.items() for pair in row.other]


def understood(line: str) -> ParsedCommand:
    """What a line is understood as, with the variables in front of it; their PWD is where it is called."""
    words = line.split(" ")
    env = dict(ENV)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        env[name.encode()] = value.encode()
    program, *args = words
    name = {"cc": "gcc", "c++": "g++"}.get(program, program)
    return understand(name, [word.encode("latin-1") for word in args], _directory(line), env, _FILES)


def _directory(line: str) -> str:
    return line.partition("PWD=")[2].partition(" ")[0] or "/w"


def key(line: str) -> tuple[object, ...]:
    """All of a line that a cache key is made of; the compiler's own name and content come on top."""
    parsed = understood(line)
    assert isinstance(parsed, Compilation), parsed
    words = line.split(" ")
    variables = [word.split("=", 1) for word in words if "=" in word and word.split("=")[0].isupper()]
    return (
        parsed.compiler.argv0,
        parsed.language,
        keyed_args(parsed, parsed.args),
        keyed_environment(tuple((name.encode(), value.encode()) for name, value in variables)),
        parsed.source,
        _directory(line) if shows_directory(parsed) else None,
        tuple(output.kind for output in parsed.outputs),
        parsed.native,
    )


@pytest.mark.parametrize(("title", "case"), _CASES, ids=[case[0] for _, case in _CASES])
def test_a_line_is_decided_as_its_row_says(title: str, case: tuple[str, ...]) -> None:
    """A row's lines go to a worker, stay here or are left to the compiler, each by its word; outputs are foretold."""
    told, reason, *outputs = case
    line, _, reads = told.removesuffix(" native").partition(" reads ")
    parsed = understood(line)
    assert title in ALL
    if reason == FAR:
        assert isinstance(parsed, Compilation), parsed
        assert parsed.distributable, parsed.local_reason
        assert parsed.native == ("native" in line)
        if reads:
            assert list(parsed.hidden_inputs) == reads.encode().split()
    else:
        assert isinstance(parsed, _CLASSES[REASONS[reason].place]), parsed
        assert (parsed.local_reason if isinstance(parsed, Compilation) else parsed.reason) == reason
    for names in outputs:
        assert isinstance(parsed, Compilation)
        found = b"|".join(output.path for output in parsed.outputs)
        assert found.decode("latin-1").replace("|", " ") == names


@pytest.mark.parametrize(("title", "pair", "same"), _PAIRS, ids=str)
def test_a_key_holds_what_shows(title: str, pair: tuple[str, str], same: bool) -> None:
    """What shows in no result is in no key; what may show is in it."""
    assert title in ALL
    one, other = map(key, pair)
    assert (one == other) == same


def test_the_page_on_options_uses_the_words_of_reasons() -> None:
    """What docs/compilers.md calls a reason is one, and it names each that a command line alone can give."""
    page = (Path(__file__).parents[2] / "docs" / "compilers.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", page)) - {"no_toolchain", "native", "gcc", "cc"}
    given = {case[1] for _, case in _CASES if case[1] != FAR}
    assert named <= set(REASONS)
    assert given - named == {"no_input", "bad_compiler_arguments", "bad_input_file"}


@pytest.mark.parametrize("title", ALL)
def test_a_row_tells_its_matter_from_others(title: str) -> None:
    """A row has a line that is taken one way and a line that is taken another, or keys that differ."""
    row: Row = ALL[title]
    ways = {case[1:] for case in row.cases} | {
        ("key", same) for _, pair, same in _PAIRS if pair in row.same + row.other
    }
    assert len(row.cases) + len(row.same) + len(row.other) >= 2
    assert len(ways) >= 2
