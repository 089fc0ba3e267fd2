"""Run a command on a terminal: a pseudo-terminal whose other end is read here."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

ROWS, COLUMNS = 40, 120


def on_terminal(argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> tuple[int, bytes]:
    """The exit status, and all that appeared on an xterm of 40 x 120."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
        process = subprocess.Popen(
            argv, cwd=cwd, env={**env, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
        )
    finally:
        os.close(theirs)
    shown = b""
    try:
        while part := _read(ours):
            shown += part
        return process.wait(), shown
    finally:
        os.close(ours)


def _read(terminal: int) -> bytes:
    """What comes next; nothing when nobody has the other end open any more, which Linux tells by EIO."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""
