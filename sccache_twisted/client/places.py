"""Where a user's daemons and launchers meet: the socket, the slot locks, scratch and cache directories.

The rules are those of design and launcher alike; a test holds both together.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from sccache_twisted.config import ClientSettings
from sccache_twisted.errors import ConfigError

LONGEST_SOCKET_PATH = 107


def home_directory(environ: Mapping[str, str]) -> bytes:
    """The directory of default sockets and logs."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    return os.fsencode(runtime) + b"/sccache-twisted" if runtime else b"/tmp/sccache-twisted-%d" % os.getuid()


def socket_path(settings: ClientSettings, environ: Mapping[str, str]) -> bytes:
    """The daemon's unix socket; ConfigError for a path that no socket can have."""
    if settings.server_uds:
        path = os.path.abspath(os.fsencode(settings.server_uds))
    else:
        configuration = environ.get("SCCACHE_CONF", "")
        absolute = os.fsencode(configuration)
        if absolute and not absolute.startswith(b"/"):
            absolute = os.getcwdb() + b"/" + absolute
        path = b"%b/%016x.sock" % (home_directory(environ), fnv1a64(absolute))
    if len(path) > LONGEST_SOCKET_PATH:
        raise ConfigError(
            f"The socket path {os.fsdecode(path)} has {len(path)} bytes, more than {LONGEST_SOCKET_PATH}: "
            "set server.uds or SCCACHE_SERVER_UDS to a shorter one."
        )
    return path


def fnv1a64(data: bytes) -> int:
    """The 64-bit FNV-1a hash."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def slot_directory() -> bytes:
    """Where the flock files of this user's local slots are; the directory is made if it isn't there."""
    base = b"/tmp/sccache-twisted-%d" % os.getuid()
    private_directory(base)
    private_directory(base + b"/slots")
    return base + b"/slots"


def private_directory(path: bytes) -> None:
    """Make a directory that only this user can use, or see that it is one; ConfigError if it is anything else."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid != os.getuid():
            raise ConfigError(
                f"{os.fsdecode(path)} is not a directory of uid {os.getuid()} with mode 0700: remove it."
            ) from None
    except OSError as problem:
        raise ConfigError(f"{os.fsdecode(path)} cannot be made: {problem.strerror}.") from problem


def cache_directory(settings: ClientSettings, environ: Mapping[str, str]) -> bytes:
    """Where packaged toolchains are kept."""
    if settings.cache_dir:
        return os.path.abspath(os.fsencode(settings.cache_dir))
    home = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.fsencode(home) + b"/sccache-twisted"


def object_directory(settings: ClientSettings, environ: Mapping[str, str]) -> bytes:
    """Where results are stored on this machine."""
    if settings.disk_dir:
        return os.path.abspath(os.fsencode(settings.disk_dir))
    return cache_directory(settings, environ) + b"/objects"


def journal_file(settings: ClientSettings, environ: Mapping[str, str]) -> str:
    """Where the daemon writes down its jobs' events; empty: nowhere."""
    if not settings.log.journal_size:
        return ""
    return settings.log.journal or os.fsdecode(cache_directory(settings, environ)) + "/jobs.journal"
