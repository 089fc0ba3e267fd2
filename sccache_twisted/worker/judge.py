"""What an exit code means. A killed compiler looks like a compile error, and must not be taken for one.

Drivers report the death of a part of theirs as an ordinary failure (``gcc: fatal error: Killed signal terminated
program cc1`` and status 1). Pure: what was seen goes in, the error to report comes out, or None when the compiler's
answer stands.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from sccache_twisted.errors import JobKilled, SandboxFailed, SccacheTwistedError, WorkerFault, WorkerStorage

_LEAST_FREE: Final = 16 << 20

# The driver's own words at the beginning of a line; a diagnostic about a source begins with its file and line.
_DRIVER: Final = rb"(?m)^(?:[^\s:]+: )?(?:fatal error: |error: |internal compiler error: )?"
_KILLED: Final = re.compile(
    _DRIVER + rb"(?:(?:Killed|Terminated|File size limit exceeded|CPU time limit exceeded|Bus error) signal terminated"
    rb"|unable to execute command: (?:Killed|Terminated|File size limit exceeded|CPU time limit exceeded|Bus error))"
)
_MEMORY: Final = re.compile(
    rb"(?m)^(?:virtual memory exhausted|.*: out of memory allocating \d+ bytes|LLVM ERROR: out of memory"
    rb"|terminate called after throwing an instance of 'std::bad_alloc'|.*: Cannot allocate memory$"
    rb"|.*: Resource temporarily unavailable$)"
)
_NO_SPACE: Final = re.compile(
    rb"(?m)(?:: No space left on device$|: Disk quota exceeded$|: 'No space left on device'$)"
)
_ILLEGAL: Final = re.compile(_DRIVER + rb"(?:Illegal instruction signal terminated|unable to execute command: Illegal)")


@frozen
class Seen:
    """All that the worker knows of an ended command.

    ``exit_code`` is None if the sandbox reported none; ``signal`` is what ended the sandbox itself. ``over`` says at
    which bound the job was stopped, if it was. ``oom_kills`` counts what the kernel killed for memory, in the
    job's group or on the machine, while it ran. ``free_bytes``: of the worker's disk.
    """

    exit_code: int | None
    signal: int
    stderr: bytes
    over: SccacheTwistedError | None
    oom_kills: int
    free_bytes: int


def judge(seen: Seen) -> SccacheTwistedError | None:
    """Why the command's answer is not the compiler's, or None if it is."""
    if seen.over is not None:
        return seen.over
    if seen.oom_kills and seen.exit_code != 0:
        return JobKilled("the job ran out of memory")
    if seen.exit_code is None:
        if seen.signal:
            return JobKilled(f"the sandbox was ended by signal {seen.signal}")
        said = seen.stderr.decode("utf-8", "backslashreplace").strip().rpartition("\n")[2]
        return SandboxFailed(f"the sandbox could not run the job: {said or 'it did not say why'}")
    if seen.exit_code == 0:
        return None
    if seen.exit_code == 127 and not seen.stderr:
        return SandboxFailed("the sandbox could not run the job's program")
    if 128 < seen.exit_code <= 128 + 64:
        return JobKilled(f"the compiler was ended by signal {seen.exit_code - 128}")
    return _judge_words(seen)


def _judge_words(seen: Seen) -> SccacheTwistedError | None:
    if _NO_SPACE.search(seen.stderr) or seen.free_bytes < _LEAST_FREE:
        return WorkerStorage("the worker's disk was full while the job ran")
    if _ILLEGAL.search(seen.stderr):
        return WorkerFault("the compiler needs instructions that the worker's processor does not have")
    if _MEMORY.search(seen.stderr):
        return JobKilled("the compiler ran out of memory")
    killed = _KILLED.search(seen.stderr)
    if killed:
        return JobKilled("a part of the compiler was killed: " + killed[0].decode("utf-8", "backslashreplace"))
    return None
