"""``why`` on real compilers: every cause of a miss is named, and nothing else is."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cache_kit import Store, settle, write
from client_kit import env_of
from client_world import Bench, World
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail

from sccache_twisted.client.cache.why import Why
from sccache_twisted.errors import StorageError, StorageTimeout
from sccache_twisted.model import ActionResult
from sccache_twisted.policy.backoff import Backoff
from sccache_twisted.policy.breaker import BreakerRules
from sccache_twisted.storage.breaker import Breaker
from sccache_twisted.storage.levels import Level, Levels
from sccache_twisted.storage.measured import LevelFigures
from sccache_twisted.storage.memory import MemoryStore
from sccache_twisted.storage.signed import Signed

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
    pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang"),
]

Change = Callable[[Path], object]


class Asked(Bench):
    """A client without a cluster, or before a world, that is asked why."""

    def __init__(self, cache: Path, notes: Path, store: Any = None, world: World | None = None) -> None:
        self.store = store or Store()
        self.notes = notes
        super().__init__(reactor, cache, world, self.store, notes)

    async def compile(
        self, line: str, cwd: Path, env: Mapping[bytes, bytes] | None = None, status: int = 0, *, fresh: bool = False
    ) -> None:
        """A call to its end, of files that are no news unless ``fresh``."""
        if not fresh:
            settle(cwd)
        ended = await self.call(line.split(), cwd, env)
        assert ended.status == status, ended.stderr

    async def why(self, path: Path) -> dict[str, Any]:
        assert self.cache is not None
        return await Why(reactor, self.cache).answer(os.fsencode(path))

    async def end(self) -> None:
        assert self.cache is not None
        await self.cache.stop()
        self.close()


@pytest.fixture(scope="module")
def toolchains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toolchains")


@pytest.fixture
def asked(toolchains: Path, tmp_path_factory: pytest.TempPathFactory):
    made = Asked(toolchains, tmp_path_factory.mktemp("notes") / "notes.sqlite")
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.end()))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    write(
        tmp_path,
        a_c='#include "b.h"\n#if __has_include("opt.h")\n#include "opt.h"\n#endif\nint f(void) { return B; }\n',
        inc__b_h="#define B 1\n",
        late__c_h="#define C 1\n",
    )
    return tmp_path


def modified(path: Path) -> int:
    return path.stat().st_mtime_ns


def put(name: str, text: str) -> Change:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)

    return change


def nothing(_: Path) -> None:
    """Leave it as it is."""


GCC = "gcc -O2 -Ifirst -Iinc -c a.c -o a.o"
CAUSES: dict[str, tuple[str, Change, str, dict[str, str], list[str]]] = {
    "argument changed": (GCC, nothing, GCC.replace("-O2", "-O3"), {}, ["argument -O2 became -O3"]),
    "argument added": (GCC, nothing, GCC.replace("-O2", "-O2 -DX=1"), {}, ["argument -DX=1 was added"]),
    "argument removed": (GCC, nothing, GCC.replace("-O2 ", ""), {}, ["argument -O2 was removed"]),
    "macro changed": (
        GCC.replace("-O2", "-DA=1 -g0"),
        nothing,
        GCC.replace("-O2", "-DA=2 -g0"),
        {},
        ["argument -DA=1 became -DA=2"],
    ),
    "two arguments": (
        GCC,
        nothing,
        GCC.replace("-O2", "-O1").replace("-c", "-fPIC -c"),
        {},
        ["argument -O2 became -O1", "argument -fPIC was added"],
    ),
    "other order": (
        GCC,
        nothing,
        GCC.replace("-Ifirst -Iinc", "-Iinc -Ifirst"),
        {},
        ["the arguments stand in another order"],
    ),
    "language": (GCC, nothing, GCC.replace("-c", "-x c++ -c"), {}, None),
    "variable set": (GCC, nothing, GCC, {"CPATH": "late"}, ["variable CPATH was set to late"]),
    "buster": (
        GCC,
        nothing,
        GCC,
        {"SCCACHE_C_CUSTOM_CACHE_BUSTER": "2"},
        ["SCCACHE_C_CUSTOM_CACHE_BUSTER was set to 2"],
    ),
    "source": (GCC, put("a.c", "int g(void) { return 2; }\n"), GCC, {}, ["the source changed"]),
    "header": (GCC, put("inc/b.h", "#define B 2\n"), GCC, {}, ["header inc/b.h changed"]),
    "header appears": (
        GCC,
        put("first/b.h", "#define B 3\n"),
        GCC,
        {},
        ["header first/b.h appeared, and is found before inc/b.h"],
    ),
    "probed name appears": (
        GCC,
        put("inc/opt.h", "#define O\n"),
        GCC,
        {},
        ["file inc/opt.h appeared where the compiler looks for it"],
    ),
    "probed name is gone": (
        GCC,
        lambda root: (root / "old/opt.h").unlink(),
        GCC,
        {},
        ["header old/opt.h is gone"],
    ),
    "include directory": (
        GCC.replace("-Ifirst", "-Inew"),
        lambda root: (root / "new").mkdir(),
        GCC.replace("-Ifirst", "-Inew"),
        {},
        ["the directory new appeared"],
    ),
    "header moves": (
        GCC,
        lambda root: (root / "inc/b.h").rename(root / "first/b.h"),
        GCC,
        {},
        ["header first/b.h appeared, and is found before inc/b.h"],
    ),
    "source and header": (
        GCC,
        lambda root: (
            put("inc/b.h", "#define B 9\n")(root),
            put("a.c", '#include "b.h"\nint h(void) { return B; }\n')(root),
        ),
        GCC,
        {},
        ["the source changed", "header inc/b.h changed"],
    ),
}
CAUSES["language"] = (
    *CAUSES["language"][:4],
    ["argument -x was added", "argument c++ was added", "the language was c and is c++"],
)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("name", CAUSES)
@pytest_twisted.ensureDeferred
async def test_every_cause_is_named(work: Path, asked: Asked, name: str, compiler: str) -> None:
    """What changed between two compilations, and only that, is why the second was a miss; by source and by object."""
    before, change, after, more, sentences = CAUSES[name]
    (work / "first").mkdir()
    if name == "probed name is gone":
        before = after = before.replace("-Ifirst", "-Iold")
        put("old/opt.h", "#define O\n")(work)
    await asked.compile(before.replace("gcc", compiler), work)
    change(work)
    await asked.compile(after.replace("gcc", compiler), work, env_of(**more))
    told = await asked.why(work / "a.c")
    assert told["state"] == "miss"
    assert [cause["sentence"] for cause in told["causes"]] == sentences
    assert told["stored"]
    assert told["command"][0] == compiler
    assert await asked.why(work / "a.o") == {**told, "file": str(work / "a.o")}


@pytest_twisted.ensureDeferred
async def test_the_first_and_the_unknown(work: Path, asked: Asked) -> None:
    """A file that was never compiled before is the first; one that was not compiled is unknown."""
    assert await asked.why(work / "a.c") == {"file": str(work / "a.c"), "state": "unknown", "causes": []}
    await asked.compile(GCC, work)
    told = await asked.why(work / "a.c")
    assert [cause["kind"] for cause in told["causes"]] == ["first"]
    assert told["compared_with"] is None
    assert (await asked.why(work / "b.c"))["state"] == "unknown"


@pytest_twisted.ensureDeferred
async def test_a_hit_says_so_and_tells_the_last_miss(work: Path, asked: Asked) -> None:
    """A result that was found is no miss; why the last miss was one stands beside it."""
    await asked.compile(GCC, work)
    put("inc/b.h", "#define B 2\n")(work)
    await asked.compile(GCC, work)
    await asked.compile(GCC, work)
    told = await asked.why(work / "a.c")
    assert (told["state"], told["causes"]) == ("hit", [])
    assert [cause["sentence"] for cause in told["last_miss"]["causes"]] == ["header inc/b.h changed"]


@pytest_twisted.ensureDeferred
async def test_a_hit_by_text_tells_what_had_changed(work: Path, asked: Asked) -> None:
    """A header that changed only in a comment leads to the same result, and is named."""
    await asked.compile(GCC, work)
    put("inc/b.h", "#define B 1 /* one */\n")(work)
    await asked.compile(GCC, work)
    told = await asked.why(work / "a.c")
    assert (told["state"], [cause["sentence"] for cause in told["causes"]]) == ("text_hit", ["header inc/b.h changed"])


@pytest_twisted.ensureDeferred
async def test_of_several_configurations_the_nearest_is_compared(work: Path, asked: Asked) -> None:
    """A release build is compared with the last release build, whatever debug builds came between."""
    debug, release = (f"gcc {flags} -Iinc -c a.c -o {name}.o" for flags, name in (("-g -O0", "d"), ("-O2 -DN", "r")))
    await asked.compile(release, work)
    for number in range(9):
        put("a.c", f"int f(void) {{ return {number}; }}\n")(work)
        await asked.compile(debug, work)
    await asked.compile(release, work)
    told = await asked.why(work / "r.o")
    assert [cause["sentence"] for cause in told["causes"]] == ["the source changed"]
    assert told["compared_with"]["command"] == release.split()
    told = await asked.why(work / "d.o")
    assert told["command"] == debug.split()
    assert [cause["sentence"] for cause in told["causes"]] == ["the source changed"]
    assert told["compared_with"]["command"] == debug.split()
    await asked.compile(release.replace("-O2", "-O3"), work)
    told = await asked.why(work / "a.c")
    assert [cause["sentence"] for cause in told["causes"]] == ["argument -O2 became -O3"]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest_twisted.ensureDeferred
async def test_the_compiler(work: Path, asked: Asked, compiler: str) -> None:
    """Another compiler, and the same one with other files, are told apart."""
    other = {"gcc": "clang", "clang": "gcc"}[compiler]
    await asked.compile(GCC.replace("gcc", compiler), work)
    await asked.compile(GCC.replace("gcc", other), work)
    (cause,) = (await asked.why(work / "a.c"))["causes"]
    assert cause["kind"] == "compiler"
    assert f"/usr/bin/{compiler} (" in cause["was"]
    assert f"/usr/bin/{other} (" in cause["now"]


@pytest_twisted.ensureDeferred
async def test_a_compiler_that_was_replaced(work: Path, asked: Asked, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A compiler at the same path with the same version, but with other content, is another compiler."""
    prefix = tmp_path_factory.mktemp("prefix")
    program = prefix / "bin" / "gcc"
    program.parent.mkdir()
    shutil.copy("/usr/bin/gcc", program)
    (prefix / "lib").symlink_to("/usr/lib")
    line = GCC.replace("gcc", str(program))
    await asked.compile(line, work)
    with program.open("ab") as stream:
        stream.write(b"\0")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    settle(program.parent)
    await asked.compile(line, work)
    (cause,) = (await asked.why(work / "a.c"))["causes"]
    assert cause["sentence"].startswith(f"the files of the compiler {program} changed")
    assert cause["was"] != cause["now"]


@pytest_twisted.ensureDeferred
async def test_the_working_directory_where_it_shows(work: Path, asked: Asked) -> None:
    """With debug information the directory counts, and is named."""
    line = f"gcc -g -I{work}/inc -c {work}/a.c -o {work}/a.o"
    await asked.compile(line, work)
    await asked.compile(line, work / "inc")
    (cause,) = (await asked.why(work / "a.c"))["causes"]
    assert (cause["kind"], cause["was"], cause["now"]) == ("directory", str(work), str(work / "inc"))


@pytest_twisted.ensureDeferred
async def test_what_is_not_stored_any_more(work: Path, asked: Asked) -> None:
    """A result that was removed from the store, manifest and all or only itself, was cleared or had to make room."""
    await asked.compile(GCC, work)
    await asked.cache.settled()
    await asked.store.evict(None)
    await asked.compile(GCC, work)
    (cause,) = (await asked.why(work / "a.c"))["causes"]
    assert cause["kind"] == "evicted"
    assert "the result of 2" in cause["sentence"]
    await asked.cache.settled()
    for key, entry in list(asked.store._entries.items()):
        if entry[3:4] == b"e":
            await asked.store.delete(key)
    await asked.compile(GCC, work)
    assert [cause["kind"] for cause in (await asked.why(work / "a.c"))["causes"]] == ["evicted"]


@pytest_twisted.ensureDeferred
async def test_damage_is_told(work: Path, asked: Asked) -> None:
    """An entry whose bytes are not what was stored is why."""
    await asked.compile(GCC, work)
    await asked.cache.settled()
    for key, entry in list(asked.store._entries.items()):
        await asked.store.put(key, entry[:-1] + bytes([entry[-1] ^ 1]))
    await asked.compile(GCC, work)
    assert [cause["kind"] for cause in (await asked.why(work / "a.c"))["causes"]] == ["damaged"]


@pytest.mark.parametrize(
    ("line", "more", "reason", "path"),
    [
        (GCC, {"SCCACHE_NO_CACHE": "1"}, "no_cache", "a.o"),
        ("gcc -Iinc -save-temps -c a.c -o a.o", {}, "unsupported_compiler_option", "a.c"),
        ("gcc -Iinc -o program a.c -nostartfiles -shared", {}, "link", "a.c"),
        ("gcc -Iinc -c a.c -fplugin=nothing -o a.o", {}, "compiler_plugin", "a.c"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_was_not_cached_has_its_reason(
    work: Path, asked: Asked, line: str, more: dict[str, str], reason: str, path: str
) -> None:
    """A call that nothing was looked for is told with the documented reason, by its source."""
    settle(work)
    await asked.call(line.split(), work, env_of(**more))
    told = await asked.why(work / path)
    assert (told["state"], told["reason"]) == ("not_cached", reason)
    assert told["reason_sentence"].endswith(".")


@pytest_twisted.ensureDeferred
async def test_a_forced_recache_is_told(work: Path, asked: Asked) -> None:
    """SCCACHE_RECACHE is why, although a result was there."""
    await asked.compile(GCC, work)
    await asked.compile(GCC, work, env_of(SCCACHE_RECACHE="1"))
    assert [cause["kind"] for cause in (await asked.why(work / "a.c"))["causes"]] == ["recache"]


@pytest_twisted.ensureDeferred
async def test_why_a_result_was_not_stored(work: Path, asked: Asked) -> None:
    """A miss whose result was too new, told the time, or was a failure says so besides its cause."""
    await asked.compile(GCC, work)
    put("inc/b.h", "#error no\n")(work)
    await asked.compile(GCC, work, status=1)
    told = await asked.why(work / "a.c")
    assert ([cause["sentence"] for cause in told["causes"]], told["stored"]) == (["header inc/b.h changed"], False)
    assert told["reason"] in {"compile_failed", "preprocessor_error"}
    put("inc/b.h", "#define B x\n")(work)
    await asked.compile(GCC, work, status=1)
    assert (await asked.why(work / "a.c"))["reason"] == "compile_failed"
    put("inc/b.h", "#define B sizeof __TIME__\n")(work)
    await asked.compile(GCC, work)
    told = await asked.why(work / "a.c")
    assert ([cause["sentence"] for cause in told["causes"]], told["stored"]) == (["header inc/b.h changed"], False)
    assert told["reason"] == "time_macros"
    put("inc/b.h", "#define B 5\n")(work)
    await asked.compile(GCC, work, fresh=True)
    told = await asked.why(work / "a.c")
    assert ([cause["sentence"] for cause in told["causes"]], told["reason"]) == (["header inc/b.h changed"], "too_new")


@pytest_twisted.ensureDeferred
async def test_a_slow_or_failing_store_is_told(work: Path, asked: Asked) -> None:
    """A look-up that the store did not answer in time is why, in the store's own sentence."""
    await asked.compile(GCC, work)
    await asked.cache.settled()
    asked.store.get = lambda _: fail(StorageTimeout("Redis did not answer in 0.25 s."))
    await asked.compile(GCC, work)
    del asked.store.get
    told = await asked.why(work / "a.c")
    assert {cause["sentence"] for cause in told["causes"]} == {"the store did not help: Redis did not answer in 0.25 s"}
    assert told["state"] == "miss"


@pytest_twisted.ensureDeferred
async def test_a_bad_signature_is_told(work: Path, toolchains: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An entry that somebody else signed is why, and its store is named."""
    memory, figures = MemoryStore(64 << 20), LevelFigures("redis")
    store = Levels([Level(Signed(memory, b"k" * 32, figures), figures)])
    asked = Asked(toolchains, tmp_path_factory.mktemp("notes") / "n.sqlite", store)
    await asked.compile(GCC, work)
    await asked.cache.settled()
    for key, entry in list(memory._entries.items()):
        await memory.put(key, entry[:9] + bytes([entry[9] ^ 1]) + entry[10:])
    await asked.compile(GCC, work)
    told = await asked.why(work / "a.c")
    assert {cause["sentence"] for cause in told["causes"]} == {
        "the store did not help: redis holds an entry that is not signed with our key"
    }
    await asked.end()


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_left_alone_is_told(
    work: Path, toolchains: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A store that is not even asked, since it kept failing, is why."""
    broken, figures = Store(), LevelFigures("s3")
    rules = BreakerRules(1, Backoff(3600.0, 2.0, 3600.0))
    store = Levels([Level(Breaker(broken, rules, figures, reactor, lambda: 1.0), figures)])
    asked = Asked(toolchains, tmp_path_factory.mktemp("notes") / "n.sqlite", store)
    await asked.compile(GCC, work)
    await asked.cache.settled()
    broken.broken = True
    await asked.compile(GCC.replace("-O2", "-O1"), work)
    broken.broken = False
    await asked.compile(GCC, work)
    (cause,) = {cause["sentence"] for cause in (await asked.why(work / "a.c"))["causes"]}
    assert cause == "the store did not help: s3 was left alone, since it kept failing"
    await asked.end()


@pytest_twisted.ensureDeferred
async def test_notes_that_cannot_be_written_cost_only_the_answer(
    work: Path, toolchains: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where no notes can be kept, compilations and hits go on as ever, and who asks why is told the reason."""
    place = tmp_path_factory.mktemp("notes")
    (place / "file").write_text("")
    asked = Asked(toolchains, place / "file" / "n.sqlite")
    await asked.compile(GCC, work)
    await asked.compile(GCC, work)
    assert sum(asked.statistics.cache_hits.counts.values()) == 1
    with pytest.raises(StorageError, match="file"):
        await asked.why(work / "a.c")
    await asked.end()


@pytest_twisted.ensureDeferred
async def test_a_hit_writes_nothing_at_once(work: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hit is noted in memory: nothing is written until some time has gone, or somebody asks."""
    monkeypatch.setattr("sccache_twisted.client.cache.observer.FLUSH_SECONDS", 3600.0)
    await asked.compile(GCC, work)
    assert (await asked.why(work / "a.c"))["state"] == "miss"
    before = modified(asked.notes)
    for _ in range(5):
        await asked.compile(GCC, work)
    assert sum(asked.statistics.cache_hits.counts.values()) == 5
    assert modified(asked.notes) == before
    assert (await asked.why(work / "a.c"))["state"] == "hit"
    assert modified(asked.notes) > before


@pytest_twisted.ensureDeferred
async def test_what_ran_on_a_worker_is_explained_alike(
    work: Path, toolchains: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where a result was made changes nothing; a worker's failing compiler is a failure."""
    world = World()
    asked = Asked(toolchains, tmp_path_factory.mktemp("notes") / "n.sqlite", world=world)
    await asked.compile(GCC, work)
    put("inc/b.h", "#define B 2\n")(work)
    await asked.compile(GCC, work)
    assert len(world.actions) == 2
    told = await asked.why(work / "a.c")
    assert ([cause["sentence"] for cause in told["causes"]], told["stored"]) == (["header inc/b.h changed"], True)
    world.spoil = lambda _: ActionResult(1, b"", b"no", ())
    await asked.compile(GCC.replace("-O2", "-O1"), work)
    told = await asked.why(work / "a.c")
    assert ([cause["sentence"] for cause in told["causes"]], told["reason"]) == (
        ["argument -O2 became -O1"],
        "compile_failed",
    )
    await asked.end()


@pytest_twisted.ensureDeferred
async def test_notes_outlive_the_client(work: Path, toolchains: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Another client with the same files, after the first has ended, knows what the first saw."""
    notes, store = tmp_path_factory.mktemp("notes") / "n.sqlite", Store()
    first = Asked(toolchains, notes, store)
    await first.compile(GCC, work)
    await first.cache.settled()
    await first.cache.observer.stop()
    first.close()
    second = Asked(toolchains, notes, store)
    await second.compile(GCC.replace("-O2", "-Os"), work)
    assert [cause["sentence"] for cause in (await second.why(work / "a.c"))["causes"]] == ["argument -O2 became -Os"]
    await second.end()
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600
