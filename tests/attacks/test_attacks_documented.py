"""docs/security.md names what stands against each threat: tests and attacks that are there, and every attack."""

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "security.md"
BEGIN, END = "<!-- the threat table -->", "<!-- end of the threat table -->"
ATTACK = "attack:"


def rows():
    """The table's lines: threat, what meets it, and the names of its tests."""
    table = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    head, rule, *lines = table.strip().splitlines()
    assert head.count("|") == rule.count("|") == 4
    for line in lines:
        threat, met, tests = (cell.strip() for cell in line.strip().strip("|").split("|"))
        names = re.findall(r"`([^`]+)`", tests)
        assert re.sub(r"`[^`]+`", "", tests).strip() == "", line
        yield threat, met, names


def attacks():
    """The names in the table of attacks, as its text has them."""
    tree = ast.parse((TESTS / "attacks" / "attack_table.py").read_text(encoding="utf-8"))
    (table,) = (node.value for node in tree.body if isinstance(node, ast.AnnAssign) and node.target.id == "ATTACKS")
    return {call.args[0].value for call in table.elts}


@cache
def functions(path):
    """The tests that a file defines, in classes too."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_")}


def test_every_threat_is_met_and_tested():
    """Each line says who does what, by what it is met, and at least one test that stands behind it."""
    found = list(rows())
    assert len(found) >= 30
    for threat, met, names in found:
        assert threat, met
        assert met, threat
        assert names, threat
        assert len(set(names)) == len(names), threat


def test_what_the_threat_table_names_is_there():
    """Every file, test and attack that it names exists."""
    known = attacks()
    for threat, _, names in rows():
        for name in names:
            if name.startswith(ATTACK):
                assert name.removeprefix(ATTACK) in known, (threat, name)
            else:
                path, mark, function = name.partition("::")
                assert mark, (threat, name)
                assert (TESTS / path).is_file(), (threat, name)
                assert function in functions(path), (threat, name)


def test_every_attack_stands_against_a_threat():
    """No attack is in the corpus for a threat that the page does not tell of."""
    named = {name.removeprefix(ATTACK) for _, _, names in rows() for name in names if name.startswith(ATTACK)}
    assert attacks() - named == set()
    assert len(named) >= 106
