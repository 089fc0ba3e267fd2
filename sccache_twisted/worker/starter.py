"""A program of forty instructions that runs another under a name of its own choice.

A driver is told by ``argv[0]`` what it is called, and its messages begin with that. bubblewrap before 0.9 can't set
it, and nothing else in a job's root can: there is no shell in a toolchain. So this makes an ELF file that does
``execve(argv[1], argv + 2, environment)``, and ends with 127 if that fails.
"""

from __future__ import annotations

import struct
from typing import Final

_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56

# Assembled from the lines beside them; a test has clang do it again.
_X86_64: Final = bytes.fromhex(
    "488b0424"  # mov rax, [rsp]               argc
    "488d54c410"  # lea rdx, [rsp + rax*8 + 16]  the environment, behind argv's null
    "488b7c2410"  # mov rdi, [rsp + 16]          argv[1]
    "488d742418"  # lea rsi, [rsp + 24]          argv + 2
    "b83b000000"  # mov eax, 59                  execve
    "0f05"  # syscall
    "bf7f000000"  # mov edi, 127
    "b8e7000000"  # mov eax, 231                 exit_group
    "0f05"  # syscall
)
_AARCH64: Final = struct.pack(
    "<10I",
    0xF94003E0,  # ldr x0, [sp]                  argc
    0x8B206FE2,  # add x2, sp, x0, uxtx #3
    0x91004042,  # add x2, x2, #16               the environment
    0xF9400BE0,  # ldr x0, [sp, #16]             argv[1]
    0x910063E1,  # add x1, sp, #24               argv + 2
    0xD2801BA8,  # mov x8, #221                  execve
    0xD4000001,  # svc #0
    0xD2800FE0,  # mov x0, #127
    0xD2800BC8,  # mov x8, #94                   exit_group
    0xD4000001,  # svc #0
)
_MACHINES: Final = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}


def starter_program(machine: str) -> bytes | None:
    """The program for ``platform.machine()``'s spelling of a machine, or None for one that we have no code for."""
    if machine not in _MACHINES:
        return None
    number, code = _MACHINES[machine]
    size = _HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, number, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000) + code
