"""What a run has counted is told at its end, in however many processes it ran."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
COUNTING = """
import pytest
from support.counts import COUNTED

@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_that_counts(record_property, name):
    record_property(COUNTED, ("corpus", "projects", name))
    record_property(COUNTED, ("corpus", "cases", "the same"))
    assert name != "two"
"""


@pytest.mark.parametrize("processes", ["0", "2"])
def test_counts_are_told_from_every_process(tmp_path, processes):
    """Each item counts once, in one process and in several, and what failed does not."""
    (tmp_path / "test_counting.py").write_text(COUNTING)
    words = ["-q", "-p", "support.counts", "-p", "no:cacheprovider", "-n", processes, "test_counting.py"]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, env=env, capture_output=True, check=False, timeout=60
    )
    assert "corpus: 1 cases, 2 projects" in done.stdout.decode().splitlines(), done.stdout.decode()
