"""How the machine is: what a heartbeat tells of it. Reads a few files of /proc, 0.1 ms together."""

from __future__ import annotations

import os
from contextlib import suppress

from sccache_twisted.model import Beat


def beat_of(running: int) -> Beat:
    """A heartbeat with this many slots taken."""
    return Beat(running, os.getloadavg()[0], _free_memory(), _memory_pressure())


def _free_memory() -> int:
    """Bytes that new processes can have without swapping (MemAvailable, proc(5))."""
    with suppress(OSError, ValueError, IndexError), open("/proc/meminfo", "rb") as stream:
        for line in stream:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def _memory_pressure() -> float:
    """The share of the last ten seconds in which some process waited for memory, 0 to 1; 0 where it is not known."""
    with suppress(OSError, ValueError, IndexError), open("/proc/pressure/memory", "rb") as stream:
        return float(stream.readline().split()[1].partition(b"=")[2]) / 100
    return 0.0
