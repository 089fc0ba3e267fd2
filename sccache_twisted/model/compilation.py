"""A compiler's command line, understood."""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from sccache_twisted.model.identity import Digest


class CompilerFamily(str, Enum):
    """Whose option table applies."""

    GCC = "gcc"
    CLANG = "clang"


@frozen
class Compiler:
    """A compiler as the user called it.

    ``executable`` is the absolute path that would be executed, links not followed, so that the driver
    sees the name it was called by; ``argv0`` is what the user typed. ``arch`` is the machine that runs
    it (``platform.machine()``'s spelling), ``version`` its one-line description.
    """

    executable: bytes
    argv0: bytes
    family: CompilerFamily
    version: str
    arch: str
    cplusplus: bool = False


class OutputKind(str, Enum):
    """What an output is; kinds differ in how the compiler replaces what was there."""

    OBJECT = "object"
    ASSEMBLY = "assembly"
    DEPFILE = "depfile"
    DWO = "dwo"
    STACK_USAGE = "su"
    CALLGRAPH = "ci"
    COVERAGE_NOTES = "gcno"
    DIAGNOSTICS = "dia"
    LISTING = "listing"


@frozen
class Output:
    """A file that the compilation writes, as spelled relative to the cwd. ``required``: its absence is an error."""

    kind: OutputKind
    path: bytes
    required: bool = True


@frozen
class Compilation:
    """One translation unit to one object (or assembly), all of it declared.

    ``args`` is the command line behind argv[0] with response files expanded; ``listing_args`` the same
    made harmless for the run that lists dependencies: without ``-M*``, ``-o``, ``-c``/``-S``,
    ``-Werror``; the caller adds ``-E -MD -MF <private> -o <sink>``. ``include_dirs`` are all
    directories that the line names, whether they exist or not; ``hidden_inputs`` files that the
    compiler reads and no depfile lists; ``plugins`` those of them that it loads, with libraries
    that nobody has looked for yet. ``native``: the line asks for this machine's CPU.
    ``preprocessed``: the input needs no preprocessor, so there is nothing to list.
    """

    compiler: Compiler
    args: tuple[bytes, ...]
    language: str
    source: bytes
    outputs: tuple[Output, ...]
    listing_args: tuple[bytes, ...]
    include_dirs: tuple[bytes, ...] = ()
    hidden_inputs: tuple[bytes, ...] = ()
    plugins: tuple[bytes, ...] = ()
    debug: bool = False
    native: bool = False
    preprocessed: bool = False
    distributable: bool = True
    local_reason: str = ""

    @property
    def main_output(self) -> bytes:
        """The object or assembly file, as spelled."""
        return self.outputs[0].path


@frozen
class NotCompilation:
    """A call that is nobody's business but the compiler's: linking, ``-E``, ``--version``."""

    reason: str


@frozen
class NotCacheable:
    """A compilation that we do not take over, and the documented reason for it."""

    reason: str
    detail: str = ""


ParsedCommand = Compilation | NotCompilation | NotCacheable


@frozen
class ToolchainKey:
    """What a packaged toolchain is known by."""

    digest: Digest
    arch: str
