"""What the user sees of a compiler that complains: its own words, colours and status, wherever it ran."""

import pytest
from support.cluster import Cluster
from support.terminal import on_terminal
from support.trees import CompileCommand, run_commands
from support.trees.commands import clean_environment

WARNED = """\
#include <stdio.h>
int twice(int number, const char *text)
{
    int unused;
    printf("%s %d\\n", number, text);
    if (number = 2)
        return number;
    for (unsigned i = 0; i < number; i++)
        ;
}
"""

WRONG_C = """\
struct point { int x, y; };
#define DOUBLE(p) ((p).z * 2)
int sum(struct point p) { return p.x + DOUBLE(p); }
int undeclared(void) { return missing + 1 }
"""

WRONG_CC = """\
#include <map>
#include <string>
template <typename T> struct box { typename T::inner value; };
box<int> broken;
int lookup(std::map<std::string, int> &known) { return known.find(7)->second; }
void assign() { const int one = 1; one = 2; }
"""

CASES = [
    ("gcc", "warned.c", True),
    ("clang", "warned.c", True),
    ("gcc", "wrong.c", False),
    ("clang", "wrong.c", False),
    ("g++", "wrong.cc", False),
    ("clang++", "wrong.cc", False),
]
cases = pytest.mark.parametrize(
    ("compiler", "source", "compiles"), CASES, ids=[f"{compiler} {source}" for compiler, source, _ in CASES]
)


@pytest.fixture(scope="module")
def cluster():
    """One worker."""
    with Cluster(1, slots=2) as started:
        yield started


@pytest.fixture
def folder(tmp_path):
    """A directory with the sources."""
    for name, text in {"warned.c": WARNED, "wrong.c": WRONG_C, "wrong.cc": WRONG_CC}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@cases
def test_diagnostics_are_the_compilers_own(cluster, folder, compiler, source, compiles):
    """Status, stdout and stderr equal the compiler's own; only an error is confirmed here."""
    command = CompileCommand(
        (compiler, "-Wall", "-Wextra", "-g", "-c", source, "-o", "ours.o"), str(folder), str(folder)
    )
    plain = run_commands([command], jobs=1)[command.key]
    _move(folder)
    cluster.zero_stats()
    ours = cluster.run_build([command], jobs=1)[command.key]
    assert ours == plain
    assert plain.stderr
    assert (plain.status == 0) == compiles
    _compare_objects(folder, compiles)
    _ran_where_it_should(cluster, compiles)


@cases
def test_diagnostics_on_a_terminal_are_in_colour(cluster, folder, compiler, source, compiles):
    """On a terminal the very bytes appear that the compiler alone shows there, colours included."""
    argv = (compiler, "-Wall", "-Wextra", "-g", "-c", source, "-o", "ours.o")
    plain = on_terminal(argv, folder, clean_environment({"PWD": str(folder)}))
    _move(folder)
    cluster.zero_stats()
    ours = on_terminal((*cluster.launcher, *argv), folder, {**cluster.env, "PWD": str(folder)})
    assert ours == plain
    assert b"\x1b[" in plain[1]
    assert (plain[0] == 0) == compiles
    _compare_objects(folder, compiles)
    _ran_where_it_should(cluster, compiles)


def _move(folder):
    if (folder / "ours.o").exists():
        (folder / "ours.o").rename(folder / "plain.o")


def _compare_objects(folder, compiles):
    """Equal objects, or none at all."""
    assert (folder / "ours.o").exists() == (folder / "plain.o").exists() == compiles
    if compiles:
        assert (folder / "ours.o").read_bytes() == (folder / "plain.o").read_bytes()


def _ran_where_it_should(cluster, compiles):
    told = cluster.stats()
    assert told.local_compiles == ({} if compiles else {"confirm_error": 1})
    assert told.dist_compiles == ({"worker-1": 1} if compiles else {})
    assert told.told["stats"]["dist_discrepancies"] == 0
