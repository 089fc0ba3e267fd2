"""Lines that nobody has thought of."""

from __future__ import annotations

from compilers_help import compiler
from hypothesis import given, settings
from hypothesis import strategies as st

from sccache_twisted.compilers.commandline import TABLES, parse
from sccache_twisted.compilers.keying import keyed_args, keyed_environment, shows_directory
from sccache_twisted.compilers.reasons import REASONS
from sccache_twisted.model import Compilation, CompilerFamily, ParsedCommand

_GCC, _CLANG = compiler("gcc"), compiler("clang")
_SPELLINGS = {
    family: sorted(row.spelling for row in table.options() if row.spelling.startswith(b"-"))
    for family, table in TABLES.items()
}
_VALUES = (
    b"a.c",
    b"b.s",
    b"x",
    b"",
    b"-",
    b"--",
    b"@r",
    b"@",
    b"=",
    b"c++",
    b"native",
    b"/",
    b"a/../b.o",
    b"\xff",
    b"-c",
)
_FILES = {b"/w/r": b"-DA '\\'\" @r", b"/w/x": b"-march=native"}


def _lines(family: CompilerFamily) -> st.SearchStrategy[list[bytes]]:
    option = st.sampled_from(_SPELLINGS[family])
    value = st.sampled_from(_VALUES) | st.binary(max_size=8)
    word = option | value | st.builds(bytes.__add__, option, value)
    return st.lists(word, max_size=12).map(lambda words: [*words, b"-c", b"a.c"])


def _judge(parsed: ParsedCommand, line: list[bytes]) -> None:
    if not isinstance(parsed, Compilation):
        assert parsed.reason in REASONS
        return
    assert parsed.distributable == (not parsed.local_reason)
    assert not parsed.local_reason or parsed.local_reason in REASONS
    assert len({output.path for output in parsed.outputs}) == len(parsed.outputs) >= 1
    assert parsed.source not in {output.path for output in parsed.outputs}
    assert parsed.source in line or any(word[:1] == b"@" for word in line)
    shows_directory(parsed)
    kept = keyed_args(parsed, parsed.args)
    assert len(kept) <= len(parsed.args)
    keyed_environment(())


@settings(max_examples=400, deadline=None)
@given(_lines(CompilerFamily.GCC))
def test_any_line_of_gccs_is_understood_or_has_a_reason(line: list[bytes]) -> None:
    """Whatever stands on the line: an answer, no exception, a documented word, and outputs that differ."""
    _judge(parse(_GCC, line, b"/w", {}, _FILES.get), line)


@settings(max_examples=400, deadline=None)
@given(_lines(CompilerFamily.CLANG))
def test_any_line_of_clangs_is_understood_or_has_a_reason(line: list[bytes]) -> None:
    """Whatever stands on the line: an answer, no exception, a documented word, and outputs that differ."""
    _judge(parse(_CLANG, line, b"/w", {}, _FILES.get), line)
