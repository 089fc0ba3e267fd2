"""Installed files are looked at once; whatever happens to them afterwards is seen by the next call all the same."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sccache_twisted.client.cache.states import FileStates, View
from sccache_twisted.hashing.digests import digest_of

pytestmark = pytest.mark.alone
"""Of every directory on the way to a file the kernel tells what comes and goes there: of the temporary one as well."""

HOUR_NS = 3600 * 10**9


def lay_out(place: Path) -> Path:
    """Headers as a package installs them: some by a link, one by a directory that is a link, one with ``..``."""
    root = place / "usr"
    for name in ("include/c++/a.h", "include/c++/bits/b.h", "lib/gcc/12/include/c.h", "elsewhere/d.h"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "include/link.h").symlink_to("second.h")
    (root / "include/second.h").symlink_to("c++/a.h")
    (root / "include/tied").symlink_to("../elsewhere")
    os.link(root / "include/c++/a.h", place / "same.h")
    return root


NAMES = (
    *("include/c++/a.h", "include/c++/bits/b.h", "include/link.h", "include/tied/d.h", "include/none.h"),
    *("lib/gcc/12/include/c.h", "lib/gcc/12/../../../include/c++/a.h"),
)
DIRECTORIES = ("include", "include/c++", "include/tied", "include/absent/bits", "lib/gcc/12/../../../include/c++/bits")


def asked(states: FileStates, root: Path) -> tuple[dict[str, str | None], dict[tuple[str, bytes], bool]]:
    """What one call is told of every name, and whether each of some names is in each directory; then it shares that."""
    view = View(states, b"/")
    digests = {name: view.digest(os.fsencode(root / name)) for name in NAMES}
    wanted = (b"a.h", b"d.h", b"link.h", b"new.h", b"none.h", b"shadow.h")
    found = {(name, one): view.any_there((os.fsencode(root / name), (one,))) for name in DIRECTORIES for one in wanted}
    view.share()
    return digests, found


def aged(root: Path) -> None:
    """Wait until no directory is so young that it is listed for each question. A change time can't be set."""
    states = FileStates(())
    while any(states.names(os.fsencode(path)) is None for path in [root, *root.rglob("*")] if path.is_dir()):
        pass


def rewritten(path: Path) -> None:
    """Change a file in its place, leaving its size and its time."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def relinked(path: Path, target: str) -> None:
    """Lead a link elsewhere."""
    path.unlink()
    path.symlink_to(target)


CHANGES: dict[str, Callable[[Path], object]] = {
    "rewritten": lambda root: rewritten(root / "include/c++/a.h"),
    "rewritten-by-another-name": lambda root: rewritten(root.parent / "same.h"),
    "replaced": lambda root: (
        shutil.copy(root / "elsewhere/d.h", root / "new") and (root / "new").rename(root / "include/c++/bits/b.h")
    ),
    "removed": lambda root: (root / "lib/gcc/12/include/c.h").unlink(),
    "link-elsewhere": lambda root: relinked(root / "include/link.h", "c++/bits/b.h"),
    "second-link-elsewhere": lambda root: relinked(root / "include/second.h", "c++/bits/b.h"),
    "directory-link-elsewhere": lambda root: relinked(root / "include/tied", "c++"),
    "directory-moved": lambda root: (root / "include/c++").rename(root / "include/moved"),
    "directory-above-moved": lambda root: root.rename(root.with_name("was-usr")),
    "what-dots-lead-from-is-gone": lambda root: shutil.rmtree(root / "lib/gcc/12"),
    "shadow-appears": lambda root: (root / "include/c++/shadow.h").write_text("shadow"),
    "shadow-appears-as-a-link": lambda root: (root / "include/c++/bits/shadow.h").symlink_to("b.h"),
    "directory-appears": lambda root: (
        (root / "include/absent/bits").mkdir(parents=True) or (root / "include/absent/bits/new.h").write_text("new")
    ),
    "absent-file-appears": lambda root: (root / "include/none.h").write_text("none"),
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tree for each change, and one that stays as it is: old enough, all of them."""
    found = {name: lay_out(tmp_path_factory.mktemp("tree")) for name in (*CHANGES, "unchanged")}
    for root in found.values():
        aged(root)
    return found


@pytest.fixture
def installed(trees: dict[str, Path]) -> Path:
    """A tree that nobody changes."""
    return trees["unchanged"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_by_the_next_call(trees: dict[str, Path], change: str) -> None:
    """What is told after a change is what somebody is told who never looked before, and no longer what was true."""
    installed = trees[change]
    states = FileStates((os.fsencode(installed) + b"/",))
    before = asked(states, installed)
    granted = states.steady.granted()
    assert len(granted.digests) == sum(digest is not None for digest in before[0].values())
    assert len(granted.names) == len(DIRECTORIES)
    assert asked(states, installed) == before
    CHANGES[change](installed)
    now = asked(states, installed)
    assert now == asked(FileStates(()), installed)
    assert now != before


def test_what_is_known_costs_no_look(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks for the state of what is watched: it could not be asked for here."""
    states = FileStates((os.fsencode(installed) + b"/",))
    before, _ = asked(states, installed)
    view = View(states, b"/")
    present = [name for name, digest in before.items() if digest is not None]

    def no_stat(path: object) -> None:
        raise AssertionError(f"{path!r} was looked at")

    monkeypatch.setattr(os, "stat", no_stat)
    assert [view.digest(os.fsencode(installed / name)) for name in present] == [before[name] for name in present]
    assert not view.any_there((os.fsencode(installed / "include/c++"), (b"shadow.h",)))


def test_what_is_not_installed_is_looked_at_each_time(installed: Path) -> None:
    """A project's own files may be written in ways that nobody is told of."""
    states = FileStates((os.fsencode(installed / "lib") + b"/",))
    asked(states, installed)
    assert set(states.steady.granted().digests) <= {os.fsencode(installed / name) for name in NAMES if "lib/" in name}


def test_what_cannot_be_watched_does_not_hinder_what_can() -> None:
    """Where other machines write as well nothing is remembered, and it is asked for once only."""
    states = FileStates((b"/proc/", b"/usr/include/"))
    for _ in range(2):
        view = View(states, b"/")
        for path in (b"/proc/version", b"/usr/include/stdio.h", b"/proc/cmdline"):
            assert view.digest(path) == digest_of(Path(os.fsdecode(path)).read_bytes())
        view.share()
    assert set(states.steady.granted().digests) == {b"/usr/include/stdio.h"}
    assert not states.steady.concerns(b"/proc/version")


@pytest.mark.parametrize("seed", range(4))
def test_any_changes_are_seen(tmp_path: Path, seed: int) -> None:
    """Files and links made, written, moved and removed at random: each answer is that of somebody who never looked."""
    draw, installed = random.Random(seed), lay_out(tmp_path)
    roots = (os.fsencode(installed) + b"/",)
    for _ in range(12):
        states = FileStates(roots)  # whoever has had to forget something rests before watching again
        asked(states, installed)
        for _ in range(4):
            paths = sorted(installed.rglob("*"))
            path, other = draw.choice(paths), draw.choice(paths)
            match draw.randrange(5):
                case 0 if path.is_file():
                    path.write_text(str(draw.random()))
                case 1 if path.is_dir():
                    (path / draw.choice(("none.h", "shadow.h", "a.h"))).write_text(str(draw.random()))
                case 2 if other.is_dir() and path not in {other, *other.parents}:
                    target = other / path.name
                    if not os.path.lexists(target):
                        path.rename(target)
                case 3 if path.is_symlink():
                    relinked(path, os.path.relpath(other, path.parent))
                case 4 if path.is_file() and len(paths) > 12:
                    path.unlink()
            assert asked(states, installed) == asked(FileStates(()), installed)
