"""``cluster start|status|add|remove|stop``: a scheduler and workers on this machine, as background twistd processes.

TLS and tokens are on, as everywhere. Every process binds port 0 by itself and says in its ready file what it got, so
no port is ever guessed; the scheduler's are written into its file afterwards, so that it keeps them when it is started
anew.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from argparse import Namespace
from collections.abc import Callable

from attrs import asdict, frozen

from sccache_twisted.cli import processes
from sccache_twisted.cli.home import Home, write_toml
from sccache_twisted.cli.status import scheduler_status
from sccache_twisted.errors import InternalError, UserError
from sccache_twisted.interfaces import Role
from sccache_twisted.security import SchedulerIdentity, TokenStore
from sccache_twisted.security.files import write_secret
from sccache_twisted.security.tokens import TOKENS_FILE

READY_SECONDS = 60.0
_LOOPBACK = "tcp:0:interface=127.0.0.1"
_Started = dict[str, subprocess.Popen[bytes]]


@frozen
class WorkerState:
    """A worker as ``cluster status`` shows it."""

    name: str
    server_id: str
    pid: int | None
    address: str
    slots: int
    running: int
    state: str


def start(arguments: Namespace) -> int:
    """Start everything, all or nothing; where only the scheduler has ended, start that one again."""
    home = Home.at(arguments.dir)
    with home.locked():
        home.must_be_traversable()
        running = [name for name in home.names() if home.pid(name) is not None]
        if running and "scheduler" not in running and home.config("scheduler").exists():
            return _start_scheduler_again(home, running)
        if running:
            raise UserError(
                f"A cluster is running in {home.root} already ({', '.join(running)}): "
                f'"cluster stop --dir {home.root}" ends it, "cluster add" makes it larger.'
            )
        _clear(home)
        slots = arguments.slots or max(1, len(os.sched_getaffinity(0)) // arguments.workers)
        names = [f"worker-{number}" for number in range(1, arguments.workers + 1)]
        started: _Started = {}
        try:
            scheduler_url = _start_scheduler(home, started)
            for name in names:
                _start_worker(home, name, scheduler_url, slots, started)
            _wait_until(lambda: _registered(home).issuperset(names), "the workers to register", home, started)
        except BaseException:
            processes.end(process.pid for process in started.values())
            raise
    _write_client(home, scheduler_url)
    _say_how_to_use(home, arguments.workers, slots)
    return 0


def status(arguments: Namespace) -> int:
    """Show the scheduler and the workers."""
    home = Home.at(arguments.dir)
    home.must_exist()
    scheduler = {"pid": home.pid("scheduler"), "address": home.ready("scheduler").get("address", "")}
    workers = worker_states(home)
    if arguments.json:
        members = [asdict(worker) for worker in workers]
        print(json.dumps({"scheduler": scheduler, "workers": members}))
        return 0
    running = f"pid {scheduler['pid']}, {scheduler['address']}" if scheduler["pid"] else "not running"
    print(f"scheduler  {running}")
    for worker in workers:
        print(
            f"{worker.name:<10} pid {worker.pid or '-'}, {worker.address or '-'}, "
            f"{worker.running}/{worker.slots} slots busy, {worker.state}"
        )
    return 0


def add(arguments: Namespace) -> int:
    """Start one more worker and wait until it has registered."""
    home = Home.at(arguments.dir)
    home.must_exist()
    with home.locked():
        if home.pid("scheduler") is None:
            raise UserError(f'The scheduler of {home.root} is not running: "cluster start --dir {home.root}".')
        home.must_be_traversable()
        name = home.new_worker_name(arguments.name)
        slots = arguments.slots or _usual_slots(home)
        started: _Started = {}
        try:
            _start_worker(home, name, _scheduler_url(home), slots, started)
            _wait_until(lambda: name in _registered(home), f"{name} to register", home, started)
        except BaseException:
            processes.end(process.pid for process in started.values())
            raise
    print(f"{name} is running, pid {started[name].pid}.")
    return 0


def remove(arguments: Namespace) -> int:
    """Signal a worker. After KILL it is gone when this returns; after TERM it finishes its jobs first."""
    home = Home.at(arguments.dir)
    home.must_exist()
    name = arguments.name
    pid = home.pid(name)
    if name == "scheduler" or pid is None or not processes.send(pid, home.config(name), _number(arguments.signal)):
        known = ", ".join(worker for worker in home.workers() if home.pid(worker) is not None) or "none"
        raise UserError(f"No worker named {name} is running in {home.root}; running: {known}.")
    if arguments.signal == "KILL":
        processes.wait_for_end(pid, READY_SECONDS)
        home.pid_file(name).unlink(missing_ok=True)
    words = {"TERM": "finishes its jobs and leaves", "KILL": "was killed", "STOP": "is stopped", "CONT": "goes on"}
    print(f"{name} {words[arguments.signal]}.")
    return 0


def stop(arguments: Namespace) -> int:
    """End the client daemon, the workers and the scheduler. Nothing running is fine too."""
    home = Home.at(arguments.dir)
    if not home.root.is_dir():
        # Somebody removed the directory under a running cluster.
        return _say_ended(_end(home))
    with home.locked():
        ended = _end(home)
        for name in home.names():
            home.pid_file(name).unlink(missing_ok=True)
            home.ready_file(name).unlink(missing_ok=True)
    return _say_ended(ended)


def _end(home: Home) -> int:
    daemons = list(processes.client_daemons(home.client_config))
    processes.end(daemons)
    pids = list(processes.started_below(home.root))
    processes.end(pids)
    return len(daemons) + len(pids)


def _say_ended(count: int) -> int:
    print(f"Ended {count} processes." if count else "Nothing was running.")
    return 0


def worker_states(home: Home) -> list[WorkerState]:
    """Every worker that was started and has not left in order, and what the scheduler says of it."""
    known = {worker["name"]: worker for worker in scheduler_status(home.ready("scheduler").get("http", ""))}
    states = []
    for name in home.workers():
        pid = home.pid(name)
        said = known.get(name, {})
        if pid is None:
            state = "dead"
        elif processes.state(pid) == "T":
            state = "stopped"
        else:
            state = str(said.get("state", "starting"))
        ready = home.ready(name)
        states.append(
            WorkerState(
                name=name,
                server_id=str(said.get("server_id", ready.get("server_id", ""))),
                pid=pid,
                address=str(said.get("address", ready.get("address", ""))),
                slots=int(said.get("slots", 0)),
                running=int(said.get("running", 0)),
                state=state,
            )
        )
    return states


def _number(name: str) -> signal.Signals:
    return signal.Signals[f"SIG{name}"]


def _clear(home: Home) -> None:
    """Remove what an earlier cluster here left, but its logs and its stores."""
    for pattern in ("*.pid", "*.ready", "*.toml", "*.token"):
        for path in home.root.glob(pattern):
            path.unlink()


def _start_scheduler(home: Home, started: _Started) -> str:
    """Start the scheduler; its address as workers and clients write it."""
    tokens = TokenStore(home.state / TOKENS_FILE)
    for role in Role:
        if any(record.name == role.value for record in tokens.names()):
            tokens.revoke(role.value)
        write_secret(home.token_file(role.value), tokens.create(role.value, role, time.time()).encode())
    config: dict[str, dict[str, object]] = {
        "scheduler": {"listen": _LOOPBACK, "http": _LOOPBACK, "state_dir": str(home.state)},
        "log": home.log_settings("scheduler"),
    }
    write_toml(home.config("scheduler"), config)
    _start(home, "scheduler", "scheduler", started)
    _wait_until(lambda: bool(home.ready("scheduler")), "the scheduler to listen", home, started)
    ready = home.ready("scheduler")
    config["scheduler"] |= {"listen": _endpoint(ready["address"]), "http": _endpoint(ready["http"])}
    write_toml(home.config("scheduler"), config)
    return _scheduler_url(home)


def _start_scheduler_again(home: Home, workers: list[str]) -> int:
    """With its key, its tokens and its ports, so that the workers, who go on trying, find it."""
    awake = {name for name in workers if processes.state(home.pid(name) or 0) != "T"}
    home.ready_file("scheduler").unlink(missing_ok=True)
    started: _Started = {}
    try:
        _start(home, "scheduler", "scheduler", started)
        _wait_until(lambda: _registered(home) >= awake, "the workers to register again", home, started)
    except BaseException:
        processes.end(process.pid for process in started.values())
        raise
    print(
        f"The scheduler is running again, pid {started['scheduler'].pid}, with {', '.join(sorted(awake)) or 'nobody'}."
    )
    return 0


def _endpoint(address: str) -> str:
    return f"tcp:{address.rpartition(':')[2]}:interface=127.0.0.1"


def _scheduler_url(home: Home) -> str:
    identity = SchedulerIdentity.load_or_create(str(home.state), ["localhost", "127.0.0.1"], time.time())
    return f"tls://{home.ready('scheduler')['address']}?pin={identity.pin}"


def _start_worker(home: Home, name: str, scheduler_url: str, slots: int, started: _Started) -> None:
    worker = {
        "name": name,
        "schedulers": [scheduler_url],
        "token_file": str(home.token_file(Role.WORKER.value)),
        "listen": _LOOPBACK,
        "slots": slots,
        "directory": str(home.worker_directory(name)),
    }
    write_toml(home.config(name), {"worker": worker, "log": home.log_settings(name)})
    _start(home, name, "worker", started)


def _start(home: Home, name: str, role: str, started: _Started) -> None:
    # A stale pid whose number is in use again would make twistd believe that it runs already.
    home.pid_file(name).unlink(missing_ok=True)
    started[name] = processes.start(
        role, home.config(name), home.pid_file(name), home.ready_file(name), home.errors(name)
    )


def _write_client(home: Home, scheduler_url: str) -> None:
    tables: dict[str, dict[str, object]] = {
        "dist": {"schedulers": [scheduler_url]},
        "dist.auth": {"token_file": str(home.token_file(Role.CLIENT.value))},
        "log": home.log_settings("client"),
    }
    write_toml(home.client_config, tables)


def _registered(home: Home) -> set[str]:
    return {worker["name"] for worker in scheduler_status(home.ready("scheduler").get("http", ""))}


def _usual_slots(home: Home) -> int:
    return max((worker.slots for worker in worker_states(home)), default=0) or 1


def _wait_until(fact: Callable[[], bool], what: str, home: Home, started: _Started) -> None:
    """Wait for a fact; raises with its last words when a process that was started ends, or after a minute."""
    deadline = time.monotonic() + READY_SECONDS
    while not fact():
        for name, process in started.items():
            if process.poll() is not None:
                raise UserError(f"{name} ended at its start.{_last_words(home, name)}")
        if time.monotonic() > deadline:
            raise InternalError(f"Waited {READY_SECONDS:.0f} s for {what} in vain; see {home.root / 'logs'}.")
        time.sleep(0.05)


def _last_words(home: Home, name: str) -> str:
    for path in (home.errors(name), home.log(name)):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        if lines:
            return "".join(f"\n    {line}" for line in lines[-5:])
    return f" See {home.log(name)}."


def _say_how_to_use(home: Home, workers: int, slots: int) -> None:
    import shlex

    total = workers * slots + len(os.sched_getaffinity(0))
    print(f"{workers} workers with {slots} slots each are ready. Use them:\n")
    print(f"    export SCCACHE_CONF={shlex.quote(str(home.client_config))}")
    print(f'    make -j{total} CC="sccache-twisted gcc" CXX="sccache-twisted g++"\n')
    print(f"and end them: sccache-twisted cluster stop --dir {shlex.quote(str(home.root))}")
