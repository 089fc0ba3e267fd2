"""Manifests: what is true leads to a result, within bounds, and damage leads nowhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccache_twisted.hashing import manifest as manifests
from sccache_twisted.hashing.envelope import Damaged, seal
from sccache_twisted.hashing.manifest import MOST_SETS, DependencySet, Manifest, Names, grouped, pack, unpack

KEY = "f" * 64
DIGESTS = st.integers(0, 3).map(lambda number: f"{number:064x}")
PATHS = st.sampled_from([b"a.h", b"inc/a.h", b"/usr/include/b.h", b"../c.h"])
SETS = st.builds(
    DependencySet,
    st.dictionaries(PATHS, DIGESTS, max_size=3).map(lambda found: tuple(found.items())),
    st.lists(PATHS, max_size=3).map(grouped),
    DIGESTS,
)


def there(present: dict[bytes, str]):
    """The two questions of a manifest, answered as if these files were there."""

    def any_there(names: Names) -> bool:
        directory, files = names
        prefix = directory + b"/" if directory and not directory.endswith(b"/") else directory
        return any(prefix + name in present for name in files)

    return present.get, any_there


@given(st.lists(SETS, max_size=5))
def test_a_manifest_comes_back_as_it_went_in(sets: list[DependencySet]) -> None:
    """Sets, in their order, with everything they share."""
    manifest = Manifest(tuple(sets))
    assert unpack(KEY, pack(KEY, manifest)) == manifest


@given(st.lists(SETS, max_size=6), st.dictionaries(PATHS, DIGESTS, max_size=4))
def test_the_newest_set_that_is_true_is_found(sets: list[DependencySet], present: dict[bytes, str]) -> None:
    """A set holds if every file has its digest and no absent name has appeared."""
    manifest = Manifest()
    for one in sets:
        manifest = manifest.with_set(one)
    digest_of, any_there = there(present)
    true = [
        one.key
        for one in reversed(sets)
        if all(present.get(path) == digest for path, digest in one.present)
        and not any(any_there(names) for names in one.absent)
    ]
    assert manifest.find(digest_of, any_there) == (true[0] if true else None)


def test_each_question_is_asked_once() -> None:
    """However many sets name a file, it is looked at once."""
    asked: list[bytes] = []
    sets = tuple(DependencySet(((b"a.h", f"{number:064x}"),), (), f"{number:064x}") for number in range(1, 50))

    def digest_of(path: bytes) -> str:
        asked.append(path)
        return f"{49:064x}"

    assert Manifest(sets).find(digest_of, lambda _: False) == f"{49:064x}"
    assert asked == [b"a.h"]


def test_sets_are_bounded_and_the_oldest_go() -> None:
    """So many sets and no more; one with the same conditions replaces its elder."""
    manifest = Manifest()
    for number in range(MOST_SETS + 10):
        manifest = manifest.with_set(DependencySet(((b"a.h", f"{number:064x}"),), (), f"{number:064x}"))
    assert [int(one.key, 16) for one in manifest.sets] == list(range(MOST_SETS + 9, 9, -1))
    again = manifest.with_set(DependencySet(manifest.sets[5].present, (), "e" * 64))
    assert len(again.sets) == MOST_SETS
    assert again.sets[0].key == "e" * 64
    assert again.sets[1:] == tuple(one for number, one in enumerate(manifest.sets) if number != 5)


def test_facts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets that say too much together are cut off at the oldest; what they share counts once."""
    monkeypatch.setattr(manifests, "MOST_FACTS", 10)
    shared = tuple((b"%d.h" % number, f"{number:064x}") for number in range(6))
    manifest = Manifest()
    for number in range(8):
        manifest = manifest.with_set(DependencySet((*shared, (b"own.h", f"{number:064x}")), (), f"{number:064x}"))
    assert [int(one.key, 16) for one in manifest.sets] == [7, 6, 5, 4]


def test_paths_are_grouped_by_directory() -> None:
    """The cwd is the empty directory, and the root stays the root."""
    assert grouped([b"a", b"/b", b"d/e/f", b"d/e/c", b"a"]) == (
        (b"", (b"a",)),
        (b"/", (b"b",)),
        (b"d/e", (b"c", b"f")),
    )
    assert grouped([b"d/a", b"d/"]) == ((b"d", (b"", b"a")),)


@pytest.mark.parametrize(
    "content", [None, [[], [], [], [[b"", [0], []]]], [[], [[-1, b""]], [], []], [[b"a"], [[0, "x"]], [], []]]
)
def test_a_sound_seal_around_something_else_is_damaged(content: object) -> None:
    """What the checksum does not judge is judged when it is read."""
    with pytest.raises(Damaged):
        unpack(KEY, seal(KEY, b"m", 1, content))


@given(st.binary(max_size=60))
def test_any_bytes_are_damaged(junk: bytes) -> None:
    """A manifest's damage is one error."""
    with pytest.raises(Damaged):
        unpack(KEY, junk)
