"""Everything that a compilation reads outside its inputs is in the toolchain."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from real_compilers import ENV, compiler_at, compiler_named, headers_of, outside, run_in, touched

from sccache_twisted.errors import CompilerNotPackageable
from sccache_twisted.toolchains import EntryKind, ToolchainFiles, discover

C_SOURCE = '#include <stdio.h>\nint unused(int a) { int b; printf("%d", a); return 0; }\n'
CC_SOURCE = "#include <vector>\n#include <string>\nstd::vector<std::string> all() { return {}; }\n"
ASSEMBLY = "#define NAME here\n.text\nNAME: nop\n"
OPTIONS = [
    b"-c -g -O2",
    b"-c -gsplit-dwarf -Wall",
    b"-S -O1 -Wall",
    b"-c -march=native -fopenmp",
    b"-c -fexec-charset=ISO-8859-1",
    b"-c -flto",
]
CLANG_ONLY = [b"-c -fno-integrated-as -gsplit-dwarf", b"-c -fsanitize=address,undefined", b"-c -stdlib=libstdc++ -O0"]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "a.c").write_text(C_SOURCE)
    (tmp_path / "a.cc").write_text(CC_SOURCE)
    (tmp_path / "bare.c").write_text("int bare;\n")
    (tmp_path / "a.S").write_text(ASSEMBLY)
    return tmp_path


def lines_for(name: str) -> list[list[bytes]]:
    options = OPTIONS + (CLANG_ONLY if "clang" in name else [])
    lines = [[*each.split(), source] for each in options for source in (b"a.c", b"a.cc")]
    return [*lines, [b"-c", b"-g", b"a.S"], [b"-c", b"-m32", b"-g", b"bare.c"]]


@pytest.mark.parametrize("name", ["gcc", "g++", "cc", "clang", "clang++"])
def test_every_file_a_compilation_touches_is_in_the_toolchain(name: str, sources: Path) -> None:
    """What a compiler opens, runs or looks at, its inputs apart, is in its toolchain with every link on the way."""
    compiler = compiler_named(name)
    files = discover(compiler, ENV)
    for locale in (b"C", b"C.UTF-8"):
        env = ENV | {b"LANG": locale}
        lines = lines_for(name)
        for line in lines if locale == b"C.UTF-8" and name in {"gcc", "clang"} else [lines[0], lines[-1]]:
            argv = [compiler.executable, *line]
            inputs = headers_of(sources, argv, env)
            missing = outside(files, touched(sources, argv, env), inputs, sources)
            assert not missing, (line, locale)


@pytest.fixture
def german(tmp_path: Path) -> dict[bytes, bytes]:
    """An environment in German, its locale compiled here for the occasion."""
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("localedef or the sources of de_DE are not installed")
    place = tmp_path / "locales"
    place.mkdir()
    for charset in ("UTF-8", "ISO-8859-1"):
        target = place / ("de_DE.utf8" if charset == "UTF-8" else "de_DE.iso88591")
        subprocess.run(["localedef", "-i", "de_DE", "-f", charset, target], check=True, capture_output=True)
    return ENV | {b"LANG": b"de_DE.UTF-8", b"LOCPATH": os.fsencode(place)}


@pytest.mark.parametrize("name", ["gcc", "clang"])
@pytest.mark.parametrize("charset", [b"UTF-8", b"ISO-8859-1"])
def test_the_locale_in_force_is_in_the_toolchain(
    name: str, charset: bytes, sources: Path, german: dict[bytes, bytes], tmp_path: Path
) -> None:
    """A user's locale travels with its data, its converter and its catalogues; other locales stay at home."""
    env = german | {b"LC_ALL": b"de_DE." + charset, b"LANGUAGE": b"de:fr"}
    compiler = compiler_named(name)
    files = discover(compiler, env)
    for line in ([b"-c", b"a.c"], [b"-c", b"-Wall", b"missing.c"]):
        argv = [compiler.executable, *line]
        seen = touched(sources, argv, env)
        missing = outside(files, seen, headers_of(sources, argv, env), sources / "nothing-here")
        # The locales of this test lie below the work directory.
        assert {path for path in missing if b"locales" in path or not path.startswith(os.fsencode(sources))} == set()
    paths = {entry.path for entry in files.entries}
    assert any(b"/locales/de_DE." in path and path.endswith(b"/LC_CTYPE") for path in paths)
    if Path("/usr/share/locale/de/LC_MESSAGES/libc.mo").exists():
        assert b"/usr/share/locale/de/LC_MESSAGES/libc.mo" in paths
        assert b"Datei oder Verzeichnis" in run_in(sources, [b"/usr/bin/gcc", b"-c", b"no.c"], env).stderr
    assert b"/usr/share/locale/es/LC_MESSAGES/libc.mo" not in paths


def test_c_and_c_utf8_share_one_toolchain() -> None:
    """Builds that switch between C and C.UTF-8, as autotools do, send one toolchain."""
    compiler = compiler_named("gcc")
    assert discover(compiler, ENV | {b"LANG": b"C"}).entries == discover(compiler, ENV).entries


def test_links_are_entries_and_nothing_lies_below_one() -> None:
    """A compiler behind /etc/alternatives travels with each link of the chain, files at their physical places."""
    files = discover(compiler_named("cc"), ENV)
    kinds = {entry.path: entry.kind for entry in files.entries}
    assert kinds[b"/usr/bin/cc"] is EntryKind.LINK
    assert kinds[b"/etc/alternatives/cc"] is EntryKind.LINK
    assert kinds[b"/usr/bin/gcc"] is EntryKind.LINK
    for path in kinds:
        parent = os.path.dirname(path)
        assert parent == b"/" or kinds[parent] is EntryKind.DIRECTORY
    assert [entry.path for entry in files.entries] == sorted(kinds)


def test_a_compiler_in_an_odd_place_is_found_through_its_links(tmp_path: Path) -> None:
    """A chain of relative and absolute links, over a linked directory with a space, ends at the same parts."""
    odd = tmp_path / "odd dir"
    odd.mkdir()
    (odd / "my-gcc").symlink_to("/usr/bin/gcc")
    (tmp_path / "linked").symlink_to("odd dir")
    files = discover(compiler_at(os.fsencode(tmp_path / "linked" / "my-gcc")), ENV)
    paths = {entry.path for entry in files.entries}
    assert {os.fsencode(tmp_path / "linked"), os.fsencode(odd / "my-gcc"), b"/usr/bin/gcc"} <= paths
    assert any(path.endswith(b"/cc1plus") for path in paths)
    assert not any(path.startswith(os.fsencode(tmp_path / "linked") + b"/") for path in paths)


def test_an_assembler_found_on_path_is_watched_for(tmp_path: Path) -> None:
    """A program that the driver looks for on PATH comes from the first directory that has it."""
    mine = tmp_path / "bin"
    mine.mkdir()
    shutil.copy("/usr/bin/as", mine / "as")
    empty = tmp_path / "empty"
    empty.mkdir()
    env = ENV | {b"PATH": b":".join((os.fsencode(empty), os.fsencode(mine), ENV[b"PATH"]))}
    files = discover(compiler_named("gcc"), env)
    assert os.fsencode(mine / "as") in {entry.path for entry in files.entries}
    assert os.fsencode(empty / "as") in dict(files.watched)


def wrapper(tmp_path: Path, text: str) -> bytes:
    script = tmp_path / "gcc"
    script.write_text(text)
    script.chmod(0o755)
    return os.fsencode(script)


def refused(path: bytes) -> CompilerNotPackageable:
    with pytest.raises(CompilerNotPackageable) as caught:
        discover(compiler_at(path), ENV)
    return caught.value


def test_a_wrapper_script_cannot_travel(tmp_path: Path) -> None:
    """A script in place of a compiler is refused with its name, and with the reason that the client counts."""
    failure = refused(wrapper(tmp_path, '#!/bin/sh\nexec /usr/bin/gcc "$@"\n'))
    assert failure.code == "compiler_not_packageable"
    assert str(tmp_path) in failure.sentence
    assert "script" in failure.sentence


def test_a_masquerading_cache_cannot_travel(tmp_path: Path) -> None:
    """A link named gcc to ccache is ccache."""
    ccache = shutil.which("ccache")
    assert ccache is not None
    (tmp_path / "gcc").symlink_to(ccache)
    assert "ccache" in refused(os.fsencode(tmp_path / "gcc")).sentence


@pytest.mark.parametrize("content", ["", "\x7fELF", "\x7fELF\x02\x01\x01" + "\0" * 60, "garbage"])
def test_what_is_no_program_cannot_travel(tmp_path: Path, content: str) -> None:
    """Empty, cut and damaged files are refused as compilers, by a sentence and not by an accident."""
    assert str(tmp_path) in refused(wrapper(tmp_path, content)).sentence


def test_a_missing_compiler_cannot_travel(tmp_path: Path) -> None:
    """A path where nothing is, and a directory, are refused."""
    assert "does not exist" in refused(os.fsencode(tmp_path / "none")).sentence
    assert refused(os.fsencode(tmp_path)).sentence


def test_a_program_that_is_no_compiler_cannot_travel() -> None:
    """A program that does not answer as a driver does is refused."""
    assert refused(b"/usr/bin/true").sentence


def total(files: ToolchainFiles) -> int:
    return sum(entry.size for entry in files.entries)


def test_size_is_the_content_of_all_files() -> None:
    """The size of a toolchain is known before it is packaged."""
    files = discover(compiler_named("gcc"), ENV)
    assert files.size == total(files) > 10 << 20
