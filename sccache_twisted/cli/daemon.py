"""Commands for the client daemon, asked over its unix socket: statistics, start, stop, the state of the cluster."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from sccache_twisted.cli.stats import stats_text
from sccache_twisted.errors import ConnectionFailed, UserError
from sccache_twisted.launcher import main as launcher
from sccache_twisted.launcher import slow
from sccache_twisted.wire.frames import FrameDecoder
from sccache_twisted.wire.launcher import MAX_FRAME, Answer, Query, Refused, decode, encode

ANSWER_SECONDS = 30.0


class NoDaemon(UserError):
    """No daemon is running for this user and configuration."""

    code = "no_daemon"


def environment() -> launcher.Environment:
    """This process's environment as the launcher sees it."""
    return dict(os.environb)


def running_daemon(environ: launcher.Environment | None = None) -> socket.socket | None:
    """A connection to the daemon, or None if none is running; raises ConnectionFailed when it is somebody else's."""
    try:
        found = launcher.knock(launcher.socket_path(environ or environment()))
    except launcher.Lost as error:
        raise ConnectionFailed(f"The daemon cannot be asked: {error}.") from None
    return None if found is None else socket.socket(fileno=found.detach())


def started_daemon() -> socket.socket:
    """A connection to the daemon, which is started if there is none."""
    connection = running_daemon()
    if connection is not None:
        return connection
    path = launcher.socket_path(environment())
    try:
        found = slow.start(path, environment(), os.fsencode(Path(sys.argv[0]).resolve().parent))
    except (launcher.Lost, OSError) as error:
        raise ConnectionFailed(f"The daemon did not start: {error}.{_last_words(path)}") from None
    return socket.socket(fileno=found.detach())


def ask(connection: socket.socket, name: str, *args: str, seconds: float = ANSWER_SECONDS) -> Any:
    """The daemon's answer to a query, out of its JSON; raises ConnectionFailed, or UserError with its own sentence."""
    decoder = FrameDecoder(MAX_FRAME)
    connection.settimeout(seconds)
    try:
        connection.sendall(encode(Query(name, args)))
        while data := connection.recv(1 << 16):
            for kind, payload in decoder.feed(data):
                message = decode(kind, payload)
                if isinstance(message, Answer):
                    return json.loads(message.text)
                if isinstance(message, Refused):
                    raise UserError(message.sentence)
    except TimeoutError:
        raise ConnectionFailed(f"The daemon did not answer for {seconds:.0f} s.") from None
    except OSError as error:
        raise ConnectionFailed(f"The daemon was lost: {error.strerror}.") from None
    raise ConnectionFailed("The daemon hung up before it answered.")


def peer_pid(connection: socket.socket) -> int:
    """The process at the other end."""
    pid, _uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def show_stats(arguments: Namespace) -> int:
    """``--show-stats``."""
    return _show(arguments, advanced=False)


def show_adv_stats(arguments: Namespace) -> int:
    """``--show-adv-stats``: by language and compiler. The JSON is the same, it has both."""
    return _show(arguments, advanced=True)


def _show(arguments: Namespace, *, advanced: bool) -> int:
    with started_daemon() as connection:
        stats = ask(connection, "stats")
    print(json.dumps(stats) if arguments.stats_format == "json" else stats_text(stats, advanced=advanced))
    return 0


def zero_stats(_arguments: Namespace) -> int:
    """``--zero-stats``."""
    with started_daemon() as connection:
        ask(connection, "zero-stats")
    print("Statistics zeroed.")
    return 0


def start_server(_arguments: Namespace) -> int:
    """``--start-server``."""
    running = running_daemon()
    with running or started_daemon() as connection:
        print(f"The daemon is running{' already' if running else ''}, pid {peer_pid(connection)}.")
    return 0


def stop_server(_arguments: Namespace) -> int:
    """``--stop-server``: asks the daemon to end and waits until it has."""
    connection = running_daemon()
    if connection is None:
        raise NoDaemon
    with connection:
        process = os.pidfd_open(peer_pid(connection))
        ask(connection, "stop")
    try:
        _wait_for_end(process)
    finally:
        os.close(process)
    print("The daemon has ended.")
    return 0


def dist_status(_arguments: Namespace) -> int:
    """``--dist-status``: JSON, as sccache prints it."""
    with started_daemon() as connection:
        print(json.dumps(ask(connection, "dist-status")))
    return 0


def jobs(_arguments: Namespace) -> int:
    """``jobs``: the slots of the cluster and this machine's own, which keep preprocessing ahead of the workers."""
    local = len(os.sched_getaffinity(0))
    with started_daemon() as connection:
        status = ask(connection, "dist-status")
    print(cluster_slots(status) + local)
    return 0


def cluster_slots(status: Any) -> int:
    """The slots in an answer to ``dist-status``; 0 when there is no scheduler."""
    if isinstance(status, dict) and isinstance(status.get("SchedulerStatus"), list):
        return int(status["SchedulerStatus"][1].get("num_cpus", 0))
    return 0


def _wait_for_end(process: int) -> None:
    import select

    if not select.select([process], [], [], ANSWER_SECONDS)[0]:
        raise ConnectionFailed(f"The daemon did not end in {ANSWER_SECONDS:.0f} s.")


def _last_words(path: bytes) -> str:
    """The end of the daemon's log, where its reason stands."""
    try:
        lines = Path(os.fsdecode(path) + ".log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in lines[-5:])
