"""What lies around an attacked worker, for attacks to reach: files, processes, sockets, the host."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import blake3
from support.cluster import wait_for
from support.processes import below, command_line

from sccache_twisted.toolchains import package_to

SECRET = "what no job may ever read"
SECONDS = 30.0
"""How long an answer may take."""
PROGRAMS = Path(__file__).parent / "programs"
ORDINARY = 2000064500
GCC = (b"gcc", b"-g", b"-O1", b"-MMD", b"-c", b"a.c", b"-o", b"a.o")
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
SOURCES = {
    "own.h": "#define OWN 7\n#define NOT\n",
    "a.c": '#include "own.h"\n#if __has_include("optional.h")\n#error there\n#endif\nint f(void) { return OWN; }\n',
}


def as_user(uid: int) -> list[str]:
    """The words in front of a command that is to run as this user."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]


def build_program(out: Path) -> None:
    """The hostile programs, as one static executable."""
    sources = [str(path) for path in sorted(PROGRAMS.glob("*.c"))]
    subprocess.run(["gcc", "-static", "-s", "-O1", "-w", *sources, "-o", str(out)], check=True)
    out.chmod(0o755)


def _lines(path: str, word: str) -> list[str]:
    """The lines of a file that hold a word, if this kernel has such a file."""
    return [line for line in Path(path).read_text().splitlines() if word in line] if os.path.exists(path) else []


class Outside:
    """A directory with a worker's and everything that is none of its jobs' business. ``uid`` is the attacker's."""

    def __init__(self, program: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sccache-twisted-attacked-", dir="/var/tmp"))
        self.directory.chmod(0o711)
        shutil.copy(program, self.directory / "attack")
        self.outside = self.directory / "outside"
        self.outside.mkdir()
        self.outside.chmod(0o777)
        for name, mode in (("secret", 0o644), ("public", 0o666)):
            (self.outside / name).write_text(SECRET)
            (self.outside / name).chmod(mode)
        self.abstract = f"canary-{self.directory.name}"
        self.sockets = self._listen()
        self._canary: subprocess.Popen[bytes] | None = None
        self._before: dict[str, object] = {}

    def _listen(self) -> list[socket.socket]:
        tcp = socket.create_server(("127.0.0.1", 0))
        self.port = tcp.getsockname()[1]
        found = [tcp]
        if socket.has_ipv6:
            found.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", self.port))
        found.append(datagrams)
        for name in (f"\0{self.abstract}", str(self.outside / "socket")):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(name)
            listener.listen()
            found.append(listener)
        (self.outside / "socket").chmod(0o777)
        return found

    def begin(self, uid: int) -> None:
        """Start a process of the attacker's own user, and remember how everything is."""
        command = [*as_user(uid), str(self.directory / "attack"), "canary", "x", "0", "0", "x", "x", "0"]
        self._canary = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._canary.stdout is not None
        assert self._canary.stdout.readline() == b"ready\n"
        self._before = self.picture()

    @property
    def canary(self) -> int:
        """That process."""
        assert self._canary is not None
        return self._canary.pid

    def picture(self) -> dict[str, object]:
        """All that no attack may change."""
        assert self._canary is not None
        about = {path: os.lstat(path) for path in (self.outside, *self.outside.iterdir(), self.directory / "attack")}
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{self.canary}/status").read_text().splitlines())
        fields = Path(f"/proc/{self.canary}/stat").read_text().rpartition(")")[2].split()
        return {
            "files": {
                str(path): (
                    one.st_ino,
                    one.st_mode,
                    one.st_uid,
                    one.st_nlink,
                    one.st_size,
                    one.st_mtime_ns,
                    one.st_ctime_ns,
                )
                for path, one in about.items()
            },
            "content": [(self.outside / name).read_text() for name in ("secret", "public")],
            "canary": [fields[0] in {"S", "R"}, status["TracerPid"], status["SigPnd"], fields[16], self._canary.poll()],
            "told": bool(select.select([self._canary.stdout, *self.sockets], [], [], 0)[0]),
            "host": {
                name: Path(f"/proc/sys/kernel/{name}").read_text() for name in ("hostname", "core_pattern", "printk")
            },
            "mounts": [
                line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.directory) in line
            ],
            "namespaces": Path("/proc/sys/user/max_user_namespaces").read_text(),
            "keys": _lines("/proc/keys", "left"),
        }

    def unharmed(self) -> None:
        """Nothing of it has changed since the beginning, and nobody has been heard of."""
        now = self.picture()
        for name, value in now.items():
            assert value == self._before[name], name

    def close(self) -> None:
        """Take it all away."""
        if self._canary is not None:
            self._canary.kill()
            self._canary.communicate()
        for one in self.sockets:
            one.close()
        shutil.rmtree(self.directory)


class Attacked:
    """A worker in a process of its own, and what lies around it."""

    def __init__(self, program: Path, archive: tuple[str, Path], *, root: bool) -> None:
        self.root = root
        self.around = Outside(program)
        directory = self.around.directory
        uid = 0 if root else ORDINARY
        src = directory / "src"
        (src / "sub").mkdir(parents=True)
        (directory / "worker").mkdir()
        for name, text in SOURCES.items():
            (src / name).write_text(text)
        subprocess.run(GCC, cwd=src, env=ENV, check=True)
        self.plain = {name: (src / name).read_bytes() for name in ("a.o", "a.d")}
        for name in self.plain:
            (src / name).unlink()
        for place in (directory, directory / "worker"):
            os.chown(place, uid, uid)
        here = Path(__file__).parent
        paths = (here, here.parent / "worker", here.parent, here.parents[1])
        self.process = subprocess.Popen(
            [*([] if root else as_user(uid)), sys.executable, str(here / "attack_bench.py"), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(map(str, paths)), "HOME": str(directory)},
            start_new_session=True,
        )
        self.contents: dict[str, tuple[tuple[int, ...], str]] = {}
        try:
            began = self.tell("start", gcc=archive[0], archive=str(archive[1]))
            self.around.begin(began["uids"][1])
            aim = {"outside": str(self.around.outside), "canary": self.around.canary, "port": self.around.port}
            self.victim = self.tell("aim", abstract=self.around.abstract, **aim)["victim"]
            self.compiles()
            self.stored = self.verify()
            self.toolchains = self.tell("verified")["toolchains"]
        except BaseException:
            self.abandon()
            raise

    def tell(self, do: str, **more):
        """Give an order; the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        self.process.stdin.flush()
        heard = select.select([self.process.stdout], [], [], SECONDS)[0]
        line = self.process.stdout.readline() if heard else b""
        if not line:
            assert self.process.stderr is not None
            self.process.kill()
            raise AssertionError(self.process.stderr.read().decode())
        answer = json.loads(line)
        assert "failed" not in answer, answer["failed"]
        return answer

    def compiles(self) -> None:
        """An honest job in the same slot, with the same sources, has just what the compiler by itself gives."""
        result = self.tell("compiled")
        assert (result["code"], result["stderr"], result["undeclared"]) == ("ok", "", []), result
        assert {name: base64.b64decode(data) for name, (_, data) in result["outputs"].items()} == self.plain

    def leaves_nothing(self) -> None:
        """No process but the other job's, its files as they were, and each store's content that of its names."""
        tree = below(self.process.pid)
        mine = {self.victim}
        parents = {process.pid: process.parent for process in tree}
        here = self.victim
        while here in parents:
            mine.add(here)
            here = parents[here]
        assert here == self.process.pid, "the other job is gone"
        assert {process.pid: command_line(process.pid) for process in tree if process.pid not in mine} == {}
        jobs = self.around.directory / "worker" / "jobs"
        assert (jobs / "slot-0" / "tmp" / "secret").read_text() == "of another job\n"
        # A root that can't be put in order is removed behind the job's answer.
        wait_for(lambda: set(os.listdir(jobs)) <= {"slot-0", "slot-1"}, "nothing but slots' roots is left")
        found = self.verify()
        assert {name: found.get(name) for name in self.stored} == self.stored
        known = {name for name in found if name.startswith("blobs")} | set(self.stored)
        assert all(Path(name).parts[0] == "toolchains" for name in set(found) - known)
        for name in set(found) - set(self.stored):
            if name.startswith("blobs"):
                assert found[name] == os.path.basename(name)
        told = self.tell("verified")["toolchains"]
        assert set(self.toolchains) <= set(told)

    def verify(self) -> dict[str, str]:
        """The digest of every file's content in the stores.

        A file is read again only when its inode, size, times or mode have changed: nobody can set a change time.
        """
        worker = self.around.directory / "worker"
        found = {}
        for store in ("blobs", "toolchains"):
            for here, _, files in os.walk(worker / store):
                for name in files:
                    path = os.path.join(here, name)
                    about = os.lstat(path)
                    if name == "record" or not os.path.isfile(path) or os.path.islink(path):
                        continue
                    key = (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_mode)
                    if self.contents.get(path, ((), ""))[0] != key:
                        self.contents[path] = (key, blake3.blake3(Path(path).read_bytes()).hexdigest())
                    found[os.path.relpath(path, worker)] = self.contents[path][1]
        return found

    def stop(self) -> None:
        """End it in order; nothing is left."""
        try:
            assert self.tell("stop") == {"jobs": [], "taken": 0}
            self.around.unharmed()
            self.process.communicate(timeout=SECONDS)
            assert self.process.returncode == 0
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Kill it, if it is there still."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        self.around.close()


def packaged_gcc(directory: Path) -> tuple[str, Path]:
    """The digest and the archive of this machine's gcc, for anybody to read."""
    directory.chmod(0o711)
    path = directory / "gcc.tar.zst"
    digest = package_to(b"gcc", os.fsencode(path)).digest
    path.chmod(0o644)
    return digest, path
