"""What ``doctor`` looks at. Each check is a function without arguments where it can be, and gives a finding."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from sccache_twisted.config import ClientSettings, WorkerSettings
from sccache_twisted.config.files import read_settings, state_directory
from sccache_twisted.errors import SccacheTwistedError
from sccache_twisted.net.addresses import SchedulerAddress
from sccache_twisted.security import spki_pin

_SECONDS = 10.0
_LITTLE = 1 << 30
_TOO_LITTLE = 100 << 20
Settings = TypeVar("Settings")


class Grade(str, Enum):
    """How bad it is."""

    FINE = "fine"
    WORTH_KNOWING = "worth knowing"
    MISSING = "missing"


@frozen
class Finding:
    """One line of the answer; ``advice`` is what to do, empty when there is nothing to do."""

    subject: str
    grade: Grade
    sentence: str
    advice: str = ""


def python() -> Finding:
    """Python itself."""
    return Finding("Python", Grade.FINE, f"{platform.python_version()} at {sys.executable}.")


def plugins() -> Finding:
    """Whether twistd finds the three roles."""
    path = Path(sys.executable).parent / "twistd"
    if not path.exists():
        return Finding("twistd", Grade.MISSING, f"There is none beside {sys.executable}.", "pip install 'twisted[tls]'")
    found = _run([str(path), "--help"])
    lacking = [role for role in ("client", "scheduler", "worker") if f"sccache-{role}" not in found.stdout]
    if lacking:
        return Finding(
            "twistd",
            Grade.MISSING,
            f"{path} does not know sccache-{', sccache-'.join(lacking)}.",
            "Install the package beside it; from a checkout: pip install -e . --config-settings editable_mode=compat",
        )
    return Finding("twistd", Grade.FINE, f"{path} knows the three roles.")


def compilers() -> Iterator[Finding]:
    """Compilers that can be distributed."""
    found = [name for name in ("gcc", "g++", "clang", "clang++") if shutil.which(name)]
    if not found:
        yield Finding("compilers", Grade.MISSING, "No gcc and no clang is in PATH.", "apt-get install gcc g++")
        return
    for name in found:
        version = (_run([name, "--version"]).stdout.splitlines() or ["does not say its version"])[0]
        yield Finding(name, Grade.FINE, f"{version}.")


def configuration(role: str, kind: type[Settings]) -> tuple[Settings | None, Finding]:
    """A role's settings, and whether its file can be understood."""
    try:
        settings = read_settings(kind, None, os.environ)
    except SccacheTwistedError as error:
        return None, Finding(
            f"{role} configuration", Grade.MISSING, error.explained(), "docs/configuration.md has all keys."
        )
    return settings, Finding(f"{role} configuration", Grade.FINE, "can be read.")


def bubblewrap() -> Finding:
    """The program that confines jobs, new enough to forbid them namespaces of their own."""
    path = shutil.which("bwrap")
    if path is None:
        return Finding("bubblewrap", Grade.MISSING, "bwrap is not in PATH.", "apt-get install bubblewrap")
    if "--disable-userns" not in _run([path, "--help"]).stdout:
        return Finding("bubblewrap", Grade.MISSING, f"{path} is older than 0.8.", "Install bubblewrap 0.8 or newer.")
    return Finding("bubblewrap", Grade.FINE, f"{_run([path, '--version']).stdout.strip()} at {path}.")


def namespaces() -> Finding:
    """Whether a job can be confined here, tried with the flags that a job gets."""
    argv = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL", "--die-with-parent"]
    argv += ["--ro-bind", "/", "/", "true"]
    who = f"uid {os.getuid()}"
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            return Finding("namespaces", Grade.MISSING, "setpriv is not in PATH.", "apt-get install util-linux")
        argv = ["setpriv", "--reuid=2000000000", "--regid=2000000000", "--clear-groups", *argv]
        who = "a uid of its own"
    tried = _run(argv)
    if tried.returncode == 0:
        return Finding("namespaces", Grade.FINE, f"A job can be confined as {who}.")
    reason = (tried.stderr.strip().splitlines() or ["it gave no reason"])[-1]
    return Finding("namespaces", Grade.MISSING, f"A job cannot be confined as {who}: {reason}.", _namespace_advice())


def schedulers(settings: ClientSettings | WorkerSettings) -> Iterator[Finding]:
    """Whether each scheduler answers, with the key that its pin names. One that answers is enough."""
    tried = [(url, _unreachable(url)) for url in settings.schedulers]
    any_fine = any(not why for _, why in tried)
    for url, why in tried:
        subject = f"scheduler {url.partition('?')[0]}"
        if not why:
            yield Finding(subject, Grade.FINE, "answers, with the key that was promised.")
            continue
        grade = Grade.WORTH_KNOWING if any_fine else Grade.MISSING
        advice = "Is it running, and is the port open in the firewalls on the way?"
        if "another key" in why:
            advice = 'Ask for a new line of "sccache-twisted invite" there, and join again with --force.'
        yield Finding(subject, grade, why, advice)


def clock() -> Finding:
    """Whether files get the time that the clock shows: results of files from the future are never kept."""
    with tempfile.NamedTemporaryFile(dir=Path.cwd() if os.access(Path.cwd(), os.W_OK) else None) as file:
        file.write(b".")
        file.flush()
        apart = os.fstat(file.fileno()).st_mtime - time.time()
    if abs(apart) > 1.0:
        return Finding(
            "clock",
            Grade.WORTH_KNOWING,
            f"Files made here are {apart:+.0f} s off this machine's clock.",
            "Let both keep time by NTP: sources with times in the future are compiled, but never kept.",
        )
    newest = max(path.stat().st_mtime for path in Path(__file__).parent.glob("*.py"))
    if newest > time.time() + 60:
        return Finding("clock", Grade.WORTH_KNOWING, "It is earlier than this program's own files.", "Set it by NTP.")
    return Finding("clock", Grade.FINE, time.strftime("%Y-%m-%d %H:%M:%S %Z."))


def disk(client: ClientSettings | None, worker: WorkerSettings | None) -> Iterator[Finding]:
    """Room for packaged toolchains, worker stores and temporary files."""
    cache = client.cache_dir if client and client.cache_dir else ""
    cache = cache or f"{os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')}/sccache-twisted"
    directory = state_directory("worker", worker.directory if worker else "", os.environ, os.getuid())
    for subject, path in (
        ("disk for packaged toolchains", Path(cache)),
        ("disk for a worker", directory),
        ("disk for temporary files", Path(tempfile.gettempdir())),
    ):
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        free = shutil.disk_usage(there).free
        grade = Grade.FINE if free >= _LITTLE else Grade.WORTH_KNOWING if free >= _TOO_LITTLE else Grade.MISSING
        advice = "" if grade is Grade.FINE else f"Free some space below {there}, or configure another place."
        yield Finding(subject, grade, f"{free / 1e9:.1f} GB are free in {there}.", advice)


def daemon() -> Finding:
    """Whether a client daemon runs; none is fine, since it starts by itself."""
    from sccache_twisted.cli.daemon import peer_pid, running_daemon

    try:
        connection = running_daemon()
    except SccacheTwistedError as error:
        return Finding(
            "daemon", Grade.WORTH_KNOWING, error.explained(), "Remove its socket, or set SCCACHE_SERVER_UDS."
        )
    if connection is None:
        return Finding("daemon", Grade.FINE, "None is running; it starts with the first compilation.")
    with connection:
        return Finding("daemon", Grade.FINE, f"It is running, pid {peer_pid(connection)}.")


def _unreachable(url: str) -> str:
    """Why a scheduler can't be used, or nothing."""
    try:
        scheduler = SchedulerAddress.parse(url, insecure=True)
    except SccacheTwistedError as error:
        return error.explained()
    host, port = scheduler.address.host, scheduler.address.port
    try:
        with socket.create_connection((host, port), timeout=_SECONDS) as plain:
            if not scheduler.tls:
                return ""
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # the pin judges, below
            with context.wrap_socket(plain, server_hostname=host) as secure:
                certificate = secure.getpeercert(binary_form=True)
    except OSError as error:
        return f"It cannot be reached: {error.strerror or error}."
    if scheduler.pin and (certificate is None or spki_pin(certificate) != scheduler.pin):
        return "Something answers with another key than the pin names."
    return ""


def _namespace_advice() -> str:
    for name, wanted, advice in (
        ("kernel/unprivileged_userns_clone", "1", "sysctl kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "0", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
    ):
        path = Path("/proc/sys") / name
        if path.exists() and path.read_text(encoding="ascii").strip() != wanted:
            return f"Allow user namespaces: {advice}"
    return "Allow user namespaces: sysctl user.max_user_namespaces, or a container's seccomp profile."


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """A command's output; one that can't be run or does not end has failed, and says why on its stderr."""
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            cwd="/",
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(argv, 127, "", str(error))
