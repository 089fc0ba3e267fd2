"""Which compiler it is, what of the environment travels, when colours are asked for."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from compilers_help import ENV, compilation, run

from sccache_twisted.compilers.colour import colour_args, coloured
from sccache_twisted.compilers.environment import travelling, zone_files
from sccache_twisted.compilers.identify import compiler_name, identify
from sccache_twisted.compilers.reasons import REASONS, sentence
from sccache_twisted.hashing.digests import CHUNK_BYTES, digest_of, digest_open_file, read_open_file
from sccache_twisted.model import CompilerFamily

GCC, CLANG = CompilerFamily.GCC, CompilerFamily.CLANG


@pytest.mark.parametrize(
    ("program", "family", "cplusplus"),
    [
        (b"gcc", GCC, False),
        (b"/usr/bin/g++-12", GCC, True),
        (b"x86_64-linux-gnu-gcc-12", GCC, False),
        (b"arm-none-eabi-g++", GCC, True),
        (b"x86_64-w64-mingw32-gcc-12-posix", GCC, False),
        (b"clang", CLANG, False),
        (b"./clang++-14", CLANG, True),
        (b"aarch64-linux-android21-clang++", CLANG, True),
        (b"cc", None, False),
        (b"c++", None, True),
    ],
)
def test_names_of_compilers(program: bytes, family: CompilerFamily | None, cplusplus: bool) -> None:
    """A compiler is known by its name, with target and version around it."""
    found = compiler_name(program)
    assert found is not None
    assert (found.family, found.cplusplus) == (family, cplusplus)


@pytest.mark.parametrize(
    "program", [b"gcc-ar", b"clang-cpp-14", b"clang-format", b"ld", b"sccache", b"c++filt", b"gccgo", b"cpp"]
)
def test_names_of_other_programs(program: bytes) -> None:
    """A tool that is named after a compiler is none."""
    assert compiler_name(program) is None


@pytest.mark.parametrize("name", ["gcc", "g++", "cc", "clang"])
@pytest.mark.parametrize("args", [["-v"], ["--version"], ["-dM", "-E", "-x", "c", "/dev/null"]])
def test_compilers_say_who_they_are(name: str, args: list[str], tmp_path: Path) -> None:
    """The family is told from any of the answers, and the version is in it."""
    ran = run(name, args, tmp_path)
    found = identify(ran.stderr + ran.stdout)
    assert found is not None
    assert found.family is (CLANG if name == "clang" else GCC)
    assert re.search(r"1[0-9]\.[0-9]", found.version)
    if args == ["-v"]:
        assert "linux" in found.target


def test_other_programs_are_no_compilers(tmp_path: Path) -> None:
    """A program of another kind has no family."""
    assert identify(run("make", ["--version"], tmp_path).stdout) is None


@pytest.mark.parametrize(
    ("env", "files"),
    [
        ({}, (b"/etc/localtime",)),
        ({b"TZ": b":/own/zone"}, (b"/own/zone", b"/usr/share/zoneinfo/posixrules")),
        ({b"TZ": b"Asia/Tokyo", b"TZDIR": b"/z"}, (b"/z/Asia/Tokyo", b"/z/posixrules")),
    ],
)
def test_time_zones(env: dict[bytes, bytes], files: tuple[bytes, ...]) -> None:
    """The time zone is read from where glibc reads it."""
    assert zone_files(env) == files


def test_only_listed_variables_travel() -> None:
    """What the compiler needs leaves the client, sorted; secrets and PWD don't."""
    env = {
        b"TZ": b"UTC",
        b"LC_MESSAGES": b"de",
        b"LANG": b"C",
        b"CPATH": b"x",
        b"PWD": b"/w",
        b"AWS_SECRET_ACCESS_KEY": b"s",
        b"HOME": b"/h",
        b"LD_PRELOAD": b"l.so",
        b"SOURCE_DATE_EPOCH": b"1",
    }
    assert [name for name, _ in travelling(env)] == [b"CPATH", b"LANG", b"LC_MESSAGES", b"SOURCE_DATE_EPOCH", b"TZ"]


def _on_a_terminal(name: str, args: list[str], cwd: Path) -> bytes:
    """What a compiler shows on a terminal of unlimited width that has colours but no links."""
    ours, theirs = pty.openpty()
    env = {**ENV, b"TERM": b"xterm"}
    child = subprocess.Popen([name, *args], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    child.wait()
    return shown.replace(b"\r\n", b"\n")


@pytest.mark.parametrize("debug", ["-g", "-frecord-gcc-switches", "-O2"])
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_colours_equal_those_of_a_terminal_and_leave_the_object_alone(name: str, debug: str, tmp_path: Path) -> None:
    """With the added option the diagnostics are those of a terminal, and the object is the same as without."""
    (tmp_path / "a.c").write_text("int f(int x) { int unused; return x; }\n")
    args = ["-Wall", debug, "-c", "a.c"]
    env = {**ENV, b"TERM": b"xterm"}
    parsed = compilation(name, *args)
    added = colour_args(parsed, True, env)
    shown = _on_a_terminal(name, args, tmp_path)
    plain = (tmp_path / "a.o").read_bytes()
    ran = run(name, [*added, *args], tmp_path, env)
    assert (tmp_path / "a.o").read_bytes() == plain
    if name == "clang" and debug == "-frecord-gcc-switches":
        assert added == ()
        return
    assert b"\x1b[" in shown
    assert ran.stderr == shown


@pytest.mark.parametrize(
    ("args", "tty", "env"),
    [
        ((), False, {b"TERM": b"xterm"}),
        ((), True, {b"TERM": b"dumb"}),
        ((), True, {}),
        ((), True, {b"TERM": b"xterm", b"GCC_COLORS": b""}),
        (("-fdiagnostics-color=never",), True, {b"TERM": b"xterm"}),
        (("-fdiagnostics-color=always",), True, {b"TERM": b"xterm"}),
    ],
)
def test_no_colours_unasked(args: tuple[str, ...], tty: bool, env: dict[bytes, bytes]) -> None:
    """Nothing is added without a terminal, for one without colours, or where the caller chose."""
    assert colour_args(compilation("gcc", *args, "-c", "a.c"), tty, env) == ()


def test_every_reason_has_a_sentence() -> None:
    """Each documented word has a sentence that ends like one; an unknown word stands for itself."""
    for word, reason in REASONS.items():
        assert reason.word == word
        assert reason.sentence.endswith(".")
    assert sentence("no_workers") != "no_workers"
    assert sentence("never_heard_of") == "never_heard_of"


@pytest.mark.parametrize("size", [0, 1, 4096, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7])
def test_digests_of_files(size: int, tmp_path: Path) -> None:
    """A file has the digest of its bytes, whatever its size, and also when it has grown since it was stat'ed."""
    data = os.urandom(size)
    path = tmp_path / "f"
    path.write_bytes(data)
    for claimed in (size, max(0, size - 1), size + 1):
        fd = os.open(path, os.O_RDONLY)
        try:
            assert digest_open_file(fd, claimed) == (digest_of(data), size)
            os.lseek(fd, 0, os.SEEK_SET)
            assert read_open_file(fd, claimed) == data
        finally:
            os.close(fd)


def test_small_file_is_asked_for_by_its_size(tmp_path: Path) -> None:
    """A read that asks for a megabyte gets one to give back: for a kilobyte no more than that is taken."""
    path = tmp_path / "f"
    path.write_bytes(bytes(1000))
    for read in (digest_open_file, read_open_file):
        fd = os.open(path, os.O_RDONLY)
        tracemalloc.start()
        try:
            read(fd, 1000)
            assert tracemalloc.get_traced_memory()[1] < 16 << 10
        finally:
            tracemalloc.stop()
            os.close(fd)


def test_colours_are_asked_for_where_options_may_stand() -> None:
    """Behind ``--`` every word is a source, so the option comes before it."""
    env = {b"TERM": b"xterm"}
    parsed = compilation("clang", "-c", "--", "a.c")
    assert coloured(parsed.args, parsed, True, env) == (b"-c", b"-fcolor-diagnostics", b"--", b"a.c")
    assert coloured(parsed.args, parsed, False, env) == parsed.args
    parsed = compilation("clang", "-c", "a.c")
    assert coloured(parsed.args, parsed, True, env) == (b"-c", b"a.c", b"-fcolor-diagnostics")
