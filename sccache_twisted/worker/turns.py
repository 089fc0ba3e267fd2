"""Whose turn it is to upload a toolchain: one client sends it, the others wait for that upload.

Pure: ``now`` comes in, decisions go out. A turn that was given and not begun, or an upload that has become too slow,
is lost to the next who wants it.
"""

from __future__ import annotations

from attrs import define

from sccache_twisted.model import Digest, Try


@define
class _Turn:
    """A turn. ``since`` and ``seen`` mark when it was last found fast enough, and how many bytes had come by then."""

    holder: Try
    since: float
    began: bool = False
    received: int = 0
    seen: int = 0


class Turns:
    """The turns of one worker's toolchains."""

    def __init__(self, claim_seconds: float, upload_seconds: float, upload_least_bytes: int) -> None:
        self._claim_seconds = claim_seconds
        self._upload_seconds = upload_seconds
        self._least = upload_least_bytes
        self._turns: dict[Digest, _Turn] = {}

    def holder(self, digest: Digest) -> Try | None:
        """Whose turn it is, if anybody's."""
        turn = self._turns.get(digest)
        return None if turn is None else turn.holder

    def ask(self, now: float, digest: Digest, attempt: Try) -> bool:
        """Whether ``attempt`` may upload: nobody else does. Call :meth:`lost` before, to take it from the slow."""
        turn = self._turns.get(digest)
        if turn is None:
            self._turns[digest] = _Turn(attempt, now)
            return True
        if turn.holder == attempt and not turn.began:
            turn.since = now
            return True
        return False

    def begin(self, now: float, digest: Digest, attempt: Try) -> bool:
        """The upload begins; False when it is not this attempt's turn, or its upload goes on already."""
        turn = self._turns.get(digest)
        if turn is None or turn.holder != attempt or turn.began:
            return False
        turn.began, turn.since = True, now
        return True

    def received(self, digest: Digest, attempt: Try, size: int) -> None:
        """More bytes have come."""
        turn = self._turns.get(digest)
        if turn is not None and turn.holder == attempt:
            turn.received += size

    def end(self, digest: Digest, attempt: Try) -> bool:
        """The upload is over, or its client is gone; True if it was this attempt's turn."""
        turn = self._turns.get(digest)
        if turn is None or turn.holder != attempt:
            return False
        del self._turns[digest]
        return True

    def lost(self, now: float) -> list[tuple[Digest, Try]]:
        """Turns that should be taken away if anybody waits for them; they stay until :meth:`end`."""
        return [(digest, turn.holder) for digest, turn in self._turns.items() if self._is_lost(now, turn)]

    def _is_lost(self, now: float, turn: _Turn) -> bool:
        if not turn.began:
            return now - turn.since >= self._claim_seconds
        if now - turn.since < self._upload_seconds:
            return False
        if turn.received - turn.seen < self._least:
            return True
        turn.since, turn.seen = now, turn.received
        return False
