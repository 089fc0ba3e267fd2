"""Which launcher this command came by, and why it was not the native one.

Knows what the launcher says of itself in the environment. Refuses to build one.
"""

from __future__ import annotations

import os

from sccache_twisted.cli.checks import Finding, Grade
from sccache_twisted.launcher import first_use, native
from sccache_twisted.launcher.origin import came_by

_ADVICE = "docs/commands.md, The launcher, says when the native one is built."


def finding() -> Finding:
    """Which launcher is in use; a call costs ten times as much with the Python one."""
    which, first, second = came_by()
    if which == "native":
        if first == native.digest():
            return Finding("launcher", Grade.FINE, f"native, at {second}.")
        return Finding(
            "launcher",
            Grade.WORTH_KNOWING,
            f"native, at {second}, but of another version than the package.",
            "Install the package again.",
        )
    return Finding("launcher", Grade.WORTH_KNOWING, f"the Python one: {_why(first, second)}.", _ADVICE)


def _why(here: str, wanted: str) -> str:
    """Why the script found no native launcher at ``wanted``."""
    if not wanted:
        return "this one is not an installed script that looks for a native one"
    obstacle = first_use.obstacle(os.fsencode(wanted), os.fsencode(here))
    if obstacle:
        return f"no native one can be put at {wanted}, since {obstacle}"
    try:
        with open(os.path.join(os.path.dirname(wanted), "none"), encoding="utf-8") as noted:
            return f"no native one could be built: {noted.read().strip()}"
    except FileNotFoundError:
        return "a native one is being built, or will be after the next call"
