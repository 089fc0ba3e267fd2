"""Which launcher a command of ours came by: what the launcher left in the environment for it."""

from __future__ import annotations

import os

from sccache_twisted.launcher import main


def came_by() -> tuple[str, str, str]:
    """``native``, its digest and its path; or ``python``, its directory and the place of a native one; or empty."""
    which, _, rest = os.environ.get(os.fsdecode(main.CAME_BY), "").partition(":")
    first, _, second = rest.partition(":")
    return which, first, second


def kind() -> str:
    """``native`` or ``Python``."""
    return "native" if came_by()[0] == "native" else "Python"
