"""What a command looked for on the disk, as strace saw it: what was there, what was not, what it made itself."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import define, field, frozen

_LINE = re.compile(rb"^(\w+)\((.*)\) += (-?\d+|\?)(?:<[^>]*>)?(?: (E[A-Z]+))?", re.DOTALL)
_FIRST = re.compile(rb'^(?:(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)>, )?"((?:\\x[0-9a-f]{2})*)"')
_SECOND = re.compile(rb'", (?:(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)>, )?"((?:\\x[0-9a-f]{2})*)"')
_OPENS = {b"open", b"openat", b"creat"}
_WRITES = re.compile(rb"O_CREAT|O_TRUNC|O_WRONLY|O_RDWR")
_MAKES = {b"mkdir", b"mkdirat", b"unlink", b"unlinkat", b"chmod", b"fchmodat", b"utimensat", b"rmdir", b"truncate"}
_RENAMES = {b"rename", b"renameat", b"renameat2", b"link", b"linkat", b"symlink", b"symlinkat"}
_ABSENT = {b"ENOENT", b"ENOTDIR"}
_NOT_ASKED = {b"getcwd", b"chdir", b"fchdir", b"mount", b"inotify_add_watch"}


@frozen
class Look:
    """One look at a path, absolute as it was spelled. ``follows``: a link at its end was followed."""

    path: bytes
    call: str
    follows: bool


@define
class Seen:
    """Everything that the processes of one command looked at.

    ``found`` was there, ``missed`` was not; ``made`` are the names that the command wrote to itself.
    """

    found: set[Look] = field(factory=set)
    missed: set[Look] = field(factory=set)
    made: set[bytes] = field(factory=set)


def traced(
    argv: Sequence[bytes], cwd: bytes, env: Mapping[bytes, bytes], logs: Path, umask: int = -1
) -> tuple["subprocess.CompletedProcess[bytes]", Seen]:
    """Run a command under strace, its output captured as without it, and read what was seen."""
    prefix = ["strace", "-ff", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "65536", "-e", "trace=%file", "-o"]
    ran = subprocess.run(
        [*prefix, str(logs / "st"), "--", *argv],
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        umask=umask,
    )
    seen = Seen()
    for log in sorted(logs.glob("st.*")):
        for line in log.read_bytes().split(b"\n"):
            _read(line, cwd, seen)
        log.unlink()
    assert len(seen.found) > 10, f"strace saw nothing: {ran.stderr!r}"
    return ran, seen


def _read(line: bytes, cwd: bytes, seen: Seen) -> None:
    match = _LINE.match(line)
    if match is None or match[1] in _NOT_ASKED:
        return
    call, rest, value, problem = match.groups()
    if call in _RENAMES:
        for each in (_FIRST.match(rest), _SECOND.search(rest)):
            if each is not None:
                seen.made.add(_absolute(each, cwd))
        return
    named = _FIRST.match(rest)
    if named is None or not named[2]:
        return
    path = _absolute(named, cwd)
    if call in _MAKES or (call in _OPENS and _WRITES.search(rest)):
        seen.made.add(path)
        return
    follows = not (b"lstat" in call or b"readlink" in call or b"AT_SYMLINK_NOFOLLOW" in rest)
    look = Look(path, call.decode(), follows)
    if problem in _ABSENT:
        seen.missed.add(look)
    elif not value.startswith(b"-") or problem == b"EINVAL":
        seen.found.add(look)


def _absolute(named: "re.Match[bytes]", cwd: bytes) -> bytes:
    base = _decoded(named[1]) if named[1] else cwd
    path = _decoded(named[2])
    return path if path.startswith(b"/") else base + b"/" + path


def _decoded(text: bytes) -> bytes:
    return bytes.fromhex(text.replace(b"\\x", b"").decode("ascii"))
