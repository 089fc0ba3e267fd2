"""Equal toolchains are equal bytes, and what was packed compiles elsewhere as it compiles here."""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

import blake3
import pytest
import zstandard
from attrs import evolve
from real_compilers import ENV, compiler_named, headers_of, run_in

from sccache_twisted.errors import CompilerNotPackageable, StorageError, UserError
from sccache_twisted.toolchains import (
    Entry,
    EntryKind,
    PackagedToolchain,
    Toolchain,
    ToolchainFiles,
    ToolchainStore,
    discover,
    package,
    package_to,
)

SOURCES = {
    "a.c": '#include <stdio.h>\n#include <stdarg.h>\nint f(int a) { int b; printf("%d\\n", a); return 0; }\n',
    "a.cc": "#include <vector>\n#include <string>\nstd::vector<std::string> all() { return {}; }\n",
    "a.S": "#define NAME here\n.text\nNAME: nop\n",
    "bad.c": "int f( { return é; }\n",
}
LINES = {
    "gcc": [
        b"-c -g -O2 -Wall a.c -o out.o",
        b"-c -g -O2 -Wall a.cc -o out.o",
        b"-c -gsplit-dwarf a.c -o out.o",
        b"-S -O3 -Wall a.c -o out.o",
        b"-c -g a.S -o out.o",
        b"-c -flto a.c -fno-lto -fexec-charset=IBM1047 -o out.o",
        b"-c bad.c -o out.o",
    ],
    "clang": [
        b"-c -g -O2 -Wall a.c -o out.o",
        b"-c -gsplit-dwarf a.cc -o out.o",
        b"-c -fno-integrated-as -gsplit-dwarf -Wall a.c -o out.o",
        b"-S -O3 -Wall a.c -o out.o",
        b"-c -g a.S -o out.o",
        b"-c -fsanitize=address a.c -o out.o",
        b"-c bad.c -o out.o",
    ],
}


def received(packaged: PackagedToolchain, directory: Path) -> Toolchain:
    store = ToolchainStore(os.fsencode(directory), 1 << 32)
    intake = store.begin(packaged.digest)
    with open(packaged.path, "rb") as archive:
        while chunk := archive.read(1 << 18):
            intake.write(chunk)
    return intake.finish()


def test_packing_twice_gives_the_same_bytes(packaged_gcc: PackagedToolchain, tmp_path: Path) -> None:
    """A toolchain's archive depends on its content alone."""
    again = package(discover(compiler_named("gcc"), ENV), os.fsencode(tmp_path / "again"))
    assert again.digest == packaged_gcc.digest
    assert Path(os.fsdecode(again.path)).read_bytes() == Path(os.fsdecode(packaged_gcc.path)).read_bytes()


def test_the_digest_is_of_the_tar_and_not_of_its_compression(packaged_gcc: PackagedToolchain, tmp_path: Path) -> None:
    """Neither the level nor the version of zstd is part of a compiler's identity."""
    harder = package(discover(compiler_named("gcc"), ENV), os.fsencode(tmp_path / "harder"), level=5)
    assert harder.digest == packaged_gcc.digest
    assert harder.archive_size < packaged_gcc.archive_size
    tar = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(Path(os.fsdecode(harder.path)).read_bytes())).read()
    assert blake3.blake3(tar).hexdigest() == harder.digest
    assert len(tar) == harder.size


def files_of(directory: Path) -> ToolchainFiles:
    """A made-up toolchain, all of ``directory``."""
    from sccache_twisted.toolchains.tree import Collector

    into = Collector()
    into.add_all_in(os.fsencode(directory))
    return ToolchainFiles("x86_64", tuple(into.entries[path] for path in sorted(into.entries)), ())


def test_owners_times_and_modes_are_nobodys(tmp_path: Path) -> None:
    """Members belong to nobody, have no time, and are readable by all; setuid stays at home; any tar can list them."""
    place = tmp_path / "tools"
    place.mkdir(mode=0o700)
    (place / "secret").write_text("x")
    (place / "secret").chmod(0o600)
    (place / "run").write_text("y")
    (place / "run").chmod(0o4711)
    (place / ("n" * 120)).write_text("long")
    (place / "link").symlink_to("t" * 150)
    os.utime(place / "run", (1, 1))
    packaged = package(files_of(place), os.fsencode(tmp_path / "out"))
    raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO((tmp_path / "out").read_bytes())).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        members = {"/" + member.name: member for member in tar.getmembers()}
    assert all((m.uid, m.gid, m.mtime, m.uname) == (0, 0, 0, "") for m in members.values())
    assert members[f"{place}/secret"].mode == 0o444
    assert members[f"{place}/run"].mode == 0o555
    assert members[f"{place}"].mode == 0o755
    assert members[f"{place}/link"].linkname == "t" * 150
    assert f"{place}/{'n' * 120}" in members
    assert packaged.members == len(members)


def test_a_file_that_changes_while_it_is_packed_is_refused(tmp_path: Path) -> None:
    """A file that grew, shrank or went since discovery spoils the archive, and none is left."""
    place = tmp_path / "tools"
    place.mkdir()
    (place / "a").write_text("four")
    files = files_of(place)
    out = tmp_path / "packed"
    out.mkdir()
    for content in ("longer", "x", None):
        (place / "a").unlink()
        if content is not None:
            (place / "a").write_text(content)
        with pytest.raises(CompilerNotPackageable, match="tools/a"):
            package(files, os.fsencode(out / "t"))
    assert list(out.iterdir()) == []


@pytest.mark.root
def test_a_full_disk_leaves_no_half_archive(packaged_gcc: PackagedToolchain, tmp_path: Path) -> None:
    """When the disk is full the sentence says so, and nothing is left on it."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        with pytest.raises(StorageError, match="full"):
            package(discover(compiler_named("gcc"), ENV), os.fsencode(small / "t"))
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_package_to_finds_the_compiler_on_path(packaged_gcc: PackagedToolchain, tmp_path: Path) -> None:
    """``--package-toolchain gcc OUT`` writes what the client would send."""
    packaged = package_to(b"/usr/bin/gcc", os.fsencode(tmp_path / "out"))
    assert packaged.arch == platform.machine()
    assert (tmp_path / "out").stat().st_size == packaged.archive_size
    with pytest.raises(UserError, match="no-such-compiler"):
        package_to(b"no-such-compiler", os.fsencode(tmp_path / "out2"))
    with pytest.raises(CompilerNotPackageable):
        package_to(b"/usr/bin/true", os.fsencode(tmp_path / "out2"))
    with pytest.raises(StorageError):
        package_to(b"/usr/bin/gcc", os.fsencode(tmp_path / "none" / "out"))


def taken(work: Path) -> dict[str, bytes]:
    """The outputs of a run, taken away."""
    found = {}
    for one in work.glob("out.*"):
        found[one.name] = one.read_bytes()
        one.unlink()
    return found


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_the_packed_compiler_gives_identical_objects_in_nothing_but_its_tree(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In a root of only the unpacked toolchain and the inputs, files, diagnostics and status equal the local ones."""
    packaged: PackagedToolchain = request.getfixturevalue(f"packaged_{name}")
    toolchain = received(packaged, tmp_path / "store")
    compiler = compiler_named(name)
    work = tmp_path / "work"
    work.mkdir()
    for source, text in SOURCES.items():
        (work / source).write_text(text)
    job_root = tmp_path / "job"
    subprocess.run(["cp", "-al", toolchain.root, job_root], check=True)
    for mount_point in ("proc", "dev", "tmp"):
        (job_root / mount_point).mkdir()
    for line in LINES[name]:
        argv = [compiler.executable, *line.split()]
        for path in sorted(headers_of(work, argv[:-2], ENV)):
            place = job_root / os.path.realpath(os.fsdecode(path)).lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(os.fsdecode(path), place)
        here = run_in(work, argv, ENV)
        local = taken(work)
        sandbox = ["bwrap", "--unshare-all", "--ro-bind", job_root, "/", "--proc", "/proc", "--dev", "/dev"]
        sandbox += ["--tmpfs", "/tmp", "--bind", work, work, "--chdir", work]
        there = run_in(work, [os.fsencode(word) for word in sandbox] + argv, ENV)
        remote = taken(work)
        assert (there.returncode, there.stderr) == (here.returncode, here.stderr), line
        assert remote == local, line
        assert bool(local) is (b"bad.c" not in line)


def test_entries_can_be_rebuilt_without_reading_the_tree(packaged_gcc: PackagedToolchain, tmp_path: Path) -> None:
    """The worker's entries are the client's, each file's content where the entry says."""
    toolchain = received(packaged_gcc, tmp_path / "store")
    sent = discover(compiler_named("gcc"), ENV).entries
    kept = [evolve(entry, stored=b"") for entry in toolchain.entries]
    assert kept == [evolve(entry, stored=b"") for entry in sent]
    for entry in toolchain.entries:
        assert bool(entry.stored) is (entry.kind is EntryKind.FILE)
        if entry.kind is EntryKind.FILE:
            assert os.stat(entry.stored).st_size == entry.size
            assert os.stat(entry.stored).st_mode & 0o7777 == entry.mode
    assert isinstance(toolchain.entries[0], Entry)
