"""Where an option's value stands: every option that the installed compilers list, asked of themselves."""

from __future__ import annotations

import re
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest
from compilers_help import family_of, run

from sccache_twisted.compilers.commandline import TABLES
from sccache_twisted.compilers.options import Arity, OptionTable

_GCC_CLASSES = ("common", "optimizers", "warnings", "target", "params", "c", "c++", "undocumented", "separate")
_LANGUAGE = (b"-x", b"--language", b"-x=")
_ONLY_INSTEAD = re.compile(rb"-+(?:###|cc1|print-|help|target-help|version|dump[msv]|dumpfull|autocomplete|completion)")
"""What makes the driver answer and look at no input; and the language of inputs is another test's."""

_BATCH = 150
_NOT_INPUT = {
    "gcc": re.compile(rb"\bV(\d+)([a-d])\.zz: (?:linker input|No such)"),
    "clang": re.compile(rb"(?:directory: '|^clang: warning: )V(\d+)([a-d])\.zz(?:'|: 'linker' input)", re.MULTILINE),
}
_UNKNOWN = re.compile(rb"unrecogni[sz]ed|[Uu]nknown argument|unsupported option|not supported|did you mean")


def _output(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


def _first_words(text: bytes) -> set[bytes]:
    """The options of a help text: the first word of each indented line, up to where its value is shown."""
    lines = [line.strip() for line in text.splitlines() if line.startswith(b"  -")]
    return {re.split(rb"[ \t<\[]", line)[0].rstrip(b",") for line in lines}


@lru_cache
def listed(name: str) -> frozenset[bytes]:
    """The options that a compiler lists, without those that only mean something before an input or instead of one."""
    if name == "gcc":
        found = set().union(*(_first_words(_output("gcc", f"--help={part}")) for part in _GCC_CLASSES))
    else:
        lines = (_output("clang", "--autocomplete=-") + _output("clang", "--autocomplete=--")).splitlines()
        found = _first_words(_output("clang", "--help-hidden")) | {line.split(b"\t")[0].strip() for line in lines}
        # Warnings are two thousand values of one option.
        found = {word for word in found if not re.match(rb"-W[a-z]", word)}
    return frozenset(
        word
        for word in found
        if len(word) > 2 and not word.startswith(_LANGUAGE) and not _ONLY_INSTEAD.match(word) and word != b"--"
    )


def _tabled(table: OptionTable, option: bytes) -> int:
    """How many arguments behind an option the table takes for its value."""
    row, value = table.classify(option)
    return 0 if value is not None or row.arity is Arity.FLAG else row.values


class Asked:
    """What a compiler takes for an option's value: of four words behind it, those that are no inputs."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        (directory / "a.c").write_text("int x;\n")

    def values(self, options: list[bytes]) -> dict[bytes, int]:
        """By option, for those that a compiler doesn't refuse so soon that it looks at no input."""
        found, told = self._ask(options)
        if told:
            return found
        if len(options) == 1:
            return {}
        middle = len(options) // 2
        return self.values(options[:middle]) | self.values(options[middle:])

    def knows(self, option: bytes) -> bool:
        """Whether the option is one of this compiler's."""
        words = [option, *(b"V0%c.zz" % mark for mark in b"abcd")]
        return not _UNKNOWN.search(run(self.name, ["-###", "-c", "a.c", *words], self.directory).stderr)

    def _ask(self, options: list[bytes]) -> tuple[dict[bytes, int], bool]:
        for stray in self.directory.glob("*.zz"):  # even -### writes what -MF names
            stray.unlink()
        words: list[str | bytes] = ["-###", "-c", "a.c"]
        for number, option in enumerate(options):
            words += [option, *(b"V%d%c.zz" % (number, mark) for mark in b"abcd")]
        said = run(self.name, [*words, "V999a.zz"], self.directory).stderr
        inputs = set(_NOT_INPUT[self.name].findall(said))
        taken = {}
        for number, option in enumerate(options):
            marks = [(b"%d" % number, bytes([mark])) in inputs for mark in b"abcd"]
            taken[option] = marks.index(True) if True in marks else 4
        return taken, (b"999", b"a") in inputs


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_an_options_value_stands_where_the_compiler_takes_it(name: str, tmp_path: Path) -> None:
    """No option's value is taken for a source, and no source for a value, of all that the compiler lists or we do."""
    table = TABLES[family_of(name)]
    ours = {row.spelling for row in table.options() if row.spelling.startswith(b"-")}
    ours = {word for word in ours if not word.startswith(_LANGUAGE) and not _ONLY_INSTEAD.match(word)}
    options = sorted(listed(name) | ours - {b"--"})
    # gcc wants what is joined to a name that ends so, and looks at no input without.
    options = [word for word in options if not (name == "gcc" and word.endswith(b"="))]
    asked = Asked(name, tmp_path)
    values: dict[bytes, int] = {}
    for start in range(0, len(options), _BATCH):
        values |= asked.values(options[start : start + _BATCH])
    assert len(values) > 0.9 * len(options)
    wrong = [word for word, count in values.items() if count != _tabled(table, word)]
    # An option may swallow what belongs to the next, and one that is not known here is known elsewhere.
    wrong = [word for word in wrong if asked.values([word]) != {word: _tabled(table, word)} and asked.knows(word)]
    assert wrong == []
    assert sum(count > 0 for count in values.values()) > 50


@pytest.mark.parametrize(
    ("option", "count"),
    [
        ("-sectalign", 3),
        ("-segaddr", 2),
        ("-Xarch_x86_64", 1),
        ("-fxray-always-instrument=", 1),
        ("-fxray-always-instrument=x", 0),
        ("-fdebug-compilation-dir", 1),
        ("-fdebug-compilation-dir=x", 0),
        ("-allowable_client", 1),
        ("-sub_library", 1),
        ("-sub_libraryx", 0),
    ],
)
def test_values_that_are_written_in_their_own_way(option: str, count: int, tmp_path: Path) -> None:
    """Some of clang's options have several values, or a joined and a separate one, or either behind a sign."""
    table = TABLES[family_of("clang")]
    assert _tabled(table, option.encode()) == count
    assert Asked("clang", tmp_path).values([option.encode()]) == {option.encode(): count}


def test_aliases_have_the_effect_of_what_they_stand_for() -> None:
    """Where gcc says that an option is the same as another, the table says so too."""
    table = TABLES[family_of("gcc")]
    text = b"".join(_output("gcc", f"--help={part}") for part in _GCC_CLASSES)
    text = re.sub(rb"\n {20,}", b" ", text)
    same = set(re.findall(rb"^  (-\S+) +.*?Same as (-[^ ,\n]*?)\.?(?=[\s(]|$)", text, re.MULTILINE))
    assert len(same) > 50
    for alias, meant in same:
        ours, theirs = table.classify(alias)[0], table.classify(meant)[0]
        assert (ours.effect, ours.listing) == (theirs.effect, theirs.listing), (alias, meant)


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("--stack-usage", "-fstack-usage"),
        ("--profile-use=p", "-fprofile-use=p"),
        ("--debug=0", "-g0"),
        ("--machine-arch=native", "-march=native"),
        ("--machine=arch=native", "-march=native"),
        ("--warn-error", "-Werror"),
        ("--lto", "-flto"),
        ("--dump-tree-all", "-fdump-tree-all"),
    ],
)
def test_long_forms_are_what_gcc_makes_of_them(long: str, short: str) -> None:
    """A long option that has no row of its own is the short one that gcc makes of it."""
    table = TABLES[family_of("gcc")]
    assert table.classify(long.encode()) == table.classify(short.encode())
