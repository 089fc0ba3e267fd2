"""Machines on one machine: a namespace each for network, mounts, processes and names, and a switch between them.

Nothing is shared but the network and the installed program. Everything ends with the block: a machine's first process
takes all others with it, and the namespaces have names of their own.
"""

import configparser
import contextlib
import json
import os
import re
import secrets
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import define, field, frozen
from support.cluster import wait_for
from typing_extensions import Self

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"
BIN = "/opt/sccache-twisted/bin"
SECONDS = 120
NETWORK = "10.213.77"
SHOWN = 6000


def run(*argv: str, **more) -> subprocess.CompletedProcess:
    """Run a command of this machine's own; it must succeed."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=SECONDS, **more)


@frozen
class Unit:
    """A systemd unit of ours, as much of it as a test without systemd can do."""

    path: Path
    service: dict[str, str]

    @classmethod
    def read(cls, name: str) -> "Unit":
        """Read ``examples/systemd/NAME``."""
        path = EXAMPLES / "systemd" / name
        parser = configparser.ConfigParser(strict=True, interpolation=None)
        parser.optionxform = str
        parser.read_string(path.read_text())
        return cls(path, dict(parser["Service"]))

    @property
    def command(self) -> list[str]:
        """The words of ExecStart."""
        return shlex.split(self.service["ExecStart"])

    @property
    def config(self) -> str:
        """The file that it is started with."""
        return self.command[self.command.index("--config") + 1]


@define
class Running:
    """A unit's process. ``pid`` is its number in its machine."""

    machine: "Machine"
    unit: Unit
    process: subprocess.Popen
    log: Path
    pid_file: Path

    def stop(self) -> int:
        """Stop it as systemd does; its exit status."""
        number = self.unit.service.get("KillSignal", "SIGTERM")
        pid = self.pid_file.read_text().strip()
        assert self.machine.call("kill", f"-{number.removeprefix('SIG')}", pid).returncode == 0
        return self.process.wait(SECONDS)

    def said(self) -> str:
        """Its journal."""
        return self.log.read_text(errors="replace")


@define
class Machine:
    """A host in the network. ``root`` is where its private directories lie, as seen from outside."""

    name: str
    address: str
    root: Path
    init: int
    holder: subprocess.Popen
    running: list[Running] = field(factory=list)

    def words(self, *argv: str, user: str = "", cwd: str = "/", env: dict[str, str] | None = None) -> list[str]:
        """The host's command that runs ``argv`` there, as ``user`` if one is named."""
        home = f"/home/{user}" if user else "/home"
        environ = {"PATH": f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        environ = {**environ, "HOME": self.home_of(user) or home, **(env or {})}
        drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []
        inside = ["nsenter", f"--target={self.init}", "--mount", "--net", "--pid", "--uts", "--ipc"]
        return [
            *inside,
            "--",
            *drop,
            "env",
            "-i",
            f"--chdir={cwd}",
            *(f"{name}={value}" for name, value in environ.items()),
            *argv,
        ]

    def home_of(self, user: str) -> str:
        """The home directory that the machine's own /etc/passwd gives."""
        for line in (self.root / "etc/passwd").read_text().splitlines():
            if user and line.split(":")[0] == user:
                return line.split(":")[5]
        return ""

    def call(self, *argv: str, **where) -> subprocess.CompletedProcess:
        """Run a command there to its end; its streams as text."""
        # Files, not pipes: the daemon that a command may start must not keep this call waiting.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            done = subprocess.run(
                self.words(*argv, **where),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=SECONDS,
                check=False,
            )
            out.seek(0)
            err.seek(0)
            texts = (out.read().decode(errors="replace"), err.read().decode(errors="replace"))
        return subprocess.CompletedProcess(argv, done.returncode, *texts)

    def must(self, *argv: str, **where) -> str:
        """Run a command that must succeed; what it printed."""
        done = self.call(*argv, **where)
        assert done.returncode == 0, f"{shlex.join(argv)} on {self.name}: {done.stderr or done.stdout}"
        return done.stdout

    def start_unit(self, unit: Unit) -> Running:
        """Do what systemd does for the unit: its directories, its user, its command."""
        user = unit.service.get("User", "")
        assert unit.service.get("Group", user) == user
        for key, base in (("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run")):
            if key in unit.service:
                self.must("install", "-d", *(("-o", user, "-g", user) if user else ()), f"{base}/{unit.service[key]}")
        log, pid_file = self.root / f"{unit.path.stem}.journal", self.root / "run" / f"{unit.path.stem}.pid"
        written = f"/run/{pid_file.name}"
        self.must("install", "-m", "666", "/dev/null", written)
        with log.open("ab") as sink:
            process = subprocess.Popen(
                self.words(
                    "sh", "-c", f'echo $$ >{written}; exec "$@"', "unit", *unit.command,
                    user=user, cwd=unit.service.get("WorkingDirectory", "/"),
                ),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )  # fmt: skip
        started = Running(self, unit, process, log, pid_file)
        self.running.append(started)
        return started

    def serves(self, port: int) -> bool:
        """Whether something listens on a TCP port there."""
        return f":{port} " in self.must("ss", "-Hltn")


class Network:
    """A context manager: a switch, and the machines that are plugged into it."""

    def __init__(self, *names: str, aliases: dict[str, str] | None = None) -> None:
        self._names = names
        self._aliases = aliases or {}
        self._ends = contextlib.ExitStack()
        self._label = f"sct-{secrets.token_hex(3)}"
        self.machines: dict[str, Machine] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ends:
            base = ends.enter_context(tempfile.TemporaryDirectory(prefix="sct-net-", dir="/tmp"))
            os.chmod(base, 0o711)
            switch = f"{self._label}-switch"
            self._namespace(switch, ends)
            run("ip", "-n", switch, "link", "add", "switch", "type", "bridge")
            run("ip", "-n", switch, "link", "set", "switch", "up")
            for number, name in enumerate(self._names):
                self.machines[name] = self._machine(number, name, Path(base) / name, switch, ends)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, kind, problem, trace) -> None:
        if kind is not None:
            self.show_logs()
        self._ends.close()

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def show_logs(self) -> None:
        """Print the end of every journal, for a test that failed."""
        for machine in self.machines.values():
            for each in machine.running:
                sys.stderr.write(f"--- {machine.name}: {each.unit.path.stem}\n{each.said()[-SHOWN:]}\n")

    def _namespace(self, name: str, ends: contextlib.ExitStack) -> None:
        run("ip", "netns", "add", name)
        ends.callback(run, "ip", "netns", "delete", name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def _machine(self, number: int, name: str, root: Path, switch: str, ends: contextlib.ExitStack) -> Machine:
        namespace, address = f"{self._label}-{name}", f"{NETWORK}.{number + 1}"
        self._namespace(namespace, ends)
        port = f"port{number}"
        run("ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run("ip", "-n", switch, "link", "set", port, "master", "switch", "up")
        run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        for each in ("tmp", "run", "home", "var/lib", "etc"):
            (root / each).mkdir(parents=True)
        for directory in (root, *root.rglob("*")):
            directory.chmod(0o755)
        known = {self._aliases.get(each, each): f"{NETWORK}.{at + 1}" for at, each in enumerate(self._names)}
        (root / "hosts").write_text("".join(f"{where} {who}\n" for who, where in known.items()))
        init = Path(__file__).with_name("machine_init.py")
        kept = dict.fromkeys(map(str, (Path(sys.base_prefix), REPOSITORY)))
        holder = subprocess.Popen(
            [
                *("ip", "netns", "exec", namespace),
                *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("--propagation", "private", sys.executable, str(init), str(root), name, *kept),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        ends.callback(self._switch_off, holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n", f"{name} does not start"
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        return Machine(name, address, root, int(children[0]), holder)

    def _switch_off(self, holder: subprocess.Popen) -> None:
        """End a machine: with its first process all of them are gone."""
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        handles = [os.pidfd_open(int(child)) for child in children]
        # unshare --kill-child takes the first process with it.
        holder.kill()
        holder.wait(SECONDS)
        for handle in handles:
            assert select.select([handle], [], [], SECONDS)[0], "a machine does not end"
            os.close(handle)
        holder.stdout.close()
        for machine in self.machines.values():
            if machine.holder is holder:
                for each in machine.running:
                    each.process.wait(SECONDS)


def shell_lines(markdown: Path) -> Iterator[str]:
    """The lines of every ``sh`` block of a text."""
    for block in re.findall(r"^```sh\n(.*?)^```", markdown.read_text(), re.MULTILINE | re.DOTALL):
        yield from block.splitlines()


def status_page(machine: Machine) -> dict:
    """The scheduler's /status, asked from its own machine."""
    code = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:10601/status', timeout=10).read().decode())"
    done = machine.call(f"{BIN}/python3", "-c", code)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def registered(machine: Machine, name: str) -> str:
    """Wait until a worker of this name is registered; its server_id."""

    def found() -> str:
        workers = status_page(machine).get("workers", ())
        return next((each["server_id"] for each in workers if each["name"] == name), "")

    return wait_for(found, f"{name} is registered", 60)


def copied(machine: Machine, source: Path, target: str, owner: str = "root") -> None:
    """Copy a file or tree of ours to a place in the machine."""
    place = machine.root / target.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, place)
    else:
        shutil.copy(source, place)
    machine.must("chown", "-R", owner, target)


def objects(directory: Path) -> dict[str, bytes]:
    """Every object below a directory, by its path there."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*.o"))}


def words_of(commands: Sequence[str]) -> list[list[str]]:
    """Shell lines as words, those joined by && apart."""
    return [shlex.split(part) for line in commands for part in line.split(" && ")]
