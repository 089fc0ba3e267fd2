"""An archive from a peer that lies is refused with a sentence, and touches nothing outside its place."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import blake3
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sccache_twisted.errors import BadArchive, DigestMismatch, TooLarge, WorkerStorage
from sccache_twisted.model import Digest
from sccache_twisted.toolchains import ArchiveLimits, Entry, EntryKind, ToolchainStore
from sccache_twisted.toolchains.archive import END, member_header, padding

MIB = 1 << 20
LIMITS = ArchiveLimits(unpacked_bytes=4 * MIB, members=50, name_bytes=300, depth=20)


def digest_of(data: bytes) -> Digest:
    return Digest(blake3.blake3(data).hexdigest())


def directory(name: str) -> bytes:
    return member_header(Entry(name.encode(), EntryKind.DIRECTORY))


def file(name: str, content: bytes = b"content") -> bytes:
    return (
        member_header(Entry(b"/" + name.encode(), EntryKind.FILE, 0o755, size=len(content)))
        + content
        + padding(len(content))
    )


def link(name: str, target: str) -> bytes:
    return member_header(Entry(b"/" + name.encode(), EntryKind.LINK, target=target.encode()))


def changed(block: bytes, offset: int, data: bytes) -> bytes:
    """A header with some field replaced and its checksum put right."""
    header = bytearray(block[:512])
    header[offset : offset + len(data)] = data
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + block[512:]


def typed(kind: bytes, name: str = "it", target: bytes = b"") -> bytes:
    return changed(changed(file(name, b""), 156, kind), 157, target)


def tar_of(members: list[tarfile.TarInfo], form: int = tarfile.PAX_FORMAT) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return raw.getvalue()


def member(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


USR = directory("usr")
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "an absolute name": (lambda: changed(file("x"), 0, b"/etc/x\0") + END, "absolute"),
    "a name that climbs": (lambda: file("../x") + END, "empty component"),
    "a name that climbs from inside": (lambda: USR + file("usr/../../x") + END, "empty component"),
    "a name of dots": (lambda: USR + file("usr/.") + END, "empty component"),
    "an empty component": (lambda: USR + file("usr//x") + END, "empty component"),
    "an empty name": (lambda: changed(file("x"), 0, b"\0") + END, "empty component"),
    "a file with a trailing slash": (lambda: USR + file("usr/x/") + END, "empty component"),
    "the root itself": (lambda: changed(USR, 0, b"./\0\0") + END, "empty component"),
    "a hard link": (lambda: file("a") + typed(b"1", "b", b"a") + END, "hard link"),
    "a hard link to the outside": (lambda: typed(b"1", "b", b"/etc/passwd") + END, "hard link"),
    "a character device": (lambda: typed(b"3") + END, "character device"),
    "a block device": (lambda: typed(b"4") + END, "block device"),
    "a FIFO": (lambda: typed(b"6") + END, "FIFO"),
    "a sparse file": (lambda: typed(b"S") + END, "sparse"),
    "a contiguous file": (lambda: typed(b"7") + END, "contiguous"),
    "an unknown type": (lambda: typed(b"Z") + END, "unknown type"),
    "a pax header": (lambda: tar_of([member("usr/" + "n" * 300, size=3)]), "attributes"),
    "pax attributes that rename": (
        lambda: tar_of([member("ok", size=1, pax_headers={"path": "/etc/x"})]),
        "attributes",
    ),
    "a GNU sparse file in pax": (
        lambda: tar_of([member("ok", size=1, pax_headers={"GNU.sparse.major": "1"})]),
        "attributes",
    ),
    "the same file twice": (lambda: file("a") + file("a") + END, "twice"),
    "the same directory twice": (lambda: USR + USR + END, "twice"),
    "a file where a directory is": (lambda: USR + file("usr") + END, "twice"),
    "a link where a directory is": (lambda: USR + link("usr", "/etc") + END, "twice"),
    "a member below a file": (lambda: file("a") + file("a/b") + END, "is a file"),
    "a member below a link": (lambda: link("a", "/etc") + file("a/b") + END, "is a link"),
    "a directory below a link": (lambda: link("a", "..") + directory("a/b") + END, "is a link"),
    "a member without its directory": (lambda: file("usr/bin/cc") + END, "not announced"),
    "a link to nothing": (lambda: typed(b"2", "a") + END, "empty or too long"),
    "a link with content": (lambda: changed(changed(file("a"), 156, b"2"), 157, b"t") + END, "empty or too long"),
    "a directory with content": (lambda: changed(file("a"), 156, b"5") + END, "has content"),
    "too long a name": (lambda: file("/".join(["x" * 200, "y" * 150])) + END, "longer|too long"),
    "too long a component": (lambda: file("x" * 256) + END, "too long"),
    "too deep a tree": (lambda: b"".join(directory("/".join("d" * n)) for n in range(1, 25)) + END, "too deep"),
    "too long a target": (lambda: link("a", "t" * 400) + END, "longer|too long"),
    "a name longer than its announcement": (
        lambda: changed(file("n" * 120), 124, b"%011o\0" % 60) + END,
        "damaged",
    ),
    "two long names for one member": (lambda: file("n" * 120)[:1024] + file("m" * 120) + END, "longer"),
    "a long name for nobody": (lambda: file("n" * 120)[:1024] + END, "ends behind"),
    "a base-256 size": (lambda: changed(file("a"), 124, b"\x80" + bytes(10) + b"\x07") + END, "number"),
    "a negative size": (lambda: changed(file("a"), 124, b"-0000000007\0") + END, "number"),
    "a size of no digits": (lambda: changed(file("a"), 124, b" " * 12) + END, "number"),
    "a wrong checksum": (lambda: b"b" + file("a")[1:] + END, "checksum"),
    "no tar at all": (lambda: b"garbage " * 200, "no tar"),
    "an old tar without magic": (lambda: changed(file("a"), 257, bytes(8)) + END, "no tar"),
    "content in the padding": (lambda: file("a")[:-1] + b"x" + END, "padding"),
    "one empty block inside": (lambda: file("a") + bytes(512) + file("b") + END, "single empty block"),
    "members behind the end": (lambda: file("a") + END + file("b") + END, "goes on"),
    "zeros behind the end": (lambda: file("a") + END + bytes(512), "goes on"),
    "a cut header": (lambda: file("a")[:300], "cut short"),
    "cut content": (lambda: file("a", b"x" * 5000)[:2000], "cut short"),
    "no end": (lambda: file("a"), "cut short"),
    "half an end": (lambda: file("a") + bytes(512), "cut short"),
    "nothing": (lambda: b"", "cut short"),
    "too many members": (lambda: b"".join(file(f"f{n}") for n in range(60)) + END, "more than 50"),
    "a file over the limit": (lambda: file("a", bytes(5 * MIB)) + END, "larger than|more than"),
    "a size beyond the limit": (lambda: changed(file("a"), 124, b"77777777777\0") + END, "larger than"),
    "many files over the limit": (lambda: b"".join(file(f"f{n}", bytes(MIB)) for n in range(5)) + END, "than"),
}


@pytest.fixture
def store(tmp_path: Path) -> ToolchainStore:
    return ToolchainStore(os.fsencode(tmp_path / "store"), 1 << 30, LIMITS)


def send(store: ToolchainStore, raw: bytes, compressed: bytes | None = None, piece: int = 4096) -> None:
    data = zstandard.ZstdCompressor().compress(raw) if compressed is None else compressed
    intake = store.begin(digest_of(raw))
    for start in range(0, len(data), piece):
        intake.write(data[start : start + piece])
    intake.finish()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(name: str, store: ToolchainStore, tmp_path: Path) -> None:
    """Whatever is no directory, file or link in its own place is refused by a sentence that says why."""
    make, sentence = HOSTILE[name]
    raw = make()
    for piece in (1 << 20, 100):
        with pytest.raises((BadArchive, TooLarge), match=sentence):
            send(store, raw, piece=piece)
        assert os.listdir(tmp_path) == ["store"]
        assert os.listdir(tmp_path / "store") == []
        assert store.size == 0


def test_setuid_bits_are_dropped(store: ToolchainStore) -> None:
    """A file that asks for its owner's powers is stored without them."""
    raw = changed(file("a"), 100, b"0006755\0") + changed(file("b"), 100, b"0000002\0") + END
    send(store, raw)
    toolchain = store.get(digest_of(raw))
    assert toolchain is not None
    assert [os.stat(entry.stored).st_mode & 0o7777 for entry in toolchain.entries] == [0o555, 0o444]


def test_links_to_anywhere_are_kept_and_never_followed(store: ToolchainStore, tmp_path: Path) -> None:
    """A link out of the tree is a link like any other: it is for the sandbox to resolve."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    raw = link("a", str(secret)) + link("b", "../../../../etc") + link("c", "a") + file("d") + END
    send(store, raw)
    assert store.verify(digest_of(raw))
    assert secret.read_text() == "secret"


def test_an_honest_archive_passes_in_pieces_of_one_byte(store: ToolchainStore) -> None:
    """Where the network cuts an upload is of no consequence."""
    raw = USR + file("usr/" + "n" * 120) + link("usr/l", "t" * 200) + file("usr/z", b"") + END
    send(store, raw, piece=1)
    toolchain = store.get(digest_of(raw))
    assert toolchain is not None
    assert [entry.path for entry in toolchain.entries] == [b"/usr", b"/usr/l", b"/usr/" + b"n" * 120, b"/usr/z"]


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda _: b"", "cut short"),
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: data + b"tail", "no zstd"),
        (lambda data: b"tail" + data, "no zstd"),
        (lambda data: data[:20] + b"\xff" * 20 + data[40:], "no zstd|checksum|cut short|no tar|number"),
        (lambda data: data + zstandard.ZstdCompressor().compress(b"more"), "goes on"),
    ],
)
def test_a_damaged_stream_is_refused(
    harm: Callable[[bytes], bytes], sentence: str, store: ToolchainStore, tmp_path: Path
) -> None:
    """Cut, garbled and prolonged streams are refused; the store is as before."""
    raw = file("a", os.urandom(100_000)) + END
    with pytest.raises((BadArchive, DigestMismatch), match=sentence):
        send(store, raw, harm(zstandard.ZstdCompressor().compress(raw)))
    assert os.listdir(tmp_path / "store") == []


def test_a_bomb_is_stopped_while_it_unpacks(tmp_path: Path) -> None:
    """A few kilobytes that would become gigabytes end at the limit, on disk as in memory."""
    compressor = zstandard.ZstdCompressor().compressobj()
    header = changed(file("a", b""), 124, b"%011o\0" % (200 * MIB))
    bomb = compressor.compress(header) + b"".join(compressor.compress(bytes(MIB)) for _ in range(200))
    bomb += compressor.flush()
    assert len(bomb) < 100_000
    store = ToolchainStore(os.fsencode(tmp_path / "store"), 32 * MIB)
    # The announced size is refused before the first byte is written; an endless tail of zeros when it has come.
    for raw in (bomb, zstandard.ZstdCompressor().compress(bytes(200 * MIB))):
        with pytest.raises((TooLarge, BadArchive)):
            store.begin(digest_of(b"")).write(raw)
        assert os.listdir(tmp_path / "store") == []
    assert store.size == 0


def test_a_wide_window_is_refused(store: ToolchainStore) -> None:
    """A stream that asks for gigabytes of memory to decode it is refused."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=30)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(file("a") + END) + compressor.flush()
    with pytest.raises(BadArchive, match="memory"):
        send(store, file("a") + END, data)


# --- whatever bytes come ---


names = st.one_of(
    st.sampled_from(
        ["a", "b", "a/b", "b/a", "a/b/c", "..", "../x", "/x", "a/../../x", ".", "", "a/", "l", "l/x", "l/l/x"]
    ),
    st.text(alphabet="ab./l", min_size=1, max_size=12),
)
members = st.one_of(
    st.builds(directory, names),
    st.builds(file, names, st.binary(max_size=600)),
    st.builds(link, names, st.sampled_from(["..", "/", "../../..", "a", "/tmp", "l", "."])),
    st.builds(typed, st.sampled_from([b"1", b"3", b"6", b"x", b"L", b"K", b"\0", b"7"]), names, st.just(b"a")),
    st.binary(max_size=1100),
)
archives = st.one_of(
    st.binary(max_size=3000),
    st.lists(members, max_size=8).map(lambda parts: b"".join(parts) + END),
    st.tuples(st.lists(members, max_size=8), st.integers(0, 4000), st.binary(min_size=1, max_size=4)).map(
        lambda made: (whole := b"".join(made[0]) + END)[: made[1]] + made[2] + whole[made[1] + len(made[2]) :]
    ),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(archives, st.integers(1, 2000))
def test_no_bytes_write_outside_their_place(raw: bytes, piece: int) -> None:
    """Any bytes at all are stored whole below the store's own directory, or refused by a sentence; nothing else."""
    with tempfile.TemporaryDirectory() as top:
        os.mkdir(os.path.join(top, "store"))
        Path(top, "x").write_text("untouched")
        store = ToolchainStore(os.fsencode(os.path.join(top, "store")), MIB, LIMITS)
        try:
            send(store, raw, piece=piece)
        except (BadArchive, TooLarge, WorkerStorage):
            assert os.listdir(os.path.join(top, "store")) == []
        else:
            toolchain = store.get(digest_of(raw))
            assert toolchain is not None
            for entry in toolchain.entries:
                if entry.kind is EntryKind.FILE:
                    assert os.path.realpath(entry.stored) == entry.stored
                    assert os.stat(entry.stored).st_size == entry.size
        assert sorted(os.listdir(top)) == ["store", "x"]
        assert Path(top, "x").read_text() == "untouched"
