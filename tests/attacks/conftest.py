"""One attacked worker for each of two ways to run it, shared by all attacks."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from attack_outside import Attacked, build_program, packaged_gcc


@pytest.fixture(scope="session")
def place():
    """A directory that every user may pass through."""
    made = Path(tempfile.mkdtemp(prefix="sccache-twisted-attacks-", dir="/var/tmp"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def hostile_program(place):
    """The hostile programs."""
    build_program(place / "attack")
    return place / "attack"


@pytest.fixture(scope="module", params=["root", "user"])
def attacked(request, place, hostile_program):
    """A worker that drops to slots' uids, and one that is an ordinary user."""
    archive = place / "gcc.tar.zst"
    known = getattr(request.config, "_packaged_gcc", None) or packaged_gcc(place)
    request.config._packaged_gcc = known
    assert archive == known[1]
    target = Attacked(hostile_program, known, root=request.param == "root")
    yield target
    target.stop()
