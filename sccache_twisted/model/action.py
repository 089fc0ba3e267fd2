"""A job as an action over content, and what became of it.

The worker rebuilds ``inputs`` at their own absolute paths and runs ``argv`` there, so nothing in an
action is rewritten on the way.
"""

from __future__ import annotations

from attrs import frozen

from sccache_twisted.model.identity import Digest

JOB_TEMPORARY = b"/.sccache-twisted/tmp"
"""The directory for temporary files in a job's world, where nothing of the client's can be."""


@frozen
class FileInput:
    """A regular file: its content by digest, and what the compiler can see of its inode."""

    path: bytes
    digest: Digest
    size: int
    mtime_ns: int
    executable: bool = False


@frozen
class LinkInput:
    """A symbolic link with its target as spelled."""

    path: bytes
    target: bytes


@frozen
class DirectoryInput:
    """A directory that must exist."""

    path: bytes


Input = FileInput | LinkInput | DirectoryInput


@frozen
class Action:
    """What to run, in which world, and which files are expected back.

    ``executable`` is the absolute path that is run; ``argv[0]`` is what it is told to be called.
    ``outputs`` are absolute paths; their directories are writable in the sandbox, nothing else is.
    ``then`` are further (executable, argv) commands, each run in the same world when the one before has exited
    with 0. ``memory_bytes`` is what the job is expected to need (0: unknown), not a limit. ``optional``: outputs that
    are not always written; no worker is told.
    """

    toolchain: Digest
    executable: bytes
    argv: tuple[bytes, ...]
    cwd: bytes
    env: tuple[tuple[bytes, bytes], ...]
    inputs: tuple[Input, ...]
    outputs: tuple[bytes, ...]
    umask: int = 0o022
    memory_bytes: int = 0
    then: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()
    optional: frozenset[bytes] = frozenset()


@frozen
class OutputFile:
    """One declared output that the job wrote. ``mode`` holds the permission bits."""

    path: bytes
    data: bytes
    mode: int = 0o644


@frozen
class RunFigures:
    """What a run cost on the worker. Seconds and bytes; 0 where it was not measured."""

    prepare_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0


@frozen
class ActionResult:
    """The compiler's own answer: status as the shell would see it, streams verbatim, files written.

    ``undeclared`` names files that appeared in writable directories without being declared.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    outputs: tuple[OutputFile, ...]
    figures: RunFigures = RunFigures()
    undeclared: tuple[bytes, ...] = ()
