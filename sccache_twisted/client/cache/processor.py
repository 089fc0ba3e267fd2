"""This machine's processor, for commands that compile for whatever it is."""

from __future__ import annotations

from functools import lru_cache

from sccache_twisted.hashing.digests import digest_of

_TELLING = frozenset(
    (
        "vendor_id",
        "cpu family",
        "model",
        "model name",
        "stepping",
        "cache size",
        "flags",
        "CPU implementer",
        "CPU architecture",
        "CPU variant",
        "CPU part",
        "CPU revision",
        "Features",
    )
)


@lru_cache(1)
def processor() -> str:
    """A digest of what the kernel tells of the first processor; empty where it tells nothing."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            first = stream.read().partition("\n\n")[0]
    except OSError:
        return ""
    lines = [line for line in first.splitlines() if line.partition(":")[0].strip() in _TELLING]
    return digest_of("\n".join(lines).encode()) if lines else ""
