"""sccache-twisted as on machines of their own: a scheduler and a client at one site, a worker at each other one.

All is set up as a user would do it, with ``invite`` and ``join``, and runs with the timers of an installation: nothing
is tuned for the benchmark but the slots. Tokens, TLS and the sandbox are on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import peers
from namespaces import Site

PORT = 10600
PROGRAMS = Path(sys.executable).parent


@contextmanager
def ours(directory: Path, sites: Sequence[Site], slots: int) -> Iterator[peers.Counted]:
    """The way to compile there; ``workers`` has a process for each site but the first."""
    directory.mkdir(parents=True)
    hub = sites[0]
    launcher = str(PROGRAMS / "sccache-twisted")
    scheduler = directory / "scheduler.toml"
    scheduler.write_text(
        f'[scheduler]\nlisten = "tcp:{PORT}"\npublic = "{hub.address}:{PORT}"\nstate_dir = "{directory}/state"\n'
        + _log(scheduler)
    )
    client = _joined(directory / "client.toml", scheduler, "client")
    client.open("a").write(_log(client))
    env = {name: value for name, value in os.environ.items() if not name.startswith("SCCACHE_")}
    own = dict(
        env,
        SCCACHE_CONF=str(client),
        SCCACHE_SERVER_UDS=str(directory / "s"),
        SCCACHE_DIR=str(directory / "cache"),
        SCCACHE_DIST_CACHE_DIR=str(directory / "client"),
        SCCACHE_RECACHE="1",
    )
    way = peers.Counted("sccache-twisted", [launcher], own)
    with ExitStack() as stack:

        def start(site: Site, role: str, config: Path) -> subprocess.Popen[bytes]:
            argv = [str(PROGRAMS / "twistd"), "--nodaemon", "--pidfile=", f"sccache-{role}", "--config", str(config)]
            log = config.with_suffix(".err")
            return stack.enter_context(peers.background([*site.enter, *argv], log, env=env, cwd="/"))

        process = start(hub, "scheduler", scheduler)
        peers.wait_for("the scheduler", lambda: peers.listens(process.pid, PORT))
        for number, site in enumerate(sites[1:], 1):
            worker = _joined(directory / f"worker-{number}.toml", scheduler, "worker", "--name", f"worker-{number}")
            worker.open("a").write(f'slots = {slots}\ndirectory = "{directory}/worker-{number}"\n{_log(worker)}')
            way.workers.append(start(site, "worker", worker).pid)
        try:
            subprocess.run([*hub.enter, launcher, "--start-server"], env=own, check=True, stdout=subprocess.DEVNULL)
            peers.wait_for("the workers", lambda: peers.servers(way) == len(way.workers))
            yield way
        finally:
            subprocess.run([*hub.enter, launcher, "--stop-server"], env=own, check=False, stdout=subprocess.DEVNULL)


def _joined(config: Path, scheduler: Path, role: str, *more: str) -> Path:
    """A file that ``join`` wrote; its last table takes more keys."""
    launcher = str(PROGRAMS / "sccache-twisted")
    invite = [launcher, "invite", role, "--config", str(scheduler)]
    line = subprocess.run(invite, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(
        [launcher, "join", "--config", str(config), *more, line], check=True, stdout=subprocess.DEVNULL, timeout=60
    )
    return config


def _log(config: Path) -> str:
    """Everything that happens to a job stands in the journal, for ``trace``."""
    return f'[log]\nformat = "json"\nfile = "{config.with_suffix(".log")}"\njournal = "{config.with_suffix(".jobs")}"\n'
