"""The cache around a pipeline, on real compilers: what hits, what must not, and what happens to those who wait."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
from cache_kit import CountedBench, Store, compiled, settle, write
from client_kit import env_of
from client_world import World, plain, tree
from contracts.cache_store import key_of
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, succeed

from sccache_twisted.client.cache.flights import Flights, Outcome, Turn
from sccache_twisted.client.calls import RunHere
from sccache_twisted.interfaces import Finished
from sccache_twisted.model import ActionResult

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap"),
]

LONG_AGO = (1_600_000_000, 1_600_000_000)


@pytest.fixture(scope="module")
def toolchains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toolchains")


@pytest.fixture
def bench(toolchains: Path):
    made = CountedBench(toolchains, World(), Store())
    yield made
    made.close()


@pytest.fixture
def alone(toolchains: Path):
    """A client without a cluster."""
    made = CountedBench(toolchains, None, Store())
    yield made
    made.close()


SOURCE = '#include "b.h"\n#include <stdio.h>\nint main(int c, char **v) { int unused; puts(B); return c; }\n'
HEADER = '#define B "b"\n/* words */\nstatic inline int f(int x) { return x * 2; }\n'


@pytest.fixture
def work(tmp_path: Path) -> Path:
    write(tmp_path, a_c=SOURCE, inc__b_h=HEADER, c_cc="#include <string>\nstd::string f() { return __FILE__; }\n")
    write(tmp_path, s_S='#include "v.h"\n.data\n.include "more.s"\n.long V\n', inc__v_h="#define V 7\n")
    write(tmp_path, more_s=".long 1\n", p_i="int p(void) { return 1; }\n")
    return tmp_path


LINES = [
    "gcc -Iinc -c a.c",
    "gcc -Iinc -O2 -g -Wall -MD -MP -c a.c -o out.o",
    "gcc -Iinc -g -gsplit-dwarf -Wall -MMD -MF deps.d -MT target -c a.c -o out.o",
    "gcc -Iinc -fstack-usage -fcallgraph-info -c a.c -o out.o",
    "gcc -Iinc --coverage -c a.c -o out.o",
    "gcc -Iinc -S a.c",
    "gcc -Iinc -O3 -march=native -c a.c -o out.o",
    "g++ -O1 -g -MD -c c.cc -o out.o",
    "clang -Iinc -O2 -g -Wall -MD -c a.c -o out.o",
    "clang -Iinc -g -gsplit-dwarf -c a.c -o out.o",
    "clang -Iinc --coverage -fstack-usage -c a.c -o out.o",
    "clang++ -MD -c c.cc",
    "g++ -g -gsplit-dwarf --coverage -fstack-usage -MD -c c.cc -o out.o",
    "clang++ -g -gsplit-dwarf --coverage -fstack-usage -MMD -c c.cc -o out.o",
    "gcc -Iinc -c s.S -o out.o",
    "gcc -O1 -c p.i -o out.o",
]


@pytest.mark.parametrize("line", LINES)
@pytest_twisted.ensureDeferred
async def test_a_hit_is_the_miss_again(work: Path, bench: CountedBench, line: str) -> None:
    """A hit gives files, modes, words and status of the miss, whichever way it is found; a direct one runs nothing."""
    first = await bench.call(line.split(), work, umask=0o027)
    await bench.stored()
    made = tree(work)
    sources = {"a.c", "c.cc", "inc/b.h", "inc", "inc/v.h", "s.S", "more.s", "p.i"}
    for path in set(made) - sources:
        (work / path).unlink()
    ran, listed = len(bench.world.actions), bench.listings
    assert ran == 1
    direct = await bench.call(line.split(), work, umask=0o027)
    assert direct.cached
    assert (direct.status, direct.stdout, direct.stderr) == (0, first.stdout, first.stderr)
    assert tree(work) == made
    assert bench.listings == listed
    # Without what leads to it directly, it is found by its inputs.
    manifests = [key for key, entry in bench.store._entries.items() if entry[3:4] == b"m"]
    assert len(manifests) == 1
    await bench.store.delete(manifests[0])
    for path in set(made) - sources:
        (work / path).unlink()
    preprocessed = await bench.call(line.split(), work, umask=0o027)
    assert preprocessed.cached
    assert (preprocessed.stdout, preprocessed.stderr) == (first.stdout, first.stderr)
    assert tree(work) == made
    assert bench.listings > listed or line.split()[-3] == "p.i"
    assert len(bench.world.actions) == ran
    assert (bench.misses, bench.hits) == (1, 2)


@pytest_twisted.ensureDeferred
async def test_a_client_without_a_cluster_caches_too(work: Path, alone: CountedBench) -> None:
    """What the caller compiled in a local slot is stored when it has ended, and found the next time."""
    for line in ("gcc -Iinc -MD -Wall -c a.c -o out.o", "g++ -c c.cc -o c.o"):
        first = await compiled(alone, line, work)
        made = tree(work)
        second = await compiled(alone, line, work)
        assert second.cached
        assert (second.stdout, second.stderr) == (first.stdout, first.stderr)
        assert tree(work) == made
    assert alone.statistics.local_compiles == {"not_configured": 2}


def change(path: str, text: str) -> Callable[[Path], None]:
    def doing(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)

    return doing


PROBING = '#include "b.h"\n#if __has_include("extra.h")\nint with;\n#else\nint without;\n#endif\nconst char *b = B;\n'
LINE = "gcc -Ifirst -Iinc -c a.c -o a.o"
CHANGES = {
    "header": (LINE, change("inc/b.h", HEADER.replace('"b"', '"c"')), LINE, {}),
    "source": (LINE, change("a.c", PROBING + "int more;\n"), LINE, {}),
    "macro": (LINE, None, LINE + " -DX", {}),
    "option": (LINE, None, LINE + " -O1", {}),
    "locale": (LINE, None, LINE, {"LC_ALL": "C"}),
    "epoch": (LINE, None, LINE, {"SOURCE_DATE_EPOCH": "1"}),
    "include path variable": (LINE, None, LINE, {"CPATH": "/nowhere"}),
    "buster": (LINE, None, LINE, {"SCCACHE_C_CUSTOM_CACHE_BUSTER": "1"}),
    "header that shadows": (LINE, change("first/b.h", '#define B "shadow"\n'), LINE, {}),
    "header beside the source that shadows": (LINE, change("b.h", '#define B "shadow"\n'), LINE, {}),
    "directory that appears and shadows": (
        LINE,
        change("first/b.h", '#define B "shadow"\n'),
        LINE,
        {},
    ),
    "target of __has_include that appears": (LINE, change("first/extra.h", ""), LINE, {}),
    "target of __has_include that disappears": (
        LINE.replace("-Ifirst", "-Ifirst -Ithere"),
        lambda root: (root / "there" / "extra.h").unlink(),
        LINE.replace("-Ifirst", "-Ifirst -Ithere"),
        {},
    ),
    "profile that appears": (LINE + " -fprofile-use", change("a.gcda", "not a profile"), LINE + " -fprofile-use", {}),
    "precompiled header that appears": (LINE, change("first/b.h.gch", "no precompiled header"), LINE, {}),
    "directory for debug information": (LINE + " -g", None, LINE + " -g", {"PWD": "other"}),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest_twisted.ensureDeferred
async def test_what_must_be_a_miss(tmp_path: Path, bench: CountedBench, name: str) -> None:
    """Whatever could change the result is a miss, and the new result is the compiler's own."""
    work = tmp_path / "work"
    write(work, a_c=PROBING, inc__b_h=HEADER, there__extra_h="")
    if name != "directory that appears and shadows":
        write(work, first__other_h="")
    (tmp_path / "other").symlink_to(work)
    before, doing, after, variables = CHANGES[name]
    await compiled(bench, before, work)
    assert (await compiled(bench, before, work)).cached
    if doing is not None:
        doing(work)
        settle(work)
    env = env_of(**{key: str(tmp_path / value) if key == "PWD" else value for key, value in variables.items()})
    await bench.call(after.split(), work, env)
    assert bench.hits == 1
    again = (work / "a.o").read_bytes()
    assert plain(after.split(), work, env).status == 0
    assert (work / "a.o").read_bytes() == again


@pytest.mark.parametrize(
    ("line", "text", "hit"),
    [
        ("gcc -Iinc -c a.c -O2", "", True),
        ("clang -Iinc -c a.c -O2 -MD", "", True),
        ("g++ -Iinc -c a.cc", "", True),
        ("gcc -Iinc -g -c a.c", "", False),
        ("clang -Iinc -g -c a.c", "", False),
        ("gcc -Iinc -Wall -c a.c", "static int unused_here(void) { return 1; }\n", False),
        ("gcc -Iinc -c a.c", 'int column = __builtin_LINE() + sizeof("__builtin_COLUMN");\n', False),
        ("g++ -std=c++20 -Iinc -c a.cc", "#include <source_location>\n", False),
        ("gcc -Iinc -Wextra -c a.c", "", False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_comment_matters_only_where_it_can_show(
    tmp_path: Path, bench: CountedBench, line: str, text: str, hit: bool
) -> None:
    """A changed comment in a header is no direct hit; it is one of the text where no column nor digest can show."""
    write(tmp_path, a_c=f'{text}#include "b.h"\nint x;\n', a_cc=f'{text}#include "b.h"\nint x;\n', inc__b_h=HEADER)
    await compiled(bench, line, tmp_path)
    change("inc/b.h", HEADER.replace("words", "other words"))(tmp_path)
    settle(tmp_path)
    listed = bench.listings
    answer = await compiled(bench, line, tmp_path)
    assert answer.cached is hit
    assert bench.listings > listed or not hit  # a miss needs no preprocessor: what it reads is predicted
    assert len(bench.world.actions) == (1 if hit else 2)
    assert (await compiled(bench, line, tmp_path)).cached


@pytest_twisted.ensureDeferred
async def test_a_depfile_has_the_callers_own_paths(work: Path, bench: CountedBench) -> None:
    """Another object's name is another depfile, written for a hit as the compiler writes it, lines broken as there."""
    for number, line in enumerate(("gcc -Iinc -MD", "clang -Iinc -MD", "gcc -Iinc -MD -MP", "clang -Iinc -MD -MP")):
        await compiled(bench, f"{line} -c a.c -o one.o", work)
        for name in ("two", "a" * 40, "b" * 90, "inc/" + "c" * 62, "d.e" * 20):
            (work / f"{name}.o").unlink(missing_ok=True)
            words = f"{line} -c a.c -o {name}.o"
            assert (await compiled(bench, words, work)).cached, words
            found = tree(work)
            assert plain(words.split(), work).status == 0
            assert tree(work) == found, words
        assert len(bench.world.actions) == number + 1
    await compiled(bench, "gcc -Iinc -MD -MT goal -MQ other -MF one.dep -c a.c -o one.o", work)
    words = f"gcc -Iinc -MD -MT {'g' * 60} -MQ {'h' * 50} -MF two.dep -c a.c -o two.o"
    assert (await compiled(bench, words, work)).cached
    found = tree(work)
    assert plain(words.split(), work).status == 0
    assert tree(work) == found


@pytest_twisted.ensureDeferred
async def test_a_depfile_that_needs_escapes_is_for_its_own_targets(work: Path, bench: CountedBench) -> None:
    """Where a name is written otherwise than it is, a depfile is not written for others, and stays exact."""
    for words in (
        ["gcc", "-Iinc", "-MD", "-c", "a.c", "-o", "one $.o"],
        ["gcc", "-Iinc", "-MD", "-c", "a.c", "-o", "two $.o"],
        ["gcc", "-Iinc", "-MD", "-MT", "a b", "-c", "a.c", "-o", "a.o"],
    ):
        for cached in (False, True):
            answer = await bench.call(words, work)
            await bench.stored()
            assert answer.cached is cached
        found = tree(work)
        assert plain(words, work).status == 0
        assert tree(work) == found


@pytest_twisted.ensureDeferred
async def test_another_directory_shares_what_shows_no_directory(tmp_path: Path, bench: CountedBench) -> None:
    """The same tree elsewhere hits, unless its headers differ; with debug information it does not."""
    for name in ("one", "two", "three"):
        write(tmp_path / name, a_c=SOURCE, inc__b_h=HEADER)
    write(tmp_path / "three", inc__b_h=HEADER.replace('"b"', '"three"'))
    await compiled(bench, "gcc -Iinc -c a.c", tmp_path / "one")
    assert (await compiled(bench, "gcc -Iinc -c a.c", tmp_path / "two")).cached
    assert not (await compiled(bench, "gcc -Iinc -c a.c", tmp_path / "three")).cached
    await compiled(bench, "gcc -g -Iinc -c a.c", tmp_path / "one")
    assert not (await compiled(bench, "gcc -g -Iinc -c a.c", tmp_path / "two")).cached


@pytest_twisted.ensureDeferred
async def test_what_is_too_new_or_tells_the_time_is_not_stored(work: Path, bench: CountedBench) -> None:
    """A header written just now is compiled and not stored; so is a date, whatever wraps it; each says why."""
    text = "#define S(x) #x\n#define STR(x) S(x)\n"
    write(work, t_c=f"{text}const char *t = STR(__TIMESTAMP__);\n", u_c="/* __DATE__ */ int x;\n")
    await compiled(bench, "gcc -c t.c", work)
    await compiled(bench, "gcc -c u.c", work)
    assert (await compiled(bench, "gcc -c u.c", work)).cached
    (work / "inc" / "b.h").write_text(HEADER)
    os.utime(work / "inc" / "b.h", LONG_AGO)
    await compiled(bench, "gcc -Iinc -c a.c", work)
    assert bench.statistics.not_cached == {"time_macros": 1, "too_new": 1}
    assert bench.statistics.non_cacheable_compilations == 2
    assert len(bench.store._entries) == 2


@pytest_twisted.ensureDeferred
async def test_a_header_that_changes_during_a_local_compilation_spoils_it(work: Path, alone: CountedBench) -> None:
    """What the compiler may have seen is not what was keyed: nothing is stored, also when a name appears meanwhile."""
    for doing in (change("inc/b.h", HEADER + "\n"), change("first/b.h", '#define B "x"\n')):
        line = "gcc -Ifirst -Iinc -c a.c"
        settle(work)
        decision = await alone.decide(line.split(), work)
        assert isinstance(decision, RunHere)
        doing(work)
        ended = await alone.runner.run(
            decision.argv, executable=decision.executable, cwd=os.fsencode(work), env=env_of(), umask=0, limit=1 << 20
        )
        assert ended.status == 0
        await alone.pipeline.finished(decision, ended)
        await alone.stored()
        assert not alone.store._entries
    assert alone.statistics.not_cached == {"modified_input": 2}


@pytest.mark.parametrize("guard", ["#pragma once\n", "#ifndef G\n#define G\n"])
@pytest_twisted.ensureDeferred
async def test_twins_that_are_read_once_are_not_stored(tmp_path: Path, bench: CountedBench, guard: str) -> None:
    """To gcc two headers of one content and one time are one file: what depends on times is not stored."""
    text = f"{guard}static int twin = 1;\n{'' if 'once' in guard else '#endif'}\n"
    write(tmp_path, a_c='#include "one/t.h"\n#include "two/t.h"\n', one__t_h=text, two__t_h=text)
    for name in ("one", "two"):
        os.utime(tmp_path / name / "t.h", LONG_AGO)
    settle(tmp_path)
    await compiled(bench, "gcc -c a.c", tmp_path)
    assert (await compiled(bench, "gcc -c a.c", tmp_path)).cached is ("once" not in guard)
    assert bench.statistics.not_cached == ({"twin_headers": 2} if "once" in guard else {})
    os.utime(tmp_path / "two" / "t.h", (1, 1))
    settle(tmp_path)
    answer = await bench.call(["gcc", "-c", "a.c"], tmp_path)
    assert answer.status == plain(["gcc", "-c", "a.c"], tmp_path).status


@pytest_twisted.ensureDeferred
async def test_only_success_is_stored(work: Path, bench: CountedBench, alone: CountedBench) -> None:
    """A compiler's error is compiled every time."""
    write(work, bad_c="int main(void) { return undeclared; }\n")
    for one in (bench, alone):
        for _ in range(2):
            answer = await one.call(["gcc", "-c", "bad.c"], work)
            await one.stored()
            assert answer.status == 1
        assert not one.store._entries


@pytest_twisted.ensureDeferred
async def test_switches_of_one_call(work: Path, bench: CountedBench) -> None:
    """RECACHE compiles and stores over what was there; NO_CACHE neither looks nor stores."""
    line = "gcc -Iinc -c a.c"
    await compiled(bench, line, work, env_of(SCCACHE_NO_CACHE="1"))
    assert not bench.store._entries
    await compiled(bench, line, work)
    before = dict(bench.store._entries)
    for key in before:
        bench.store._entries[key] = b"spoilt"
    assert not (await compiled(bench, line, work, env_of(SCCACHE_RECACHE="1"))).cached
    assert bench.store._entries.keys() == before.keys()
    assert b"spoilt" not in bench.store._entries.values()
    assert not (await compiled(bench, line, work, env_of(SCCACHE_NO_CACHE="1"))).cached
    assert (await compiled(bench, line, work)).cached
    assert bench.statistics.forced_recaches == 1
    assert bench.statistics.not_cached == {"no_cache": 2}
    assert len(bench.world.actions) == 4


@pytest_twisted.ensureDeferred
async def test_damage_is_a_miss_that_is_counted_and_removed(work: Path, bench: CountedBench) -> None:
    """A flipped bit in any entry is never served; what was damaged is replaced by what is compiled."""
    line = "gcc -Iinc -c a.c"
    await compiled(bench, line, work)
    good = (work / "a.o").read_bytes()
    for number, (key, entry) in enumerate(sorted(bench.store._entries.items()), 1):
        bench.store._entries[key] = entry[:-1] + bytes([entry[-1] ^ 1])
        await compiled(bench, line, work)
        assert (work / "a.o").read_bytes() == good
        assert bench.statistics.cache_read_errors == number
        assert (await compiled(bench, line, work)).cached


@pytest_twisted.ensureDeferred
async def test_a_broken_store_costs_a_count_and_nothing_else(work: Path, bench: CountedBench) -> None:
    """Builds go on, and hits return with the store."""
    line = "gcc -Iinc -c a.c"
    bench.store.broken = True
    for _ in range(2):
        assert not (await compiled(bench, line, work)).cached
    assert bench.statistics.cache_read_errors >= 2
    assert bench.statistics.cache_write_errors == 2
    bench.store.broken = False
    await compiled(bench, line, work)
    assert (await compiled(bench, line, work)).cached


@pytest_twisted.ensureDeferred
async def test_a_call_that_a_defect_ends_is_an_error_of_its_language(work: Path, bench: CountedBench) -> None:
    """A call that ends neither in a result nor in a reason counts in cache_errors, as sccache counts it."""
    bench.store.get = lambda _: fail(RuntimeError("a defect"))  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        await compiled(bench, "gcc -Iinc -c a.c -o a.o", work)
    assert bench.statistics.cache_errors.as_json() == {"counts": {"C/C++": 1}, "adv_counts": {"c [gcc]": 1}}


@pytest_twisted.ensureDeferred
async def test_a_result_is_delivered_before_it_is_stored(work: Path, bench: CountedBench) -> None:
    """A store that hangs holds nobody; stopping waits for what is being stored."""
    bench.store.held = Deferred()
    answer = await bench.call(["gcc", "-Iinc", "-c", "a.c"], work)
    assert answer.status == 0
    assert not bench.store._entries
    stopping = Deferred.fromCoroutine(bench.cache.stop())
    held, bench.store.held = bench.store.held, None
    assert not stopping.called
    held.callback(None)
    await stopping
    assert bench.statistics.cache_writes == 1


# --- several at once ------------------------------------------------------------------------------


class SlowWorld(World):
    """Runs an action when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[None]] = []
        self.came: Deferred[None] = Deferred()

    def dispatch(self, action, arch, archive, blobs, label, again=None, reservation=None):
        gate: Deferred[None] = Deferred()
        self.waiting.append(gate)
        came, self.came = self.came, Deferred()
        came.callback(None)
        return gate.addCallback(lambda _: World.dispatch(self, action, arch, archive, blobs, label))


@pytest.fixture
def slow(toolchains: Path):
    made = CountedBench(toolchains, SlowWorld(), Store())
    yield made
    made.close()


@pytest_twisted.ensureDeferred
async def test_the_same_at_once_is_compiled_once(work: Path, slow: CountedBench) -> None:
    """Whoever asks for what is being compiled waits for it, and has it from the cache."""
    words = ["gcc", "-Iinc", "-c", "a.c"]
    came = slow.world.came
    calls = [Deferred.fromCoroutine(slow.call(words, work)) for _ in range(5)]
    await came
    while len(slow.cache._flights._waiting) != 1 or len(next(iter(slow.cache._flights._waiting.values()))) < 4:
        await turn_of_the_reactor()
    slow.world.waiting[0].callback(None)
    answers = await gatherResults(calls)
    assert sorted(answer.cached for answer in answers) == [False, True, True, True, True]
    assert len(slow.world.actions) == 1


@pytest_twisted.ensureDeferred
async def test_a_cancelled_owner_hands_over(work: Path, slow: CountedBench) -> None:
    """When the caller that compiles goes away, one that waits compiles, and the others wait for that one."""
    words = ["gcc", "-Iinc", "-c", "a.c"]
    came = slow.world.came
    owner = Deferred.fromCoroutine(slow.call(words, work))
    await came
    others = [Deferred.fromCoroutine(slow.call(words, work)) for _ in range(3)]
    while len(next(iter(slow.cache._flights._waiting.values()))) < 3:
        await turn_of_the_reactor()
    came = slow.world.came
    owner.cancel()
    with pytest.raises(CancelledError):
        await owner
    await came
    assert len(slow.world.waiting) == 2
    slow.world.waiting[1].callback(None)
    answers = await gatherResults(others)
    assert sorted(answer.cached for answer in answers) == [False, True, True]
    assert len(slow.world.actions) == 1


@pytest_twisted.ensureDeferred
async def test_who_waited_for_a_failure_goes_on_alone(work: Path, slow: CountedBench) -> None:
    """A compilation that gives nothing to store lets all go that waited for it."""
    slow.world.spoil = lambda _: ActionResult(1, b"", b"failed\n", ())
    words = ["gcc", "-Iinc", "-c", "a.c"]
    came = slow.world.came
    calls = [Deferred.fromCoroutine(slow.decide(words, work)) for _ in range(3)]
    await came
    while len(next(iter(slow.cache._flights._waiting.values()))) < 2:
        await turn_of_the_reactor()
    slow.world.waiting[0].callback(None)
    while len(slow.world.waiting) < 3:
        await turn_of_the_reactor()
    for gate in slow.world.waiting[1:]:
        gate.callback(None)
    assert [decision.reason for decision in await gatherResults(calls)] == ["confirm_error"] * 3


@pytest_twisted.ensureDeferred
async def test_a_local_compilation_that_nobody_reports_hands_over(work: Path, alone: CountedBench) -> None:
    """A launcher that goes away while its compiler runs holds nobody who waits for the result."""
    words = ["gcc", "-Iinc", "-c", "a.c"]
    first = await alone.decide(words, work)
    second = Deferred.fromCoroutine(alone.decide(words, work))
    while not next(iter(alone.cache._flights._waiting.values())):
        await turn_of_the_reactor()
    assert not second.called
    alone.pipeline.abandoned(first)
    decision = await second
    assert isinstance(decision, RunHere)
    await alone.pipeline.finished(decision, Finished(1, b"", b""))
    assert not alone.cache._flights._waiting


@pytest_twisted.ensureDeferred
async def test_nobody_waits_for_ever(work: Path, alone: CountedBench) -> None:
    """Whoever waits for a compiler that was stopped at a terminal compiles by himself in the end."""
    words = ["gcc", "-Iinc", "-c", "a.c"]
    alone.cache._patience_seconds = 0.05
    stopped = await alone.decide(words, work)
    assert isinstance(await alone.decide(words, work), RunHere)
    assert not next(iter(alone.cache._flights._waiting.values()))
    alone.pipeline.abandoned(stopped)
    assert not alone.cache._flights._waiting


def turn_of_the_reactor() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    return done


def test_turns() -> None:
    """One owner a key; a result calls all, its lack releases all, a cancel calls the next; who leaves is skipped."""
    flights = Flights()
    key, other = key_of("a"), key_of("b")
    assert flights.join(key).result is Turn.OWNER
    assert flights.join(other).result is Turn.OWNER
    waiting = [flights.join(key) for _ in range(4)]
    waiting[0].addErrback(lambda failure: failure.trap(CancelledError))
    waiting[0].cancel()
    flights.end(key, Outcome.CANCELLED)
    assert waiting[1].result is Turn.OWNER
    assert not waiting[2].called
    mark = flights.landed
    flights.end(key, Outcome.STORED)
    assert [one.result for one in waiting[2:]] == [Turn.LOOK_AGAIN] * 2
    assert flights.landed_since(key, mark)
    assert not flights.landed_since(other, mark)
    late = flights.join(other)
    flights.end(other, Outcome.NOT_STORED)
    assert late.result is Turn.ALONE
    assert succeed(flights.join(key).result).result is Turn.OWNER
