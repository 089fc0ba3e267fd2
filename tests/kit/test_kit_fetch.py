"""Archives: the pinned ones or a sentence, never half a tree."""

import pytest
from attrs import evolve
from support.trees.build import TREES
from support.trees.catalog import RE2
from support.trees.fetch import FetchFailed, fetch


def test_the_pinned_archives_hold_the_trees():
    """Every tree's root is there after a fetch, with what its build starts from."""
    starts = {"lupa": "lua54/makefile", "libsodium": "configure", "re2": "vendor/abseil-cpp/CMakeLists.txt"}
    for name, tree in TREES.items():
        assert fetch(tree.source).joinpath(starts[name]).is_file()


def test_another_archive_under_the_name_is_refused(tmp_path, monkeypatch):
    """An archive whose digest isn't the pinned one is an error that names both digests; nothing of it is kept."""
    monkeypatch.setenv("SCCACHE_TWISTED_TREES", str(tmp_path))
    pinned = evolve(RE2, sha256="0" * 64)
    with pytest.raises(FetchFailed, match=f"has sha256 {RE2.sha256}, but {pinned.sha256} is pinned"):
        fetch(pinned)
    assert not list(tmp_path.joinpath("archives").iterdir())
    assert not tmp_path.joinpath("sources").exists()


def test_a_missing_network_is_an_error_that_says_so(tmp_path, monkeypatch):
    """Without a registry the fetch fails with the package, the tool and the tool's own last words."""
    monkeypatch.setenv("SCCACHE_TWISTED_TREES", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")  # the discard port, where nobody listens
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(
        FetchFailed, match=r"(?s)re2 .* could not be fetched with npm in 1 tries.*network there.*127\.0"
    ):
        fetch(RE2, tries=1)
