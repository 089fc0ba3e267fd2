"""Which names of a search path are files, as directories come, change and go."""

import os

import pytest

from sccache_twisted.client.inputs.surroundings import Surroundings


@pytest.fixture
def around(tmp_path):
    """Two names watched in each of two directories, one of them relative and one missing."""
    (tmp_path / "here").mkdir()
    made = Surroundings(os.fsencode(tmp_path))
    made.watch([b"here/a.h", b"here/b.h", os.fsencode(tmp_path / "gone" / "a.h"), b"top.h"])
    made.refresh()
    return made


def test_what_comes_and_goes_is_seen(around, tmp_path):
    """A file that appears or vanishes counts as a new epoch; one that is not watched does not."""
    before = around.epoch
    (tmp_path / "here" / "other.h").write_text("")
    around.refresh()
    assert around.epoch == before
    assert not around.is_there(b"here/a.h")
    (tmp_path / "here" / "a.h").write_text("")
    around.refresh()
    assert around.is_there(b"here/a.h")
    assert not around.is_there(b"here/b.h")
    assert around.epoch == before + 1
    (tmp_path / "here" / "a.h").unlink()
    around.refresh()
    assert not around.is_there(b"here/a.h")
    assert around.epoch == before + 2


def test_a_directory_that_appears_is_looked_into(around, tmp_path):
    """A directory that was missing has what is in it as soon as it is there; the cwd counts as well."""
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "a.h").write_text("")
    (tmp_path / "top.h").write_text("")
    around.refresh()
    assert around.is_there(os.fsencode(tmp_path / "gone" / "a.h"))
    assert around.is_there(b"top.h")


def test_a_link_to_nothing_may_begin_to_lead_somewhere(around, tmp_path):
    """Its directory shows nothing of that, so it is looked at every time."""
    (tmp_path / "here" / "a.h").symlink_to(tmp_path / "elsewhere")
    around.refresh()
    assert not around.is_there(b"here/a.h")
    (tmp_path / "elsewhere").write_text("")
    around.refresh()
    assert around.is_there(b"here/a.h")


def test_a_directory_of_a_headers_name_is_no_header(around, tmp_path):
    """Only files are found."""
    (tmp_path / "here" / "a.h").mkdir()
    around.refresh()
    assert not around.is_there(b"here/a.h")
