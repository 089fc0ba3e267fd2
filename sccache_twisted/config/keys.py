"""One configuration key: where it stands, its type, default, environment name and meaning.

A settings class is an attrs class whose fields are made by :func:`key`; the field is the row of the
table, so nothing about a key is said twice.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from attrs import Attribute, field, fields, frozen

_ROW = "sccache_twisted.key"


class Unit(str, Enum):
    """How a value is written: in text form and in TOML."""

    TEXT = "text"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    SECONDS = "seconds"
    SIZE = "size"
    LIST = "list"
    PATH = "path"
    PATHS = "paths"


@frozen
class Row:
    """The table's row for one key. ``section`` is the dotted TOML table, ``env`` the variable that overrides it."""

    section: str
    name: str
    unit: Unit
    default: Any
    doc: str
    env: str = ""
    choices: tuple[str, ...] = ()
    secret: bool = False
    minimum: float | None = None

    @property
    def dotted(self) -> str:
        """``section.name``, as it is written in messages and in the documentation."""
        return f"{self.section}.{self.name}" if self.section else self.name


def key(
    section: str,
    name: str,
    unit: Unit,
    default: Any,
    doc: str,
    *,
    env: str = "",
    choices: tuple[str, ...] = (),
    secret: bool = False,
    minimum: float | None = None,
) -> Any:
    """An attrs field that is also the table's row for the key ``section.name``."""
    row = Row(section, name, unit, default, doc, env, choices, secret, minimum)
    return field(default=default, repr=not secret, metadata={_ROW: row})


def rows(settings: type[Any]) -> dict[str, Row]:
    """The rows of a settings class by attribute name, in the order of writing."""
    return {attribute.name: attribute.metadata[_ROW] for attribute in _attributes(settings)}


def _attributes(settings: type[Any]) -> tuple[Attribute[Any], ...]:
    return tuple(attribute for attribute in fields(settings) if _ROW in attribute.metadata)
