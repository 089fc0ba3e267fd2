"""What is gathered for, and what comes of it."""

from __future__ import annotations

from attrs import field, frozen

from sccache_twisted.client.inputs.memo import FileFacts, Signature
from sccache_twisted.compilers.searchpath import SearchPath
from sccache_twisted.model import Compilation, Input


@frozen
class Question:
    """What to gather for. ``listed``: dependencies as spelled, the source first; times in ns of the wall clock."""

    compilation: Compilation
    cwd: bytes
    listed: tuple[bytes, ...]
    search_path: SearchPath
    arrival_ns: int
    listing_began_ns: int
    earlier: dict[bytes, Signature] | None = None
    """Signatures of a gathering just before, which then decide whether anything changed."""
    zone_files: tuple[bytes, ...] = ()
    """What tells the time zone, for files whose text shows when they were written."""
    strays: tuple[bytes, ...] = ()
    aliases: frozenset[bytes] = frozenset()
    """What must be there and not be read, but by those other names; see ``predictions``."""
    alone: bool = False
    """Whether no preprocessor has read the files: then none can have changed between two readings."""


@frozen
class Gathered:
    """A job's inputs. ``fresh``: files so new that they must be looked at again when the result is in.

    ``read``: each file as it was spelled, the source first. ``absent``: paths, as spelled, at which the compiler looks
    for more than headers and finds nothing. ``vague``: a directory holds an input, one cannot tell which.
    """

    inputs: tuple[Input, ...] = field(repr=False)
    outputs: tuple[bytes, ...]
    fresh: tuple[tuple[bytes, Signature], ...] = ()
    time_macros: bool = False
    read: tuple[tuple[bytes, FileFacts], ...] = field(default=(), repr=False)
    absent: tuple[bytes, ...] = field(default=(), repr=False)
    vague: bool = False


class InputsChanged(Exception):
    """Inputs changed while they were listed; ``signatures`` are the present ones, to compare with next time."""

    def __init__(self, signatures: dict[bytes, Signature]) -> None:
        super().__init__("inputs changed while they were listed")
        self.signatures = signatures
