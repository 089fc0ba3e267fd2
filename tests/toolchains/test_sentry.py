"""Nothing that could make a toolchain another one happens to a watched file without being told."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sccache_twisted.toolchains.sentry import Sentry

pytestmark = pytest.mark.alone
"""Every directory on the way is watched, the temporary one as well, in which other tests come and go."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A file, a link to it by a directory that is a link, and names that are not there."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "cc").write_text("driver")
    (tmp_path / "bin" / "gcc").symlink_to("cc")
    (tmp_path / "elsewhere").mkdir()
    os.link(tmp_path / "bin" / "cc", tmp_path / "elsewhere" / "other-name")
    (tmp_path / "listed").mkdir()
    return tmp_path


@pytest.fixture
def sentry(place: Path) -> Iterator[Sentry]:
    """Watches the file, the link, something absent, and the names in a directory."""
    watched = [os.fsencode(place / name) for name in ("bin/cc", "bin/gcc", "lib/gcc/12/cc1", "listed")]
    made = Sentry(watched)
    yield made
    made.close()


def replaced(path: Path) -> None:
    """Put another file in the place of one."""
    path.with_name("draft").write_text("another")
    path.with_name("draft").rename(path)


def relinked(path: Path) -> None:
    """Lead a link elsewhere."""
    path.unlink()
    path.symlink_to("nowhere")


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda place: (place / "bin/cc").write_text("changed"),
    "written-by-another-name": lambda place: (place / "elsewhere/other-name").write_text("changed"),
    "mode": lambda place: (place / "bin/cc").chmod(0o700),
    "time": lambda place: os.utime(place / "bin/cc"),
    "replaced": lambda place: replaced(place / "bin/cc"),
    "removed": lambda place: (place / "bin/cc").unlink(),
    "link-leads-elsewhere": lambda place: relinked(place / "bin/gcc"),
    "directory-moved": lambda place: (place / "bin").rename(place / "was-bin"),
    "directory-above-moved": lambda place: place.rename(place.with_name(f"{place.name}-moved")),
    "something-appears": lambda place: (place / "lib").mkdir(),
    "directory-is-made-where-names-count": lambda place: (place / "listed/new").mkdir(),
    "link-is-made-where-names-count": lambda place: (place / "listed/new").symlink_to("nowhere"),
    "file-is-moved-where-names-count": lambda place: (place / "bin/gcc").rename(place / "listed/new"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_told_at_once_and_for_good(place: Path, sentry: Sentry, change: Callable[[Path], object]) -> None:
    """Quiet before, not quiet in the moment after, and never again."""
    assert sentry.quiet()
    change(place)
    assert not sentry.quiet()
    assert not sentry.quiet()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("first", [(), ("bin",), ("listed", "lib")], ids=["nothing", "above", "beside"])
def test_what_is_watched_later_is_watched_as_well(
    place: Path, first: tuple[str, ...], change: Callable[[Path], object]
) -> None:
    """Also where it was watched before in another way: as a place that others lie in, or as a listed directory."""
    made = Sentry(os.fsencode(place / name) for name in first)
    made.watch([os.fsencode(place / name) for name in ("bin/cc", "bin/gcc", "lib/gcc/12/cc1", "listed")])
    assert made.quiet()
    change(place)
    assert not made.quiet()
    made.watch([os.fsencode(place / "elsewhere")])
    assert not made.quiet()
    made.close()


def test_reading_and_running_is_no_change(place: Path, sentry: Sentry) -> None:
    """Whoever compiles does not disturb, and neither does what happens beside the files."""
    (place / "bin/cc").read_text()
    os.stat(place / "bin/gcc")
    list((place / "bin").iterdir())
    (place / "elsewhere" / "new").write_text("")
    assert sentry.quiet()


def test_what_is_mounted_is_told(place: Path) -> None:
    """Another file system over a directory hides its files, and one beside it does not; an ordinary user may do so."""
    program = (
        "import os, subprocess, sys\n"
        "from sccache_twisted.toolchains.sentry import Sentry\n"
        "sentry = Sentry([os.fsencode(sys.argv[1])])\n"
        "print(sentry.quiet())\n"
        "for place in sys.argv[2:]:\n"
        "    subprocess.run(['mount', '-t', 'tmpfs', 'none', place], check=True)\n"
        "    print(sentry.quiet())\n"
    )
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    python = [sys.executable, "-c", program, str(place / "bin/cc"), str(place / "elsewhere"), str(place / "bin")]
    told = subprocess.run([*own, *python], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "True", "False"]


def test_what_others_may_change_is_not_watched() -> None:
    """Files of the kernel's own file systems, and of networks', change without a word."""
    with pytest.raises(OSError, match="may change unseen"):
        Sentry([b"/proc/self/status"])
