"""A program of a few dozen instructions that runs first in every sandbox, and becomes the job's program.

There it does what can't be done from outside. It bounds the number of processes: in a user namespace of its own a job
is counted alone, whoever it is on the machine (Linux 5.14). It has the kernel refuse the calls of
:mod:`sccache_twisted.worker.seccomp`. And it names its successor: a driver is told by ``argv[0]`` what it is called,
and its messages begin with that; bubblewrap before 0.9 can't set it, and there is no shell in a toolchain. So it
does ``execve(argv[1], argv + 2, environment)``, and ends with 127 if that fails.

A kernel that knows no seccomp or refuses it runs the job all the same: namespaces hold it as they did.
"""

from __future__ import annotations

import struct
from typing import Final

from sccache_twisted.worker.seccomp import filter_program

_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56
_LIMIT: Final = _BASE + _HEADERS  # struct rlimit, then struct sock_fprog, then its filter, then the code
_FILTER: Final = _LIMIT + 16 + 16
_UNBOUNDED: Final = (1 << 64) - 1
_COUNTED_SINCE: Final = (5, 14)

# Assembled from the lines beside them; a test has clang do it again.
_X86_64: Final = bytes.fromhex(
    "b8a0000000"  # mov eax, 160                setrlimit
    "bf06000000"  # mov edi, 6                  RLIMIT_NPROC
    "be78004000"  # mov esi, 0x400078
    "0f05"  # syscall
    "b83d010000"  # mov eax, 317                seccomp
    "bf01000000"  # mov edi, 1                  SECCOMP_SET_MODE_FILTER
    "be04000000"  # mov esi, 4                  SECCOMP_FILTER_FLAG_SPEC_ALLOW: slow no compiler down
    "ba88004000"  # mov edx, 0x400088
    "0f05"  # syscall
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
    "<21I",
    0xD28000C0,  # mov x0, #6                    RLIMIT_NPROC
    0xD2A00801,  # mov x1, #0x400000
    0x9101E021,  # add x1, x1, #0x78
    0xD2801488,  # mov x8, #164                  setrlimit
    0xD4000001,  # svc #0
    0xD2800020,  # mov x0, #1                    SECCOMP_SET_MODE_FILTER
    0xD2800081,  # mov x1, #4                    SECCOMP_FILTER_FLAG_SPEC_ALLOW
    0xD2A00802,  # mov x2, #0x400000
    0x91022042,  # add x2, x2, #0x88
    0xD28022A8,  # mov x8, #277                  seccomp
    0xD4000001,  # svc #0
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


def starter_program(machine: str, processes: int, kernel: str) -> bytes | None:
    """The program for ``platform.machine()``'s spelling of a machine, or None for one that we have no code for.

    ``processes`` is how many a job may have; not enforced here on a ``kernel`` (``os.uname().release``) that would
    count all of a user's processes for it.
    """
    if machine not in _MACHINES:
        return None
    number, code = _MACHINES[machine]
    # One more: the first process of a sandbox is bubblewrap's. Nobody may raise a bound, so all ones change nothing.
    bound = processes + 1 if counts_by_namespace(kernel) else _UNBOUNDED
    calls = filter_program(machine)
    data = struct.pack("<QQHxxxxxxQ", bound, bound, len(calls) // 8, _FILTER) + calls
    size = _HEADERS + len(data) + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    entry = _LIMIT + len(data)
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, number, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000) + data + code


def counts_by_namespace(kernel: str) -> bool:
    """Whether a kernel counts processes for RLIMIT_NPROC in each user namespace by itself, and not by user alone."""
    version = kernel.partition("-")[0].split(".")[:2]
    return all(part.isdigit() for part in version) and tuple(map(int, version)) >= _COUNTED_SINCE
