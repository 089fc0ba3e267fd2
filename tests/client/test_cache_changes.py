"""What a key holds beside command and files: the compiler's own parts, profiles, colours."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from cache_kit import CountedBench, Store, settle, write
from client_kit import env_of
from client_world import plain

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
    pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang"),
]


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountedBench]:
    """A client without a cluster."""
    made = CountedBench(tmp_path_factory.mktemp("toolchains"), None, Store())
    yield made
    made.close()


async def cached(bench: CountedBench, words: list[str], cwd: Path, env: dict[bytes, bytes], **more: bool) -> bool:
    """Whether a call is a hit; what it leaves behind is the compiler's own."""
    answer = await bench.call(words, cwd, env, **more)
    assert answer.status == 0, answer.stderr
    await bench.stored()
    found = (cwd / "a.o").read_bytes()
    assert plain(words, cwd, env).status == 0
    assert (cwd / "a.o").read_bytes() == found
    return answer.cached


def said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def another_byte(path: Path) -> None:
    """Change a file behind its end, where no loader looks."""
    with path.open("ab") as stream:
        stream.write(b"\0")


def own_compiler(root: Path) -> tuple[Path, Path, Path]:
    """A gcc with a compiler proper of its own, and a library that can be found before the system's."""
    own, libraries = root / "own", root / "lib"
    libraries.mkdir()
    driver = Path(shutil.which("gcc") or "").resolve()
    proper = Path(said("gcc", "-print-prog-name=cc1").strip())
    loaded = next(line.split()[2] for line in said("ldd", str(proper)).splitlines() if "libgmp" in line)
    library = libraries / Path(loaded).name
    shutil.copy2(loaded, library)
    # gcc looks for its parts beside itself first, as it was installed.
    for program in (driver, proper):
        place = own / program.relative_to("/usr")
        place.parent.mkdir(parents=True)
        shutil.copy2(program, place)
    driver, proper = (own / program.relative_to("/usr") for program in (driver, proper))
    return driver, proper, library


@pytest_twisted.ensureDeferred
async def test_a_changed_compiler_is_a_miss(tmp_path: Path, bench: CountedBench) -> None:
    """The driver, the compiler proper, a library that it loads: a byte more in any of them is another compiler."""
    work = tmp_path / "work"
    write(work, a_c="int a;\n")
    driver, proper, library = own_compiler(tmp_path)
    env = env_of(LD_LIBRARY_PATH=str(library.parent))
    words = [str(driver), "-c", "a.c", "-o", "a.o"]
    assert not await cached(bench, words, work, env)
    for part in (driver, proper, library):
        assert await cached(bench, words, work, env), part
        another_byte(part)
        settle(tmp_path)
        assert not await cached(bench, words, work, env), part
    assert await cached(bench, words, work, env)


@pytest_twisted.ensureDeferred
async def test_a_changed_profile_is_a_miss(tmp_path: Path, bench: CountedBench) -> None:
    """A profile that is read by option counts by its content."""
    write(tmp_path, a_c="int f(int x) { return x ? x * 3 : 7; }\nint main(void) { return f(0); }\n")
    words = ["gcc", "-O2", "-fprofile-use", "-Wno-missing-profile", "-Wno-coverage-mismatch", "-c", "a.c", "-o", "a.o"]

    def profile(argument: str) -> None:
        (tmp_path / "a.gcda").unlink(missing_ok=True)
        text = (tmp_path / "a.c").read_text()
        (tmp_path / "a.c").write_text(text.replace("f(0)", f"f({argument})"))
        for line in ("gcc -O2 -fprofile-generate -c a.c -o a.o", "gcc -fprofile-generate a.o -o run"):
            subprocess.run(line.split(), cwd=tmp_path, check=True)
        subprocess.run([tmp_path / "run"], cwd=tmp_path, check=False)
        (tmp_path / "a.c").write_text(text)
        settle(tmp_path)

    profile("0")
    assert not await cached(bench, words, tmp_path, env_of())
    assert await cached(bench, words, tmp_path, env_of())
    profile("1")
    assert not await cached(bench, words, tmp_path, env_of())


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest_twisted.ensureDeferred
async def test_coloured_diagnostics_are_another_result(tmp_path: Path, bench: CountedBench, compiler: str) -> None:
    """Who sits before a terminal gets colours, and nobody else does, whoever compiled first."""
    write(tmp_path, a_c="int f(void) { int unused; return 0; }\n")
    words = [compiler, "-Wall", "-c", "a.c", "-o", "a.o"]
    env = env_of(TERM="xterm")
    for tty in (True, False):
        for hit in (False, True):
            answer = await bench.call(words, tmp_path, env, tty=tty)
            await bench.stored()
            assert answer.cached is hit
            assert (b"\x1b[" in answer.stderr) is tty
            assert b"unused" in answer.stderr
