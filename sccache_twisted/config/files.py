"""Where configuration files lie, and how they and their secrets are read.

The one module of this room that touches the disk. A file that holds a token must be its reader's alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from attrs import evolve, fields_dict

from sccache_twisted.config.load import ROLES, all_rows, load
from sccache_twisted.errors import ConfigError

Settings = TypeVar("Settings")

SYSTEM_DIRECTORY = Path("/etc/sccache-twisted")
_NAMES = {kind: role for role, kind in ROLES.items()}
_LARGEST = 1 << 20


def user_directory(environ: Mapping[str, str]) -> Path:
    """``sccache-twisted`` under XDG_CONFIG_HOME or ~/.config."""
    base = environ.get("XDG_CONFIG_HOME", "")
    return Path(base if base.startswith("/") else f"{environ.get('HOME') or '/root'}/.config") / "sccache-twisted"


def written_to(role: str, environ: Mapping[str, str], uid: int) -> Path:
    """The file that ``join`` and ``invite`` write for a role: root's below /etc, a user's own below XDG."""
    directory = SYSTEM_DIRECTORY if uid == 0 else user_directory(environ)
    return directory / f"{role}.toml"


def found_at(role: str, environ: Mapping[str, str]) -> Path | None:
    """The file that a role reads when none is named: the user's own, else the machine's, else None."""
    for directory in (user_directory(environ), SYSTEM_DIRECTORY):
        path = directory / f"{role}.toml"
        if os.access(path, os.R_OK):
            return path
    return None


def read_settings(kind: type[Settings], path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Settings:
    """The settings in the file at ``path``, or in the one that is found; its token read too. Raises ConfigError.

    With no file anywhere these are the defaults and what the environment says.
    """
    role = _NAMES[kind]
    if path is None and role == "client" and environ.get("SCCACHE_CONF"):
        path = environ["SCCACHE_CONF"]
    source = Path(path) if path is not None else found_at(role, environ)
    if source is None:
        return _with_token(load(kind, "", "no file", environ))
    text, private = _read(source)
    settings = load(kind, text, str(source), environ)
    if not private and _inline_secret(kind, text, source, environ):
        raise ConfigError(f"{source} holds a token and others can read it: chmod 600 {source}")
    return _with_token(settings)


def read_secret(path: str) -> str:
    """A token out of its file, which nobody else may read; raises ConfigError."""
    text, private = _read(Path(path))
    if not private:
        raise ConfigError(f"The token file {path} can be read by others: chmod 600 {path}")
    token = text.strip()
    if not token or len(token.split()) != 1:
        raise ConfigError(f"The token file {path} does not hold one token.")
    return token


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 whole or not at all; raises OSError."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _read(path: Path) -> tuple[str, bool]:
    """The file's text, and whether only its owner can read it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    if len(content) > _LARGEST:
        raise ConfigError(f"{path} is larger than {_LARGEST} bytes; it is no configuration file.")
    try:
        return content.decode("utf-8"), not stat.S_IMODE(mode) & 0o077
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: this is not UTF-8 text.") from None


def _inline_secret(kind: type[Settings], text: str, source: Path, environ: Mapping[str, str]) -> bool:
    secrets = {row.env for row in all_rows(kind) if row.secret}
    alone = load(kind, text, str(source), {name: value for name, value in environ.items() if name not in secrets})
    return bool(getattr(alone, "token", ""))


def _with_token(settings: Settings) -> Settings:
    if "token_file" not in fields_dict(type(settings)):  # type: ignore[arg-type]  # it is an attrs class
        return settings
    token_file: str = settings.token_file  # type: ignore[attr-defined]  # just asked
    if not token_file or settings.token:  # type: ignore[attr-defined]  # they come together
        return settings
    return evolve(settings, token=read_secret(token_file))  # type: ignore[misc]  # it is an attrs class
