"""What has been understood of a command line so far: the pad on which its options are ticked off."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import Factory, define

from sccache_twisted.model import Compiler


@define
class Facts:
    """Everything that the options said; each field keeps the last word where the compilers do."""

    compiler: Compiler
    cwd: bytes
    inputs: list[tuple[bytes, bytes | None]] = Factory(list)
    """Each input with the ``-x`` in force; None where there was none."""
    language: bytes | None = None
    options_ended: bool = False
    not_compilation: str = ""
    refusal: tuple[str, bytes] | None = None
    """The first reason not to take this over, with the argument at fault."""
    local_reason: str = ""
    assembler_debug: bytes = b""

    to_object: bool = False
    to_assembly: bool = False
    output: bytes | None = None
    dependencies: bool = False
    depfile: bytes | None = None
    preprocessor_depfile: bytes | None = None
    """gcc's ``-Wp,-MD,file``, which beats ``-MF``."""
    listing_file: bytes | None = None
    diagnostics: bytes | None = None
    debug: bool = False
    skeleton: bool = False
    """The kind of debug information is one that clang can split off."""
    split_dwarf: str = "no"
    split_form: str = "split"
    """What clang's ``-gsplit-dwarf=`` said last."""
    lto: bool = False
    stack_usage: bool = False
    callgraph: bool = False
    coverage: bool = False
    test_coverage: bool = False
    coverage_notes: bytes | None = None
    bitcode: bool = False
    native: bool = False

    directories: list[bytes] = Factory(list)
    prefix: bytes = b""
    sysroot: bytes = b""
    below_sysroot: list[bytes] = Factory(list)
    forced_includes: list[bytes] = Factory(list)
    hidden_inputs: list[bytes] = Factory(list)
    plugins: list[bytes] = Factory(list)
    configurations: list[bytes] = Factory(list)
    """Files that hold more options, or that say what programs are run."""
    profiles: list[bytes | None] = Factory(list)
    """Profile options with their values; None for one without."""
    profile_directory: bytes | None = None
    frontend_awaits: bytes = b""
    """The ``-Xclang`` argument whose value comes with the next one."""

    def refuse(self, reason: str, detail: bytes) -> None:
        """Note a reason not to take this over, unless there is one."""
        if self.refusal is None:
            self.refusal = (reason, detail)

    def stays(self, reason: str) -> None:
        """Note a reason why this one can't leave the machine, unless there is one."""
        self.local_reason = self.local_reason or reason

    def reads(self, paths: Sequence[bytes]) -> None:
        """Note files that are read and that no depfile lists."""
        self.hidden_inputs.extend(path for path in paths if path not in self.hidden_inputs)
