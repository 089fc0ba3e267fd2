"""One call: resolve, ask the daemon, do what it says. ``launcher.c`` does the same, and becomes this one when it can't.

``posix`` and ``_socket`` stand here where ``os`` and ``socket`` would be expected: those two alone cost more
time than all the rest of a call. Slow paths (starting a daemon, waiting for a slot) live in ``slow``.
"""

import _signal  # type: ignore[import-not-found]  # typeshed knows only its wrapper, which takes 2 ms to import
import _socket
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

MYSELF = {b"sccache-twisted", b"sccache-twisted-python", b"sccache"}
SUBCOMMANDS = {b"cache", b"cluster", b"doctor", b"drain", b"invite", b"jobs", b"join", b"token", b"trace", b"why"}
GUARD = b"_SCCACHE_TWISTED_RUNNING"
CAME_BY = b"_SCCACHE_TWISTED_LAUNCHER"
MARK = b"sccache-twisted launcher"
WRAPPERS = {b"ccache", b"colorgcc", b"distcc", b"icecc", b"icerun", b"sccache"}
DEFAULT_SIGNALS = (_signal.SIGPIPE, _signal.SIGXFSZ)  # Python ignores these two; a compiler must not inherit that
MAX_ANSWER = 1 << 31
SILENCE_SECONDS = 30.0
FIRST_SECONDS = 1.0

Environment = dict[bytes, bytes]


class Lost(Exception):
    """There is no daemon, or it went away before it answered; the sentence says which."""


def run(native: str = "") -> "NoReturn":
    """Entry of the script, which gives: the package's place, the true LC_CTYPE, the script's folder, $0, arguments.

    ``native`` is where it would like to see a native launcher; a script from before there was one says nothing.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    wanted, root, locale, here, *words = [word.encode("utf-8", "surrogateescape") for word in [native, *sys.argv[1:]]]
    environ = dict(posix.environ)
    if locale:
        environ[b"LC_CTYPE"] = locale[1:]
    else:
        environ.pop(b"LC_CTYPE", None)
    name = words[0].rpartition(b"/")[2]
    argv = words[1:] if name in MYSELF else [name, *words[1:]]
    if name == b"sccache-twisted-python" and argv[:1] == [b"--alone"]:
        from sccache_twisted.launcher import slow

        slow.alone(argv[2:], environ, argv[1].decode("utf-8", "replace"))
    came_by = b"python:%b:%b" % (here, wanted)
    if name == b"sccache-twisted-python" and argv[:1] == [b"--native"]:
        came_by = b"native:" + argv[1]
        argv = argv[2:]
    if wanted and not environ.get(GUARD):
        from sccache_twisted.launcher import first_use

        first_use.begin(wanted, here, root, environ)
    if name in MYSELF and (not argv or argv[0].startswith(b"-") or argv[0] in SUBCOMMANDS):
        from sccache_twisted.launcher import slow

        slow.command(argv, {**environ, CAME_BY: came_by})
    compile_here_or_there(argv, environ, here)


def compile_here_or_there(argv: list[bytes], environ: Environment, here: bytes) -> "NoReturn":
    """Let the daemon answer for a command line, or run it."""
    if environ.get(GUARD):
        execute(*resolve(argv, environ), environ)
    try:
        connection = connect(environ, here)
        try:
            kind, *said = understood(ask(connection, request(argv, environ)))
        except (OSError, ValueError) as problem:
            raise Lost(f"the daemon went away: {problem}") from problem
    except (Lost, OSError) as problem:
        from sccache_twisted.launcher import slow

        slow.alone(argv, environ, str(problem))
    if kind == b"D":
        done(*said)
    if kind == b"X":
        executable, command, _reason, note = said
        write(2, note)
        connection.close()
        execute(executable, command, environ)
    from sccache_twisted.launcher import slow

    slow.in_slot(connection, said[0], said[1], said[2], environ)


def request(argv: list[bytes], environ: Environment) -> bytes:
    """The body of an ``R`` frame; OSError when the cwd does not exist any more."""
    umask = posix.umask(0o077)
    posix.umask(umask)
    environment = [name + b"=" + value for name, value in environ.items()]
    terminal = b"1" if posix.isatty(2) else b"0"
    head = b"".join([as_field(word) for word in (b"1", posix.getcwdb(), b"%d" % umask, terminal)])
    return b"R" + head + as_fields(argv) + as_fields(environment)


def done(status: int, stdout: bytes, stderr: bytes) -> "NoReturn":
    """Show what a ``D`` answer says and exit with its status."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    write(1, stdout)
    write(2, stderr)
    posix._exit(status & 0xFF)  # noqa: SLF001 - nothing of Python's has to be flushed


def write(descriptor: int, data: bytes) -> None:
    """Write all of it; a reader that is gone is the reader's business."""
    view = memoryview(data)
    while view:
        try:
            view = view[posix.write(descriptor, view) :]
        except BlockingIOError:
            import select

            select.select([], [descriptor], [])
        except OSError:
            return


# --- frames: see the package's wire/__init__.py ----------------------------------------------------


def as_field(data: bytes) -> bytes:
    """A u32 length and the bytes."""
    return len(data).to_bytes(4, "big") + data


def as_fields(items: list[bytes]) -> bytes:
    """A u32 count and the fields."""
    return len(items).to_bytes(4, "big") + b"".join([as_field(item) for item in items])


def field(body: bytes, start: int) -> tuple[bytes, int]:
    """The field at ``start`` and where it ends; ValueError when it is cut short."""
    begin = start + 4
    end = begin + int.from_bytes(body[start:begin], "big")
    if end > len(body):
        raise ValueError("an answer is cut short")
    return body[begin:end], end


def decimal(body: bytes, start: int) -> tuple[int, int]:
    """The number at ``start`` and where it ends."""
    text, end = field(body, start)
    if not text.isdigit() or len(text) > 9:
        raise ValueError("an answer has no number where one belongs")
    return int(text), end


def program(body: bytes, start: int) -> tuple[bytes, list[bytes], int]:
    """The executable and the command line at ``start``, and where they end."""
    executable, begin = field(body, start)
    end = begin + 4
    argv = []
    for _ in range(int.from_bytes(body[begin:end], "big")):
        word, end = field(body, end)
        argv.append(word)
    if not argv or b"\0" in executable + b"".join(argv):
        raise ValueError("an answer names no command that could be run")
    return executable, argv, end


def understood(body: bytes) -> "list[Any]":
    """The kind of an answer and its values; ValueError when it makes no sense."""
    kind = body[:1]
    values: list[Any]
    if kind == b"D":
        status, end = decimal(body, 1)
        stdout, end = field(body, end)
        stderr, end = field(body, end)
        values = [kind, status, stdout, stderr]
    elif kind == b"X":
        executable, argv, end = program(body, 1)
        reason, end = field(body, end)
        note, end = field(body, end)
        values = [kind, executable, argv, reason, note]
    elif kind == b"S":
        slot, end = decimal(body, 1)
        executable, argv, end = program(body, end)
        values = [kind, slot, executable, argv]
    else:
        raise ValueError(f"an answer of kind {kind!r}")
    if end != len(body):
        raise ValueError("an answer has bytes behind its last field")
    return values


def ask(connection: _socket.socket, body: bytes) -> bytes:
    """Send one frame and wait for one; EOFError's cousin here is ValueError."""
    send(connection, body)
    length = int.from_bytes(receive(connection, 4), "big")
    if not 0 < length < MAX_ANSWER:
        raise ValueError(f"an answer of {length} bytes")
    return receive(connection, length)


def send(connection: _socket.socket, body: bytes) -> None:
    """Send one frame; Lost when the daemon is stopped."""
    view = memoryview(as_field(body))
    while view:
        try:
            view = view[connection.send(view, _socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            from sccache_twisted.launcher import silence

            silence.outlast(connection, silence.WRITABLE)


def receive(connection: _socket.socket, length: int) -> bytes:
    """Exactly ``length`` bytes, or ValueError when the daemon hangs up, Lost when it is stopped."""
    parts = []
    while length:
        try:
            part = connection.recv(min(length, 1 << 20))
        except BlockingIOError:
            from sccache_twisted.launcher import silence

            silence.outlast(connection, silence.READABLE)
            continue
        if not part:
            raise ValueError("it hung up before it answered")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


# --- where the daemon is ---------------------------------------------------------------------------


def home_directory(environ: Environment) -> bytes:
    """The directory of the daemon's socket: $XDG_RUNTIME_DIR/sccache-twisted, else /tmp/sccache-twisted-<uid>."""
    runtime = environ.get(b"XDG_RUNTIME_DIR")
    return runtime + b"/sccache-twisted" if runtime else b"/tmp/sccache-twisted-%d" % posix.getuid()


def socket_path(environ: Environment) -> bytes:
    """The daemon's socket for this environment."""
    explicit = environ.get(b"SCCACHE_SERVER_UDS")
    if explicit:
        return absolute(explicit)
    configuration = environ.get(b"SCCACHE_CONF", b"")
    value = 0xCBF29CE484222325
    for byte in absolute(configuration) if configuration else b"":
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return b"%b/%016x.sock" % (home_directory(environ), value)


def absolute(path: bytes) -> bytes:
    """A path that means the same from everywhere."""
    return path if path.startswith(b"/") else posix.getcwdb() + b"/" + path


def connect(environ: Environment, here: bytes) -> _socket.socket:
    """A connection to the daemon, which is started if there is none; Lost when that fails."""
    path = socket_path(environ)
    connection = knock(path)
    if connection is None:
        from sccache_twisted.launcher import slow

        connection = slow.start(path, environ, here)
    return connection


def knock(path: bytes) -> _socket.socket | None:
    """A connection to our own user's daemon, or None if nobody listens; Lost when it is somebody else's."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    bound(connection, min(patience() / 2, FIRST_SECONDS))
    try:
        connection.connect(path)
    except BlockingIOError:
        from sccache_twisted.launcher import silence

        silence.connect(connection, path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as problem:
        connection.close()
        if len(path) > 107:
            longer = f"the socket path {path!r} has {len(path)} bytes, more than 107"
            raise Lost(f"{longer}: set SCCACHE_SERVER_UDS to a shorter one") from problem
        raise Lost(f"{path!r}: {problem}") from problem
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    owner = int.from_bytes(credentials[4:8], sys.byteorder)
    if owner != posix.getuid():
        connection.close()
        raise Lost(f"the daemon at {path!r} belongs to uid {owner}")
    return connection


def patience() -> float:
    """How long a daemon may say nothing before it is taken to be stopped; 0: for ever."""
    text = posix.environ.get(b"SCCACHE_DAEMON_SILENCE", b"").strip()
    return float(text) if text.isdigit() and len(text) < 7 else SILENCE_SECONDS


def bound(connection: _socket.socket, seconds: float) -> None:
    """From now on connecting, sending and receiving fail with EAGAIN after so long a time. 0: never.

    Not ``settimeout``: under that a full queue of callers is an error at once instead of a wait.
    """
    size = 8 if sys.maxsize > 1 << 32 else 4
    whole, rest = divmod(int(seconds * 1_000_000), 1_000_000)
    limit = whole.to_bytes(size, sys.byteorder) + rest.to_bytes(size, sys.byteorder)
    connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, limit)
    connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, limit)


# --- running programs ------------------------------------------------------------------------------


def resolve(argv: list[bytes], environ: Environment) -> tuple[bytes, list[bytes]]:
    """The program that a command means, never ourselves nor one that already called us, and the words to run it with.

    The program is empty if there is none. gcc looks for itself on PATH by the name that it was called by, and must not
    find us: behind a link to ourselves it is called by its path.
    """
    running = environ.get(GUARD, b"").split(b":")
    name = argv[0]
    if b"/" in name:
        return b"" if is_launcher(name) else name, argv
    passed_over = False
    for directory in environ.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin").split(b":"):
        candidate = (directory or b".") + b"/" + name
        if is_program(candidate):
            if candidate not in running and not is_launcher(candidate):
                return candidate, [candidate, *argv[1:]] if passed_over else argv
            passed_over = True
    return b"", argv


def is_program(path: bytes) -> bool:
    """Whether it is a regular file that we may execute."""
    try:
        return posix.stat(path).st_mode & 0o170000 == 0o100000 and posix.access(path, posix.X_OK)
    except OSError:
        return False


def is_launcher(path: bytes) -> bool:
    """Whether it is this program, script or native, under whatever name, linked or copied."""
    found = first_bytes(path)
    return MARK in (found if found.startswith(b"\x7fELF") else found[:64])


def first_bytes(path: bytes) -> bytes:
    """The first bytes of a file, an ELF file's notes among them; none if it can't be read."""
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return posix.read(descriptor, 4096)
    except OSError:
        return b""
    finally:
        posix.close(descriptor)


def guarded(executable: bytes, environ: Environment) -> Environment:
    """The caller's environment; with a mark against endless recursion if the program may call a compiler by name."""
    is_script = first_bytes(executable).startswith(b"#!")
    if not is_script and executable.rpartition(b"/")[2] not in WRAPPERS and not links_to_wrapper(executable):
        return environ
    running = environ.get(GUARD)
    return {**environ, GUARD: running + b":" + executable if running else executable}


def links_to_wrapper(path: bytes) -> bool:
    """Whether a symbolic link on the way ends at a known compiler wrapper."""
    for _ in range(40):
        try:
            target = posix.readlink(path)
        except OSError:
            return path.rpartition(b"/")[2] in WRAPPERS
        path = target if target.startswith(b"/") else path.rpartition(b"/")[0] + b"/" + target
    return False


def execute(executable: bytes, argv: list[bytes], environ: Environment) -> "NoReturn":
    """Become the program; exits with the shell's status when it can't be run."""
    sentence, status = f"no program {argv[0].decode('utf-8', 'replace')} in PATH", 127
    if executable:
        environ = guarded(executable, environ)
        for number in DEFAULT_SIGNALS:
            _signal.signal(number, _signal.SIG_DFL)
        try:
            posix.execve(executable, argv, environ)
        except OSError as problem:
            sentence = f"cannot run {executable.decode('utf-8', 'replace')}: {problem.strerror}"
            status = 127 if isinstance(problem, FileNotFoundError) else 126
    write(2, f"sccache-twisted: {sentence}\n".encode("utf-8", "surrogateescape"))
    posix._exit(status)  # noqa: SLF001 - nothing of Python's has to be flushed
