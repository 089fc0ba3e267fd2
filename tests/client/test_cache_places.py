"""Checkouts in different directories: which results they share, and that each hit is what the compiler writes there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from cache_kit import CountedBench, Store, compiled, settle, write
from client_kit import env_of
from client_world import World, plain, tree

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap"),
]

HEADER = "#ifndef B_H\n#define B_H\nstatic inline int f(int x) { return x * 2; }\n#endif\n"
SOURCE = '#include "b.h"\n#include <stdio.h>\n#include <stddef.h>\nint g(int x) { puts("g"); return f(x); }\n'
PLUS = '#include "b.h"\n#include <string>\nstatic std::string s = "s";\nint g(int x) { return f(x) + s.size(); }\n'


@pytest.fixture(scope="module")
def toolchains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toolchains")


@pytest.fixture
def checkouts(tmp_path: Path) -> tuple[Path, Path]:
    """The same tree twice, one beside the other and one much deeper, and a build directory in each."""
    places = tmp_path / "one", tmp_path / "elsewhere" / "a-name-that-is-much-longer-than-the-other" / "two"
    for place in places:
        write(place, src__a_c=SOURCE, src__a_cc=PLUS, inc__b_h=HEADER, build__x_txt="")
    return places


@pytest.fixture
def bench(toolchains: Path, checkouts: tuple[Path, Path]) -> Iterator[CountedBench]:
    made = CountedBench(toolchains, World(), Store(), [os.fsencode(place) for place in checkouts])
    yield made
    made.close()


def add(checkouts: tuple[Path, ...], **files: str) -> None:
    for place in checkouts:
        write(place, **files)


async def built(bench: CountedBench, line: str, place: Path, root: Path | None = None) -> bool:
    """Compile in a checkout's build directory; whether it was a hit. What is there then is the compiler's own."""
    root = root or place
    words = line.format(root=root).split()
    env = env_of(PWD=str(root / "build"))
    answer = await bench.call(words, root / "build", env)
    assert answer.status == 0, answer.stderr
    await bench.stored()
    found = tree(place)
    alone = plain(words, root / "build", env)
    assert (alone.status, alone.stdout, alone.stderr) == (answer.status, answer.stdout, answer.stderr)
    assert tree(place) == found
    return answer.cached


C = " -O1 -I{root}/inc -MD -MP -c {root}/src/a.c -o a.o"
CC = " -O1 -I{root}/inc -MD -MT a.o -MF d.d -c {root}/src/a.cc -o {root}/build/a.o"
MAPPED = " -g -ffile-prefix-map={root}=."
SHARED = {
    "gcc": "gcc" + C,
    "gcc, relative": "gcc -I../inc -MD -c ../src/a.c -o a.o",
    "gcc, assembly": "gcc -I{root}/inc -S {root}/src/a.c -o a.s",
    "gcc, a forced header": "gcc -include {root}/inc/b.h" + C,
    "gcc, debug information": "gcc" + MAPPED + C,
    "gcc, system headers": "gcc -isystem {root}/inc -MD -c {root}/src/a.c -o a.o",
    "gcc, two maps": "gcc -g3 -fdebug-prefix-map={root}=/d -fmacro-prefix-map={root}/src=m" + C,
    "g++": "g++" + CC,
    "g++, debug information": "g++" + MAPPED + CC,
    "clang": "clang" + C,
    "clang, debug information": "clang" + MAPPED + C,
    "clang, two maps": "clang -g -fdebug-prefix-map={root}=/d -fmacro-prefix-map={root}/src=m" + C,
    "clang++": "clang++" + CC,
    "clang++, debug information": "clang++" + MAPPED + CC,
}


OFTEN = {
    "gcc",
    "gcc, debug information",
    "gcc, two maps",
    "g++, debug information",
    "clang, debug information",
    "clang++",
    "debug information of clang",
    "a map of a part of the name",
    "compressed debug information",
    "__FILE__",
    "__FILE__ of clang",
    "__builtin_FILE",
    "source_location",
    "a name of an unnamed type",
    "a warning",
    "an absolute header",
}


def often(names: Iterable[str]) -> list[object]:
    """All names; the lines that say the same again are tried in the long run only."""
    return [pytest.param(name, marks=() if name in OFTEN else pytest.mark.full) for name in names]


@pytest.mark.parametrize("name", often(SHARED))
@pytest_twisted.ensureDeferred
async def test_checkouts_share_what_tells_of_neither(
    checkouts: tuple[Path, Path], bench: CountedBench, name: str
) -> None:
    """What one checkout compiled is a hit in another, found directly or by the inputs, and the compiler's own there."""
    one, two = checkouts
    line = SHARED[name]
    assert not await built(bench, line, one)
    listed = bench.listings
    assert await built(bench, line, two)
    assert bench.listings == listed
    for key in [key for key, entry in bench.store._entries.items() if entry[3:4] == b"m"]:
        await bench.store.delete(key)
    assert await built(bench, line, two)
    assert bench.listings > listed
    assert await built(bench, line, one)
    assert len(bench.world.actions) == 1


TELLING = {
    "debug information": ("gcc -g" + C, SOURCE),
    "debug information of clang": ("clang -g" + C, SOURCE),
    "a map for another directory": ("gcc -g -ffile-prefix-map={root}/src=." + C, SOURCE),
    "a map of a part of the name": ("gcc -g -ffile-prefix-map={root}=. -fdebug-prefix-map=/tmp=t" + C, SOURCE),
    "compressed debug information": ("gcc -gz" + MAPPED + C, SOURCE),
    "recorded switches": ("gcc -frecord-gcc-switches" + C, SOURCE),
    "coverage": ("clang --coverage -ffile-prefix-map={root}=." + C, SOURCE),
    "__FILE__": ("gcc" + C, SOURCE + "const char *file = __FILE__;\n"),
    "__FILE__ of clang": ("clang" + C, SOURCE + "const char *file = __FILE__;\n"),
    "the length of __FILE__": ("gcc" + C, SOURCE + "int length = sizeof(__FILE__);\n"),
    "__BASE_FILE__": ("gcc" + C, SOURCE + "const char *file = __BASE_FILE__;\n"),
    "__builtin_FILE": (
        "gcc" + C,
        SOURCE + "unsigned long length(void) { return __builtin_strlen(__builtin_FILE()); }\n",
    ),
    "assert": ("gcc" + C, "#include <assert.h>\n" + SOURCE + "void h(int x) { assert(x); }\n"),
    "source_location": ("g++ -std=c++20" + CC, "#include <source_location>\n" + PLUS),
    "a name of an unnamed type": (
        "clang++ -std=c++17" + CC,
        "template <class T> int n(T) { return sizeof(__PRETTY_FUNCTION__); }\nint k = n([] {});\n" + PLUS,
    ),
    "a macro": ("gcc -DHERE={root}" + C, SOURCE),
    "a warning": ("gcc -Wall" + C, SOURCE + "void h(void) { int unused; }\n"),
    "a warning of clang": ("clang -Wall" + C, SOURCE + "void h(void) { int unused; }\n"),
    "an included file": ("gcc" + C, SOURCE + '__asm__(".section .x\\n.incbin \\"{root}/inc/b.h\\"\\n.previous");\n'),
    "an absolute header": ("gcc" + C, '#include "{root}/inc/b.h"\n' + SOURCE.partition("\n")[2]),
}


@pytest.mark.parametrize("name", often(TELLING))
@pytest_twisted.ensureDeferred
async def test_checkouts_do_not_share_what_may_tell_of_one(
    checkouts: tuple[Path, Path], bench: CountedBench, name: str
) -> None:
    """What holds a checkout's name, or may, is compiled in each, exactly, and then found in each, directly too."""
    line, text = TELLING[name]
    for place in checkouts:
        text_here = text.replace("{root}", str(checkouts[0]))
        write(place, **({"src__a_cc": text_here} if "++" in line else {"src__a_c": text_here}))
    for place in checkouts:
        assert not await built(bench, line, place), place
    for place in checkouts:
        listed = bench.listings
        assert await built(bench, line, place), place
        assert bench.listings == listed
    assert len(bench.world.actions) == 2


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest_twisted.ensureDeferred
async def test_a_mapped_file_name_is_shared(checkouts: tuple[Path, Path], bench: CountedBench, compiler: str) -> None:
    """__FILE__ that is mapped to the same name is the same in every checkout; a warning without a path is, too."""
    add(checkouts, src__a_c=SOURCE + "const char *file = __FILE__;\nvoid h(void) { int unused; }\n")
    one, two = checkouts
    assert not await built(bench, compiler + " -fmacro-prefix-map={root}=here" + C, one)
    assert await built(bench, compiler + " -fmacro-prefix-map={root}=here" + C, two)
    relative = compiler + " -Wall -I../inc -c ../src/a.c -o a.o"
    assert not await built(bench, relative, one)
    assert await built(bench, relative, two)


@pytest.mark.parametrize("name", ["inc__b_h", "src__b_h", "src__a_c"])
@pytest_twisted.ensureDeferred
async def test_a_checkout_with_another_file_has_a_result_of_its_own(
    checkouts: tuple[Path, Path], bench: CountedBench, name: str
) -> None:
    """A header that differs, one that shadows, another source: each is that checkout's own, and the first's stays."""
    one, two = checkouts
    assert not await built(bench, SHARED["gcc"], one)
    write(two, **{name: SOURCE + "int other;\n" if name == "src__a_c" else HEADER.replace("2", "3")})
    assert not await built(bench, SHARED["gcc"], two)
    assert await built(bench, SHARED["gcc"], two)
    assert await built(bench, SHARED["gcc"], one)
    assert len(bench.world.actions) == 2


@pytest_twisted.ensureDeferred
async def test_a_checkout_that_uses_the_others_files_is_not_the_other(
    checkouts: tuple[Path, Path], bench: CountedBench
) -> None:
    """A path into another checkout is that path; the same words, said there, mean something else."""
    one, two = checkouts
    line = "gcc -I{root}/none -I" + str(two) + "/inc -MD -c {root}/src/a.c -o a.o"
    assert not await built(bench, line, one)
    assert not await built(bench, line, two)
    assert await built(bench, line, one)
    # The second checkout maps names that are not the first one's to map.
    add(checkouts, src__a_c=f'#include "{two}/inc/b.h"\nint x;\n')
    add((two,), inc__b_h=HEADER.replace("#endif", "static const char *volatile file = __FILE__;\n#endif"))
    mapped = "gcc" + MAPPED + " -MD -c {root}/src/a.c -o a.o"
    assert not await built(bench, mapped, one)
    assert not await built(bench, mapped, two)
    assert await built(bench, mapped, one)


@pytest_twisted.ensureDeferred
async def test_a_directory_that_begins_like_a_base_directory_is_not_below_it(toolchains: Path, tmp_path: Path) -> None:
    """/a/bc is not /a/b; the innermost base directory counts."""
    first, sibling = tmp_path / "b", tmp_path / "bc"
    inner = sibling / "deep"
    add((first, sibling, inner), src__a_c=SOURCE, inc__b_h=HEADER, build__x_txt="")
    made = CountedBench(toolchains, World(), Store(), [os.fsencode(first), os.fsencode(inner), os.fsencode(tmp_path)])
    try:
        assert not await built(made, SHARED["gcc"], first)
        assert not await built(made, SHARED["gcc"], sibling)
        assert await built(made, SHARED["gcc"], inner)
    finally:
        made.close()


@pytest.mark.parametrize("name", ["gcc", "gcc, debug information", "gcc, system headers", "clang, debug information"])
@pytest_twisted.ensureDeferred
async def test_a_checkout_behind_a_link(toolchains: Path, tmp_path: Path, name: str) -> None:
    """A checkout behind a link shares where compilers keep the link's name; each result is its own there."""
    one, real, link = tmp_path / "one", tmp_path / "r", tmp_path / "a-link-with-a-long-name-that-gcc-would-shorten"
    add((one, real), src__a_c=SOURCE, inc__b_h=HEADER, build__x_txt="")
    link.symlink_to(real)
    settle(tmp_path)
    made = CountedBench(toolchains, World(), Store(), [os.fsencode(one), os.fsencode(link)])
    try:
        assert not await built(made, SHARED[name], one)
        assert await built(made, SHARED[name], real, link) is (name != "gcc, system headers")
        assert await built(made, SHARED[name], real, link)
    finally:
        made.close()


@pytest_twisted.ensureDeferred
async def test_a_link_that_leads_elsewhere_afterwards_is_a_miss(tmp_path: Path, bench: CountedBench) -> None:
    """Gcc lists a system header by what a link leads to; when the link leads elsewhere, so does the result."""
    add((tmp_path / "v1",), b_h=HEADER)
    add((tmp_path / "v2",), b_h=HEADER.replace("2", "3"))
    add((tmp_path,), a_c=SOURCE)
    link = tmp_path / "a-link-with-a-long-name-that-gcc-would-shorten"
    line = f"gcc -O1 -isystem {link} -MD -c a.c -o a.o"
    for version in ("v1", "v2"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / version)
        settle(tmp_path)
        assert not (await compiled(bench, line, tmp_path)).cached
        assert (await compiled(bench, line, tmp_path)).cached
        found = tree(tmp_path)
        assert plain(line.split(), tmp_path).status == 0
        assert tree(tmp_path) == found
