"""Archives: the pinned ones or a sentence, never half a tree."""

import shutil

import pytest
from support.trees import fetch as fetching
from support.trees.build import TREES
from support.trees.catalog import PYNACL, RE2
from support.trees.fetch import FetchFailed, fetch


def test_the_pinned_archives_hold_the_trees():
    """Every tree's root is there after a fetch, with what its build starts from."""
    starts = {"lupa": "lua54/makefile", "libsodium": "configure", "re2": "vendor/abseil-cpp/CMakeLists.txt"}
    for name, tree in TREES.items():
        assert fetch(tree.source).joinpath(starts[name]).is_file()


def test_another_archive_under_the_name_is_refused(tmp_path, monkeypatch):
    """An archive whose digest isn't the pinned one is an error that names both digests; nothing is unpacked."""
    monkeypatch.setenv("SCCACHE_TWISTED_TREES", str(tmp_path))

    def other(source, landing):
        landing.joinpath(source.archive).write_bytes(b"another archive")
        return fetching.subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(fetching, "_download", other)
    with pytest.raises(FetchFailed, match=f"but {PYNACL.sha256} is pinned"):
        fetch(PYNACL)
    assert not tmp_path.joinpath("sources").exists() or not list(tmp_path.joinpath("sources").iterdir())


def test_a_missing_network_is_an_error_that_says_so(tmp_path, monkeypatch):
    """Without a registry the fetch fails with the package, the tool and the tool's own last words."""
    monkeypatch.setenv("SCCACHE_TWISTED_TREES", str(tmp_path))
    monkeypatch.setattr(fetching, "TRIES", 1)
    failing = shutil.which("false")
    monkeypatch.setattr(fetching.shutil, "which", lambda _name: failing)
    with pytest.raises(FetchFailed, match=r"re2 .* could not be fetched with npm .* is the network there"):
        fetch(RE2)
