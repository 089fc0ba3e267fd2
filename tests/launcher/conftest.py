"""Both launchers: what is said of one has to be true of the other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from launcher_kit import SCRIPT

from sccache_twisted.launcher import native as building


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The native launcher, built as it is for users."""
    target = tmp_path_factory.mktemp("native") / "sccache-twisted"
    building.build(os.fsencode(target), dict(os.environb))
    return target


@pytest.fixture(scope="module", params=["python", "native"])
def program(request: pytest.FixtureRequest, native: Path) -> Path:
    """The script of the Python launcher, and the native one."""
    return SCRIPT if request.param == "python" else native
