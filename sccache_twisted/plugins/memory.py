"""What a process of ours does once, so that it stays small: tells the allocator, and forgets what only started it.

Knows the C library's words for that; elsewhere nothing is told, and nothing is lost but memory.
"""

from __future__ import annotations

import ctypes
import gc
import linecache
from typing import Final

_TRIM_THRESHOLD: Final = (-1, 256 << 10)
_MMAP_THRESHOLD: Final = (-3, 1 << 20)
"""A large buffer is given back when it is freed. Left alone, the C library raises the bound to the largest it saw."""
_ARENAS: Final = (-8, 1)
"""One for all threads, which hold the interpreter nearly always, instead of one for each."""


def stay_small() -> None:
    """To be called when everything is imported."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS):
            mallopt(name, value)
    # attrs leaves the text of every method that it made here, for debuggers.
    linecache.clearcache()
    gc.collect()


def give_back() -> None:
    """To be called at rest: free pages between used ones, which work has left, go back to the system."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
