"""What a call needs only sometimes: starting the daemon, waiting for a local slot, running our commands.

Local slots are files under ``/tmp/sccache-twisted-<uid>/slots``; holding a flock on one is holding the slot. A
program keeps its slot by inheriting the locked descriptor, so a slot is held for exactly as long as anything runs
in it, whoever dies meanwhile.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only its wrapper
import _socket
import fcntl
import os
import select
import sys
import time
from typing import NoReturn

from sccache_twisted.launcher import main

START_SECONDS = 10.0
POLL_SECONDS = 0.01
FAILED_RECENTLY_SECONDS = 5.0
ENDING_SIGNALS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
PATH_VARIABLES = (b"SCCACHE_CONF", b"SCCACHE_DIR", b"SCCACHE_DIST_CACHE_DIR", b"SCCACHE_ERROR_LOG")
ONE_CALL_ONLY = (
    b"SCCACHE_RECACHE",
    b"SCCACHE_NO_CACHE",
    b"SCCACHE_NO_DIST",
    b"MAKEFLAGS",
    b"MFLAGS",
    b"MAKELEVEL",
    b"MAKE_TERMOUT",
    b"MAKE_TERMERR",
    b"PWD",
    b"OLDPWD",
    b"_",
    main.GUARD,
    main.CAME_BY,
)


# --- starting the daemon ---------------------------------------------------------------------------


def start(path: bytes, environ: main.Environment, here: bytes) -> _socket.socket:
    """Start the daemon unless another launcher is just doing so, and connect to it; Lost after ten seconds."""
    if os.path.dirname(path) == main.home_directory(environ):
        private_directory(os.path.dirname(path))
    deadline = time.monotonic() + START_SECONDS
    starting = os.open(path + b".start", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while not locked(starting):
            time.sleep(POLL_SECONDS * 2.5)
            connection = main.knock(path)
            if connection is not None:
                return connection
            if time.monotonic() > deadline:
                raise main.Lost("another launcher has been starting the daemon for too long")
        connection = main.knock(path)
        if connection is not None:
            return connection
        refuse_after_failure(starting)
        try:
            return started(path, environ, here, deadline)
        except (main.Lost, OSError):
            os.pwrite(starting, b"%.3f" % time.clock_gettime(time.CLOCK_BOOTTIME), 0)
            raise
    finally:
        os.close(starting)


def private_directory(path: bytes) -> None:
    """Make a directory that only we can use, or see that it is one."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if found.st_mode & 0o170077 != 0o040000 or found.st_uid != os.getuid():
            raise main.Lost(f"{path!r} is not a directory of ours with mode 0700; remove it") from None


def locked(descriptor: int) -> bool:
    """Take a file's lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def refuse_after_failure(starting: int) -> None:
    """A daemon that failed to start just now is not tried again by each of a hundred launchers.

    Neither is one that has failed since the launcher was called, however busy the machine is.
    """
    failed = os.pread(starting, 64, 0)
    if not failed:
        return
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - float(failed)
    if 0 <= since < max(FAILED_RECENTLY_SECONDS, called_before()):
        raise main.Lost("the daemon failed to start a moment ago")


def called_before() -> float:
    """How many seconds ago this process began, maybe as another program (proc(5))."""
    with open("/proc/self/stat", "rb") as told:
        began = int(told.read().rpartition(b")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")


def started(path: bytes, environ: main.Environment, here: bytes, deadline: float) -> _socket.socket:
    """Start a daemon and wait until it answers, or has ended."""
    folders = (os.path.dirname(os.fsencode(sys.executable)), here)
    twistd = next((name for name in (folder + b"/twistd" for folder in folders) if os.path.exists(name)), None)
    if twistd is None:
        raise main.Lost(f"there is no twistd beside {sys.executable}")
    daemon = os.pidfd_open(spawn_daemon(os.path.abspath(twistd), path, environ))
    try:
        while time.monotonic() < deadline:
            ended = select.select([daemon], [], [], POLL_SECONDS)[0]
            connection = main.knock(path)
            if connection is not None:
                return connection
            if ended:
                raise main.Lost(f"the daemon ended at its start; see {path.decode('utf-8', 'replace')}.log")
    finally:
        os.close(daemon)
    raise main.Lost(f"the daemon did not answer in {START_SECONDS:.0f} s; see {path.decode('utf-8', 'replace')}.log")


def spawn_daemon(twistd: bytes, path: bytes, environ: main.Environment) -> int:
    """Start twistd as nobody's child, in no terminal and with nothing of ours open; its pid."""
    cleaned = daemon_environment(path, environ)
    reader, writer = os.pipe()
    intermediate = os.fork()
    if intermediate:
        os.close(writer)
        text = os.read(reader, 16)
        os.close(reader)
        os.waitpid(intermediate, 0)
        return int(text)
    try:
        os.setsid()
        daemon = os.fork()
        if daemon:
            os.write(writer, b"%d" % daemon)
            os._exit(0)
        become_daemon(twistd, path, cleaned)
    finally:
        os._exit(1)


def become_daemon(twistd: bytes, path: bytes, environ: main.Environment) -> NoReturn:
    """In the new process: leave the caller's world and become twistd."""
    os.chdir("/")
    os.umask(0o077)
    log = open_log(path)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for number in main.DEFAULT_SIGNALS:
        _signal.signal(number, _signal.SIG_DFL)
    os.execve(twistd, [twistd, b"--nodaemon", b"--pidfile=", b"sccache-client"], environ)


def open_log(path: bytes) -> int:
    """The log of the daemon that has its socket at ``path``, to append to."""
    return os.open(path + b".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)


def daemon_environment(path: bytes, environ: main.Environment) -> main.Environment:
    """The caller's environment without what belongs to this call or to its Python."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in ONE_CALL_ONLY and not name.startswith((b"PYTHON", b"COV_CORE", b"PYTEST"))
    }
    for name in PATH_VARIABLES:
        if kept.get(name):
            kept[name] = main.absolute(kept[name])
    kept[b"SCCACHE_SERVER_UDS"] = path
    return kept


# --- local slots -----------------------------------------------------------------------------------


def slot_directory() -> bytes:
    """Where the user's slots are; Lost if somebody else owns the place."""
    base = b"/tmp/sccache-twisted-%d" % os.getuid()
    private_directory(base)
    private_directory(base + b"/slots")
    return base + b"/slots"


def slot_count(environ: main.Environment) -> int:
    """How many there are: as the daemon noted beside its socket, else SCCACHE_LOCAL_SLOTS, else the cores."""
    try:
        with open(main.socket_path(environ) + b".slots", "rb") as noted:
            text = noted.read(16)
    except OSError:
        text = environ.get(b"SCCACHE_LOCAL_SLOTS", b"")
    count = int(text) if text.strip().isdigit() else 0
    return count or len(os.sched_getaffinity(0))


def take_slot(environ: main.Environment, first: int = 0) -> None:
    """Wait until a slot is ours, preferably number ``first``. The descriptor stays open and is inherited.

    Those who wait queue for one more lock, the turnstile, and only its holder polls the slots: a free slot is
    found within milliseconds, and a hundred waiting launchers cost no more than one.
    """
    directory = slot_directory()
    if holds_slot(directory):
        return
    count = slot_count(environ)
    slots = [open_lock(directory + b"/%d" % ((first + number) % count)) for number in range(count)]
    taken = first_free(slots)
    if taken is None:
        turnstile = open_lock(directory + b"/turnstile")
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        while (taken := first_free(slots)) is None:
            time.sleep(POLL_SECONDS / 2)
        os.close(turnstile)
    for slot in slots:
        if slot != taken:
            os.close(slot)
    os.set_inheritable(taken, True)


def open_lock(path: bytes) -> int:
    """A descriptor of a lock file, which is made if it isn't there."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def first_free(slots: list[int]) -> int | None:
    """Lock the first slot that nobody holds."""
    return next((slot for slot in slots if locked(slot)), None)


def holds_slot(directory: bytes) -> bool:
    """Whether we run inside of a slot already, below a compiler that calls compilers."""
    for name in os.listdir(b"/proc/self/fd"):
        try:
            target = os.readlink(b"/proc/self/fd/" + name)
        except OSError:
            continue
        if target.startswith(directory + b"/"):
            return True
    return False


def alone(argv: list[bytes], environ: main.Environment, why: str) -> NoReturn:
    """Without a daemon: wait for a slot and become the compiler. The reason goes to the daemon's log.

    A person who watches is told at once that nothing is distributed; a program that reads the compiler's messages,
    a configure script for instance, gets the compiler's messages and nothing else.
    """
    sentence = f"{why}; running {argv[0].decode('utf-8', 'replace')} without it"
    note(environ, sentence)
    if os.isatty(2):
        os.write(2, f"sccache-twisted: {sentence}\n".encode("utf-8", "replace"))
    try:
        take_slot(environ)
    except (OSError, main.Lost) as problem:
        note(environ, f"no local slots: {problem}")
    main.execute(*main.resolve(argv, environ), environ)


def note(environ: main.Environment, sentence: str) -> None:
    """Add a line to the daemon's log, if there is a place for it."""
    line = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} [launcher#info] pid {os.getpid()}: {sentence}\n"
    path = main.socket_path(environ)
    try:
        if os.path.dirname(path) == main.home_directory(environ):
            private_directory(os.path.dirname(path))
        log = open_log(path)
    except (OSError, main.Lost):
        return
    os.write(log, line.encode("utf-8", "replace"))
    os.close(log)


def in_slot(
    connection: _socket.socket, number: int, executable: bytes, argv: list[bytes], environ: main.Environment
) -> NoReturn:
    """Do as an ``S`` answer says: run the compiler as our child in a slot, report, show what comes back."""
    try:
        take_slot(environ, number)
    except (OSError, main.Lost) as problem:
        note(environ, f"no local slots: {problem}")
    try:
        status, streams = run_child(executable, argv, environ)
    except OSError:
        main.execute(executable, argv, environ)
    report = main.as_field(b"%d" % status) + main.as_field(streams[0]) + main.as_field(streams[1])
    try:
        kind, *said = main.understood(main.ask(connection, b"C" + report))
    except (OSError, ValueError, main.Lost):
        kind = b""
    if kind == b"D":
        main.done(*said)
    main.done(status, *streams)


def run_child(executable: bytes, argv: list[bytes], environ: main.Environment) -> tuple[int, list[bytes]]:
    """Run it with everything of ours but its output, which is kept: the shell's status, and both streams.

    Its output goes to memory files and not to pipes: nothing can fill up, and a grandchild that stays behind holds
    nobody. Signals that ask us to end are passed on, and then end us too.
    """
    files = [os.memfd_create("stdout"), os.memfd_create("stderr")]
    asked: list[int] = []
    child = 0

    def pass_on(number: int, _frame: object) -> None:
        asked.append(number)
        if child:
            os.kill(child, number)

    # Before the child starts: a signal that comes in between must not end us and leave the child behind.
    passed = [number for number in ENDING_SIGNALS if _signal.getsignal(number) is not _signal.SIG_IGN]
    for number in passed:
        _signal.signal(number, pass_on)
    child = os.posix_spawn(
        executable,
        argv,
        main.guarded(executable, environ),
        file_actions=[(os.POSIX_SPAWN_DUP2, files[0], 1), (os.POSIX_SPAWN_DUP2, files[1], 2)],
        setsigdef=main.DEFAULT_SIGNALS,
    )
    for number in tuple(asked):
        os.kill(child, number)
    # Not reaped yet while signals may still be passed on: its number must not become another's.
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    ended, child = child, 0
    _, status = os.waitpid(ended, 0)
    for number in passed:
        _signal.signal(number, _signal.SIG_DFL)
    if asked:
        os.kill(os.getpid(), asked[0])
    code = os.waitstatus_to_exitcode(status)
    return (128 - code if code < 0 else code), [os.pread(file, os.fstat(file).st_size, 0) for file in files]


# --- our commands ----------------------------------------------------------------------------------


def command(words: list[bytes], environ: main.Environment) -> NoReturn:
    """Become the command line tool. Not ``-I``: a package of the user's own site must be found, but never the cwd."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(main.__file__))))
    code = (
        "import sys, runpy; sys.path[0] = sys.argv.pop(1); "
        "runpy.run_module('sccache_twisted.cli', run_name='__main__', alter_sys=True)"
    )
    os.execve(sys.executable, [sys.executable, "-E", "-c", code, root, *map(os.fsdecode, words)], environ)
