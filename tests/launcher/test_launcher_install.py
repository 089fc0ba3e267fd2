"""What installing gives: the native launcher out of a wheel, or after the first call, or the Python one and why."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launcher_kit import ROOT, wait_for

from sccache_twisted.launcher import native

ELF = b"\x7fELF"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is built from, where building may leave its traces."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    shutil.copytree(ROOT / "sccache_twisted", copy / "sccache_twisted", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "twisted", copy / "twisted", ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def wheel(checkout: Path, target: Path, **env: str) -> Path:
    words = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", str(target)]
    subprocess.run(words, cwd=checkout, env={**os.environ, **env}, check=True, capture_output=True, timeout=200)
    (made,) = target.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def pure(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel from a machine without a compiler."""
    empty = tmp_path_factory.mktemp("empty")
    return wheel(checkout, tmp_path_factory.mktemp("pure"), PATH=str(empty))


@pytest.fixture(scope="module")
def platform(checkout: Path, pure: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel from a machine with one; it is built after the pure one, out of the same directory."""
    return wheel(checkout, tmp_path_factory.mktemp("platform"))


class Venv:
    """A virtual environment with nothing but a wheel; what its launcher needs besides is found where the tests' is."""

    def __init__(self, prefix: Path, made: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
        words = ["-m", "pip", "--python", str(prefix / "bin/python3"), "install", "-q", "--no-deps", "--no-index"]
        subprocess.run([sys.executable, *words, str(made)], check=True, capture_output=True, timeout=100)
        (site,) = prefix.glob("lib/python3*/site-packages")
        theirs = next(path for path in sys.path if path.endswith("site-packages"))
        (site / "others.pth").write_text(f"{theirs}\n")
        self.launcher = prefix / "bin/sccache-twisted"


class User:
    """Somebody who uses one, at home in a directory of the test's."""

    def __init__(self, venv: Venv, home: Path) -> None:
        self.launcher = venv.launcher
        self.home = home
        self.environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "SCCACHE_SERVER_UDS": str(home / "d"),
        }

    def call(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.launcher, *words],
            env={**self.environ, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.home,
        )

    def compile(self, **env: str) -> None:
        """A call as builds make them, of a program that takes no time; there is no daemon that could be started."""
        ended = self.call("/bin/true", **env)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")

    def built(self) -> list[Path]:
        """The native launchers in the user's cache."""
        found = (self.home / "cache/sccache-twisted/launcher").rglob("sccache-twisted")
        return [path for path in found if path.is_file() and ".launcher-" not in str(path)]

    def doctor(self, **env: str) -> dict[str, str]:
        findings = json.loads(self.call("doctor", "--json", **env).stdout)
        (found,) = [finding for finding in findings if finding["subject"] == "launcher"]
        return dict(found)

    def settle(self) -> None:
        """Wait for whoever builds."""
        for place in (self.home / "cache/sccache-twisted/launcher").rglob(native.digest()):
            descriptor = os.open(place, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.close(descriptor)


@pytest.fixture(scope="module")
def installed(pure: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """The pure wheel, installed."""
    return Venv(tmp_path_factory.mktemp("installed") / "venv", pure)


@pytest.fixture
def user(installed: Venv, tmp_path: Path) -> Iterator[User]:
    """Somebody who has just installed it."""
    made = User(installed, tmp_path)
    yield made
    made.settle()


def test_wheel_with_the_program(platform: Path, pure: Path, tmp_path: Path) -> None:
    """A wheel from a machine with a compiler is one for that machine, and its program is the native launcher."""
    assert pure.name.endswith("-py3-none-any.whl")
    assert "-py3-none-linux_" in platform.name
    user = User(Venv(tmp_path / "venv", platform), tmp_path)
    assert user.launcher.read_bytes().startswith(ELF)
    user.compile()
    assert user.built() == []
    assert user.call("--version").stdout.endswith("(native launcher)\n")
    found = user.doctor()
    assert (found["grade"], found["sentence"]) == ("fine", f"native, at {user.launcher}.")
    # Its other name is the Python launcher in any case.
    other = user.launcher.with_name("sccache-twisted-python")
    ended = subprocess.run([other, "--version"], env=user.environ, capture_output=True, check=True)
    assert ended.stdout.endswith(b"(Python launcher)\n")


def test_first_use(user: User, tmp_path: Path) -> None:
    """After its first call a pure wheel's script becomes the native launcher, which only its user can write."""
    assert user.call("--version").stdout.endswith("(Python launcher)\n")
    (built,) = wait_for(user.built, "a native launcher")
    user.settle()
    assert built.parent.name == native.digest()
    assert (built.stat().st_mode & 0o777, built.parent.stat().st_mode & 0o777) == (0o700, 0o700)
    assert user.call("--version").stdout.endswith("(native launcher)\n")
    assert user.doctor()["sentence"] == f"native, at {built}."
    # Under the compiler's name as well: the answer is the compiler's.
    (tmp_path / "links").mkdir()
    (tmp_path / "links/gcc").symlink_to(user.launcher)
    env = {**user.environ, "PATH": f"{tmp_path}/links:/usr/bin:/bin"}
    linked = subprocess.run(["gcc", "--version"], env=env, capture_output=True, check=False)
    assert (linked.returncode, linked.stderr) == (0, b"")
    assert linked.stdout == subprocess.run(["/usr/bin/gcc", "--version"], capture_output=True, check=True).stdout


def compiler(directory: Path, body: str) -> str:
    """A PATH whose only C compiler is a script."""
    directory.mkdir()
    for name in ("sh", "readlink", "uname", "sleep", "cat", "chmod", "as", "ld"):
        (directory / name).symlink_to(f"/usr/bin/{name}")
    program = directory / "cc"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return str(directory)


def test_many_at_once(user: User, tmp_path: Path) -> None:
    """Of twenty first calls one has the launcher built; the others don't wait for it, nor does that one."""
    go = tmp_path / "go"
    os.mkfifo(go)
    runs = tmp_path / "runs"
    # Its own environment is none of theirs, and it waits until all of them have ended.
    body = (
        f'echo "$CFLAGS $LD_PRELOAD$CPATH $(umask) $PWD" >> {runs}; [ -e {tmp_path}/gone ] || read x < {go}\n'
        'exec /usr/bin/gcc "$@"'
    )
    path = compiler(tmp_path / "cc", body)
    env = {**user.environ, "PATH": path, "CFLAGS": "-O9", "CPATH": "/nowhere", "MAKEFLAGS": "--jobserver-auth=3,4"}
    reader, writer = os.pipe()
    words = [str(user.launcher), "/bin/true"]
    calls = [
        subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[writer], umask=0o777)
        for _ in range(20)
    ]
    os.close(writer)
    assert {(*call.communicate(timeout=100), call.returncode) for call in calls} == {(b"", b"", 0)}
    assert os.read(reader, 1) == b"", "the builder holds no descriptor of a caller's"
    os.close(reader)
    assert user.built() == []
    wait_for(runs.exists, "the compiler")
    (tmp_path / "gone").touch()
    go.write_text("go\n")
    (built,) = wait_for(user.built, "a native launcher")
    user.settle()
    (ran,) = runs.read_text().splitlines()
    assert ran.startswith("  0077 ")
    assert str(built.parent) in ran
    assert sorted(path.name for path in built.parent.iterdir()) == ["sccache-twisted", "sccache-twisted-python"]


def test_upgrade(user: User, tmp_path: Path) -> None:
    """Another version's launcher is built anew, and then the old one is removed, and that of an installation gone."""
    user.compile()
    (built,) = wait_for(user.built, "a native launcher")
    user.settle()
    old = built.parent.with_name("0" * 16)
    built.parent.rename(old)
    gone = old.parent.parent / "elsewhere" / ("1" * 16)
    gone.mkdir(parents=True)
    (gone / "sccache-twisted").write_text("old")
    (gone / "sccache-twisted-python").symlink_to("/nowhere/bin/sccache-twisted-python")
    user.compile()
    wait_for(lambda: user.built() == [built], "the new launcher alone")
    user.settle()
    assert not old.exists()
    assert not gone.exists()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("echo no such luck >&2; exit 1", "no such luck"),
        ("exit 0", "can't be told from other programs"),
        ('while [ "$1" != -o ]; do shift; done; echo garbage > "$2"; chmod +x "$2"', "can't be told"),
        ('while [ "$1" != -o ]; do shift; done; cat /usr/bin/true > "$2"; chmod +x "$2"', "can't be told"),
    ],
)
def test_bad_compiler(user: User, tmp_path: Path, body: str, why: str) -> None:
    """A compiler that fails or makes something else leaves the Python launcher at work, and ``doctor`` tells why."""
    path = compiler(tmp_path / "cc", body)
    user.compile(PATH=path)
    (note,) = wait_for(lambda: list((user.home / "cache").rglob("none")), "a note")
    user.settle()
    before = note.stat().st_mtime_ns
    found = user.doctor()
    assert found["grade"] == "worth knowing"
    assert "no native one could be built" in found["sentence"]
    assert why in found["sentence"]
    assert user.built() == []
    # Not again with each call, but the next day: a compiler may have come.
    user.settle()
    assert note.stat().st_mtime_ns == before
    os.utime(note, (time.time() - 100_000, time.time() - 100_000))
    user.compile()
    wait_for(user.built, "a native launcher")


def test_no_place(user: User) -> None:
    """Where the cache can't be made, or others may write to it, the Python launcher works and ``doctor`` tells why."""
    shared = user.home / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    for cache, why in ((Path("/dev/null"), "Not a directory"), (shared, "others may write to it")):
        user.compile(XDG_CACHE_HOME=str(cache))
        found = user.doctor(XDG_CACHE_HOME=str(cache))["sentence"]
        assert str(cache) in found, found
        assert why in found or cache == Path("/dev/null"), found
    assert list(shared.iterdir()) == []
    user.compile(HOME="", XDG_CACHE_HOME="")


@pytest.mark.parametrize("body", ["sleep 100 & echo $! > $0.child; wait", "exec cat /dev/zero >&2"])
def test_endless_compiler(tmp_path: Path, body: str) -> None:
    """A compiler that hangs is ended with its children, one that writes without end fills no disk."""
    path = os.fsencode(compiler(tmp_path / "cc", body))
    with pytest.raises(native.NotBuiltError):
        native.build(os.fsencode(tmp_path / "launcher"), {b"PATH": path}, seconds=1.0)
    child = tmp_path / "cc/cc.child"
    if child.exists():
        wait_for(lambda: not Path(f"/proc/{child.read_text().strip()}/exe").exists(), "the end of the child")
    assert [entry.name for entry in tmp_path.iterdir()] == ["cc"]


def test_passes_over_wrappers(tmp_path: Path) -> None:
    """The launcher is never built through ourselves or another compiler wrapper that comes first on PATH."""
    first = tmp_path / "first"
    first.mkdir()
    (first / "ccache").write_text("#!/bin/sh\nexit 1\n")
    (first / "ccache").chmod(0o755)
    (first / "cc").symlink_to("ccache")
    shutil.copy(native.SCRIPT, first / "gcc")
    found = list(native.compilers({b"PATH": b"%b:relative:/usr/bin" % os.fsencode(first)}))
    assert b"/usr/bin/cc" in found or b"/usr/bin/gcc" in found
    assert not [path for path in found if not path.startswith(b"/usr/bin/")]


def test_not_for_another_machine(tmp_path: Path) -> None:
    """A program for another kind of machine is not taken, even where an emulator would run it."""
    target = tmp_path / "launcher"
    native.build(os.fsencode(target), dict(os.environb))
    data = bytearray(target.read_bytes())
    data[18] ^= 0xFF
    target.write_bytes(data)
    wrong = native.flaw(os.fsencode(target), os.fsencode(tmp_path), {}, time.monotonic() + 10)
    assert wrong == "what it makes is for another kind of machine"
