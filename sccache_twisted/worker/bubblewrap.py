"""The sandbox's command line: what a job may see, and as whom it runs.

bubblewrap reads most of its options from a descriptor, and until they come it does nothing. So it is started first,
put under its limits, and told what to do when its root is ready. Knows bubblewrap and setpriv. Refuses to know
how a root comes to be and how processes are watched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

from sccache_twisted.errors import BadAction, SandboxFailed
from sccache_twisted.model import Action
from sccache_twisted.worker.jobroot import Owner
from sccache_twisted.worker.plan import STARTER, TEMPORARY, Plan

_CONFINED: Final = (
    b"--unshare-all",
    b"--unshare-user",
    b"--disable-userns",
    b"--cap-drop",
    b"ALL",
    b"--new-session",
    b"--die-with-parent",
    b"--clearenv",
)
_PROBE_SECONDS: Final = 20


@frozen
class Bubblewrap:
    """The programs that confine a job, as absolute paths; ``setpriv`` is needed by root only."""

    program: bytes
    prlimit: bytes
    setpriv: bytes

    @classmethod
    def find(cls, program: str) -> Bubblewrap:
        """Look the programs up; raises SandboxFailed with what to install."""
        found = shutil.which(program)
        if found is None:
            raise SandboxFailed(f"{program} is not installed: jobs are confined by bubblewrap")
        prlimit, setpriv = shutil.which("prlimit"), shutil.which("setpriv")
        if prlimit is None or (setpriv is None and os.getuid() == 0):
            raise SandboxFailed("prlimit and setpriv (util-linux) are not installed: jobs are started through them")
        return cls(*map(os.fsencode, (found, prlimit, setpriv or "")))

    def argv(
        self,
        owner: Owner | None,
        bounds: Sequence[bytes],
        options_fd: int,
        executable: bytes,
        argv: tuple[bytes, ...],
        *,
        starter: bool,
    ) -> list[bytes]:
        """The command to start; its other options are to be written to the pipe that ends in ``options_fd``.

        ``bounds`` are options of prlimit(1). ``starter``: the job's root has a starter program.
        """
        front = [self.prlimit, *bounds, b"--"] if owner is None else [self.prlimit, *bounds, b"--", *self._drop(owner)]
        command = [*front, self.program, b"--args", b"%d" % options_fd, b"--"]
        return [*command, STARTER, executable, *argv] if starter else [*command, executable, *argv[1:]]

    def _drop(self, owner: Owner) -> list[bytes]:
        return [self.setpriv, b"--reuid=%d" % owner.uid, b"--regid=%d" % owner.gid, b"--clear-groups", b"--"]

    def probe(self, owner: Owner | None) -> str:
        """Why jobs can't be confined here, or nothing if they can. Blocks for some 30 ms."""
        drop = [] if owner is None else self._drop(owner)
        mounts = (b"--ro-bind", b"/", b"/", b"--proc", b"/proc", b"--dev", b"/dev")
        argv = [*drop, self.program, *_CONFINED, *mounts, b"--", self.program, b"--version"]
        try:
            done = subprocess.run(argv, capture_output=True, check=False, timeout=_PROBE_SECONDS, cwd="/")
        except (OSError, subprocess.TimeoutExpired) as problem:
            return f"bubblewrap cannot be started here: {problem}"
        if done.returncode == 0:
            return ""
        said = done.stderr.decode("utf-8", "backslashreplace").strip().rpartition("\n")[2]
        return f"bubblewrap cannot confine a job here ({said}): are user namespaces allowed for ordinary users?"


def check_words(action: Action) -> None:
    """Refuse zero bytes in what becomes words of a command line: behind one, another option would begin. BadAction."""
    words = [action.executable, *action.argv, *(word for pair in action.env for word in pair)]
    words += [word for executable, argv in action.then for word in (executable, *argv)]
    if any(b"\0" in word for word in words):
        raise BadAction("a zero byte is in the job's command line or environment")


def options(
    plan: Plan,
    root: bytes,
    temporary: bytes,
    cwd: bytes,
    env: Iterable[tuple[bytes, bytes]],
    status_fd: int,
) -> bytes:
    """What bubblewrap reads from its options' descriptor: the planned world, built at ``root``, and nothing else.

    ``temporary`` is the directory for TMPDIR; ``status_fd`` is where it reports the job's pid and exit code.
    """
    words: list[bytes] = [*_CONFINED]
    for name, value in env:
        if name and b"=" not in name and name not in {b"TMPDIR", b"PWD"}:
            words += (b"--setenv", name, value)
    words += (b"--setenv", b"TMPDIR", TEMPORARY)
    words += (b"--bind" if b"/" in plan.writable else b"--ro-bind", root, b"/")
    for path in plan.writable:
        if path != b"/":
            words += (b"--bind", root + path, path)
    for path, stored in plan.stored:
        words += (b"--ro-bind", stored, path)
    for path in plan.sealed:
        words += (b"--ro-bind", root + path, path)
    words += (b"--bind", temporary, TEMPORARY, b"--proc", b"/proc", b"--dev", b"/dev", b"--remount-ro", b"/dev")
    words += (b"--chdir", cwd, b"--json-status-fd", b"%d" % status_fd)
    if any(b"\0" in word for word in words):
        raise BadAction("a zero byte is in the job's environment or paths")
    return b"\0".join(words) + b"\0"
