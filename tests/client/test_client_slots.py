"""Local slots as the daemon hands them out."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from sccache_twisted.client.places import private_directory, socket_path
from sccache_twisted.client.slots import LocalSlots
from sccache_twisted.config import ClientSettings
from sccache_twisted.errors import ConfigError
from sccache_twisted.launcher import main as launcher


def test_never_more(tmp_path: Path) -> None:
    """No number is handed out twice, and who waits gets the next one that is given back, in order."""
    slots = LocalSlots(2, os.fsencode(tmp_path))
    got: list[tuple[str, int]] = []
    for name in ("a", "b", "c", "d"):
        slots.acquire().addCallback(lambda slot, name=name: got.append((name, slot)))
    assert {slot for _, slot in got} == {0, 1}
    assert slots.waiting == 2
    slots.release(1)
    assert got[2] == ("c", 1)
    slots.release(0)
    assert got[3] == ("d", 0)


def test_cancelled_waiters(tmp_path: Path) -> None:
    """Who gives up waiting gets no slot, and costs nobody else one."""
    slots = LocalSlots(1, os.fsencode(tmp_path))
    slots.acquire()
    gone = slots.acquire()
    gone.addErrback(lambda _: None)
    got: list[int] = []
    slots.acquire().addCallback(got.append)
    gone.cancel()
    slots.release(0)
    assert got == [0]


def test_others(tmp_path: Path) -> None:
    """A slot that another process holds is handed out last."""
    slots = LocalSlots(2, os.fsencode(tmp_path))
    with open(tmp_path / "0", "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        got: list[int] = []
        slots.acquire().addCallback(got.append)
        assert got == [1]


def test_held_within_the_process(tmp_path: Path) -> None:
    """A program without launchers takes the lock itself, and waits while another process has it."""
    slots = LocalSlots(1, os.fsencode(tmp_path))
    clock = Clock()
    told: list[str] = []

    def free() -> bool:
        with open(tmp_path / "0", "wb") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    async def work() -> None:
        async with slots.held(clock):
            told.append("free" if free() else "held")

    with open(tmp_path / "0", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        working = Deferred.fromCoroutine(work())
        clock.pump([0.01] * 5)
        assert told == []
    clock.pump([0.01] * 2)
    assert told == ["held"]
    assert working.called
    assert free()
    assert slots.waiting == 0


def test_foreign_directory(tmp_path: Path) -> None:
    """A directory that others could use is refused, with what to do about it."""
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="remove it"):
        private_directory(os.fsencode(tmp_path / "open"))
    (tmp_path / "link").symlink_to("open")
    with pytest.raises(ConfigError, match="mode 0700"):
        private_directory(os.fsencode(tmp_path / "link"))


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SCCACHE_CONF": "/etc/x.toml"},
        {"SCCACHE_CONF": "relative.toml", "XDG_RUNTIME_DIR": "/run/user/7"},
        {"SCCACHE_SERVER_UDS": "/tmp/other.sock"},
    ],
)
def test_same_socket(environ: dict[str, str]) -> None:
    """Launcher and daemon agree on where the socket is."""
    settings = ClientSettings(server_uds=environ.get("SCCACHE_SERVER_UDS", ""))
    bytes_environ = {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}
    assert socket_path(settings, environ) == launcher.socket_path(bytes_environ)


def test_long_socket_path() -> None:
    """A path that no socket can have is refused with its length."""
    with pytest.raises(ConfigError, match="more than 107"):
        socket_path(ClientSettings(server_uds="/tmp/" + "x" * 120), {})
