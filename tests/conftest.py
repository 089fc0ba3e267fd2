"""How the tests are shared out among processes: a file is the unit, and what takes longest begins first.

``make test`` runs a few processes at once, since most system tests wait for facts. Tests of what all daemons of a user
share, the local slots, are marked ``alone`` and run by themselves.
"""

from pathlib import Path

import pytest
from hypothesis import settings
from support.counts import pytest_runtest_logreport, pytest_terminal_summary

__all__ = ["pytest_runtest_logreport", "pytest_terminal_summary"]

TESTS = Path(__file__).parent

# What a change must pass is the same on every machine and never too slow; ``make test-full`` draws anew.
settings.register_profile("seeded", derandomize=True, deadline=None, print_blob=False)
settings.register_profile("drawn", deadline=None)
settings.load_profile("seeded")
_LONGEST_FIRST = (
    "system/test_trees.py",
    "commandlines/test_commandlines.py",
    "system/test_trees_cached.py",
    "kit/test_kit_recording.py",
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort files: ``--dist loadfile`` hands them out in order."""
    items.sort(key=_rank)


def _name(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).as_posix()


def _rank(item: pytest.Item) -> int:
    name = _name(item)
    ranks = (rank for rank, prefix in enumerate(_LONGEST_FIRST) if name == prefix or name.startswith(f"{prefix}/"))
    return next(ranks, len(_LONGEST_FIRST))
