"""Archives made to reach out of their place, unpacked beside a tree of which the kernel tells every look and change."""

from __future__ import annotations

import os
import stat
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sentinel import SECRET, sentinel
from test_hostile_archives import (
    END,
    LIMITS,
    MIB,
    changed,
    digest_of,
    directory,
    file,
    link,
    member,
    send,
    tar_of,
    typed,
)

from sccache_twisted.errors import BadArchive, TooLarge
from sccache_twisted.toolchains import EntryKind, ToolchainStore

OUTSIDE = "@@"
"""Stands for the watched tree's place, relative to the root of all: it is another one each time, and as long."""

PLAIN = st.sampled_from(["a", "b", "d", "l", "m", "secret", "fifo", "new"])
ODD = st.sampled_from(
    ["..", ".", "", "etc", "record", ".in-1", "files", "x" * 255, "x" * 256, "\udcff", "line\nbreak", OUTSIDE]
)
NAMES = st.one_of(
    st.lists(PLAIN, min_size=1, max_size=3).map("/".join),
    st.lists(PLAIN, min_size=1, max_size=3).map("/".join),
    st.lists(st.one_of(PLAIN, ODD), min_size=1, max_size=4).map("/".join),
    st.sampled_from([f"/{OUTSIDE}/new", f"{OUTSIDE}/public", "/" + "d/" * 30, "l/secret", "l/../../x", "d/l/public"]),
)
TARGETS = st.sampled_from(
    [
        f"/{OUTSIDE}",
        f"/{OUTSIDE}/d",
        f"/{OUTSIDE}/secret",
        f"/{OUTSIDE}/fifo",
        "../" * 30 + OUTSIDE,
        "..",
        ".",
        "/",
        "l",
        "a",
        "d",
    ]
)
SIZES = st.sampled_from(
    [b"%011o\0" % (5 * MIB), b"77777777777\0", b"-0000000001\0", b"\x80" + bytes(10) + b"\x07", b"00000000007\0"]
)


def encoded(text: str) -> str:
    """A name for the helpers, which take text; what cannot be text becomes a letter of several bytes."""
    return text.replace("\udcff", "\u00ff")


MEMBERS = st.one_of(
    st.builds(directory, NAMES.map(encoded)),
    st.builds(directory, st.sampled_from(["a", "b", "d", "l", "d/l"])),
    st.builds(file, NAMES.map(encoded), st.binary(max_size=600)),
    st.builds(link, NAMES.map(encoded), TARGETS),
    st.builds(link, st.sampled_from(["l", "d/l", "a"]), TARGETS),
    st.builds(
        lambda kind, name, target: typed(kind, encoded(name)[:90], target.encode()[:90]),
        st.sampled_from([b"1", b"1", b"2", b"3", b"4", b"6", b"7", b"S", b"x", b"g", b"L", b"K"]),
        NAMES,
        TARGETS,
    ),
    st.builds(lambda name, size: changed(file(name), 124, size), PLAIN, SIZES),
    st.builds(
        lambda name, mode: changed(file(name), 100, b"%07o\0" % mode),
        PLAIN,
        st.sampled_from([0o6777, 0o1000, 0, 0o777]),
    ),
    st.builds(
        lambda name, target, kind: tar_of([member(name, type=kind, linkname=target, devmajor=1, devminor=5)])[:1024],
        PLAIN,
        TARGETS,
        st.sampled_from([b"1", b"3", b"4", b"6"]),
    ),
    st.builds(lambda name: tar_of([member("ok", size=1, pax_headers={"path": name})]), st.just(f"/{OUTSIDE}/new")),
)
HONEST = st.lists(
    st.one_of(
        st.builds(file, st.sampled_from([f"d/{name}" for name in "abcdef"]), st.binary(max_size=600)),
        st.builds(link, st.sampled_from(["d/l", "d/m", "l", "m"]), TARGETS),
        st.builds(directory, st.sampled_from(["a", "b", "d/e", "d/g"])),
    ),
    max_size=5,
    unique_by=lambda block: block[:100],
).map(lambda blocks: directory("d") + b"".join(blocks) + END)
ARCHIVES = st.one_of(
    HONEST,
    st.lists(MEMBERS, min_size=1, max_size=6).map(lambda blocks: b"".join(blocks) + END),
    st.lists(MEMBERS, min_size=1, max_size=4).map(lambda blocks: directory("d") + b"".join(blocks) + END),
)


def aimed(raw: bytes, place: str) -> bytes:
    """An archive with the watched tree's own place in its names, and all checksums put right."""
    short, long = OUTSIDE.encode(), place.strip("/").encode()
    blocks = [raw[at : at + 512] for at in range(0, len(raw), 512)]
    for index, plain in enumerate(blocks):
        if short in plain and plain[257:262] == b"ustar":
            block = plain
            for start in (0, 157):
                text = plain[start : start + 100].partition(b"\0")[0].replace(short, long)
                block = changed(block, start, text[:100].ljust(100, b"\0"))
            blocks[index] = block
    return b"".join(blocks)


def unpacked_inside(toolchain, top: bytes) -> None:
    """All that was made lies below the store, is what the archive said, and is nobody else's."""
    found = {entry.path: entry for entry in toolchain.entries}
    seen = set()
    for here, directories, files in os.walk(toolchain.root):
        for name in [*directories, *files]:
            path = os.path.join(here, name)
            about = os.lstat(path)
            entry = found[path[len(toolchain.root) :]]
            seen.add(entry.path)
            kinds = {EntryKind.DIRECTORY: stat.S_ISDIR, EntryKind.FILE: stat.S_ISREG, EntryKind.LINK: stat.S_ISLNK}
            assert kinds[entry.kind](about.st_mode), entry
            assert about.st_mode & 0o7000 == 0
            if entry.kind is EntryKind.FILE:
                assert about.st_nlink == 1
                assert SECRET not in Path(os.fsdecode(path)).read_bytes()
            elif entry.kind is EntryKind.LINK:
                assert os.readlink(path) == entry.target
    assert seen == set(found)
    assert toolchain.root.startswith(top + b"/store/")


def one_archive(raw: bytes, piece: int, count: Counter) -> None:
    """Send it to a store beside a watched tree."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        top = os.fsencode(name)
        with sentinel(top + b"/outside") as watched:
            os.mkdir(top + b"/store")
            store = ToolchainStore(top + b"/store", 64 * MIB, LIMITS)
            raw = aimed(raw, name + "/outside")
            try:
                send(store, raw, piece=piece)
            except (BadArchive, TooLarge):
                assert os.listdir(top + b"/store") == []
                assert store.size == 0
                count["refused"] += 1
            else:
                toolchain = store.get(digest_of(raw))
                assert toolchain is not None
                assert store.verify(toolchain.digest)
                watched.untouched()
                unpacked_inside(toolchain, top)
                store.drop(toolchain.digest)
                assert os.listdir(top + b"/store") == []
                count["unpacked"] += 1
            watched.untouched()
        assert sorted(os.listdir(top)) == [b"outside", b"store"]


def _examples(number: int) -> Counter:
    count: Counter = Counter()

    # The same examples everywhere, and no judgement of how fast a busy machine makes them.
    @settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(ARCHIVES, st.sampled_from([1 << 20, 700, 512, 37]))
    def each(raw: bytes, piece: int) -> None:
        one_archive(raw, piece, count)

    each()
    return count


def test_no_archive_reaches_outside_its_place() -> None:
    """Links out and files behind them, hard links, devices, climbing names: unpacked inside only, or refused."""
    count = _examples(150)
    assert min(count["unpacked"], count["refused"]) >= 30, count


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_no_archive_of_thousands_reaches_outside_its_place() -> None:
    """So do thousands."""
    count = _examples(5000)
    assert min(count["unpacked"], count["refused"]) >= 500, count
