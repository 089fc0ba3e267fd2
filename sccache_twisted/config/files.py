"""Where configuration files lie, and how they are read.

The one module of this room that touches the disk. A file that holds a secret must be its reader's alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from sccache_twisted.config.keys import rows
from sccache_twisted.config.load import ROLES, all_rows, groups, load
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


def state_directory(role: str, configured: str, environ: Mapping[str, str], uid: int) -> Path:
    """Where a scheduler keeps its identity and tokens, or a worker its stores, when ``configured`` is empty.

    As root below /var/lib, for a user a scheduler's below XDG_STATE_HOME and a worker's, which can be made again,
    below XDG_CACHE_HOME.
    """
    if configured:
        return Path(configured)
    if uid == 0:
        base = Path("/var/lib/sccache-twisted")
        return base if role == "worker" else base / role
    variable, usual = ("XDG_CACHE_HOME", ".cache") if role == "worker" else ("XDG_STATE_HOME", ".local/state")
    chosen = environ.get(variable, "")
    return Path(chosen if chosen.startswith("/") else f"{environ.get('HOME', '')}/{usual}") / "sccache-twisted" / role


def read_settings(kind: type[Settings], path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Settings:
    """The settings in the file at ``path``, or in the one that is found; raises ConfigError.

    With no file anywhere these are the defaults and what the environment says.
    """
    role = _NAMES[kind]
    if path is None and role == "client" and environ.get("SCCACHE_CONF"):
        path = environ["SCCACHE_CONF"]
    source = Path(path) if path is not None else found_at(role, environ)
    if source is None:
        return load(kind, "", "no file", environ)
    text, private = _read(source)
    settings = load(kind, text, str(source), environ)
    secret = "" if private else _inline_secret(kind, text, source, environ)
    if secret:
        raise ConfigError(f"{source} holds a {secret} and others can read it: chmod 600 {source}")
    return settings


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


def _inline_secret(kind: type[Settings], text: str, source: Path, environ: Mapping[str, str]) -> str:
    """What kind of secret the text itself holds: "token", "password", or nothing."""
    secrets = {row.env for row in all_rows(kind) if row.secret}
    alone = load(kind, text, str(source), {name: value for name, value in environ.items() if name not in secrets})
    return _held_secret(alone)


def _held_secret(settings: Any) -> str:
    for attribute, row in rows(type(settings)).items():
        value = getattr(settings, attribute)
        # A URL is a secret only with a password in it.
        if row.secret and value and ("://" not in value or "@" in value):
            return "token" if row.name == "token" else "password"
    held = (_held_secret(getattr(settings, attribute)) for attribute in groups(type(settings)))
    return next((secret for secret in held if secret), "")
