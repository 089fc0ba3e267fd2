"""docs/architecture.md names each trap with the tests and benchmarks that stand before it; they are there."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
BEGIN, END = "<!-- the table of traps -->", "<!-- end of the table of traps -->"
BENCHMARK = "benchmark:"


def rows():
    """The table's lines: trap, what is done, and the names of its tests and benchmarks."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    head, rule, *lines = page.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert head.count("|") == rule.count("|") == 4
    for line in lines:
        trap, done, named = (cell.strip() for cell in line.strip().strip("|").split("|"))
        assert re.sub(r"`[^`]+`", "", named).strip() == "", line
        yield trap, done, re.findall(r"`([^`]+)`", named)


def functions(path):
    """The tests that a file defines."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_trap_has_its_test_or_benchmark():
    """Each line says what the trap is, what is done, and at least one name, which exists."""
    found = list(rows())
    assert len(found) >= 18
    figures = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    for trap, done, named in found:
        assert trap, done
        assert done, trap
        assert named, trap
        for name in named:
            if name.startswith(BENCHMARK):
                script = f"benchmarks/{name.removeprefix(BENCHMARK)}"
                assert (ROOT / script).is_file(), name
                assert script in figures, name
            else:
                path, _, function = name.partition("::")
                assert function.startswith("test_"), name
                assert function in functions(path), name
