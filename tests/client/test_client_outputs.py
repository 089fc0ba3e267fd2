"""Outputs are written as the compiler would have written them, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from client_kit import CLANG, GCC, understood

from sccache_twisted.client.outputs import Unwritable, obstacle, places_of, write_outputs
from sccache_twisted.model import Compilation, OutputFile


def made(words: list[str], cwd: Path, compiler=GCC) -> tuple[Compilation, tuple, list[OutputFile]]:
    compilation = understood(compiler, words, cwd)
    places = places_of(compilation, os.fsencode(cwd))
    return compilation, places, [OutputFile(place.path, b"content of " + place.path) for place in places]


def test_modes(tmp_path: Path) -> None:
    """A new file has 0666 less the caller's umask, whatever the daemon's own umask is."""
    compilation, places, files = made(["-MD", "-c", "a.c"], tmp_path)
    before = os.umask(0o077)
    try:
        write_outputs(compilation, places, files, 0o002)
    finally:
        os.umask(before)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {"a.o": 0o664, "a.d": 0o664}


def test_object_is_last(tmp_path: Path) -> None:
    """The object appears when everything else is there."""
    compilation, places, files = made(["-MD", "-gsplit-dwarf", "-c", "a.c"], tmp_path)
    moved: list[str] = []
    real = os.replace
    try:
        os.replace = lambda source, target: (moved.append(os.fsdecode(target)), real(source, target))[1]  # type: ignore[assignment]
        write_outputs(compilation, places, files, 0o022)
    finally:
        os.replace = real
    assert moved[-1].endswith("a.o")
    assert len(moved) == 3


def test_all_or_nothing(tmp_path: Path) -> None:
    """When one file can't be written none is, and what was there stays as it was."""
    compilation, places, files = made(["-MD", "-MF", "gone/a.d", "-c", "a.c"], tmp_path)
    (tmp_path / "a.o").write_text("before")
    with pytest.raises(Unwritable, match=r"gone.*No such file"):
        write_outputs(compilation, places, files, 0o022)
    assert [path.name for path in tmp_path.iterdir()] == ["a.o"]
    assert (tmp_path / "a.o").read_text() == "before"


def test_missing_output(tmp_path: Path) -> None:
    """A required file that did not come back is an error, with its name; nothing is written."""
    compilation, places, files = made(["-MD", "-c", "a.c"], tmp_path)
    with pytest.raises(Unwritable, match=r"a\.o did not come back"):
        write_outputs(compilation, places, [file for file in files if file.path.endswith(b".d")], 0o022)
    assert list(tmp_path.iterdir()) == []


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while a file is written leaves nothing half-written."""
    compilation, places, files = made(["-MD", "-c", "a.c"], tmp_path)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 4:
            return real(descriptor, bytes(data[:4]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unwritable, match="No space left"):
        write_outputs(compilation, places, files, 0o022)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "compiler", "through"),
    [
        (["-c", "a.c"], GCC, False),
        (["-c", "a.c"], CLANG, False),
        (["-S", "a.c"], GCC, True),
        (["-S", "a.c"], CLANG, False),
    ],
    ids=["gcc -c", "clang -c", "gcc -S", "clang -S"],
)
def test_links(tmp_path: Path, words: list[str], compiler, through: bool) -> None:
    """A symbolic link in the way is replaced or written through as the compilers do."""
    compilation, places, files = made(words, tmp_path, compiler)
    link = Path(os.fsdecode(places[0].path))
    (tmp_path / "target").write_text("before")
    link.symlink_to("target")
    write_outputs(compilation, places, files, 0o022)
    assert link.is_symlink() is through
    assert ((tmp_path / "target").read_text() != "before") is through


def test_obstacles(tmp_path: Path) -> None:
    """What is no regular file, or in no directory, is found before anything is sent anywhere."""
    assert obstacle(made(["-c", "a.c"], tmp_path)[1]) == ""
    assert "not a directory" in obstacle(made(["-c", "a.c", "-o", "none/a.o"], tmp_path)[1])
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in obstacle(made(["-c", "a.c", "-o", "fifo"], tmp_path)[1])
    (tmp_path / "dir").mkdir()
    assert "not a regular file" in obstacle(made(["-c", "a.c", "-o", "dir"], tmp_path)[1])
