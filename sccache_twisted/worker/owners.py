"""Uids that jobs run as, one for each slot of a root worker, claimed for the whole machine.

A claim is a flock on a file named by the uid, so it ends with the process that holds it. Blocks on a few small files,
once at a worker's start.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress

from attrs import define, field

from sccache_twisted.errors import ConfigError, SandboxFailed
from sccache_twisted.worker.jobroot import Owner

PLACE = b"/run/sccache-twisted/uids"
_RANGE = re.compile(r"(\d+)-(\d+)\Z")


def parse_uids(text: str) -> range:
    """``first-last`` as a range; raises ConfigError."""
    found = _RANGE.match(text.strip())
    if not found or not 0 < int(found[1]) <= int(found[2]) < (1 << 32) - 1:
        raise ConfigError(f"worker.slot_uids is {text!r}; it should be FIRST-LAST, two uids above 0.")
    return range(int(found[1]), int(found[2]) + 1)


@define
class ClaimedUids:
    """Uids held by this process until :meth:`release`."""

    owners: list[Owner]
    _locks: list[int] = field(factory=list)

    @classmethod
    def claim(cls, count: int, uids: range, place: bytes = PLACE) -> ClaimedUids:
        """Claim ``count`` uids of a range; raises SandboxFailed when it has too few that are free."""
        held = cls([])
        try:
            os.makedirs(place, mode=0o755, exist_ok=True)
            for uid in uids:
                if len(held.owners) == count:
                    break
                lock = os.open(place + b"/%d" % uid, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                held._locks.append(lock)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(held._locks.pop())
                    continue
                held.owners.append(Owner(uid, uid))
        except OSError as problem:
            held.release()
            raise SandboxFailed(f"uids for jobs cannot be claimed in {os.fsdecode(place)}: {problem}") from problem
        if len(held.owners) < count:
            held.release()
            raise SandboxFailed(f"worker.slot_uids has fewer than {count} uids that no other worker uses")
        return held

    def release(self) -> None:
        """Give all of them back."""
        while self._locks:
            with suppress(OSError):
                os.close(self._locks.pop())
        self.owners = []
