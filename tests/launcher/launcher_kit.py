"""An installation in a directory of its own: a launcher, a python beside it, a way to the package; and its daemons."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sccache_twisted.wire.frames import FrameDecoder
from sccache_twisted.wire.launcher import MAX_FRAME, Answer, Query, decode, encode

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "sccache_twisted/launcher/sccache-twisted"


class Installation:
    """A prefix as pip makes one for an editable install, with a socket of its own.

    ``program`` is its launcher, the script or a native one; the script is there as the Python launcher in any case.
    """

    def __init__(self, prefix: Path, program: Path = SCRIPT, *, twistd: bool = True) -> None:
        self.prefix = prefix
        self.socket = prefix / "d.sock"
        (prefix / "bin").mkdir(parents=True)
        shutil.copy(program, prefix / "bin/sccache-twisted")
        shutil.copy(SCRIPT, prefix / "bin/sccache-twisted-python")
        (prefix / "bin/python3").symlink_to(sys.executable)
        if twistd:
            (prefix / "bin/twistd").symlink_to(Path(sys.executable).with_name("twistd"))
        version = sysconfig.get_python_version()
        site = prefix / f"lib/python{version}/site-packages"
        site.mkdir(parents=True)
        (site / "__editable__.sccache_twisted-0.1.0.pth").write_text(f"{ROOT}\n")
        self.environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(prefix),
            "LC_ALL": "C.UTF-8",
            "SCCACHE_SERVER_UDS": str(self.socket),
            "SCCACHE_DIST_CACHE_DIR": str(prefix / "cache"),
            # Calls shall run the compiler: nothing is stored.
            "SCCACHE_CACHE_SIZE": "0",
        }

    @property
    def launcher(self) -> str:
        return str(self.prefix / "bin/sccache-twisted")

    def start(
        self, *words: str, cwd: Path, env: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[bytes]:
        """A launcher, running."""
        return subprocess.Popen(
            [self.launcher, *words],
            cwd=cwd,
            env={**self.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **more,
        )

    def call(
        self, *words: str, cwd: Path, env: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """A launcher to its end."""
        process = self.start(*words, cwd=cwd, env=env, **more)
        stdout, stderr = process.communicate(timeout=60)
        return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)

    def query(self, name: str) -> Any:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.socket))
            connection.sendall(encode(Query(name)))
            decoder = FrameDecoder(MAX_FRAME)
            while data := connection.recv(1 << 16):
                for kind, payload in decoder.feed(data):
                    message = decode(kind, payload)
                    assert isinstance(message, Answer), message
                    return json.loads(message.text)
        raise AssertionError("the daemon hung up")

    def stats(self) -> Any:
        return self.query("stats")["stats"]

    def daemon_pid(self) -> int | None:
        """The daemon's process, None if nobody listens."""
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self.socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return int(struct.unpack("3i", packed)[0])

    def end(self, how: int = signal.SIGTERM) -> None:
        """End the daemon and wait until it has ended."""
        pid = self.daemon_pid()
        if pid is not None:
            process = os.pidfd_open(pid)
            os.kill(pid, how)
            assert select.select([process], [], [], 20)[0], "the daemon does not end"
            os.close(process)

    def log(self) -> str:
        path = Path(f"{self.socket}.log")
        return path.read_text(errors="replace") if path.exists() else ""


def wait_for(fact: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Poll another process's fact until it is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = fact()
        if found:
            return found
        select.select([], [], [], 0.01)
    raise AssertionError(f"{what} did not come about in {seconds:g} s")


FAKE = r"""#!/bin/sh
case "$*" in
*-v*) echo 'gcc version 12.2.0 (fake)' >&2; exit 0 ;;
esac
. "$FAKE_DIR/body"
"""


def fake_compiler(directory: Path, body: str) -> dict[str, str]:
    """A compiler that does what ``body`` says; the environment in which it is found as ``gcc``."""
    (directory / "fakebin").mkdir(parents=True)
    (directory / "body").write_text(body)
    program = directory / "fakebin/gcc"
    program.write_text(FAKE)
    program.chmod(0o755)
    return {"PATH": f"{directory}/fakebin:/usr/bin:/bin", "FAKE_DIR": str(directory)}


COUNTING = r"""
(
    flock 9
    read running most < "$FAKE_DIR/count"
    running=$((running + 1))
    [ "$running" -gt "$most" ] && most=$running
    echo "$running $most" > "$FAKE_DIR/count"
) 9> "$FAKE_DIR/count.lock"
sleep 0.05
(
    flock 9
    read running most < "$FAKE_DIR/count"
    echo "$((running - 1)) $most" > "$FAKE_DIR/count"
) 9> "$FAKE_DIR/count.lock"
"""
"""Keeps the number of fake compilers that run at once, and the most that ever did."""


def counting_compiler(directory: Path) -> dict[str, str]:
    environ = fake_compiler(directory, COUNTING)
    (directory / "count").write_text("0 0\n")
    return environ


def most_at_once(directory: Path) -> int:
    running, most = map(int, (directory / "count").read_text().split())
    assert running == 0
    return most
