"""What launchers say to a daemon and make of its answers, good, hostile and cut short."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from launcher_kit import ROOT, Installation, wait_for
from stub_daemon import StubDaemon

from sccache_twisted.launcher import main
from sccache_twisted.wire.launcher import Answer, Completed, Done, LaunchRequest, Query, RunInSlot, RunYourself, encode

SOURCE = ROOT / "sccache_twisted/launcher/launcher.c"


@pytest.fixture
def alone(program: Path, tmp_path: Path) -> Installation:
    """An installation whose only daemon is the test's."""
    return Installation(tmp_path / "prefix", program, twistd=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with something to compile."""
    cwd = tmp_path / "src"
    cwd.mkdir()
    (cwd / "a.c").write_text("int a;\n")
    return cwd


def number(value: int) -> bytes:
    return struct.pack(">I", value)


def field(data: bytes) -> bytes:
    return number(len(data)) + data


def frame(body: bytes) -> bytes:
    return field(body)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_builds_without_a_warning(compiler: str, tmp_path: Path) -> None:
    """The native launcher is C11 without a word from a strict compiler."""
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    ended = subprocess.run(
        [compiler, *flags, "-c", "-o", tmp_path / "launcher.o", SOURCE], capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_both_know_the_same_words() -> None:
    """The two launchers have one list each of their names, their commands and other wrappers."""
    text = SOURCE.read_text()
    for name, words in (
        ("myself", main.MYSELF - {b"sccache-twisted-python"}),
        ("subcommands", main.SUBCOMMANDS),
        ("wrappers", main.WRAPPERS),
    ):
        line = text.split(f"{name}[] = {{", 1)[1].split(", NULL}", 1)[0]
        assert {word.strip('"').encode() for word in line.split(", ")} == words, name


def test_request(alone: Installation, source: Path) -> None:
    """A launcher tells its command line, directory, mask and environment as they are, bytes that are no text too."""
    env = {os.fsencode(name): os.fsencode(value) for name, value in alone.environ.items()}
    env |= {b"ODD": b"\xff=\xfe", b"EMPTY": b"", b"LC_CTYPE": b"C"}
    with StubDaemon(alone.socket, encode(Done(0, b"", b""))) as daemon:
        subprocess.run(
            [alone.launcher, "gcc", b"-D\xff", "", "a.c"], cwd=source, env=env, umask=0o027, check=True, timeout=60
        )
    (heard,) = daemon.heard
    assert isinstance(heard, LaunchRequest)
    assert heard.argv == (b"gcc", b"-D\xff", b"", b"a.c")
    assert (heard.cwd, heard.umask, heard.stderr_is_tty) == (os.fsencode(source), 0o027, False)
    # A shell that runs the script may add where it is.
    told = {entry for entry in heard.env if not entry.startswith((b"PWD=", b"OLDPWD=", b"_="))}
    assert told == {name + b"=" + value for name, value in env.items()}


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A directory for sockets: their paths have at most 107 bytes, and a test's own may be longer."""
    with tempfile.TemporaryDirectory(prefix="sctl-", dir="/tmp") as directory:
        yield Path(directory)


def test_socket_of_a_configuration(program: Path, tmp_path: Path, runtime: Path, source: Path) -> None:
    """Both look for the daemon at the same place: named after the absolute path of the configuration."""
    alone = Installation(tmp_path / "prefix", program, twistd=False)
    del alone.environ["SCCACHE_SERVER_UDS"]
    env = {"XDG_RUNTIME_DIR": str(runtime), "SCCACHE_CONF": "c.toml"}
    path = Path(
        os.fsdecode(
            main.socket_path(
                {b"XDG_RUNTIME_DIR": os.fsencode(runtime), b"SCCACHE_CONF": b"%b/c.toml" % os.fsencode(source)}
            )
        )
    )
    path.parent.mkdir(mode=0o700)
    with StubDaemon(path, encode(Done(3, b"found", b""))):
        ended = alone.call("gcc", "-c", "a.c", cwd=source, env=env)
    assert (ended.returncode, ended.stdout) == (3, b"found")


def test_done(alone: Installation, source: Path) -> None:
    """An answer is shown to the byte, however long, and its status returned."""
    out, err = bytes(range(256)) * 8192, b"warning\n" * 100_000
    with StubDaemon(alone.socket, encode(Done(42, out, err))):
        ended = alone.call("gcc", "-c", "a.c", cwd=source)
    assert (ended.returncode, ended.stdout, ended.stderr) == (42, out, err)


def test_run_yourself(alone: Installation, source: Path) -> None:
    """A launcher that is told so shows the note and becomes the compiler, under the name that it is told."""
    answer = encode(RunYourself(b"/bin/sh", (b"other", b"-c", b'echo "$0 $1"', b"zero", b"one"), "why", b"note\n"))
    with StubDaemon(alone.socket, answer):
        ended = alone.call("gcc", "-c", "a.c", cwd=source)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"zero one\n", b"note\n")


def test_run_yourself_what_is_not_there(alone: Installation, source: Path) -> None:
    """A program that can't be run is named, and the status is the shell's."""
    for path, status in ((b"/nowhere/gcc", 127), (b"/etc/passwd", 126)):
        with StubDaemon(alone.socket, encode(RunYourself(path, (b"gcc",), "why"))):
            ended = alone.call("gcc", "-c", "a.c", cwd=source)
        alone.socket.unlink()
        assert ended.returncode == status
        assert path in ended.stderr


LOUD = b"head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; exit 9"


def test_run_in_slot(alone: Installation, source: Path) -> None:
    """What a compiler prints in a slot is reported, both streams at once and long; what comes back is shown."""
    ask = encode(RunInSlot(0, b"/bin/sh", (b"sh", b"-c", LOUD)))
    with StubDaemon(alone.socket, ask, encode(Done(1, b"instead", b"of it"))) as daemon:
        ended = alone.call("gcc", "-c", "a.c", cwd=source)
    assert daemon.heard[1] == Completed(9, bytes(3_000_000), bytes(3_000_000))
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"instead", b"of it")


def test_slot_is_held(alone: Installation, source: Path) -> None:
    """The compiler in a slot holds its lock by an inherited descriptor; one below it finds that it has one already."""
    script = (
        b"readlink /proc/self/fd/* | grep -c /slots/; SCCACHE_SERVER_UDS=$PWD/no.sock exec %b sh -c true"
        % os.fsencode(alone.launcher)
    )
    ask = encode(RunInSlot(0, b"/bin/sh", (b"sh", b"-c", script)))
    with StubDaemon(alone.socket, ask, b"") as daemon:
        ended = alone.call("gcc", "-c", "a.c", cwd=source, env={"SCCACHE_LOCAL_SLOTS": "1"})
    assert ended.stdout == b"1\n"
    assert isinstance(daemon.heard[1], Completed)


@pytest.mark.parametrize("answer", [b"", number(9), frame(b"Dnonsense"), frame(b"Z")])
def test_lost_after_the_compiler_ran(alone: Installation, source: Path, answer: bytes) -> None:
    """A compilation that the daemon does not answer for any more is shown as it was, and not run twice."""
    script = b"echo run >> ran; echo out; echo err >&2; exit 5"
    with StubDaemon(alone.socket, encode(RunInSlot(0, b"/bin/sh", (b"sh", b"-c", script))), answer):
        ended = alone.call("gcc", "-c", "a.c", cwd=source)
    assert (ended.returncode, ended.stdout, ended.stderr) == (5, b"out\n", b"err\n")
    assert (source / "ran").read_text() == "run\n"


def test_ignored_signals_stay_ignored(alone: Installation, source: Path) -> None:
    """What the caller ignores (nohup) neither ends the launcher nor reaches the compiler."""
    script = b"echo $$ > pid; read x < fifo; echo went on"
    os.mkfifo(source / "fifo")
    ask = encode(RunInSlot(0, b"/bin/sh", (b"sh", b"-c", script)))
    with StubDaemon(alone.socket, ask, b""):
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            launcher = alone.start("gcc", "-c", "a.c", cwd=source)
        finally:
            signal.signal(signal.SIGHUP, before)
        wait_for(lambda: (source / "pid").exists() and (source / "pid").read_text().strip(), "the compiler")
        launcher.send_signal(signal.SIGHUP)
        (source / "fifo").write_text("go\n")
        stdout, _ = launcher.communicate(timeout=20)
    assert (launcher.returncode, stdout) == (0, b"went on\n")


def test_closed_standard_streams(alone: Installation, source: Path) -> None:
    """A caller without standard streams gets its object; nothing of ours is written or held in their place."""
    ask = encode(RunInSlot(0, b"/bin/sh", (b"sh", b"-c", b"echo made > a.o")))
    with StubDaemon(alone.socket, ask, encode(Done(0, b"out", b"err"))) as daemon:
        words = ["sh", "-c", 'exec "$0" gcc -c a.c <&- >&- 2>&-', alone.launcher]
        assert subprocess.run(words, cwd=source, env=alone.environ, check=False, timeout=60).returncode == 0
    assert (source / "a.o").read_text() == "made\n"
    assert daemon.heard[1:] == [Completed(0, b"", b"")]


HOSTILE = {
    "nothing": b"",
    "half a length": b"\0\0",
    "an empty frame": number(0),
    "a length beyond all bounds": b"\xff" * 4 + b"D",
    "a huge length": number(0x7FFFFFFF) + b"D" + bytes(200_000),
    "a frame cut short": number(100) + b"D" + field(b"0"),
    "a kind alone": frame(b"D"),
    "an unknown kind": frame(b"Z"),
    "zeros": frame(bytes(5000)),
    "ones": frame(b"D" + b"\xff" * 5000),
    "a field over the end": frame(b"D" + field(b"0") + number(500) + b"short"),
    "a huge field": frame(b"D" + field(b"0") + field(b"") + number(0xFFFFFFFF)),
    "a status that is no number": frame(b"D" + field(b"-1") + field(b"shown") + field(b"")),
    "a status without digits": frame(b"D" + field(b"") + field(b"shown") + field(b"")),
    "a long status": frame(b"D" + field(b"1" * 100) + field(b"shown") + field(b"")),
    "bytes behind the end": frame(b"D" + field(b"0") + field(b"shown") + field(b"") + b"more"),
    "no command": frame(b"X" + field(b"/bin/sh") + number(0) + field(b"") + field(b"shown")),
    "a huge command": frame(b"X" + field(b"/bin/sh") + number(0xFFFFFFFF) + field(b"sh")),
    "a zero byte in a word": frame(
        b"X" + field(b"/bin/sh") + number(1) + field(b"s\0h") + field(b"") + field(b"shown")
    ),
    "no note": frame(b"X" + field(b"/bin/sh") + number(1) + field(b"sh") + field(b"")),
    "a slot that is no number": frame(b"S" + field(b"one") + field(b"/bin/sh") + number(1) + field(b"sh")),
    "no slot command": frame(b"S" + field(b"0") + field(b"/bin/sh") + number(0)),
    "our own words": frame(b"R" + field(b"1")),
}


@pytest.fixture(params=["python", "checked"])
def wary(request: pytest.FixtureRequest, checked: Path, tmp_path: Path) -> Installation:
    """Both launchers; the native one ends with a report when it touches what is not its own."""
    program = checked if request.param == "checked" else ROOT / "sccache_twisted/launcher/sccache-twisted"
    made = Installation(tmp_path / "prefix", program, twistd=False)
    made.environ["ASAN_OPTIONS"] = "exitcode=99:detect_leaks=0"
    return made


def test_hostile_answers(wary: Installation, source: Path) -> None:
    """Of an answer that makes no sense nothing is shown or run: the launcher compiles, and notes why."""
    for said, answer in HOSTILE.items():
        with StubDaemon(wary.socket, answer) as daemon:
            ended = wary.call("gcc", "-c", "a.c", cwd=source)
        wary.socket.unlink()
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b""), said
        assert len(daemon.heard) == 1, f"{said}: the daemon is asked once"
        (source / "a.o").unlink()
    assert wary.log().count("the daemon went away") == len(HOSTILE)


def test_good_answers_under_the_sanitizers(checked: Path, tmp_path: Path, source: Path) -> None:
    """Nor does the native launcher touch what is not its own when all goes well."""
    ours = Installation(tmp_path / "prefix", checked, twistd=False)
    ours.environ["ASAN_OPTIONS"] = "exitcode=99:detect_leaks=0"
    ask = encode(RunInSlot(7, b"/bin/sh", (b"sh", b"-c", LOUD)))
    for answers, status in (
        ((encode(Done(0, bytes(300_000), b"x")),), 0),
        ((encode(RunYourself(b"/bin/sh", (b"sh", b"-c", b"exit 3"), "why", b"x")),), 3),
        ((ask, encode(Done(4, b"", b"x"))), 4),
    ):
        with StubDaemon(ours.socket, *answers):
            ended = ours.call("gcc", "-c", "a.c", cwd=source)
        ours.socket.unlink()
        assert (ended.returncode, ended.stderr) == (status, b"x")
    links = tmp_path / "links"
    links.mkdir()
    (links / "gcc").symlink_to(ours.launcher)
    env = {"PATH": f"{links}::/usr/bin:/bin", "_SCCACHE_TWISTED_RUNNING": "/usr/bin/x:/bin/y"}
    ended = ours.call("gcc", "-c", "a.c", cwd=source, env=env)
    assert (ended.returncode, ended.stderr) == (0, b"")


# --- silence ---------------------------------------------------------------------------------------


@pytest.fixture
def stopped(alone: Installation) -> Iterator[Callable[[], None]]:
    """A daemon's socket as a stopped daemon has it: it takes callers and says nothing. Its queue can be filled."""
    alone.environ["SCCACHE_DAEMON_SILENCE"] = "1"
    with contextlib.ExitStack() as callers:
        listening = callers.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(alone.socket))
        listening.listen(5)

        def fill() -> None:
            for _ in range(6):
                callers.enter_context(socket.socket(socket.AF_UNIX)).connect(str(alone.socket))

        yield fill


@pytest.mark.parametrize("crowd", [False, True], ids=["", "its queue full"])
def test_stopped_daemon(alone: Installation, source: Path, stopped: Callable[[], None], crowd: bool) -> None:
    """A daemon that says nothing and answers no question is given up: the launcher compiles, and the next at once."""
    if crowd:
        stopped()
    for _ in range(2):
        ended = alone.call("gcc", "-c", "a.c", cwd=source)
        assert (ended.returncode, ended.stderr) == (0, b"")
        (source / "a.o").unlink()
    assert alone.log().count("the daemon is silent") == 2
    assert Path(f"{alone.socket}.stuck").exists()


def test_stopped_daemon_reads_nothing(alone: Installation, source: Path, stopped: Callable[[], None]) -> None:
    """It is given up as well when it does not even take the whole request."""
    long = {f"LONG_{number}": "x" * 100_000 for number in range(10)}
    assert alone.call("gcc", "-c", "a.c", cwd=source, env=long).returncode == 0
    assert "the daemon is silent" in alone.log()


def test_slow_daemon(alone: Installation, source: Path) -> None:
    """A daemon that says nothing but answers questions is waited for, and forgotten to have been stopped."""
    alone.environ["SCCACHE_DAEMON_SILENCE"] = "1"
    stuck = Path(f"{alone.socket}.stuck")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(alone.socket))
        listening.listen()
        listening.settimeout(20)
        stuck.touch()
        launcher = alone.start("gcc", "-c", "a.c", cwd=source)
        call, _ = listening.accept()
        for _ in range(2):
            question, _ = listening.accept()
            with question:
                assert question.recv(100) == encode(Query("ping"))
                question.sendall(encode(Answer("{}")))
        with call:
            call.sendall(encode(Done(7, b"at last", b"")))
            stdout, _ = launcher.communicate(timeout=20)
    assert (launcher.returncode, stdout) == (7, b"at last")
    assert not stuck.exists()


def test_real_daemon_stopped(program: Path, tmp_path: Path, source: Path) -> None:
    """Calls of a daemon under SIGSTOP compile by themselves; when it goes on they are its own again."""
    served = Installation(tmp_path / "prefix", program)
    served.environ["SCCACHE_DAEMON_SILENCE"] = "2"
    served.call("gcc", "--version", cwd=source)
    pid = served.daemon_pid()
    assert pid is not None
    before = served.stats()["compile_requests"]
    try:
        os.kill(pid, signal.SIGSTOP)
        assert served.call("gcc", "-c", "a.c", cwd=source).returncode == 0
        (source / "a.o").unlink()
        os.kill(pid, signal.SIGCONT)
        assert served.call("gcc", "-c", "a.c", "-o", "b.o", cwd=source).returncode == 0
        wait_for(lambda: served.stats()["compile_requests"] >= before + 1, "the call")
        assert served.log().count("the daemon is silent") == 1
        assert not (source / "a.o").exists()
    finally:
        os.kill(pid, signal.SIGCONT)
        served.end()
