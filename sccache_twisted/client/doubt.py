"""What a client does not believe at once: that a compiler succeeded and left out a file that it always writes.

A worker that lies, or loses files, must not keep a build from its object; a compiler that really writes less than was
foreseen must not be asked for ever. So the first such answer is a worker's fault, and the same one again is the truth.
"""

from __future__ import annotations

from sccache_twisted.errors import Malformed
from sccache_twisted.model import Action, ActionResult, ServerId


class Doubt:
    """Accompanies one job for its whole life."""

    def __init__(self) -> None:
        self._absent: frozenset[bytes] = frozenset()

    def hear(self, action: Action, result: ActionResult, server_id: ServerId) -> None:
        """A worker's answer; raises Malformed for a success that lacks outputs, other ones than the last such did."""
        if result.exit_code != 0:
            return
        expected = frozenset(action.outputs) - action.optional
        absent = expected.difference(output.path for output in result.outputs)
        if absent and absent != self._absent:
            self._absent = absent
            names = ", ".join(sorted(path.decode("utf-8", "backslashreplace") for path in absent))
            raise Malformed(f"Worker {server_id} says that the compiler succeeded, and did not send {names}.")
