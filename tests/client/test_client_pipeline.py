"""Every way that a compiler call can go, on real compilers, against the compiler alone."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve
from client_kit import env_of
from client_world import Bench, World, plain, tree
from twisted.internet import reactor

from sccache_twisted.client.calls import Answered, ExecHere, RunHere
from sccache_twisted.client.fallback import FellBack, InputChanged
from sccache_twisted.errors import NoLocalFallback
from sccache_twisted.interfaces import Finished
from sccache_twisted.model import JOB_TEMPORARY, RunsLocally
from sccache_twisted.worker.plan import TEMPORARY

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory of packaged toolchains for all tests here."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def bench(cache: Path):
    made = Bench(reactor, cache, World())
    yield made
    made.close()


SOURCES = {
    "a.c": '#include "inc/b.h"\n#include <stdio.h>\nint main(int c, char **v) { int unused; puts(B); return f(c); }\n',
    "inc/b.h": '#define B "b"\nstatic int f(int x) { return x * 2; }\n',
    "c.cc": "#include <string>\nstd::string f(int x) { return std::to_string(x); }\n",
    "s.S": "#define V 7\n.data\n.long V\n",
    "bad.c": "int main(void) { return undeclared; }\n",
}


def sources(root: Path) -> Path:
    for name, text in SOURCES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return root


def twice(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The same tree for both ways, at the same place one after the other: (place, kept plain result, place)."""
    return sources(tmp_path / "work dir"), tmp_path / "kept", tmp_path / "work dir"


COMMANDS = [
    "gcc -c a.c",
    "gcc -O2 -g -Wall -MD -MP -c a.c -o out.o",
    "gcc -O2 -gsplit-dwarf -Wall -MMD -MF deps/a.d -MT target -c a.c -o out.o",
    "gcc -fstack-usage -fcallgraph-info -c a.c -o deps/out.o",
    "gcc -S a.c",
    "gcc -c s.S -o s.o",
    "gcc -O3 -march=native -g -c a.c -o out.o",
    "gcc -O3 -march=native -gsplit-dwarf -Wall -MD -c a.c -o out.o",
    "g++ -O1 -g -frecord-gcc-switches -c c.cc -o out.o",
    "clang -O2 -g -Wall -MD -c a.c -o out.o",
    "clang -march=native -gsplit-dwarf -c a.c -o out.o",
    "clang -S -emit-llvm a.c -o out.ll",
    "clang++ -c c.cc",
]


@pytest.mark.parametrize("line", COMMANDS)
@pytest_twisted.ensureDeferred
async def test_same_as_alone(tmp_path: Path, bench: Bench, line: str) -> None:
    """Files, modes, words and status equal the compiler's own, and it ran remotely."""
    words = line.split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    cwd = sources(tmp_path / "work dir")
    (cwd / "deps").mkdir()
    alone = plain(words, cwd, umask=0o027)
    expected = tree(cwd)
    shutil.rmtree(cwd)
    sources(cwd)
    (cwd / "deps").mkdir()
    answer = await bench.call(words, cwd, umask=0o027)
    assert (answer.status, answer.stdout, answer.stderr.decode()) == (0, alone.stdout, alone.stderr.decode())
    assert bench.statistics.local_compiles == {}
    found = tree(cwd)
    assert found.keys() == expected.keys()
    assert {name: mode for name, (mode, _) in found.items()} == {name: mode for name, (mode, _) in expected.items()}
    differing = [name for name in found if found[name] != expected[name]]
    assert differing == []
    assert answer.remote is not None


@pytest_twisted.ensureDeferred
async def test_apparent_directory(tmp_path: Path, bench: Bench) -> None:
    """The debug information names the directory as the user came there: ``$PWD`` where it is the same one."""
    sources(tmp_path / "real")
    (tmp_path / "way").symlink_to("real")
    cwd = tmp_path / "way"
    env = env_of(PWD=str(cwd))
    plain(["gcc", "-g", "-c", "a.c"], cwd, env)
    expected = (cwd / "a.o").read_bytes()
    assert os.fsencode(cwd) in expected
    (cwd / "a.o").unlink()
    await bench.call(["gcc", "-g", "-c", "a.c"], tmp_path / "real", env)
    assert (cwd / "a.o").read_bytes() == expected
    assert bench.statistics.dist_compiles == {"world": 1}


@pytest_twisted.ensureDeferred
async def test_compile_error(tmp_path: Path, bench: Bench) -> None:
    """A compile error is confirmed here once: the user sees the local output, and it is counted as that."""
    cwd = sources(tmp_path)
    alone = plain(["gcc", "-c", "bad.c"], cwd)
    decision = await bench.decide(["gcc", "-c", "bad.c"], cwd)
    assert isinstance(decision, RunHere)
    assert decision.reason == "confirm_error"
    answer = await bench.pipeline.finished(decision, alone)
    assert (answer.status, answer.stderr) == (1, alone.stderr)
    assert bench.statistics.local_compiles == {"confirm_error": 1}
    assert bench.statistics.dist_discrepancies == 0
    assert not (cwd / "bad.o").exists()


@pytest_twisted.ensureDeferred
async def test_discrepancy(tmp_path: Path, bench: Bench) -> None:
    """A worker that fails where the client does not is a discrepancy, and the client is right."""
    assert bench.world is not None
    bench.world.spoil = lambda result: evolve(result, exit_code=1, stderr=b"nonsense", outputs=())
    answer = await bench.call(["gcc", "-c", "a.c"], sources(tmp_path))
    assert answer.status == 0
    assert bench.statistics.dist_discrepancies == 1


@pytest.mark.parametrize(
    ("line", "reason", "counted"),
    [
        ("gcc a.c -o a", "link", "requests_not_compile"),
        ("gcc -E a.c", "preprocess", "requests_not_compile"),
        ("gcc --version", "query", "requests_not_compile"),
        ("gcc -c -x c - -o o.o", "stdin", "requests_not_compile"),
        ("gcc -c a.c s.S", "multiple_source_files", "requests_not_cacheable"),
        ("gcc -c a.c -o /dev/null", "bad_output_file", "requests_not_cacheable"),
        ("gcc -c a.c -o fifo", "bad_output_file", "requests_not_cacheable"),
        ("gcc -c fifo.c", "bad_input_file", "requests_not_cacheable"),
        ("gcc -c a.c -o none/a.o", "bad_output_file", "requests_not_cacheable"),
        ("env", "unsupported_compiler", "requests_unsupported_compiler"),
        ("gcc -c none.c", "preprocessor_error", "requests_executed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_not_ours(tmp_path: Path, bench: Bench, line: str, reason: str, counted: str) -> None:
    """What we don't handle is the caller's to run, with a reason, and is counted where it belongs."""
    cwd = sources(tmp_path)
    os.mkfifo(cwd / "fifo")
    os.mkfifo(cwd / "fifo.c")
    decision = await bench.decide(line.split(), cwd)
    assert isinstance(decision, ExecHere)
    assert decision.reason == reason
    assert getattr(bench.statistics, counted) == 1
    if counted == "requests_not_cacheable":
        assert bench.statistics.not_cached == {reason: 1}
    assert dict(bench.statistics.not_compilations) == ({reason: 1} if counted == "requests_not_compile" else {})
    assert dict(bench.statistics.local_compiles) == ({reason: 1} if reason == "preprocessor_error" else {})


@pytest_twisted.ensureDeferred
async def test_no_compiler(tmp_path: Path, bench: Bench) -> None:
    """A compiler that does not exist gets a sentence with its name."""
    answer = await bench.decide(["nosuchcc", "-c", "a.c"], tmp_path)
    assert isinstance(answer, Answered)
    assert answer.status == 127
    assert b"'nosuchcc' is not in PATH" in answer.stderr


@pytest.mark.parametrize("variable", ["SCCACHE_NO_DIST", "SCCACHE_RECACHE", "SCCACHE_NO_CACHE"])
@pytest_twisted.ensureDeferred
async def test_switches(tmp_path: Path, bench: Bench, variable: str) -> None:
    """NO_DIST keeps one call here; the other two are counted and change nothing about where it runs."""
    decision = await bench.decide(["gcc", "-c", "a.c"], sources(tmp_path), env_of(**{variable: "1"}))
    stays = variable == "SCCACHE_NO_DIST"
    assert isinstance(decision, RunHere if stays else Answered)
    assert bench.statistics.local_compiles == ({"no_dist": 1} if stays else {})
    assert bench.statistics.forced_recaches == (variable == "SCCACHE_RECACHE")
    assert bench.statistics.not_cached == ({"no_cache": 1} if variable == "SCCACHE_NO_CACHE" else {})


@pytest.mark.parametrize(
    ("failure", "kind", "reason"),
    [
        (FellBack(RunsLocally("no_workers", "nobody")), RunHere, "no_workers"),
        (InputChanged("a.c changed"), RunHere, "modified_input"),
        (NoLocalFallback("nobody"), Answered, ""),
    ],
)
@pytest_twisted.ensureDeferred
async def test_fell_back(tmp_path: Path, bench: Bench, failure: Exception, kind: type, reason: str) -> None:
    """A job that no worker runs is compiled here for its reason, or is an error where that is forbidden."""
    assert bench.world is not None
    bench.world.failure = failure
    decision = await bench.decide(["gcc", "-c", "a.c"], sources(tmp_path))
    assert isinstance(decision, kind)
    assert dict(bench.statistics.local_compiles) == ({reason: 1} if reason else {})
    assert bench.world.local == ([reason] if reason else [])
    if isinstance(decision, Answered):
        assert decision.status == 1
        assert b"nobody" in decision.stderr
    assert len(bench.world.actions) in ({1, 2} if reason == "modified_input" else {1})


@pytest_twisted.ensureDeferred
async def test_time_macros(tmp_path: Path, bench: Bench) -> None:
    """``__TIME__`` keeps a job here, unless SOURCE_DATE_EPOCH says what the time is."""
    (tmp_path / "t.c").write_text("const char *t = __TIME__;\n")
    decision = await bench.decide(["gcc", "-c", "t.c"], tmp_path)
    assert isinstance(decision, RunHere)
    assert decision.reason == "time_macros"
    assert bench.world is not None
    assert bench.world.local == ["time_macros"]
    fixed = await bench.decide(["gcc", "-c", "t.c"], tmp_path, env_of(SOURCE_DATE_EPOCH="1"))
    assert isinstance(fixed, Answered)


@pytest_twisted.ensureDeferred
async def test_changed_while_it_ran(tmp_path: Path, bench: Bench) -> None:
    """A source that changes while the job runs gives no object of its old content."""
    assert bench.world is not None
    (tmp_path / "new.c").write_text("int old;\n")
    bench.world.before = lambda: (tmp_path / "new.c").write_text("int new;\n") and None
    decision = await bench.decide(["gcc", "-c", "new.c"], tmp_path)
    assert isinstance(decision, RunHere)
    assert decision.reason == "modified_input"
    assert not (tmp_path / "new.o").exists()


@pytest_twisted.ensureDeferred
async def test_undeclared(tmp_path: Path, bench: Bench) -> None:
    """A job that wrote more than it declared is run again here, where its files belong."""
    assert bench.world is not None
    bench.world.spoil = lambda result: evolve(result, undeclared=(b"/x/more.txt",))
    decision = await bench.decide(["gcc", "-c", "a.c"], sources(tmp_path))
    assert isinstance(decision, RunHere)
    assert decision.reason == "undeclared_output"


@pytest_twisted.ensureDeferred
async def test_colours(tmp_path: Path, bench: Bench) -> None:
    """A caller at a terminal sees colours, one behind a pipe none."""
    cwd = sources(tmp_path)
    env = env_of(TERM="xterm")
    coloured = await bench.call(["gcc", "-Wall", "-c", "a.c"], cwd, env, tty=True)
    bare = await bench.call(["gcc", "-Wall", "-c", "a.c"], cwd, env)
    assert b"\x1b[" in coloured.stderr
    assert b"\x1b[" not in bare.stderr


@pytest_twisted.ensureDeferred
async def test_wrapper(tmp_path: Path, bench: Bench) -> None:
    """A script in front of a compiler can't be packaged: its jobs stay here, and it is asked once, not each time."""
    script = tmp_path / "gcc"
    script.write_text('#!/bin/sh\nexec /usr/bin/gcc "$@"\n')
    script.chmod(0o755)
    cwd = sources(tmp_path / "src")
    for _ in range(2):
        decision = await bench.decide([str(script), "-c", "a.c"], cwd)
        assert isinstance(decision, RunHere)
        assert decision.reason == "no_toolchain"


@pytest_twisted.ensureDeferred
async def test_not_configured(tmp_path: Path, cache: Path) -> None:
    """Without a scheduler everything compiles here and says so."""
    bench = Bench(reactor, cache, None)
    decision = await bench.decide(["gcc", "-c", "a.c"], sources(tmp_path))
    assert isinstance(decision, RunHere)
    assert decision.reason == "not_configured"
    assert await bench.pipeline.finished(decision, Finished(0, b"", b"")) == Answered(0, b"", b"")
    bench.close()


@pytest_twisted.ensureDeferred
async def test_never_ourselves(tmp_path: Path, bench: Bench) -> None:
    """A link to the launcher on PATH is passed over, also a copy."""
    launcher = Path(__file__).parents[2] / "sccache_twisted/launcher/sccache-twisted"
    (tmp_path / "one").mkdir()
    (tmp_path / "one/gcc").symlink_to(launcher)
    (tmp_path / "two").mkdir()
    shutil.copy(launcher, tmp_path / "two/gcc")
    env = env_of(PATH=f"{tmp_path}/one:{tmp_path}/two:/usr/bin")
    assert bench.finder.resolve(b"gcc", b"/", env) == (b"/usr/bin/gcc", b"/usr/bin/gcc")
    assert bench.finder.resolve(b"one/gcc", os.fsencode(tmp_path), env) is None


@pytest_twisted.ensureDeferred
async def test_replaced_or_written_through(tmp_path: Path, bench: Bench) -> None:
    """An object replaces a symbolic link in its way, gcc's assembly and depfiles are written through it."""
    cwd = sources(tmp_path)
    for name in ("a.o", "a.s", "a.d"):
        (cwd / f"kept-{name}").write_text("before")
        (cwd / name).symlink_to(f"kept-{name}")
    await bench.call(["gcc", "-MD", "-c", "a.c"], cwd)
    await bench.call(["gcc", "-S", "a.c"], cwd)
    assert bench.statistics.dist_compiles == {"world": 2}
    assert not (cwd / "a.o").is_symlink()
    assert (cwd / "kept-a.o").read_text() == "before"
    assert (cwd / "a.s").is_symlink()
    assert "main" in (cwd / "kept-a.s").read_text()
    assert (cwd / "kept-a.d").read_text().startswith("a.o:")


@pytest_twisted.ensureDeferred
async def test_modes_of_existing_files(tmp_path: Path, bench: Bench) -> None:
    """A depfile that exists keeps its mode, an object gets a new one."""
    cwd = sources(tmp_path)
    for name in ("a.o", "a.d"):
        (cwd / name).write_text("")
        (cwd / name).chmod(0o640)
    await bench.call(["gcc", "-MD", "-c", "a.c"], cwd)
    assert stat.S_IMODE((cwd / "a.d").stat().st_mode) == 0o640
    assert stat.S_IMODE((cwd / "a.o").stat().st_mode) == 0o644


def test_temporary_directory() -> None:
    """Client and worker mean the same place when a step hands a file to the next."""
    assert JOB_TEMPORARY == TEMPORARY


@pytest_twisted.ensureDeferred
async def test_native(tmp_path: Path, bench: Bench) -> None:
    """For this machine's processor the driver's own steps travel, with absolute programs and no word of ``native``."""
    await bench.call(["gcc", "-march=native", "-c", "a.c"], sources(tmp_path))
    assert bench.world is not None
    (action,) = bench.world.actions
    steps = [(action.executable, action.argv), *action.then]
    assert [os.path.basename(executable) for executable, _ in steps] == [b"cc1", b"as"]
    assert all(executable.startswith(b"/") for executable, _ in steps)
    assert not any(b"native" in word for _, argv in steps for word in argv)


@pytest_twisted.ensureDeferred
async def test_output_below_a_link(tmp_path: Path, bench: Bench) -> None:
    """An output below a linked directory is asked for at its physical place and written where the user said."""
    cwd = sources(tmp_path)
    (cwd / "build/deep").mkdir(parents=True)
    (cwd / "out").symlink_to("build/deep")
    await bench.call(["gcc", "-MD", "-c", "a.c", "-o", "out/../a.o"], cwd)
    assert bench.statistics.dist_compiles == {"world": 1}
    assert sorted(os.listdir(cwd / "build")) == ["a.d", "a.o", "deep"]
