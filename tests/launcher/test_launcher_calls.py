"""Launchers as processes, before a daemon, without one, and when they lose it: the native one and the Python one."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launcher_kit import Installation, counting_compiler, fake_compiler, most_at_once, wait_for

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@pytest.fixture(scope="module")
def shared(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One daemon for all tests that leave it as it was."""
    made = Installation(tmp_path_factory.mktemp("shared"), program)
    yield made
    made.end()


@pytest.fixture
def own(program: Path, tmp_path: Path) -> Iterator[Installation]:
    """A daemon of the test's own."""
    made = Installation(tmp_path / "prefix", program)
    yield made
    made.end()


@pytest.fixture
def alone(program: Path, tmp_path: Path) -> Installation:
    """An installation whose daemon can't be started."""
    return Installation(tmp_path / "prefix", program, twistd=False)


def source(cwd: Path, text: str = "int main(void) { int unused; return 0; }\n") -> Path:
    cwd.mkdir(exist_ok=True)
    (cwd / "a.c").write_text(text)
    return cwd


def plain(words: list[str], cwd: Path) -> subprocess.CompletedProcess[bytes]:
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, check=False)


def test_compiles(shared: Installation, tmp_path: Path) -> None:
    """A call through the launcher gives what the compiler alone gives, and the daemon has counted it."""
    cwd = source(tmp_path)
    words = ["gcc", "-Wall", "-g", "-c", "a.c"]
    expected = plain(words, cwd)
    wanted = (cwd / "a.o").read_bytes()
    (cwd / "a.o").unlink()
    ended = shared.call(*words, cwd=cwd, umask=0o027)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", expected.stderr)
    assert (cwd / "a.o").read_bytes() == wanted
    assert stat.S_IMODE((cwd / "a.o").stat().st_mode) == 0o640
    assert shared.stats()["local_compiles"]["not_configured"] >= 1


def test_failure(shared: Installation, tmp_path: Path) -> None:
    """An error of the compiler's is shown, and its status returned."""
    cwd = source(tmp_path, "syntax error\n")
    expected = plain(["gcc", "-c", "a.c"], cwd)
    ended = shared.call("gcc", "-c", "a.c", cwd=cwd)
    assert (ended.returncode, ended.stderr) == (1, expected.stderr)


def test_not_ours(shared: Installation, tmp_path: Path) -> None:
    """Linking, asking and preprocessing are the compiler's own business, standard input included."""
    cwd = source(tmp_path)
    assert shared.call("gcc", "a.c", "-o", "a", cwd=cwd).returncode == 0
    assert (cwd / "a").exists()
    assert shared.call("gcc", "--version", cwd=cwd).stdout == plain(["gcc", "--version"], cwd).stdout
    ended = subprocess.run(
        [shared.launcher, "gcc", "-E", "-P", "-"],
        env=shared.environ,
        cwd=cwd,
        input=b"x __LINE__\n",
        capture_output=True,
        check=False,
    )
    assert ended.stdout == b"x 1\n"


def test_masquerade(shared: Installation, tmp_path: Path) -> None:
    """A link named gcc is gcc through us, and finds the real one behind itself on PATH."""
    links = tmp_path / "links"
    links.mkdir()
    (links / "gcc").symlink_to(shared.launcher)
    shutil.copy(shared.launcher, links / "g++")
    cwd = source(tmp_path / "src")
    before = shared.stats()["compile_requests"]
    path = f"{links}:/usr/bin:/bin"
    ended = subprocess.run(
        ["gcc", "-c", "a.c"], cwd=cwd, env={**shared.environ, "PATH": path}, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert shared.stats()["compile_requests"] == before + 1
    assert shared.call("gcc", "-c", "a.c", cwd=cwd, env={"PATH": path}).returncode == 0


def test_no_compiler(shared: Installation, tmp_path: Path) -> None:
    """A compiler that does not exist is named in a sentence; the status is the shell's."""
    ended = shared.call("nosuchcc", "-c", "a.c", cwd=tmp_path)
    assert ended.returncode == 127
    assert b"nosuchcc" in ended.stderr


def test_environment_is_untouched(shared: Installation, tmp_path: Path) -> None:
    """The compiler sees the caller's environment: no variable more, none less, also in a C locale."""
    environ = fake_compiler(tmp_path, 'env | sort > "$FAKE_DIR/env"')
    cwd = source(tmp_path / "src")
    for more in ({}, {"LC_CTYPE": "en_US.ISO-8859-1"}):
        env = {name: value for name, value in {**shared.environ, **environ, **more}.items() if name != "LC_ALL"}
        plainly = subprocess.run(["gcc", "-c", "a.c"], cwd=cwd, env=env, check=True)
        assert plainly.returncode == 0
        expected = (tmp_path / "env").read_text().splitlines()
        subprocess.run([shared.launcher, "gcc", "-c", "a.c"], cwd=cwd, env=env, check=True)
        found = (tmp_path / "env").read_text().splitlines()
        # A script might call a compiler by name and find us: only then there is one variable more.
        assert [line for line in found if not line.startswith("_SCCACHE_TWISTED_RUNNING=")] == expected


def test_descriptors_are_inherited(shared: Installation, tmp_path: Path) -> None:
    """Descriptors of make's jobserver reach the compiler."""
    environ = fake_compiler(tmp_path, "echo here > /proc/self/fd/$JOBSERVER")
    reader, writer = os.pipe()
    ended = shared.call(
        "gcc", "-c", "a.c", cwd=source(tmp_path / "src"), env={**environ, "JOBSERVER": str(writer)}, pass_fds=[writer]
    )
    os.close(writer)
    assert ended.returncode == 0
    assert os.read(reader, 100) == b"here\n"
    os.close(reader)


def test_killed_compiler(shared: Installation, tmp_path: Path) -> None:
    """A compiler that dies by signal n gives the shell's 128+n."""
    environ = fake_compiler(tmp_path, "kill -SEGV $$")
    assert shared.call("gcc", "-c", "a.c", cwd=source(tmp_path / "src"), env=environ).returncode == 128 + signal.SIGSEGV


def test_signal_is_passed_on(shared: Installation, tmp_path: Path) -> None:
    """SIGTERM to a launcher ends the compiler that runs for it, and the launcher dies of it as well."""
    body = (
        'trap "echo ended > $FAKE_DIR/ended; exit 1" TERM\n'
        'echo $$ > "$FAKE_DIR/pid"\n'
        'while :; do read x < "$FAKE_DIR/fifo"; done'
    )
    environ = fake_compiler(tmp_path, body)
    os.mkfifo(tmp_path / "fifo")
    launcher = shared.start("gcc", "-c", "a.c", cwd=source(tmp_path / "src"), env=environ)
    pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), "the compiler"))
    compiler = os.pidfd_open(pid)
    try:
        launcher.send_signal(signal.SIGTERM)
        launcher.communicate(timeout=20)
        assert launcher.returncode == -signal.SIGTERM
        assert (tmp_path / "ended").read_text() == "ended\n"
    finally:
        if not select.select([compiler], [], [], 0)[0]:
            signal.pidfd_send_signal(compiler, signal.SIGKILL)
        os.close(compiler)


def test_other_namespace(shared: Installation, tmp_path: Path) -> None:
    """A caller in another mount namespace sees other files than the daemon, and runs its command itself."""
    if os.getuid() or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare")
    cwd = source(tmp_path)
    before = shared.stats()["compile_requests"]
    ended = subprocess.run(
        ["unshare", "-m", shared.launcher, "gcc", "-c", "a.c"],
        cwd=cwd,
        env=shared.environ,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0
    assert (cwd / "a.o").exists()
    assert shared.stats()["compile_requests"] == before


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 4096,
        b"\0\0\0\1Z",
        b"\0\0\0\5R\0\0\0\\9",
        b"\0\0\0\1C",
        b"\0\0\0\0",
    ],
)
def test_garbage(shared: Installation, garbage: bytes) -> None:
    """Whatever is written to the socket, the daemon lives, and says at most what is wrong."""
    pid = shared.query("ping")["pid"] if shared.daemon_pid() else None
    if pid is None:
        shared.call("gcc", "--version", cwd=Path("/"))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(shared.socket))
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            continue
    assert pid in {None, shared.query("ping")["pid"]}


def test_deleted_directory(shared: Installation, tmp_path: Path) -> None:
    """In a directory that does not exist any more the compiler itself has the word."""
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone} && rmdir {gone} && exec {shared.launcher} gcc --version"
    ended = subprocess.run(["sh", "-c", script], env=shared.environ, capture_output=True, check=False)
    assert ended.returncode == 0
    assert b"gcc" in ended.stdout


@pytest.mark.alone
def test_cost(program: Path, native: Path, shared: Installation, tmp_path: Path) -> None:
    """The script costs a shell and a bare Python, the native launcher a shell's start, and hardly more."""
    python = str(shared.prefix / "bin/python3")
    bare = ["sh", "-c", ":" if program == native else f"exec {python} -I -S -c pass"]
    shared.call("gcc", "--version", cwd=tmp_path)

    def once(words: list[str]) -> float:
        began = time.perf_counter()
        subprocess.run(words, env=shared.environ, cwd=tmp_path, capture_output=True, check=False)
        return time.perf_counter() - began

    # In turns, and the best of each: what else this machine does must not count.
    both = [(once(bare), once([shared.launcher, "nosuchcc"])) for _ in range(40)]
    least, answered = (min(times) for times in zip(*both, strict=True))
    assert answered - least < (0.003 if program == native else 0.008), f"{least * 1000:.1f} {answered * 1000:.1f} ms"


# --- starting and losing daemons --------------------------------------------------------------------


def at_once(installation: Installation, cwd: Path, count: int) -> None:
    """Many launchers at the same moment find no daemon: one is started, and all are served."""
    launchers = [installation.start("gcc", "-c", "a.c", "-o", f"{number}.o", cwd=cwd) for number in range(count)]
    ended = [(launcher.communicate(timeout=200), launcher.returncode) for launcher in launchers]
    assert {(stderr, status) for (_, stderr), status in ended} == {(b"", 0)}
    assert len(list(cwd.glob("*.o"))) == count
    assert installation.stats()["compile_requests"] == count
    assert installation.log().count("client listens on") == 1


def test_one_daemon(own: Installation, tmp_path: Path) -> None:
    """Fifty launchers at once start exactly one daemon."""
    at_once(own, source(tmp_path / "src"), 50)


@pytest.mark.full
def test_one_daemon_for_300(own: Installation, tmp_path: Path) -> None:
    """So do three hundred."""
    at_once(own, source(tmp_path / "src"), 300)


@pytest.mark.parametrize("twistd", [True, False], ids=["with a daemon", "without one"])
def test_local_slots(program: Path, tmp_path: Path, twistd: bool) -> None:
    """Local compilations never exceed the local slots, whether a daemon hands them out or not."""
    installation = Installation(tmp_path / "prefix", program, twistd=twistd)
    environ = {**counting_compiler(tmp_path), "SCCACHE_LOCAL_SLOTS": "2"}
    cwd = source(tmp_path / "src")
    try:
        launchers = [installation.start("gcc", "-c", "a.c", cwd=cwd, env=environ) for _ in range(12)]
        assert [launcher.communicate(timeout=60) and launcher.returncode for launcher in launchers] == [0] * 12
        assert most_at_once(tmp_path) == 2
    finally:
        installation.end()


def test_slots_are_shared(program: Path, tmp_path: Path) -> None:
    """Two daemons and launchers without any share one user's slots."""
    served = [Installation(tmp_path / name, program) for name in ("one", "two")]
    lonely = Installation(tmp_path / "three", program, twistd=False)
    environ = {**counting_compiler(tmp_path), "SCCACHE_LOCAL_SLOTS": "2"}
    cwd = source(tmp_path / "src")
    try:
        launchers = [
            each.start("gcc", "-c", "a.c", cwd=cwd, env=environ) for _ in range(5) for each in (*served, lonely)
        ]
        assert [launcher.communicate(timeout=60) and launcher.returncode for launcher in launchers] == [0] * 15
        assert most_at_once(tmp_path) == 2
    finally:
        for each in served:
            each.end()


def test_no_daemon_at_all(alone: Installation, tmp_path: Path) -> None:
    """Without a daemon the launcher compiles, and notes why in the daemon's log."""
    cwd = source(tmp_path / "src")
    ended = alone.call("gcc", "-c", "a.c", cwd=cwd)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert (cwd / "a.o").exists()
    assert "there is no twistd" in alone.log()


def test_bad_configuration(own: Installation, tmp_path: Path) -> None:
    """A daemon that refuses to start is tried once, not by each of many launchers; each of them compiles."""
    (tmp_path / "bad.toml").write_text("[dist]\nschedulars = []\n")
    cwd = source(tmp_path / "src")
    env = {"SCCACHE_CONF": str(tmp_path / "bad.toml")}
    launchers = [own.start("gcc", "-c", "a.c", "-o", f"{n}.o", cwd=cwd, env=env) for n in range(8)]
    assert [launcher.communicate(timeout=60) and launcher.returncode for launcher in launchers] == [0] * 8
    assert own.log().count("schedulars") == 1
    assert len(list(cwd.glob("*.o"))) == 8


def test_no_python(program: Path, tmp_path: Path) -> None:
    """Where no Python or no package is found, the launcher itself runs the compiler."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("readlink", "head", "grep", "gcc", "as", "ld"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    shutil.copy(program, tmp_path / "sccache-twisted")
    cwd = source(tmp_path / "src")
    env = {"PATH": str(tools), "SCCACHE_SERVER_UDS": str(tmp_path / "d.sock")}
    for words in (["../sccache-twisted", "gcc", "-c", "a.c"], ["../links/gcc", "-c", "a.c"]):
        (tmp_path / "links").mkdir(exist_ok=True)
        if not (tmp_path / "links/gcc").exists():
            shutil.copy(program, tmp_path / "links/gcc")
        path = f"{tmp_path}/links:{tools}"
        ended = subprocess.run(words, cwd=cwd, env={**env, "PATH": path}, capture_output=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, b"")
        (cwd / "a.o").unlink()
    assert (
        subprocess.run(
            [tmp_path / "sccache-twisted", "--version"], env=env, capture_output=True, check=False
        ).returncode
        == 1
    )


class BlackHole:
    """A scheduler that takes connections and never says a word."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]

    def configuration(self, path: Path) -> dict[str, str]:
        path.write_text(f'[dist]\nschedulers = ["tcp://127.0.0.1:{self.port}"]\ninsecure = true\n')
        return {"SCCACHE_CONF": str(path)}

    def close(self) -> None:
        self._listening.close()


def waiting_launcher(own: Installation, tmp_path: Path) -> tuple[subprocess.Popen[bytes], Path, BlackHole]:
    """A launcher whose call is with the daemon, waiting for a scheduler."""
    hole = BlackHole()
    env = hole.configuration(tmp_path / "hole.toml")
    cwd = source(tmp_path / "src", "int a;\n")
    launcher = own.start("gcc", "-c", "a.c", cwd=cwd, env=env)
    wait_for(lambda: own.daemon_pid() and own.stats()["requests_executed"] == 1, "the call")
    return launcher, cwd, hole


def test_daemon_killed(own: Installation, tmp_path: Path) -> None:
    """Launchers whose daemon is killed compile for themselves, and the next one starts a new daemon."""
    launcher, cwd, hole = waiting_launcher(own, tmp_path)
    first = own.daemon_pid()
    own.end(signal.SIGKILL)
    _, stderr = launcher.communicate(timeout=20)
    assert (launcher.returncode, stderr) == (0, b"")
    assert (cwd / "a.o").exists()
    assert "went away" in own.log(), own.log()
    assert own.call("gcc", "-c", "a.c", cwd=cwd).returncode == 0
    assert own.daemon_pid() not in {None, first}
    hole.close()


def test_interrupt(own: Installation, tmp_path: Path) -> None:
    """^C ends a launcher by that signal, its call is cancelled, and the daemon stays."""
    launcher, cwd, hole = waiting_launcher(own, tmp_path)
    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=20)
    assert launcher.returncode == -signal.SIGINT
    assert not (cwd / "a.o").exists()
    assert own.query("ping")["pid"] == own.daemon_pid()
    hole.close()


def test_idle(own: Installation, tmp_path: Path) -> None:
    """A daemon that nobody has called for a while ends, and leaves no socket."""
    own.call("gcc", "--version", cwd=tmp_path, env={"SCCACHE_IDLE_TIMEOUT": "1"})
    wait_for(lambda: not own.socket.exists(), "the end of the daemon")
    assert own.daemon_pid() is None


def test_stop(own: Installation, tmp_path: Path) -> None:
    """A daemon that is asked to stop does."""
    own.call("gcc", "--version", cwd=tmp_path)
    assert own.query("stop")["pid"] > 0
    wait_for(lambda: own.daemon_pid() is None, "the end of the daemon")


def test_daemon_is_cut_off(own: Installation, tmp_path: Path) -> None:
    """The daemon has the root as its directory, no variable of Python's or of one call, and none of our descriptors."""
    reader, writer = os.pipe()
    env = {
        "PYTHONPATH": "/nowhere",
        "PYTHONOPTIMIZE": "1",
        "SCCACHE_NO_DIST": "1",
        "MAKEFLAGS": "-j --jobserver-auth=3,4",
    }
    own.call("gcc", "--version", cwd=tmp_path, env=env, pass_fds=[writer])
    os.close(writer)
    pid = own.daemon_pid()
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert not [entry for entry in environ if entry.startswith((b"PYTHON", b"SCCACHE_NO_DIST", b"MAKEFLAGS", b"PWD="))]
    assert os.read(reader, 1) == b"", "somebody still holds the pipe"
    os.close(reader)
    assert os.getsid(pid) != os.getsid(0)
