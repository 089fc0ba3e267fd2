"""A daemon that fails to start is not tried by everybody who was waiting for it."""

import os
import time
from pathlib import Path

import pytest

from sccache_twisted.launcher import main, slow


def noted(place: Path, seconds: float) -> int:
    """The file beside a socket that says that a daemon failed so long ago, open."""
    failed = time.clock_gettime(time.CLOCK_BOOTTIME) - seconds
    (place / "daemon.sock.start").write_text(f"{failed:.3f}")
    return os.open(place / "daemon.sock.start", os.O_RDWR | os.O_CLOEXEC)


def test_a_failure_since_the_call_counts_however_long_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a launcher may come to its turn long after the failure; whoever is called later may try."""
    monkeypatch.setattr(slow, "FAILED_RECENTLY_SECONDS", 0.0)
    for seconds, refused in ((slow.called_before() / 2, True), (slow.called_before() + 60.0, False)):
        starting = noted(tmp_path, seconds)
        try:
            if refused:
                with pytest.raises(main.Lost, match="a moment ago"):
                    slow.refuse_after_failure(starting)
            else:
                slow.refuse_after_failure(starting)
        finally:
            os.close(starting)
