"""How the tests are shared out among processes: a file is the unit, and what takes longest begins first.

``make test`` runs a few processes at once, since most system tests wait for facts. Tests of what all daemons of a user
share, the local slots, are marked ``alone`` and run by themselves.
"""

from pathlib import Path

import pytest
from support.counts import pytest_runtest_logreport, pytest_terminal_summary

__all__ = ["pytest_runtest_logreport", "pytest_terminal_summary"]

TESTS = Path(__file__).parent
_TREES = "trees"
_RECORD_TREES = (
    "system/test_trees.py",
    "system/test_trees_cached.py",
    "kit/test_kit_recording.py",
    "exact/test_oracle_trees.py",
)
_LONGEST_FIRST = (
    *_RECORD_TREES,
    "commandlines/test_commandlines.py",
    "system/test_faults_client.py",
    "system/test_faults_worker.py",
    "system/test_faults_lost.py",
    "exact/test_corpus.py",
    "exact",
    "attacks",
    "system/test_faults_scheduler.py",
    "system/test_bad_input_scheduler.py",
    "system",
    "storage",
)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group by file, for ``--dist loadgroup``; those that record the trees are one group."""
    for item in items:
        name = _name(item)
        group = _TREES if name in _RECORD_TREES else name
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_rank)


def _name(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).as_posix()


def _rank(item: pytest.Item) -> int:
    name = _name(item)
    ranks = (rank for rank, prefix in enumerate(_LONGEST_FIRST) if name == prefix or name.startswith(f"{prefix}/"))
    return next(ranks, len(_LONGEST_FIRST))
