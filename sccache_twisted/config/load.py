"""From TOML text and environment to frozen settings. Pure: the text is given, no file is read.

Every error is a ConfigError of one sentence that begins with the place, ``FILE:LINE:`` or the variable's
name, and names the key. The environment wins over the file; an empty variable counts as unset.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from attrs import fields, has

from sccache_twisted.config.client import ClientSettings
from sccache_twisted.config.foreign import equivalent
from sccache_twisted.config.keys import Row, rows
from sccache_twisted.config.lines import line_of
from sccache_twisted.config.scheduler import SchedulerSettings
from sccache_twisted.config.values import from_text, from_toml
from sccache_twisted.config.worker import WorkerSettings
from sccache_twisted.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Settings = TypeVar("Settings")

ROLES: dict[str, type[Any]] = {"client": ClientSettings, "scheduler": SchedulerSettings, "worker": WorkerSettings}
"""The settings class of each role, by the name of its file."""

_POSITION = re.compile(
    r"(?P<what>.*?)\s*\(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL
)


def load(settings: type[Settings], toml_text: str, source_name: str, environ: Mapping[str, str]) -> Settings:
    """The settings that ``toml_text`` and ``environ`` ask for; raises ConfigError.

    ``source_name`` is the file's name, for messages; ``environ`` also gives HOME, for paths that begin with ``~``.
    """
    written = _flat(_parse(toml_text, source_name), _tables(settings))
    home = environ.get("HOME", "")
    known = {row.dotted for row in all_rows(settings)}
    for dotted in written:
        if dotted not in known:
            raise ConfigError(f"{_place(source_name, toml_text, dotted)}: {_unknown(dotted, settings, known)}")

    def build(kind: type[Any]) -> Any:
        values: dict[str, Any] = {}
        for attribute, row in rows(kind).items():
            if row.env and environ.get(row.env):
                try:
                    values[attribute] = from_text(row, environ[row.env], home)
                except ValueError as error:
                    raise ConfigError(f"Environment variable {row.env} ({row.dotted}) {error}") from None
            elif row.dotted in written:
                try:
                    values[attribute] = from_toml(row, written[row.dotted], home)
                except ValueError as error:
                    raise ConfigError(f"{_place(source_name, toml_text, row.dotted)}: {row.dotted} {error}") from None
        values.update({attribute: build(group) for attribute, group in groups(kind).items()})
        return kind(**values)

    built: Settings = build(settings)
    return built


def groups(settings: type[Any]) -> dict[str, type[Any]]:
    """The settings classes nested in ``settings``, by attribute name."""
    return {attribute.name: type(attribute.default) for attribute in fields(settings) if has(type(attribute.default))}


def all_rows(settings: type[Any]) -> Iterator[Row]:
    """Every row of ``settings`` and of the classes nested in it."""
    yield from rows(settings).values()
    for group in groups(settings).values():
        yield from all_rows(group)


def _parse(text: str, source_name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _POSITION.match(str(error))
        if found is None:
            raise ConfigError(f"{source_name}: {error}.") from None
        line = found["line"] or str(max(1, len(text.splitlines())))
        column = found["column"] or str(len(text.splitlines()[-1]) + 1 if text.splitlines() else 1)
        raise ConfigError(f"{source_name}:{line}:{column}: this is not TOML: {found['what']}.") from None


def _tables(settings: type[Any]) -> set[str]:
    """Every dotted name that is a table somewhere, so that a table inside it is not taken for a value."""
    names: set[str] = set()
    for kind in (settings, *ROLES.values()):
        for row in all_rows(kind):
            parts = row.section.split(".")
            names.update(".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return names


def _flat(table: Mapping[str, Any], tables: set[str], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        dotted = f"{prefix}.{name}" if prefix else name
        if isinstance(value, dict) and (dotted in tables or value):
            flat.update(_flat(value, tables, dotted))
        else:
            flat[dotted] = value
    return flat


def _place(source_name: str, text: str, dotted: str) -> str:
    line = line_of(text, dotted)
    return f"{source_name}:{line}" if line is not None else source_name


def _unknown(dotted: str, settings: type[Any], known: set[str]) -> str:
    for role, other in ROLES.items():
        if other is not settings and dotted in {row.dotted for row in all_rows(other)}:
            return f"{dotted} is a key of the {role}; it belongs into the {role}'s own file."
    if dotted in _tables(settings):
        return f"{dotted} is a table: write [{dotted}] on a line of its own, and its keys below."
    instead = equivalent(dotted)
    if instead:
        return f"sccache's key {dotted} is not used here: {instead}."
    section, _, name = dotted.rpartition(".")
    by_name = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == section}
    import difflib

    near = [by_name[found] for found in difflib.get_close_matches(name, by_name, n=1, cutoff=0.5)]
    near = near or difflib.get_close_matches(dotted, sorted(known), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else " docs/configuration.md lists every key."
    return f"there is no key {dotted}.{hint}"
