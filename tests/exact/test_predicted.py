"""Predicted inputs: no preprocessor runs, the result is the compiler's own, and what was not foreseen is noticed.

A project is compiled once through a cluster, so that the client knows what it reads, changed, and compiled again: by
the compiler alone and through the cluster, which must agree in every file and every byte.
"""

import os
import shutil
import subprocess
import zlib
from collections import Counter

import pytest
from corpus import CASES
from project import At
from support.counts import COUNTED
from support.trees import differences, set_aside, snapshot
from support.trees.commands import Result

from sccache_twisted.client.inputs.tripwire import TRIPPED

ADDITION = "\nextern int added_to_be_another_text_%d;\n"
"""Another one for each project, lest it be in the cache."""

LANGUAGES = (".c", ".cc", ".cpp", ".cxx", ".C", ".m")


@pytest.fixture(scope="module")
def extra():
    """Results are looked for and stored."""
    return {"SCCACHE_LOG": "debug", "SCCACHE_CACHE_SIZE": "1G"}


@pytest.fixture(scope="module")
def tally():
    """How many projects were compiled after a change, and how many of them were predicted."""
    return Counter()


def sources(project):
    """The sources that a project's line names and that are texts."""
    return [
        name
        for name, content in project.files.items()
        if isinstance(content, str | At) and str(name).endswith(LANGUAGES) and str(name) in str(project.line)
    ]


def in_test(name):
    """A fifth of them, always the same."""
    return zlib.crc32(name.encode()) % 5 == 0


PREDICTED = [
    (project, compiler, light and in_test(project.name))
    for project, compiler, light in CASES
    if not project.reason(compiler) and not project.ends_with(compiler) and sources(project) and not project.varies
]


class Run:
    """A project's site on the bench."""

    def __init__(self, bench, words, cwd, env, umask=0o022):
        self.bench, self.words, self.cwd, self.env, self.umask = bench, words, cwd, env, umask

    def __call__(self, *, remote):
        """Compile it."""
        launcher = self.bench.cluster.launcher if remote else ()
        return subprocess.run(
            [*launcher, *self.words],
            cwd=self.cwd,
            env=self.env | (self.bench.env if remote else {}),
            capture_output=True,
            check=False,
            umask=self.umask,
            stdin=subprocess.DEVNULL,
        )


@pytest.mark.parametrize(
    ("project", "compiler"),
    [
        pytest.param(project, compiler, id=f"{project.name}-{compiler}", marks=[] if light else pytest.mark.full)
        for project, compiler, light in PREDICTED
    ],
)
def test_a_changed_project_compiles_on_a_worker_as_it_does_here(bench, project, compiler, tally, record_property):
    """Whatever a project is made of, what comes of predicting it is what the compiler makes of it."""
    site = bench.site
    run = Run(
        bench,
        project.words(compiler, site),
        os.fsencode(site / project.cwd),
        project.environment(compiler, site),
        project.umask,
    )
    sides = []
    known = set()
    for name in ("plain", "remote"):
        for place in (site, bench.kept / name):
            shutil.rmtree(place, ignore_errors=True)
        site.mkdir()
        project.lay_out(site, compiler)
        if name == "remote":
            assert run(remote=True).returncode == 0
            for made in set(snapshot(site)) - known:
                (site / made).unlink()
        for source in sources(project):
            with (site / source).open("a") as stream:
                stream.write(ADDITION % zlib.crc32(f"{project.name} {compiler}".encode()))
            os.utime(site / source, ns=(1_600_000_000_000_000_000,) * 2)
        before = snapshot(site)
        known.update(before)
        bench.news()
        done = run(remote=name == "remote")
        results = {("site", project.name): Result(done.returncode, done.stdout, done.stderr)}
        sides.append(set_aside(site, before, bench.kept / name, results))
    assert differences(*sides) == []
    heard = bench.heard("job_done", "job_local")
    assert [event["sentence"] for event in heard if event["event"] == "job_local"] == []
    names = {event["event"] for event in [*heard, *bench.news()]}
    for what in ("changed", "predicted") if "job_predicted" in names else ("changed",):
        tally[what] += 1
        record_property(COUNTED, ("predicted inputs", what, f"{project.name}-{compiler}"))


def test_most_changes_are_predicted(tally):
    """Four of five projects that were compiled after a change needed no preprocessor."""
    assert tally["predicted"] >= 0.8 * tally["changed"] > 0


SITE = {
    "one/a.h": "#define A 1\n",
    "two/a.h": "#define A 2\n",
    "two/b.h": "#define B 2\n",
    "two/late.h": "#define LATE 2\n",
    "two/c.h": '#include "b.h"\n',
    "settings.h": "#define WANTED 0\n",
    "a.c": '#include "settings.h"\n#include <c.h>\n#if WANTED\n#include <a.h>\n#else\n#include <../two/a.h>\n#endif\n'
    "#if __has_include(<late.h>)\n#include <late.h>\n#endif\n#if __has_include(<never.h>)\n#include <never.h>\n#endif\n"
    "int a = A, b = B, late = LATE;\n",
}
LINK = ("alias/f.h", "../two/f.h")
ALIASED = {
    "two/f.h": '#include "g.h"\n',
    "two/g.h": "#define G 2\n",
    "alias/g.h": "#define G 9\n",
    "settings.h": "#define WANTED 0\n",
    "one/x.h": "",
    "a.c": '#include "settings.h"\n#if WANTED\n#include "alias/f.h"\n#else\n#include <f.h>\n#endif\nint g = G;\n',
}
LINE = ["{cc}", "-Ione", "-Itwo", "-I.", "-c", "a.c", "-o", "a.o"]


def same(bench, compiler, change, files=SITE, links=()):
    """Compile, change, compile again; the events of the second time. It must equal the compiler's own."""
    site = bench.site
    env = {b"PATH": b"/usr/bin:/bin", b"LC_ALL": b"C.UTF-8"}
    words = [word.format(cc=compiler).encode() for word in LINE]
    run = Run(bench, words, os.fsencode(site), env)
    shutil.rmtree(site, ignore_errors=True)
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
        os.utime(site / name, ns=(1_600_000_000_000_000_000,) * 2)
    for name, target in links:
        (site / name).symlink_to(target)
    assert run(remote=True).returncode == 0
    change(site)
    plain = run(remote=False)
    made = (site / "a.o").read_bytes() if plain.returncode == 0 else b""
    (site / "a.o").unlink(missing_ok=True)
    bench.news()
    remote = run(remote=True)
    assert (remote.returncode, remote.stdout, remote.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert TRIPPED not in remote.stderr
    assert ((site / "a.o").read_bytes() if remote.returncode == 0 else b"") == made
    return [event["event"] for event in [*bench.heard("job_done", "job_local", "job_failed"), *bench.news()]]


def write(site, name, text):
    """Write a file."""
    (site / name).parent.mkdir(exist_ok=True)
    (site / name).write_text(text)


def edited(site, name, old, new):
    """Change a file's text."""
    text = (site / name).read_text()
    assert old in text
    (site / name).write_text(text.replace(old, new))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_change_of_code_needs_no_preprocessor(bench, compiler):
    """Another value in the source, and in a header."""
    for name, old, new in (("a.c", "late = LATE", "late = 7"), ("two/b.h", "B 2", "B 3")):
        told = same(bench, compiler, lambda site, name=name, old=old, new=new: edited(site, name, old, new))
        assert "job_predicted" in told
        assert "job_mispredicted" not in told


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_macro_that_turns_on_another_include_trips(bench, compiler):
    """``one/a.h`` was never read; ``two/a.h`` was, and would be found in its place if the other were just missing."""
    told = same(bench, compiler, lambda site: edited(site, "settings.h", "WANTED 0", "WANTED 1"))
    assert told.count("job_mispredicted") == 1
    assert told.count("job_done") == 2
    assert "job_local" not in told


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("late", [False, True], ids=["a-link-from-the-beginning", "a-link-in-the-place-of-a-file"])
def test_a_header_by_another_name_looks_beside_that_name(bench, compiler, late):
    """``alias/f.h`` is ``two/f.h``, which was read; but by this name it includes ``alias/g.h``, which was not."""

    def change(site):
        if late:
            (site / LINK[0]).unlink()
            (site / LINK[0]).symlink_to(LINK[1])
        edited(site, "settings.h", "WANTED 0", "WANTED 1")

    files = dict(ALIASED)
    if late:
        files |= {"alias/f.h": '#include "g.h"\n/* its own */\n', "a.c": ALIASED["a.c"].replace("int g", "int late")}
    same(bench, compiler, change, files, [] if late else [LINK])


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_header_by_another_name_probes_beside_that_name(bench, compiler):
    """``alias/f.h`` is ``two/f.h``; by this name its ``__has_include`` finds something."""
    probe = '#if __has_include("beside.h")\n#define G 9\n#else\n#define G 2\n#endif\n'
    source = ALIASED["a.c"].replace("int g", "int probed")
    files = {**ALIASED, "two/f.h": probe, "alias/beside.h": "#define X\n", "a.c": source}
    same(bench, compiler, lambda site: edited(site, "settings.h", "WANTED 0", "WANTED 1"), files, [LINK])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda site: write(site, "one/c.h", "#define B 9\n"), id="a-header-shadows"),
        pytest.param(lambda site: write(site, "one/late.h", "#define LATE 9\n"), id="a-probed-header-shadows"),
        pytest.param(lambda site: write(site, "two/never.h", "int never;\n"), id="a-probed-header-appears"),
        pytest.param(lambda site: (site / "two" / "late.h").unlink(), id="a-probed-header-vanishes"),
        pytest.param(lambda site: (site / "two" / "b.h").unlink(), id="a-header-vanishes"),
        pytest.param(lambda site: (site / "one" / "a.h").unlink(), id="an-unread-header-vanishes"),
        pytest.param(lambda site: edited(site, "a.c", "<c.h>", '<c.h>\n#include "one/a.h"'), id="another-include"),
        pytest.param(lambda site: edited(site, "two/c.h", '#include "b.h"', "#define B 5"), id="an-include-goes"),
        pytest.param(lambda site: edited(site, "a.c", "int a", "#error no\nint a"), id="an-error"),
        pytest.param(lambda site: (site / "one").rename(site / "was-one"), id="a-directory-vanishes"),
    ],
)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_what_was_not_foreseen_is_noticed(bench, compiler, change):
    """Headers that come and go, and includes that do: the result is the compiler's own."""

    def with_another_value(site):
        change(site)
        edited(site, "a.c", "late = LATE", "late = LATE + 1")

    told = same(bench, compiler, with_another_value)
    assert {"job_done", "job_local"} & set(told)
