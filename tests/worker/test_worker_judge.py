"""Is this exit code the compiler's own?"""

import os
import platform
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from sccache_twisted.errors import JobKilled, SandboxFailed, WorkerFault, WorkerStorage
from sccache_twisted.model import Digest, JobId, Try
from sccache_twisted.worker.judge import Seen, judge
from sccache_twisted.worker.starter import starter_program
from sccache_twisted.worker.turns import Turns

PLENTY = 1 << 40


def seen(code=1, stderr=b"", **more):
    return Seen(
        exit_code=code, stderr=stderr, **{"signal": 0, "over": None, "oom_kills": 0, "free_bytes": PLENTY, **more}
    )


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        (seen(0), None),
        (seen(1, b"a.c:1:1: error: expected ';'\n"), None),
        (seen(1, b'a.c:1:2: error: #error "Killed signal terminated program"\n'), None),
        (seen(1, b"a.c:3: note: No space left on device is a string\n"), None),
        (seen(4, b"a.c:1:1: internal compiler error: Segmentation fault\n"), None),
        (seen(1, b"gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.\n"), JobKilled),
        (seen(1, b"x86_64-linux-gnu-g++-12: fatal error: Killed signal terminated program cc1plus\n"), JobKilled),
        (seen(254, b"clang: error: unable to execute command: Killed\n"), JobKilled),
        (seen(1, b"cc1plus: out of memory allocating 65536 bytes after a total of 1 bytes\n"), JobKilled),
        (seen(1, b"LLVM ERROR: out of memory\n"), JobKilled),
        (seen(1, b"virtual memory exhausted: Cannot allocate memory\n"), JobKilled),
        (seen(1, b"gcc: fatal error: cannot execute 'cc1': vfork: Resource temporarily unavailable\n"), JobKilled),
        (seen(1, b"/usr/bin/as: BFD 2.40: a.o: No space left on device\n"), WorkerStorage),
        (seen(1, b"a.c: fatal error: error writing to /tmp/cc.s: No space left on device\n"), WorkerStorage),
        (seen(1, b"x", free_bytes=1 << 20), WorkerStorage),
        (seen(1, b"gcc: internal compiler error: Illegal instruction signal terminated program cc1\n"), WorkerFault),
        (seen(1, oom_kills=1), JobKilled),
        (seen(0, oom_kills=1), None),
        (seen(137), JobKilled),
        (seen(139), JobKilled),
        (seen(0, over=JobKilled("too long")), JobKilled),
        (seen(1, oom_kills=1, over=WorkerStorage("almost full")), WorkerStorage),
        (seen(None, b"bwrap: execvp cc: No such file or directory\n"), SandboxFailed),
        (seen(None, signal=9), JobKilled),
        (seen(127), SandboxFailed),
        (seen(127, b"said something"), None),
    ],
)
def test_verdicts(what, verdict):
    """A killed compiler, a full disk and a broken sandbox are told from a compile error."""
    assert type(judge(what)) is (type(None) if verdict is None else verdict)


def test_a_sandbox_says_what_bubblewrap_said():
    """A sandbox that could not run the job says why, in bubblewrap's words."""
    assert "execvp cc" in str(judge(seen(None, b"bwrap: execvp cc: No such file or directory\n")))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_starter_is_what_its_comments_say(machine, tmp_path):
    """The starter's bytes are what an assembler makes of the instructions written beside them."""
    text = Path(starter_program.__code__.co_filename).read_text()
    lines = re.search(rf"_{machine.upper()}: Final = .*?\n(.*?)\n\)", text, re.DOTALL)[1].splitlines()
    code = [
        re.search(r"# (\S.*?)(?:  |$)", line)[1].replace("rax*8 + 16", "rax*8+16") for line in lines if "# " in line
    ]
    source = (".intel_syntax noprefix\n" if machine == "x86_64" else "") + "\n".join(code) + "\n"
    (tmp_path / "s.s").write_text(source)
    compile_it = ["clang", f"--target={machine}-linux-gnu", "-c", "s.s", "-o", "s.o"]
    subprocess.run(compile_it, cwd=tmp_path, check=True)
    copier = shutil.which("llvm-objcopy-14") or shutil.which("llvm-objcopy") or "objcopy"
    subprocess.run([copier, "-O", "binary", "--only-section=.text", "s.o", "s.bin"], cwd=tmp_path, check=True)
    program = starter_program(machine, 7, "6.1.0")
    assert program.endswith((tmp_path / "s.bin").read_bytes())
    assert program[120:136] == struct.pack("<QQ", 8, 8)
    assert starter_program(machine, 7, "5.10.0-28-amd64")[120:136] == b"\xff" * 16


def test_the_starter_starts(tmp_path):
    """The starter runs a program under another name and ends with 127 if it can't."""
    path = tmp_path / "starter"
    path.write_bytes(starter_program(platform.machine(), 4096, platform.release()))
    path.chmod(0o755)
    command = [path, "/bin/sh", "my name", "-c", 'echo "$0|$1|$X"', "zero", "one"]
    done = subprocess.run(command, env={"X": "y"}, capture_output=True, check=True)
    assert done.stdout == b"zero|one|y\n"
    shown = subprocess.run([path, "/bin/cat", "other", "/proc/self/cmdline"], capture_output=True, check=True)
    assert shown.stdout.split(b"\0")[0] == b"other"
    assert subprocess.run([path, "/nowhere", "x"], check=False).returncode == 127
    assert starter_program("pdp11", 1, "6.1") is None
    assert os.access(path, os.X_OK)


ONE, TWO = Try(JobId("1"), 1), Try(JobId("2"), 1)
TOOLCHAIN = Digest("0" * 64)


def test_turns_go_to_the_first_and_stay_while_bytes_come():
    """The first to ask uploads; it keeps its turn while enough bytes come, and loses it when too few do."""
    turns = Turns(claim_seconds=15, upload_seconds=30, upload_least_bytes=1000)
    assert turns.ask(0, TOOLCHAIN, ONE)
    assert not turns.ask(1, TOOLCHAIN, TWO)
    assert turns.begin(2, TOOLCHAIN, ONE)
    assert not turns.begin(2, TOOLCHAIN, TWO)
    assert not turns.ask(3, TOOLCHAIN, ONE)
    turns.received(TOOLCHAIN, ONE, 1000)
    assert turns.lost(40) == []
    turns.received(TOOLCHAIN, ONE, 999)
    assert turns.lost(69) == []
    assert turns.lost(70) == [(TOOLCHAIN, ONE)]
    assert turns.end(TOOLCHAIN, ONE)
    assert not turns.end(TOOLCHAIN, ONE)
    assert turns.ask(71, TOOLCHAIN, TWO)


def test_a_turn_that_is_not_begun_is_lost():
    """A turn that was given and not begun within claim_seconds may go to another."""
    turns = Turns(claim_seconds=15, upload_seconds=30, upload_least_bytes=1000)
    turns.ask(0, TOOLCHAIN, ONE)
    assert turns.lost(14) == []
    assert turns.lost(15) == [(TOOLCHAIN, ONE)]
