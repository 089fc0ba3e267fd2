"""System calls that no compiler makes, as a filter for the kernel: what namespaces do not keep apart.

Keys hang on sessions and users and not on namespaces, a virtual socket leads to whoever runs this machine, and System V
memory belongs to no process that could be measured. bpf, io_uring, perf and userfaultfd are how kernels are broken
out of. All these fail with EPERM.

Room on a disk that is taken without writing would fill it before anybody has looked, past the bound on a file's size
too. So fallocate fails with EOPNOTSUPP, as on many file systems: whoever asks writes zeros instead. So do the ioctls
that do the same, or have a file grow in gigabytes. Pure: a machine's name in, a program for seccomp(2) out.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import field, frozen

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050001  # SECCOMP_RET_ERRNO | EPERM
_UNSUPPORTED: Final = 0x0005005F  # SECCOMP_RET_ERRNO | EOPNOTSUPP
_NUMBER, _ARCH, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24  # offsets in struct seccomp_data, little-endian
_KIND_OF_IOCTL, _FILE_SYSTEM = 0xFF00, ord("X") << 8  # FS_IOC_RESVSP, FS_IOC_ZERO_RANGE, FS_IOC_FSSETXATTR
_FAMILIES: Final = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: all of them kept apart by namespaces


@frozen
class _Calls:
    """System call numbers of one architecture. ``refused_if``: refused for this first argument."""

    arch: int
    refused: Sequence[int]
    socket: int
    fallocate: int
    ioctl: int
    refused_if: Mapping[int, int] = field(factory=dict)
    foreign_from: int = 0


# add_key, request_key, keyctl; bpf, perf_event_open, userfaultfd; io_uring_setup, _enter, _register; shmget, msgget;
# open_by_handle_at.
_X86_64: Final = _Calls(
    0xC000003E,
    (248, 249, 250, 321, 298, 323, 425, 426, 427, 29, 68, 304),
    socket=41,
    fallocate=285,
    ioctl=16,
    foreign_from=0x40000000,  # x32 has numbers of its own
)
_I386: Final = _Calls(
    0x40000003,
    (286, 287, 288, 357, 336, 374, 425, 426, 427, 395, 399, 342),
    socket=359,
    fallocate=324,
    ioctl=54,
    refused_if={102: 1, 117: 23},  # socketcall(SYS_SOCKET), whose family is in memory; ipc(SHMGET)
)
_AARCH64: Final = _Calls(
    0xC00000B7,
    (217, 218, 219, 280, 241, 282, 425, 426, 427, 194, 186, 265),
    socket=198,
    fallocate=47,
    ioctl=29,
)
_ARM: Final = _Calls(
    0x40000028,
    (309, 310, 311, 386, 364, 388, 425, 426, 427, 307, 303, 371),
    socket=281,
    fallocate=352,
    ioctl=54,
)
_MACHINES: Final = {"x86_64": (_X86_64, _I386), "aarch64": (_AARCH64, _ARM)}


def filter_program(machine: str) -> bytes:
    """The filter for ``platform.machine()``'s spelling of a machine: struct sock_filter after struct sock_filter."""
    program = [_statement(_LOAD, _ARCH)]
    for calls in _MACHINES[machine]:
        block = _block(calls)
        program += [_jump(_EQUAL, calls.arch, 0, len(block)), *block]
    return b"".join([*program, _statement(_RETURN, _REFUSE)])


def _block(calls: _Calls) -> list[bytes]:
    """What is done with the calls of one architecture; ends with an answer on every way."""
    families = [_statement(_LOAD, _FIRST_ARGUMENT)]
    families += [_jump(_EQUAL, one, len(_FAMILIES) - index, 0) for index, one in enumerate(_FAMILIES)]
    tail = [*families, _statement(_RETURN, _REFUSE), _statement(_RETURN, _ALLOW)]
    tail = [_jump(_EQUAL, calls.socket, 0, len(tail) - 1), *tail]
    for number, argument in calls.refused_if.items():
        # The call with that argument: to the refusal, with another: to the end.
        tail = [
            _jump(_EQUAL, number, 0, 2),
            _statement(_LOAD, _FIRST_ARGUMENT),
            _jump(_EQUAL, argument, len(tail) - 2, len(tail) - 1),
            *tail,
        ]
    tests = [(_EQUAL, number) for number in calls.refused]
    if calls.foreign_from:
        tests.insert(0, (_AT_LEAST, calls.foreign_from))
    refuse = len(tests) + len(tail) - 2
    return [
        _statement(_LOAD, _NUMBER),
        _jump(_EQUAL, calls.fallocate, 0, 1),
        _statement(_RETURN, _UNSUPPORTED),
        _jump(_EQUAL, calls.ioctl, 0, 5),
        _statement(_LOAD, _SECOND_ARGUMENT),
        _statement(_AND, _KIND_OF_IOCTL),
        _jump(_EQUAL, _FILE_SYSTEM, 0, 1),
        _statement(_RETURN, _UNSUPPORTED),
        _statement(_RETURN, _ALLOW),
        *(_jump(code, value, refuse - index - 1, 0) for index, (code, value) in enumerate(tests)),
        *tail,
    ]


def _statement(code: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_so: int, if_not: int) -> bytes:
    """Jump over so many statements if the value loaded last is (or is at least) ``value``."""
    return struct.pack("<HBBI", code, if_so, if_not, value)
