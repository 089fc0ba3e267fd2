"""The inputs of a compilation: every file, link and directory that it needs, none that changes while it is read."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
import pytest_twisted
from client_kit import CLANG, GCC, GXX, by_path, compiled_in, env_of, listed, rebuilt, understood
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from sccache_twisted.client.fallback import InputChanged
from sccache_twisted.client.inputs import (
    FileMemo,
    Gathered,
    InputBlobs,
    InputsChanged,
    Listed,
    Lister,
    Question,
    gather,
    listing,
    still_current,
)
from sccache_twisted.compilers.searchpath import SearchPath
from sccache_twisted.model import FileInput, RunsLocally
from sccache_twisted.net.processes import ProcessRunner

pytestmark = pytest.mark.skipif(not os.path.exists("/usr/bin/gcc"), reason="needs gcc")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    old = time.time() - 100
    for name in files:
        os.utime(root / name, (old, old))
    return root


async def same_object(compiler, words: list[str], cwd: Path, root: Path) -> Gathered:
    """The command gives the same object and the same words in a root of nothing but its inputs."""
    gathered = await listed(compiler, words, cwd)
    assert isinstance(gathered, Gathered), gathered
    compare(compiler, words, cwd, root, gathered)
    return gathered


def compare(compiler, words: list[str], cwd: Path, root: Path, gathered: Gathered) -> None:
    rebuilt(gathered, root)
    env = env_of() | {b"PWD": os.fsencode(cwd)}
    here = subprocess.run([compiler.executable, *words], cwd=cwd, env=env, capture_output=True, check=False)
    there = compiled_in(root, compiler, words, cwd)
    assert (there.returncode, there.stderr.decode()) == (here.returncode, here.stderr.decode())
    assert Path(f"{root}{os.path.realpath(cwd)}/out.o").read_bytes() == (cwd / "out.o").read_bytes()


@pytest_twisted.ensureDeferred
async def test_headers(tmp_path: Path) -> None:
    """Every header is listed, those of the system as well, under whatever names the user hides them."""
    cwd = write(
        tmp_path / "src",
        {"a.c": '#include <stdio.h>\n#include "b.h"\nint main(void) { puts(B); }\n', "b.h": '#define B "b"\n'},
    )
    found = by_path(
        await same_object(GCC, ["-g", "-MMD", "-MF", "user.d", "-c", "a.c", "-o", "out.o"], cwd, tmp_path / "root")
    )
    assert {f"{cwd}/a.c", f"{cwd}/b.h", "/usr/include/stdio.h"} <= found.files


@pytest_twisted.ensureDeferred
async def test_touches_nothing_of_the_users(tmp_path: Path) -> None:
    """The listing run writes no file that the user's options name."""
    cwd = write(tmp_path, {"a.c": "int a;\n"})
    await listed(GCC, ["-MD", "-MF", "user.d", "-Wp,-MD,other.d", "-c", "a.c", "-o", "out.o"], cwd)
    assert sorted(os.listdir(cwd)) == ["a.c"]


@pytest.mark.parametrize("compiler", [GCC, CLANG], ids=["gcc", "clang"])
@pytest_twisted.ensureDeferred
async def test_dotdot_through_a_link(tmp_path: Path, compiler) -> None:
    """``x/..`` is walked and not folded: through a link it leads to another place."""
    cwd = write(
        tmp_path / "src",
        {
            "a.c": '#include "v.h"\nint v = V;\n',
            "real/deep/x.h": "",
            "real/inc/v.h": "#define V 1\n",
            "inc/v.h": "#define V 2\n",
        },
    )
    (cwd / "link").symlink_to("real/deep")
    gathered = await same_object(compiler, ["-g", "-Ilink/../inc", "-c", "a.c", "-o", "out.o"], cwd, tmp_path / "root")
    found = by_path(gathered)
    assert f"{cwd}/real/inc/v.h" in found.files
    assert f"{cwd}/inc/v.h" not in found.files
    assert found.links[f"{cwd}/link"] == "real/deep"
    assert f"{cwd}/real/deep" in found.directories


@pytest_twisted.ensureDeferred
async def test_dotdot_behind_an_empty_directory(tmp_path: Path) -> None:
    """A directory that is only passed through must be there."""
    cwd = write(tmp_path / "src", {"a.c": '#include "v.h"\nint v = V;\n', "inc/v.h": "#define V 2\n"})
    (cwd / "lib").mkdir()
    found = by_path(await same_object(GCC, ["-g", "-Ilib/../inc", "-c", "a.c", "-o", "out.o"], cwd, tmp_path / "root"))
    assert f"{cwd}/lib" in found.directories


@pytest_twisted.ensureDeferred
async def test_below_a_linked_directory(tmp_path: Path) -> None:
    """A tree below a symlinked directory is compiled under the name by which the user came there."""
    real = write(tmp_path / "real", {"a.c": '#include "b.h"\nint b = B;\n', "b.h": "#define B 1\n"})
    (tmp_path / "way").symlink_to("real")
    found = by_path(await same_object(GCC, ["-g", "-c", "a.c", "-o", "out.o"], tmp_path / "way", tmp_path / "root"))
    assert found.links[f"{tmp_path}/way"] == "real"
    assert {f"{real}/a.c", f"{real}/b.h"} <= found.files


@pytest_twisted.ensureDeferred
async def test_has_include(tmp_path: Path) -> None:
    """A file that ``__has_include`` finds is an input although no dependency list tells of it."""
    cwd = write(
        tmp_path / "src",
        {
            "a.c": '#if __has_include("opt.h")\nint found;\n#endif\n'
            "#if __has_include(<sys/none.h>)\nint none;\n#endif\n",
            "inc/opt.h": "",
        },
    )
    found = by_path(await same_object(GCC, ["-Iinc", "-c", "a.c", "-o", "out.o"], cwd, tmp_path / "root"))
    assert f"{cwd}/inc/opt.h" in found.files


@pytest_twisted.ensureDeferred
async def test_has_include_through_macros(tmp_path: Path) -> None:
    """Operands given by a macro are looked up by what the macro is defined as, operands of a wrapper by its calls."""
    cwd = write(
        tmp_path / "src",
        {
            "a.c": '#include "w.h"\n#define OPT "one.h"\n#if __has_include(OPT)\nint one;\n#endif\n'
            "#if HAS(<two.h>)\nint two;\n#endif\n",
            "w.h": "#define HAS(x) __has_include(x)\n",
            "one.h": "",
            "inc/two.h": "",
        },
    )
    found = by_path(await same_object(GCC, ["-Iinc", "-c", "a.c", "-o", "out.o"], cwd, tmp_path / "root"))
    assert {f"{cwd}/one.h", f"{cwd}/inc/two.h"} <= found.files


@pytest_twisted.ensureDeferred
async def test_incbin(tmp_path: Path) -> None:
    """What the assembler is told to read is an input, also out of a C string, also of a file that it includes."""
    cwd = write(
        tmp_path / "src",
        {
            "a.c": 'asm(".incbin \\"data.bin\\"");\nasm(".include \\"more.s\\"");\n',
            "data.bin": "xyz",
            "more.s": '.incbin "inner.bin"\n',
            "inner.bin": "i",
        },
    )
    found = by_path(await same_object(GCC, ["-c", "a.c", "-o", "out.o"], cwd, tmp_path / "root"))
    assert {f"{cwd}/data.bin", f"{cwd}/more.s", f"{cwd}/inner.bin"} <= found.files


@pytest_twisted.ensureDeferred
async def test_assembly_without_preprocessor(tmp_path: Path) -> None:
    """For a source that needs no preprocessor none is run, and its ``.incbin`` is found on the ``-I`` path."""
    cwd = write(tmp_path / "src", {"a.s": '.data\n.incbin "d.bin"\n', "inc/d.bin": "xyz"})
    found = by_path(await same_object(GCC, ["-Iinc", "-c", "a.s", "-o", "out.o"], cwd, tmp_path / "root"))
    assert f"{cwd}/inc/d.bin" in found.files


@pytest_twisted.ensureDeferred
async def test_missing_directories_stay_missing(tmp_path: Path) -> None:
    """A directory that is named exists in the sandbox exactly if it exists here."""
    cwd = write(tmp_path / "src", {"a.c": "int a;\n"})
    (cwd / "there").mkdir()
    words = ["-Wmissing-include-dirs", "-Ithere", "-Inot/there", "-c", "a.c", "-o", "out.o"]
    found = by_path(await same_object(GCC, words, cwd, tmp_path / "root"))
    assert f"{cwd}/there" in found.directories
    assert not any("not/there" in path for path in found.directories)


@pytest_twisted.ensureDeferred
async def test_odd_names(tmp_path: Path) -> None:
    """Names with blanks, ``$``, ``#``, ``:`` and bytes that are no UTF-8 are inputs like others."""
    name = os.fsdecode(b"o $d#d: n\xe4me.h")
    cwd = write(
        tmp_path / "a b",
        {"a.c": f'#include "{name}"\nint v = V;\n'.encode("utf-8", "surrogateescape").decode("latin-1")},
    )
    (cwd / "a.c").write_bytes(b'#include "' + os.fsencode(name) + b'"\nint v = V;\n')
    (cwd / name).write_text("#define V 7\n")
    found = by_path(await listed(GCC, ["-c", "a.c", "-o", "out.o"], cwd))
    assert f"{cwd}/{name}" in found.files


def precompile(cwd: Path) -> None:
    subprocess.run(["gcc", "-x", "c-header", "p.h", "-o", "p.h.gch"], cwd=cwd, check=True)


@pytest_twisted.ensureDeferred
async def test_precompiled_header(tmp_path: Path) -> None:
    """A precompiled header that gcc would take for the first include goes along."""
    cwd = write(tmp_path / "src", {"a.c": '#include "p.h"\nint v = V;\n', "p.h": "#define V 7\n"})
    precompile(cwd)
    found = by_path(await listed(GCC, ["-c", "a.c", "-o", "out.o"], cwd))
    assert f"{cwd}/p.h.gch" in found.files


@pytest_twisted.ensureDeferred
async def test_preprocessor_error(tmp_path: Path) -> None:
    """A listing that fails gives no inputs, so that the compiler itself can say what is wrong."""
    cwd = write(tmp_path, {"a.c": '#include "none.h"\n'})
    found = await listed(GCC, ["-c", "a.c"], cwd)
    assert isinstance(found, RunsLocally)
    assert found.reason == "preprocessor_error"
    assert "none.h: No such file" in found.sentence


@pytest_twisted.ensureDeferred
async def test_computed_operand(tmp_path: Path) -> None:
    """An operand that only a preprocessor could compute keeps the job here."""
    cwd = write(
        tmp_path, {"a.c": "#define S(x) #x\n#define N S(b.h)\n#if __has_include(N)\nint b;\n#endif\n", "b.h": ""}
    )
    found = await listed(GCC, ["-c", "a.c"], cwd)
    assert isinstance(found, RunsLocally)
    assert found.reason == "computed_include_operand"


@pytest_twisted.ensureDeferred
async def test_changed_between_listing_and_reading(tmp_path: Path) -> None:
    """A file stamped after the listing began is listed once more, and then judged by whether it has changed again."""
    cwd = write(tmp_path, {"a.c": '#include "b.h"\n', "b.h": "#define B 1\n"})
    arrival = time.time_ns() - 3_600_000_000_000
    found = await listed(GCC, ["-c", "a.c"], cwd, arrival_ns=arrival)
    assert isinstance(found, Gathered)
    (cwd / "b.h").write_text("#define B 2\n")
    found = await listed(GCC, ["-c", "a.c"], cwd, arrival_ns=arrival)
    assert isinstance(found, Gathered)
    assert any(path == os.fsencode(cwd / "b.h") for path, _ in found.fresh)


@pytest_twisted.ensureDeferred
async def test_written_just_before_the_listing(tmp_path: Path) -> None:
    """What a build writes and compiles at once is listed once, also within one moment of the kernel's clock."""
    for number in range(40):
        cwd = write(tmp_path, {"a.c": f"int a{number};\n"})
        assert isinstance(await listed(GCC, ["-c", "a.c"], cwd, tries=1), Gathered)


@pytest.mark.parametrize("ahead", [0, 3_600_000_000_000])
@pytest_twisted.ensureDeferred
async def test_a_source_from_the_future_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """A clock that does not move, or another machine's: the source stays as new, however long one waits."""
    cwd = write(tmp_path, {"a.c": "int a;\n"})
    stamped = (cwd / "a.c").stat().st_ctime_ns
    monkeypatch.setattr(listing, "kernel_time_ns", lambda: stamped - ahead)
    lister = Lister(reactor, ProcessRunner(reactor), 1)
    work = lister.list(understood(GCC, ["-c", "a.c"], cwd), os.fsencode(cwd), env_of())
    run = await Deferred.fromCoroutine(work).addTimeout(20, reactor)
    assert isinstance(run, Listed)
    run.forget()
    lister.close()


def test_changed_twice(tmp_path: Path) -> None:
    """A file that has another signature after the second listing is a changed one."""
    cwd = write(tmp_path, {"a.c": "int a;\n"})
    compilation = understood(GCC, ["-c", "a.c"], cwd)
    place = os.fsencode(os.path.realpath(cwd / "a.c"))

    def question(began: int, earlier) -> Question:
        return Question(compilation, os.fsencode(cwd), (b"a.c",), SearchPath(), 0, began, earlier)

    with pytest.raises(InputsChanged) as first:
        gather(question(0, None), FileMemo())
    assert isinstance(gather(question(0, first.value.signatures), FileMemo()), Gathered)
    (cwd / "a.c").write_text("int b;\n")
    with pytest.raises(InputsChanged) as second:
        gather(question(0, first.value.signatures), FileMemo())
    assert second.value.signatures[place] != first.value.signatures[place]


@pytest_twisted.ensureDeferred
async def test_too_new(tmp_path: Path) -> None:
    """A file as new as the request is an input, and is noted to be looked at again; an old one is not."""
    cwd = write(tmp_path, {"a.c": '#include "b.h"\n', "b.h": "\n"})
    arrival = time.time_ns()
    os.utime(cwd / "b.h", ns=(arrival, arrival + 3_000_000_000))
    found = await listed(GCC, ["-c", "a.c"], cwd, arrival_ns=arrival)
    assert isinstance(found, Gathered)
    assert os.fsencode(cwd / "b.h") in dict(found.fresh)
    assert still_current(found.fresh)
    (cwd / "b.h").write_text("int new;\n")
    assert not still_current(found.fresh)


@pytest_twisted.ensureDeferred
async def test_blobs(tmp_path: Path) -> None:
    """A blob is read by its digest; one whose file has changed or gone is said to have changed."""
    cwd = write(tmp_path, {"a.c": "int a;\n"})
    found = await listed(GCC, ["-c", "a.c"], cwd)
    assert isinstance(found, Gathered)
    source = next(item for item in found.inputs if isinstance(item, FileInput) and item.path.endswith(b"/a.c"))
    assert InputBlobs(found.inputs).read(source.digest) == b"int a;\n"
    (cwd / "a.c").write_text("int b;\n")
    with pytest.raises(InputChanged, match=r"a\.c changed"):
        InputBlobs(found.inputs).read(source.digest)
    (cwd / "a.c").unlink()
    with pytest.raises(InputChanged, match="No such file"):
        InputBlobs(found.inputs).read(source.digest)


@pytest.mark.parametrize(
    ("text", "env", "shown"),
    [
        ("const char *d = __DATE__;\n", {}, True),
        ("const char *t = __TIME__;\n", {}, True),
        ("/* __DATE__ */ int a;\n", {}, False),
        ("#define D __DATE__\nint a;\n", {}, False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_time_macros(tmp_path: Path, text: str, env: dict[str, str], shown: bool) -> None:
    """A time macro counts where it is expanded, not where it is only mentioned."""
    cwd = write(tmp_path, {"a.c": text})
    found = await listed(GCC, ["-c", "a.c"], cwd)
    assert isinstance(found, Gathered)
    assert found.time_macros
    lister = Lister(reactor, ProcessRunner(reactor), 1)
    run = await lister.list(understood(GCC, ["-c", "a.c"], cwd), os.fsencode(cwd), env_of(**env))
    assert isinstance(run, Listed)
    assert run.shows_time() is shown
    run.forget()
    lister.close()


@pytest_twisted.ensureDeferred
async def test_speed(tmp_path: Path) -> None:
    """With everything remembered, 250 headers cost a few milliseconds and no read."""
    headers = {f"h{n}.h": f"int h{n};\n" for n in range(250)}
    cwd = write(tmp_path, {"a.c": "".join(f'#include "{name}"\n' for name in headers), **headers})
    memo = FileMemo()
    compilation_words = ["-c", "a.c"]
    assert isinstance(await listed(GCC, compilation_words, cwd, memo=memo), Gathered)
    names = (b"a.c", *map(os.fsencode, headers))
    late = time.time_ns() + 10_000_000_000
    question = Question(understood(GCC, compilation_words, cwd), os.fsencode(cwd), names, SearchPath(), late, late)
    best = 1.0
    for _ in range(20):
        began = time.thread_time()
        found = gather(question, memo)
        best = min(best, time.thread_time() - began)
    assert isinstance(found, Gathered)
    assert len(found.inputs) >= 251
    assert best < 0.006, f"{best * 1000:.2f} ms"


@pytest_twisted.ensureDeferred
async def test_cplusplus(tmp_path: Path) -> None:
    """libstdc++'s own probes resolve, and the object is the same."""
    cwd = write(
        tmp_path / "src",
        {
            "a.cc": "#include <algorithm>\n#include <vector>\n"
            "int f(std::vector<int>& v) { std::sort(v.begin(), v.end()); return v[0]; }\n"
        },
    )
    gathered = await same_object(GXX, ["-O2", "-g", "-c", "a.cc", "-o", "out.o"], cwd, tmp_path / "root")
    assert len(gathered.inputs) > 100


@pytest_twisted.ensureDeferred
async def test_linked_source(tmp_path: Path) -> None:
    """A source that is a link is compiled under its own name, beside which its headers are looked for."""
    cwd = write(tmp_path / "src", {"b.h": "#define B 1\n", "far/a.c": '#include "b.h"\nconst char *f = __FILE__;\n'})
    (cwd / "a.c").symlink_to("far/a.c")
    found = by_path(await same_object(GCC, ["-g", "-c", "a.c", "-o", "out.o"], cwd, tmp_path / "root"))
    assert found.links[f"{cwd}/a.c"] == "far/a.c"
    assert f"{cwd}/far/a.c" in found.files
