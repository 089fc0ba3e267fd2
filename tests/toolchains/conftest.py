"""Real compilers, packaged once for all tests of this folder."""

from __future__ import annotations

import os

import pytest
from real_compilers import ENV, compiler_named

from sccache_twisted.toolchains import PackagedToolchain, discover, package


@pytest.fixture(scope="session")
def packaged_gcc(tmp_path_factory: pytest.TempPathFactory) -> PackagedToolchain:
    out = os.fsencode(tmp_path_factory.mktemp("packaged") / "gcc.tar.zst")
    return package(discover(compiler_named("gcc"), ENV), out)


@pytest.fixture(scope="session")
def packaged_clang(tmp_path_factory: pytest.TempPathFactory) -> PackagedToolchain:
    out = os.fsencode(tmp_path_factory.mktemp("packaged") / "clang.tar.zst")
    return package(discover(compiler_named("clang"), ENV), out)
