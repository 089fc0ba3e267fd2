"""The native launcher of an installation that came without one, built after its first call.

Knows where it belongs, ``<cache>/sccache-twisted/launcher/<machine>/<the script's directory>/<digest>``, and who may
build it: one process of many, which nobody waits for. Refuses to know how it is built. The script looks there at each
call. What was built for an earlier version or an installation that is gone is removed when a new one is in its place.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only its wrapper
import posix
import sys
import time

from sccache_twisted.launcher import main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

RETRY_SECONDS = 86400.0
BUILDING = (
    "import sys; sys.path.append(sys.argv[1]); from sccache_twisted.launcher import first_use; "
    "first_use.build(sys.argv[2], sys.argv[3])"
)


def begin(wanted: bytes, here: bytes, root: bytes, environ: main.Environment) -> None:
    """Have a native launcher built at ``wanted`` unless somebody is just doing so; comes back at once in any case.

    Where there is no place for one, the Python launcher goes on doing its work: ``doctor`` says why.
    """
    try:
        noted = posix.stat(parent(wanted) + b"/none").st_mtime
    except OSError:
        noted = 0.0
    if 0 <= time.time() - noted < RETRY_SECONDS or obstacle(wanted, here):
        return
    import fcntl

    try:
        lock = posix.open(parent(wanted), posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not main.is_program(wanted):
            start_building(lock, wanted, here, root, environ)
    except OSError:
        pass  # another one builds, or there can be no more processes
    finally:
        posix.close(lock)


def parent(path: bytes) -> bytes:
    """The directory that a path lies in."""
    return path.rpartition(b"/")[0]


def obstacle(wanted: bytes, here: bytes) -> str:
    """Why no launcher can be put there, after its directories were made: each ours alone to write; empty if it can."""
    if not main.is_program(here + b"/sccache-twisted-python"):
        return "there is no sccache-twisted-python beside the script"
    missing = []
    place = parent(wanted)
    while place and not exists(place):
        missing.append(place)
        place = parent(place)
    try:
        for path in (place or b"/", *reversed(missing)):
            if path in missing:
                make_private(path)
            found = posix.stat(path)
            # Root builds nothing in another's home, and nobody where others write.
            if found.st_uid != posix.geteuid() or found.st_mode & 0o022:
                return f"{path.decode('utf-8', 'replace')} is not the user's own, or others may write to it"
        if not posix.access(place if not missing else parent(wanted), posix.W_OK | posix.X_OK):
            return f"{place.decode('utf-8', 'replace')} can't be written to"
    except OSError as problem:
        return f"{place.decode('utf-8', 'replace')}: {problem.strerror}"
    return ""


def make_private(path: bytes) -> None:
    """A directory that only we can use, whatever the caller's mask says; it may be made by another just now."""
    umask = posix.umask(0o077)
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        return
    finally:
        posix.umask(umask)


def exists(path: bytes) -> bool:
    """Whether something lies there."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def start_building(lock: int, wanted: bytes, here: bytes, root: bytes, environ: main.Environment) -> None:
    """A process of its own that builds: nobody's child, with nothing of the caller's open but the lock."""
    environment = {b"PATH": environ.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin"), main.GUARD: here}
    words: list[str | bytes] = [sys.executable, "-I", "-S", "-X", "utf8", "-c", BUILDING, root, wanted, here]
    intermediate = posix.fork()
    if intermediate:
        posix.waitpid(intermediate, 0)
        return
    try:
        posix.setsid()
        if not posix.fork():
            become_builder(lock, words, environment)
    finally:
        posix._exit(0)  # noqa: SLF001 - what the caller's Python holds is the caller's to flush


def become_builder(lock: int, words: list[str | bytes], environ: main.Environment) -> NoReturn:
    """In the new process: leave the caller's world, limits and priority too."""
    import resource

    posix.chdir("/")
    posix.umask(0o077)
    posix.nice(10)
    null = posix.open("/dev/null", posix.O_RDWR)
    for descriptor in (0, 1, 2):
        posix.dup2(null, descriptor)
    posix.dup2(lock, 3)
    posix.set_inheritable(3, True)  # dup2 changes nothing where it is 3 already
    posix.closerange(4, max(4096, posix.sysconf("SC_OPEN_MAX")))
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            try:
                _, most = resource.getrlimit(getattr(resource, name))
                resource.setrlimit(getattr(resource, name), (most, most))
            except (OSError, ValueError):
                continue
    for number in main.DEFAULT_SIGNALS:
        _signal.signal(number, _signal.SIG_DFL)
    posix.execve(words[0], words, environ)
    raise AssertionError


def build(wanted_text: str, here_text: str) -> None:
    """Entry of the building process, which holds the lock until it ends."""
    import os
    import shutil

    from sccache_twisted.launcher import native

    wanted, here = os.fsencode(wanted_text), os.fsencode(here_text)
    place = parent(wanted)
    for name in os.listdir(place):
        if name.startswith(b".launcher-"):  # a builder's that was killed
            shutil.rmtree(place + b"/" + name, ignore_errors=True)
    link = place + b"/" + native.PYTHON_NAME
    if not os.path.islink(link):
        os.symlink(here + b"/" + native.PYTHON_NAME, link)
    try:
        native.build(wanted, dict(os.environb), mode=0o700)
    except (native.NotBuiltError, OSError) as problem:
        with open(place + b"/none", "w", encoding="utf-8") as noted:
            noted.write(f"{problem}\n")
        return
    forget_others(wanted, here)


def forget_others(wanted: bytes, here: bytes) -> None:
    """Remove what earlier versions of this installation built, and what was built for installations that are gone."""
    import os
    import shutil

    machine = parent(parent(wanted)).removesuffix(here)
    for place, _, names in os.walk(machine):
        link = place + b"/sccache-twisted-python"
        old = parent(place) == parent(parent(wanted)) and place != parent(wanted)
        if b"sccache-twisted-python" in names and (old or not os.path.exists(link)):
            shutil.rmtree(place, ignore_errors=True)
