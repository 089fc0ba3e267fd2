"""Roles as real twistd processes."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

TWISTD = str(Path(sys.executable).parent / "twistd")
SECONDS = 60


def environment(extra=None):
    """This process's environment without settings of the user's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SCCACHE_", "XDG_", "PYTEST"))}
    return {**kept, **(extra or {})}


def run_role(role, *words, env=None):
    """Run ``twistd --nodaemon sccache-<role>`` to its end, which must come by itself."""
    return subprocess.run(
        [TWISTD, "--nodaemon", "--pidfile=", f"sccache-{role}", *map(str, words)],
        env=environment(env),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def running_role(role, ready, *words, env=None, log):
    """A role that runs: yields the process once it has written its ready file."""
    with open(log, "wb") as sink:
        process = subprocess.Popen(
            [TWISTD, "--nodaemon", "--pidfile=", f"sccache-{role}", "--ready", str(ready), *map(str, words)],
            env=environment(env),
            cwd="/",
            stdout=sink,
            stderr=sink,
        )
    try:
        wait_for_file(ready, process, log)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


def wait_for_file(path, process, log):
    """Wait until a file is there, or the process that was to make it has ended."""
    while not Path(path).exists():
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"it ended with {process.returncode}: {Path(log).read_text()}")
