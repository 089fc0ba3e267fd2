"""Notes on disk: bounded, shared, and of no use but to explain, so nothing of them may hurt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
import zstandard
from attrs import evolve
from contracts.cache_store import key_of

from sccache_twisted.errors import StorageError
from sccache_twisted.hashing.note import (
    MOST_BYTES_OF_WORDS,
    MOST_WORD_BYTES,
    Look,
    Note,
    State,
    bounded_words,
    pack,
    unpack,
)
from sccache_twisted.storage.notebook import MOST_OF_A_COMMAND, MOST_OF_A_SOURCE, Notebook

FACTS = {"args": (b"-O2", b"-c"), "executable": b"/usr/bin/gcc"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work" / "notes.sqlite"


@pytest.fixture
def notebook(path: Path) -> Notebook:
    return Notebook(os.fsencode(path), 100)


def note(source: str, moment: int, key: str = "", state: State = State.MISS, **more: object) -> Note:
    values = {"output": b"/w/%b.o" % source.encode(), "facts": FACTS, "key": key_of(key or str(moment)), "stored": True}
    return Note(state, b"/w/%b" % source.encode(), moment, **{**values, **more})  # type: ignore[arg-type]


def test_a_note_comes_out_as_it_went_in() -> None:
    """Every field, bytes that are no text too; what another version wrote is no note."""
    whole = Note(
        State.MISS, b"/w/\xff", 5, b"/w/o", b"/w", (b"gcc", b"-D\xff"), "gcc 12", FACTS, "ab", (b"i",), "k", ("a", "b"),
        Look.NO_SET, ("late",), stored=True, reason="too_new", known_ns=3,
    )  # fmt: skip
    assert unpack(pack(whole)) == whole
    for damage in (
        b"",
        b"\xc1",
        pack(whole)[:-3],
        b"\x93\xa4miss\xa1b\x05",
        zstandard.compress(msgpack.packb(["mess"] * 17)),
    ):
        assert unpack(damage) is None


def test_a_long_command_line_is_kept_short() -> None:
    """Of a very long list of words the first are kept, and the rest so that they still differ from others."""
    words = tuple(b"-I/some/directory/%d" % number for number in range(50_000))
    kept, other = bounded_words(words), bounded_words((*words[:-1], b"-Iother"))
    assert sum(map(len, kept)) < 2 * MOST_BYTES_OF_WORDS
    assert kept[:100] == words[:100]
    assert kept[:-1] == other[:-1]
    assert kept[-1] != other[-1]


def test_long_words_are_kept_short() -> None:
    """A word of megabytes is its beginning and a digest, so that it still differs from another."""
    (one, other) = bounded_words((b"-D" + b"x" * 10_000, b"-D" + b"x" * 9_999 + b"y"))
    assert len(one) < MOST_WORD_BYTES
    assert one != other


def test_the_latest_comes_first_by_source_and_by_output(notebook: Notebook) -> None:
    """Notes are found by their source, or by what was made of it."""
    notebook.add([note("a.c", 1), note("b.c", 2), note("a.c", 3)])
    assert [one.time_ns for one in notebook.of(b"/w/a.c")] == [3, 1]
    assert [one.time_ns for one in notebook.of(b"/w/b.c.o")] == [2]
    assert notebook.of(b"/w/c.c") == []


def test_a_hit_that_comes_again_moves_in_time(notebook: Notebook) -> None:
    """A repeated hit is one note with a new moment; one that is not there any more is said to be gone."""
    notebook.add([note("a.c", 1, "k", State.HIT)])
    name = (b"/w/a.c", key_of("k"))
    assert notebook.again({name: 9, (b"/w/b.c", key_of("k")): 9}) == [(b"/w/b.c", key_of("k"))]
    assert [one.time_ns for one in notebook.of(b"/w/a.c")] == [9]


def test_a_miss_knows_when_its_key_had_a_result(notebook: Notebook) -> None:
    """The last time that the same key was stored or found is kept with a miss; a failure to store is none."""
    notebook.add([note("a.c", 1, "k")])
    notebook.add([note("a.c", 2, "k", State.HIT), note("a.c", 3, "l", stored=False)])
    notebook.add([note("a.c", 5, "k"), note("a.c", 6, "l")])
    assert [(one.time_ns, one.known_ns) for one in notebook.of(b"/w/a.c")] == [(6, 0), (5, 2), (2, 1)]


def test_a_source_and_a_command_have_few_notes(notebook: Notebook) -> None:
    """Of one configuration only the latest are kept, so that the others are not forgotten for it."""
    release = note("a.c", 1, facts={**FACTS, "args": (b"-O3",)})
    notebook.add([release, *(note("a.c", moment) for moment in range(2, 50))])
    times = [one.time_ns for one in notebook.of(b"/w/a.c")]
    assert times == [*range(49, 49 - MOST_OF_A_COMMAND, -1), 1]
    notebook.add([note("b.c", moment, facts={**FACTS, "args": (b"%d" % moment,)}) for moment in range(60)])
    assert [one.time_ns for one in notebook.of(b"/w/b.c")] == list(range(59, 59 - MOST_OF_A_SOURCE, -1))


def test_all_together_are_bounded(notebook: Notebook) -> None:
    """Beyond the bound the oldest of all go, a tenth at a time."""
    for moment in range(0, 250, 10):
        notebook.add([note(f"{number}.c", number) for number in range(moment, moment + 10)])
    there = [number for number in range(250) if notebook.of(b"/w/%d.c" % number)]
    assert there == list(range(there[0], 250))
    assert 80 <= len(there) <= 100


def test_their_bytes_are_bounded(path: Path) -> None:
    """Notes of very long command lines are fewer: what they take on disk has a bound of its own."""
    most = 1 << 20
    notebook = Notebook(os.fsencode(path), 10_000, most)
    for number in range(100):
        argv = tuple(os.urandom(2000) for _ in range(20))
        notebook.add([note(f"{number}.c", number, argv=argv)])
    assert path.stat().st_size < 2 * most
    there = [number for number in range(100) if notebook.of(b"/w/%d.c" % number)]
    assert there == list(range(there[0], 100))
    assert 10 <= len(there) < 30


def test_damage_begins_anew(notebook: Notebook, path: Path) -> None:
    """A file that is no database any more, or an older one, costs the notes and nothing else."""
    notebook.add([note("a.c", 1)])
    path.write_bytes(b"This is not a database, whatever its name says. " * 100)
    assert notebook.of(b"/w/a.c") == []
    notebook.add([note("a.c", 2)])
    assert [one.time_ns for one in notebook.of(b"/w/a.c")] == [2]
    path.unlink()
    assert notebook.again({(b"/w/a.c", key_of("2")): 9}) == [(b"/w/a.c", key_of("2"))]


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """Where no file can be made, that is a StorageError that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"notes\.sqlite"):
        Notebook(os.fsencode(tmp_path / "file" / "notes.sqlite")).add([note("a.c", 1)])


_WRITER = """\
import os, sys
sys.path[:0] = sys.argv[2].split(os.pathsep)
from test_storage_notebook import Notebook, note
notebook = Notebook(os.fsencode(sys.argv[1]), 10_000)
print("begun", flush=True)
moment = 0
while True:
    notebook.add([note(f"{sys.argv[3]}-{moment % 50}.c", moment + number) for number in range(20)])
    moment += 20
"""


def test_writers_that_are_killed_leave_whole_notes(path: Path) -> None:
    """Two daemons write one file and are killed at any moment: it stays readable, and takes more."""
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    for _ in range(5):
        words = [sys.executable, "-c", _WRITER, str(path), paths]
        writers = [subprocess.Popen([*words, name], stdout=subprocess.PIPE) for name in ("one", "two")]
        notebook = Notebook(os.fsencode(path), 10_000)
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"begun\n"
        while not (notebook.of(b"/w/one-0.c") and notebook.of(b"/w/two-0.c")):
            os.sched_yield()
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
        found = notebook.of(b"/w/one-0.c")
        assert found
        notebook.add([evolve(found[0], time_ns=10**15)])
        assert notebook.of(b"/w/one-0.c")[0].time_ns == 10**15
