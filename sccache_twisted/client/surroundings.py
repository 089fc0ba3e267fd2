"""Small questions about a call's surroundings, asked before anything is done for it."""

from __future__ import annotations

import os
import stat

from sccache_twisted.client.calls import Answered, Call
from sccache_twisted.model import Compilation, CompilerFamily


def time_is_fixed(call: Call, compilation: Compilation) -> bool:
    """Whether the compiler takes the time from SOURCE_DATE_EPOCH: gcc does, clang since 16."""
    if b"SOURCE_DATE_EPOCH" not in call.env:
        return False
    compiler = compilation.compiler
    if compiler.family is CompilerFamily.GCC:
        return True
    major = compiler.version.partition("clang version ")[2].partition(".")[0]
    return major.isdigit() and int(major) >= 16


def not_found(call: Call) -> Answered:
    """The answer to a call whose program is not there, as a shell would give it."""
    name = os.fsdecode(call.argv[0]) if call.argv else ""
    where = (
        "does not exist or is not executable" if "/" in name else "is not in PATH, or only as a link to sccache-twisted"
    )
    text = f"sccache-twisted: the compiler {name!r} {where}.\n"
    return Answered(127, b"", text.encode("utf-8", "surrogateescape"))


def is_special(source: bytes, cwd: bytes) -> bool:
    """Whether a source is there and is no regular file: a FIFO must not be read twice."""
    try:
        return not stat.S_ISREG(os.stat(os.path.join(cwd, source)).st_mode)
    except OSError:
        return False


def read_response_file(path: bytes) -> bytes | None:
    """The content of a response file; None if it can't be read or is no regular file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return None
