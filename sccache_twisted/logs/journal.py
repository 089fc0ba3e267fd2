"""The journal: every event about a job as a line of JSON, whatever is logged, so that ``trace`` can tell its way.

Knows: a file that is bounded, and when it is written. Refuses to know: what the events mean. Lines are whole and
appended at once, so several processes may share a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from sccache_twisted.logs.events import JOURNAL_LOST, EventLog
from sccache_twisted.logs.lines import plain

FLUSH_SECONDS = 1.0
"""How long an event may be held back. The first one after a pause is written at once."""

_HELD_LINES = 1000


class Journal:
    """Appends records to ``path``, which becomes ``path.1`` before it would grow past ``size`` bytes.

    Writes are held back for at most ``FLUSH_SECONDS``. A file that can't be written costs its records and one warning,
    never a job. To be used in the reactor's thread.
    """

    def __init__(self, path: str, size: int, role: str, reactor: Any, now: Callable[[], float]) -> None:
        self._path = path
        self._size = size
        self._role = role
        self._reactor = reactor
        self._now = now
        self._encode = json.JSONEncoder(default=plain, separators=(",", ":")).encode
        self._lines: list[str] = []
        self._timer: IDelayedCall | None = None
        self._descriptor = -1
        self._warned = False

    def write(self, record: dict[str, Any]) -> None:
        """Add a record; ``epoch`` and ``role`` are added to it."""
        record = {"epoch": self._now(), "role": self._role, **record}
        try:
            line = self._encode(record)
        except TypeError:
            # Bytes as keys.
            line = self._encode(plain(record))
        self._lines.append(line)
        if self._timer is None:
            self.flush()
            self._timer = self._reactor.callLater(FLUSH_SECONDS, self._time_is_up)
        elif len(self._lines) >= _HELD_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        if not self._lines:
            return
        data = ("\n".join(self._lines) + "\n").encode()
        self._lines = []
        try:
            self._make_room(len(data))
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as problem:
            self._lost(problem)

    def close(self) -> None:
        """Write what is held back and end."""
        self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_file()

    def _time_is_up(self) -> None:
        self._timer = None
        if self._lines:
            self.flush()
            self._timer = self._reactor.callLater(FLUSH_SECONDS, self._time_is_up)

    def _make_room(self, more: int) -> None:
        """Have the file open that bears the name now, and with room in it."""
        if self._descriptor >= 0 and not self._is_current():
            self._close_file()
        if self._descriptor < 0:
            self._open()
        held = os.fstat(self._descriptor).st_size
        if held and held + more > self._size:
            os.replace(self._path, self._path + ".1")
            self._close_file()
            self._open()

    def _is_current(self) -> bool:
        """False once another process has turned the file over, or somebody has removed it."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self._path) or ".", mode=0o700, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _close_file(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lost(self, problem: OSError) -> None:
        self._close_file()
        if not self._warned:
            self._warned = True
            log = EventLog.of("sccache_twisted.logs", role=self._role)
            log.emit(JOURNAL_LOST, path=self._path, reason=problem.strerror)
