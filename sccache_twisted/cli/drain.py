"""``drain``: on the scheduler's machine, let a worker finish its jobs and leave.

Who can read the scheduler's state directory may do it: the control token lies there.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from argparse import Namespace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrs import frozen

from sccache_twisted.config import SchedulerSettings
from sccache_twisted.config.files import read_settings, state_directory
from sccache_twisted.errors import ConfigError, Malformed, SchedulerUnavailable, UserError
from sccache_twisted.model import Address
from sccache_twisted.security.files import CONTROL_FILE, read_secret

_SECONDS = 10.0
_LOOK_SECONDS = 0.2
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - dialled, not bound to


@frozen
class _Told:
    """A worker that was told to leave, and how many jobs it still ran then."""

    name: str
    server_id: str
    running: int


def drain(arguments: Namespace) -> int:
    """Order it; with ``--wait``, return when those workers have left."""
    settings = read_settings(SchedulerSettings, arguments.config, os.environ)
    if settings.insecure:
        raise UserError(
            "This scheduler is insecure: without identities it takes no orders. "
            "On the worker's machine, send its process SIGTERM."
        )
    pages = pages_address(settings.http)
    state = state_directory("scheduler", settings.state_dir, os.environ, os.getuid())
    token_file = state / CONTROL_FILE
    token = read_secret(token_file, "which the scheduler writes when it starts", 4096)
    told = _order(pages, arguments.worker, token.decode("ascii", "replace").strip(), token_file)
    if not arguments.json:
        for each in told:
            print(f"{each.server_id} drains and still runs {_jobs(each.running)}.", flush=True)
    if arguments.wait:
        _wait(pages, told, arguments.timeout)
    if arguments.json:
        draining = [{"name": each.name, "server_id": each.server_id, "running": each.running} for each in told]
        print(json.dumps({"draining": draining, "left": bool(arguments.wait)}))
    elif arguments.wait:
        print("It has left." if len(told) == 1 else f"All {len(told)} have left.")
    return 0


def pages_address(endpoint: str) -> Address:
    """Where this machine dials what listens on the endpoint string ``scheduler.http``; raises ConfigError."""
    if not endpoint:
        raise ConfigError(
            "scheduler.http is empty, and orders are given over the scheduler's pages: set it, for instance to "
            '"tcp:10601:interface=127.0.0.1", and start the scheduler anew.'
        )
    kind, *rest = (part.replace("\\", "") for part in re.split(r"(?<!\\):", endpoint))
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    port = named.get("port") or next((part for part in rest if "=" not in part), "")
    if kind not in {"tcp", "tcp6"} or not port.isdigit() or port == "0":
        raise ConfigError(
            f'scheduler.http = "{endpoint}" does not say which TCP port the pages are on: '
            'name one, as in "tcp:10601:interface=127.0.0.1", and start the scheduler anew.'
        )
    interface = named.get("interface", "")
    return Address(_ANYWHERE.get(interface, interface), int(port))


def _order(pages: Address, worker: str, token: str, token_file: Path) -> list[_Told]:
    status, body = _ask(pages, "POST", f"/workers/{quote(worker, safe='')}/drain", {"Authorization": f"Bearer {token}"})
    if status == 401:
        raise UserError(
            f"The scheduler at {pages} does not know the control token in {token_file}: "
            "it runs with other settings than these (--config)."
        )
    if status in {403, 404}:
        raise UserError(body.decode("utf-8", "replace").strip())
    try:
        return [_Told(each["name"], each["server_id"], each["running"]) for each in _json(status, body)["draining"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _strange(pages, status) from error


def _wait(pages: Address, told: list[_Told], seconds: float) -> None:
    wanted = {each.server_id for each in told}
    deadline = time.monotonic() + seconds
    while True:
        status, body = _ask(pages, "GET", "/status", {})
        try:
            left = {each["server_id"]: each["running"] for each in _json(status, body)["workers"]}
        except (KeyError, TypeError, ValueError) as error:
            raise _strange(pages, status) from error
        there = sorted(wanted & left.keys())
        if not there:
            return
        if time.monotonic() > deadline:
            jobs = ", ".join(f"{each} ({_jobs(left[each])})" for each in there)
            raise UserError(f"After {seconds:g} s not gone yet: {jobs}. Draining goes on.")
        time.sleep(_LOOK_SECONDS)


def _ask(pages: Address, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(pages.host, pages.port, timeout=_SECONDS)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError as error:
        raise SchedulerUnavailable(
            f"No scheduler answers at {pages}, where scheduler.http is: {error.strerror or error}. Is it running?"
        ) from error
    except http.client.HTTPException as error:
        raise _strange(pages, 0) from error
    finally:
        connection.close()


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"


def _json(status: int, body: bytes) -> dict[str, Any]:
    if status not in {200, 202}:
        raise ValueError(status)
    found: dict[str, Any] = json.loads(body)
    return found


def _strange(pages: Address, status: int) -> Malformed:
    with_status = f" with status {status}" if status else ""
    return Malformed(f"What answers at {pages}{with_status} is no scheduler of this version.")
