"""Keys: different facts, different keys; and no way to spell one set of facts as another."""

from __future__ import annotations

from attrs import evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from sccache_twisted.hashing.keys import CommandFacts, framed, inputs_key, manifest_key, text_key

FACTS = CommandFacts(
    toolchain="t" * 64,
    executable=b"/usr/bin/gcc",
    argv0=b"gcc",
    family="gcc",
    language="c",
    args=(b"-O2", b"-c", b"a.c"),
    env=((b"LANG", b"C"),),
    source=b"a.c",
    directory=b"/src",
    outputs=("object",),
)
OTHERS = {
    "toolchain": "u" * 64,
    "executable": b"/usr/local/bin/gcc",
    "argv0": b"/usr/bin/gcc",
    "family": "clang",
    "language": "c++",
    "args": (b"-O2 -c", b"a.c"),
    "env": ((b"LAN", b"GC"),),
    "source": b"./a.c",
    "directory": None,
    "outputs": ("object", "depfile"),
    "directories": (True,),
    "processor": "this one",
    "buster": b"1",
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)


def typed(value: object) -> object:
    """A value in which 1 and True, and "" and b"", are different."""
    return tuple(map(typed, value)) if isinstance(value, tuple) else (type(value).__name__, value)


@given(VALUES, VALUES)
def test_framing_tells_different_values_apart(one: object, other: object) -> None:
    """Two frames are equal only if what they frame is, down to the type."""
    assert (framed(one) == framed(other)) == (typed(one) == typed(other))


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_framing_tells_where_one_part_ends(one: list[bytes], other: list[bytes]) -> None:
    """What is in which part matters, not only what all parts together say."""
    assert (framed(*one) == framed(*other)) == (one == other)


def test_each_fact_changes_every_key() -> None:
    """There is no field of the facts that a key leaves out."""
    assert set(OTHERS) == {attribute.name for attribute in fields(CommandFacts)}
    for name, other in OTHERS.items():
        changed = evolve(FACTS, **{name: other})
        assert manifest_key(changed, "d") != manifest_key(FACTS, "d")
        assert text_key(changed, "d", ()) != text_key(FACTS, "d", ())
        assert inputs_key(changed, "d", ()) != inputs_key(FACTS, "d", ())


def test_content_and_purpose_change_a_key_and_the_order_of_files_does_not() -> None:
    """Source, text, and each file's path and digest count; three keys of the same facts are three."""
    files = [(b"a.h", "1"), (b"b.h", "2")]
    assert inputs_key(FACTS, "t", files) == inputs_key(FACTS, "t", reversed(files))
    different = {
        manifest_key(FACTS, "t"),
        manifest_key(FACTS, "u"),
        text_key(FACTS, "t", ()),
        text_key(FACTS, "u", ()),
        text_key(FACTS, "t", files),
        inputs_key(FACTS, "t", ()),
        inputs_key(FACTS, "t", files),
        inputs_key(FACTS, "t", [(b"a.h", "2"), (b"b.h", "1")]),
        inputs_key(FACTS, "t", [(b"a.h", "1")]),
    }
    assert len(different) == 9
    assert all(len(key) == 64 for key in different)
