"""``--package-toolchain EXE OUT``: what a worker would be sent for a compiler."""

from __future__ import annotations

import os
from argparse import Namespace

from sccache_twisted.toolchains import package_to


def package_toolchain(arguments: Namespace) -> int:
    """Write the archive and say what it is known by."""
    made = package_to(os.fsencode(arguments.executable), os.fsencode(arguments.output))
    print(f"{made.digest}  {made.arch}  {made.members} members, {made.size} bytes, {made.archive_size} compressed")
    return 0
