"""What docs/ says about keys, made from their table: ``python -m sccache_twisted.config.reference docs``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sccache_twisted.config.foreign import FOREIGN
from sccache_twisted.config.keys import Row, Unit
from sccache_twisted.config.load import ROLES, all_rows
from sccache_twisted.config.values import written_size
from sccache_twisted.config.worker import WorkerSettings

BOUNDS_BEGIN = "<!-- made from the table of keys by make docs -->"
BOUNDS_END = "<!-- end of the table -->"

_OPENING = """\
# Configuration

This page is made from the tables of keys in `sccache_twisted/config` by `make docs`; do not edit it.

Each role reads one TOML file of its own:

| role | file, when none is named |
|---|---|
| client daemon | `$SCCACHE_CONF`, else `client.toml` |
| scheduler | `--config FILE`, else `scheduler.toml` |
| worker | `--config FILE`, else `worker.toml` |

These lie in `$XDG_CONFIG_HOME/sccache-twisted` (`~/.config/sccache-twisted`), else in `/etc/sccache-twisted`.

An environment variable wins over the file; an empty one counts as unset. An unknown key is an error that names the
place and the nearest known key. `sccache-twisted join LINE` writes the client's and the worker's file for you.

How values are written:

* a **size** is a number of bytes or a string such as `"10G"`, `"512M"` (powers of 1024);
* **seconds** are a number or a string such as `"2s"`, `"500ms"`, `"10m"`;
* a **path** is absolute or begins with `~/`;
* a **list** is a list of strings, in a variable separated by commas or blanks;
* an *endpoint* is a Twisted server endpoint string, such as `tcp:10600` or `tcp:10601:interface=127.0.0.1`.

A scheduler is written `tls://HOST:PORT?pin=sha256:HEX`, where the pin is the hash of its public key
(`sccache-twisted invite` prints it), or `tls://HOST:PORT` where `ca_file` names the CA that signed its certificate.

Besides the variables below, three count for a single call, out of the launcher's own environment: `SCCACHE_NO_DIST`
(this call stays local), `SCCACHE_RECACHE` and `SCCACHE_NO_CACHE`. `SCCACHE_CONF` names the client's file, and with it
which daemon a launcher talks to. `SCCACHE_DAEMON_SILENCE` is the number of seconds after which it takes a silent daemon
to be stopped (docs/commands.md).
"""

_HEADINGS = {"client": "The client daemon", "scheduler": "The scheduler", "worker": "The worker"}


def configuration_page() -> str:
    """The whole page, as it stands in docs/configuration.md."""
    parts = [_OPENING]
    parts += [_role(role, kind) for role, kind in ROLES.items()]
    parts.append(_from_sccache())
    return "\n".join(parts)


def _role(role: str, kind: type[Any]) -> str:
    sections: dict[str, list[Row]] = {}
    for row in all_rows(kind):
        sections.setdefault(row.section, []).append(row)
    lines = [f"## {_HEADINGS[role]}: {role}.toml", ""]
    for section, members in sections.items():
        lines += [f"### `[{section}]`", "", "| key | type | default | environment | meaning |", "|---|---|---|---|---|"]
        lines += [_line(row) for row in members]
        lines.append("")
    return "\n".join(lines)


def _line(row: Row) -> str:
    kind = " or ".join(f'`"{choice}"`' for choice in row.choices) if row.choices else row.unit.value
    env = f"`{row.env}`" if row.env else ""
    doc = row.doc if row.minimum in {None, 0} else f"{row.doc} At least {row.minimum:g}."
    return f"| `{row.name}` | {kind} | {_default(row)} | {env} | {doc} |"


def _default(row: Row) -> str:
    value = row.default
    if row.unit is Unit.BOOLEAN:
        return f"`{str(value).lower()}`"
    if row.unit is Unit.SIZE:
        return f'`"{written_size(value)}"`' if value else "`0`"
    if row.unit is Unit.SECONDS:
        return f'`"{value:.12g}s"`'
    if row.unit in {Unit.LIST, Unit.PATHS}:
        return "`[]`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _from_sccache() -> str:
    lines = [
        "## Keys of sccache that are not used here",
        "",
        "Each is an error that says the same; a table stands for everything in it.",
        "",
        "| sccache's key | instead |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {instead} |" for name, instead in FOREIGN.items()]
    return "\n".join([*lines, ""])


def bounds_table() -> str:
    """The worker's bounds, as they stand in docs/security.md between the two marks."""
    named = {"worker.toolchain_cache_size", "worker.blob_cache_size", "timers.claim_seconds", "timers.run_seconds"}
    lines = [BOUNDS_BEGIN, "", "| key | default | bounds |", "|---|---|---|"]
    shown = [row for row in all_rows(WorkerSettings) if row.section == "limits" or row.dotted in named]
    lines += [f"| `{row.dotted}` | {_default(row)} | {row.doc} |" for row in shown]
    return "\n".join([*lines, "", BOUNDS_END])


def with_bounds(page: str) -> str:
    """A page with the table between its marks made anew."""
    before, _, rest = page.partition(BOUNDS_BEGIN)
    _, _, after = rest.partition(BOUNDS_END)
    return f"{before}{bounds_table()}{after}"


def _write(docs: Path) -> None:
    (docs / "configuration.md").write_text(configuration_page(), encoding="utf-8")
    security = docs / "security.md"
    security.write_text(with_bounds(security.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
