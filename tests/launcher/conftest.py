"""Both launchers: what is said of one has to be true of the other."""

from __future__ import annotations

import os
import subprocess
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


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The native launcher under the sanitizers for addresses and undefined behaviour."""
    target = tmp_path_factory.mktemp("checked") / "sccache-twisted"
    flags = ["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["gcc", *flags, "-o", target, building.SOURCE], check=True)
    return target


@pytest.fixture(scope="module", params=["python", "native", pytest.param("checked", marks=pytest.mark.full)])
def program(request: pytest.FixtureRequest) -> Path:
    """The script of the Python launcher, the native one, and that under the sanitizers."""
    return SCRIPT if request.param == "python" else request.getfixturevalue(request.param)
