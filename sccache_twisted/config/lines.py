"""Where a key stands in a TOML text: the line, for messages.

Knows just enough of TOML to follow table headers and ``name =`` lines. Refuses to judge the text: that is
the parser's business, which has run before, but keeps no positions.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[\[?\s*(?P<name>[^\]#]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*(?P<name>(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"))*)\s*=")


def line_of(text: str, dotted: str) -> int | None:
    """The line (from 1) on which the key or table ``dotted`` is first written, or None where that is unclear."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header is not None:
            table = _plain(header["name"])
            if table == dotted or table.startswith(f"{dotted}."):
                return number
            continue
        written = _KEY.match(line)
        if written is None:
            continue
        name = _plain(written["name"])
        whole = f"{table}.{name}" if table else name
        if whole == dotted or whole.startswith(f"{dotted}."):
            return number
        if dotted.startswith(f"{whole}.") and "{" in line:
            return number
    return None


def _plain(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))
