"""The directories that trees are built in: below /tmp, with spaces, or below a symlinked directory."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from attrs import frozen


class Layout(str, Enum):
    """Where the build's outputs go."""

    IN_SOURCE = "in"
    OUT_OF_SOURCE = "out"


class Kind(str, Enum):
    """What is special about the directory's path."""

    TMP = "tmp"
    SPACES = "spaces"
    SYMLINK = "symlink"


@frozen
class Site:
    """A directory with a tree in ``source``; ``root`` is its path as a user would spell it."""

    root: Path
    layout: Layout

    @property
    def source(self) -> Path:
        """Where the tree lies."""
        return self.root / "source"

    @property
    def build(self) -> Path:
        """Where its build runs."""
        return self.source if self.layout is Layout.IN_SOURCE else self.root / "build"

    def lay_out(self, tree: Path, overlay: Path | None = None) -> None:
        """Copy ``tree`` here with its times and modes, and the files of ``overlay`` over it."""
        shutil.copytree(tree, self.source, symlinks=True)
        if overlay is not None:
            shutil.copytree(overlay, self.source, dirs_exist_ok=True)
        self.build.mkdir(exist_ok=True)

    def clear(self) -> None:
        """Empty the directory again."""
        for name in os.listdir(self.root):
            shutil.rmtree(self.root / name)


@contextmanager
def workplace() -> Iterator[Path]:
    """An empty directory below /tmp for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="trees-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextmanager
def site(kind: Kind, layout: Layout) -> Iterator[Site]:
    """A site of that kind; those that aren't ``tmp`` lie below /var/tmp."""
    above = "/tmp" if kind is Kind.TMP else "/var/tmp"
    with tempfile.TemporaryDirectory(prefix="trees-", dir=above, ignore_cleanup_errors=True) as path:
        root = Path(path, "with two spaces" if kind is Kind.SPACES else "plain")
        root.mkdir()
        if kind is Kind.SYMLINK:
            link = Path(path, "link")
            link.symlink_to(root)
            root = link / "below"
            root.mkdir()
        yield Site(root, layout)
