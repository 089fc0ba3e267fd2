"""Files that hold secrets: written whole and 0600, and not read when others could have read them too."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from sccache_twisted.errors import ConfigError, StorageError

CONTROL_FILE = "control.token"
"""In a scheduler's state directory: who can read it may give that scheduler orders. New at every start."""


def write_secret(path: str | os.PathLike[str], data: bytes, *, replace: bool = True) -> bool:
    """Write a file whole, mode 0600, atomically and durably; raises StorageError.

    Missing parent directories are made with mode 0700. Without ``replace`` a file that is there already stays: of many
    who write at once one succeeds; whether this one did is the answer.
    """
    target = Path(path)
    passing = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            if replace:
                passing.replace(target)
            else:
                os.link(passing, target)
        except FileExistsError:
            return False
        finally:
            passing.unlink(missing_ok=True)
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}.") from error
    return True


def read_secret(path: str | os.PathLike[str], what: str, limit: int = 1 << 20) -> bytes:
    """The content of a secret file; ``what`` names it in sentences.

    Raises ConfigError when it is missing, unreadable, over ``limit`` bytes, or open to group or others.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as source:
            found = os.fstat(source.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{path}, {what}, is not a regular file.")
            if found.st_mode & 0o077:
                raise ConfigError(f'{path}, {what}, can be read by other users: run "chmod 600 {path}".')
            data = source.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{path}, {what}, cannot be read: {error.strerror}.") from error
    if len(data) > limit:
        raise ConfigError(f"{path}, {what}, is larger than {limit} bytes.")
    return data


def read_token(token: str, token_file: str) -> str:
    """The token that a configuration gives, itself or in a file; empty when it gives neither; raises ConfigError."""
    if token or not token_file:
        return token.strip()
    try:
        found = read_secret(token_file, "the token file", 4096).decode("ascii").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{token_file}, the token file, holds something other than a token.") from None
    if not found:
        raise ConfigError(f"{token_file}, the token file, is empty.")
    return found
