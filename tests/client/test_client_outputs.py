"""Outputs are written as the compiler would have written them, or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from client_kit import CLANG, GCC, understood

from sccache_twisted.client import outputs
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


@pytest.mark.parametrize("there_already", [False, True])
def test_object_is_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_already: bool) -> None:
    """The object appears when everything else is there, whether it is new or replaces another."""
    compilation, places, files = made(["-MD", "-gsplit-dwarf", "-c", "a.c"], tmp_path)
    if there_already:
        (tmp_path / "a.o").write_text("before")
    appeared: list[set[str]] = []
    put = outputs._Draft.put

    def watched(draft: outputs._Draft) -> None:
        appeared.append({path.name for path in tmp_path.iterdir() if path.read_bytes().startswith(b"content")})
        put(draft)

    monkeypatch.setattr(outputs._Draft, "put", watched)
    write_outputs(compilation, places, files, 0o022)
    assert appeared[-1] == {"a.d", "a.dwo"}
    assert len(appeared) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"a.o", "a.d", "a.dwo"}
    assert (tmp_path / "a.o").read_bytes().startswith(b"content")


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from sccache_twisted.client import outputs
from test_client_outputs import made
outputs._Draft.put = lambda draft: os.kill(os.getpid(), signal.SIGKILL)
outputs.write_outputs(*made(["-MD", "-c", "a.c"], Path(sys.argv[1])), 0o022)
"""


def test_nothing_is_left_of_a_killed_writer(tmp_path: Path) -> None:
    """A process that is killed between writing its files and naming them leaves the directory as it was."""
    (tmp_path / "a.o").write_text("before")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), *sys.path], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.o", "before")]


def test_a_file_system_without_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where O_TMPFILE is not to be had the files are written under names of their own, and renamed."""
    compilation, places, files = made(["-MD", "-c", "a.c"], tmp_path)
    real = os.open

    def opened(path: bytes, flags: int, *args: int, **kwargs: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", opened)
    write_outputs(compilation, places, files, 0o022)
    assert {path.name for path in tmp_path.iterdir()} == {"a.o", "a.d"}


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


def test_another_name_of_a_file_shows_what_is_written_through(tmp_path: Path) -> None:
    """A depfile with two names has them still, and both show it; an object's other name keeps the old one."""
    compilation, places, files = made(["-MD", "-c", "a.c"], tmp_path)
    for name in ("a.d", "a.o"):
        (tmp_path / name).write_text("before, and longer than what comes to stand here" * 9)
        os.link(tmp_path / name, tmp_path / f"other-{name}")
    write_outputs(compilation, places, files, 0o022)
    assert (tmp_path / "other-a.d").samefile(tmp_path / "a.d")
    assert (tmp_path / "other-a.d").read_bytes() == b"content of " + os.fsencode(tmp_path / "a.d")
    assert (tmp_path / "other-a.o").read_bytes().startswith(b"before")
    assert (tmp_path / "a.o").read_bytes().startswith(b"content")
    assert len(list(tmp_path.iterdir())) == 4


def test_obstacles(tmp_path: Path) -> None:
    """What is no regular file, or in no directory, is found before anything is sent anywhere."""
    assert obstacle(made(["-c", "a.c"], tmp_path)[1]) == ""
    assert "not a directory" in obstacle(made(["-c", "a.c", "-o", "none/a.o"], tmp_path)[1])
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in obstacle(made(["-c", "a.c", "-o", "fifo"], tmp_path)[1])
    assert "the kernel's" in obstacle(made(["-c", "a.c", "-o", "/proc/a.o"], tmp_path)[1])
    (tmp_path / "dir").mkdir()
    assert "not a regular file" in obstacle(made(["-c", "a.c", "-o", "dir"], tmp_path)[1])
