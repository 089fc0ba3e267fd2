"""One value: from TOML or from an environment variable to what the settings hold.

Every function raises ValueError with the rest of a sentence that begins with the key's name, such as
``must be a whole number, not "many"``. A secret's value is never repeated.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from sccache_twisted.config.keys import Row, Unit

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?)(?:iB|B)?", re.IGNORECASE)
_SECONDS = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|min|m|h)?")
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SPANS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})

WRITTEN = {
    Unit.TEXT: "a string",
    Unit.BOOLEAN: "true or false",
    Unit.INTEGER: "a whole number",
    Unit.NUMBER: "a number",
    Unit.SECONDS: 'a number of seconds, or a string such as "2s" or "500ms"',
    Unit.SIZE: 'a number of bytes, or a string such as "10G" or "512M"',
    Unit.LIST: "a list of strings",
    Unit.PATH: "an absolute path, or one that begins with ~/",
    Unit.PATHS: "a list of absolute paths",
}


def from_toml(row: Row, value: object, home: str) -> Any:
    """The setting that a TOML value stands for; ``home`` is what ``~`` means."""
    if row.unit in {Unit.LIST, Unit.PATHS}:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _wrong(row, value)
        return tuple(_path(row, item, home) for item in value) if row.unit is Unit.PATHS else tuple(value)
    if row.unit is Unit.BOOLEAN:
        if not isinstance(value, bool):
            raise _wrong(row, value)
        return value
    if isinstance(value, bool):
        raise _wrong(row, value)
    if row.unit in {Unit.TEXT, Unit.PATH}:
        if not isinstance(value, str):
            raise _wrong(row, value)
        return _text(row, value, home)
    if isinstance(value, str) and row.unit in {Unit.SECONDS, Unit.SIZE}:
        return _bounded(row, _measure(row, value), value)
    if isinstance(value, int) or (isinstance(value, float) and row.unit in {Unit.SECONDS, Unit.NUMBER}):
        return _bounded(row, value, value)
    raise _wrong(row, value)


def from_text(row: Row, text: str, home: str) -> Any:
    """The setting that an environment variable's text stands for; lists are separated by commas or blanks."""
    if row.unit is Unit.LIST:
        return tuple(part for part in re.split(r"[,\s]+", text) if part)
    if row.unit is Unit.PATHS:
        return tuple(_path(row, part, home) for part in text.split(":") if part)
    if row.unit is Unit.BOOLEAN:
        lower = text.strip().lower()
        if lower not in _TRUE | _FALSE:
            raise _wrong(row, text)
        return lower in _TRUE
    if row.unit in {Unit.TEXT, Unit.PATH}:
        return _text(row, text, home)
    return _bounded(row, _measure(row, text), text)


def written_size(count: int) -> str:
    """A number of bytes as a person writes it: ``10G``, ``512M``, ``100``."""
    for unit in ("T", "G", "M", "K"):
        if count and count % _FACTORS[unit] == 0:
            return f"{count // _FACTORS[unit]}{unit}"
    return str(count)


def _text(row: Row, text: str, home: str) -> str:
    if row.unit is Unit.PATH:
        return _path(row, text, home)
    if row.choices and text not in row.choices:
        choices = ", ".join(json.dumps(choice) for choice in row.choices)
        raise ValueError(f"must be one of {choices}, not {_shown(row, text)}.")
    return text


def _path(row: Row, text: str, home: str) -> str:
    if not text:
        return ""
    if "\0" in text:
        raise ValueError("must not contain a NUL character.")
    if text == "~" or text.startswith("~/"):
        if not home:
            raise ValueError(f"is {_shown(row, text)}, but HOME is not set.")
        return home.rstrip("/") + text[1:]
    if not text.startswith("/"):
        raise ValueError(
            f"must be {WRITTEN[Unit.PATH]}, not {_shown(row, text)}: a daemon has no directory to start from."
        )
    return text


def _measure(row: Row, text: str) -> float:
    stripped = text.strip()
    if row.unit is Unit.SIZE:
        size = _SIZE.fullmatch(stripped)
        if size is not None:
            return int(float(size["number"]) * _FACTORS[size["unit"].upper()])
    elif row.unit is Unit.SECONDS:
        span = _SECONDS.fullmatch(stripped)
        if span is not None:
            return float(span["number"]) * _SPANS[span["unit"] or ""]
    else:
        try:
            return int(stripped) if row.unit is Unit.INTEGER else float(stripped)
        except ValueError:
            pass
    raise _wrong(row, text)


def _bounded(row: Row, number: float, written: object) -> Any:
    if not math.isfinite(number):
        raise _wrong(row, written)
    least = row.minimum or 0
    if number < least:
        raise ValueError(f"must be at least {least:g}, not {_shown(row, written)}.")
    return float(number) if row.unit in {Unit.SECONDS, Unit.NUMBER} else int(number)


def _wrong(row: Row, value: object) -> ValueError:
    return ValueError(f"must be {WRITTEN[row.unit]}, not {_shown(row, value)}.")


def _shown(row: Row, value: object) -> str:
    if row.secret:
        return "what is written there"
    if isinstance(value, dict):
        return "a table"
    try:
        shown = json.dumps(value, ensure_ascii=False)
    except TypeError:
        shown = str(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}…"
