"""What docs/events.md says, made from the vocabulary: ``python -m sccache_twisted.logs.reference docs``."""

from __future__ import annotations

import sys
from pathlib import Path

from sccache_twisted.logs.events import VOCABULARY, Event

_OPENING = """\
# Events

This page is made from the vocabulary in `sccache_twisted/logs/events.py` by `make docs`; do not edit it.

Every role logs one event a line: as JSON with `log.format = "json"` or `--log-format json`, else as text. A JSON line
has `time` (ISO 8601, UTC), `epoch` (seconds), `level`, `namespace`, `event` (a name below, or null for a line of
Twisted's own), `message` (the sentence), `role`, and the identifiers and fields of the event. Programs read names,
identifiers and fields; sentences may change.

Identifiers: `job_id` and `attempt` name one try at one compilation, in all processes; `server_id` names one start of
one worker. An event always carries those that are listed with it, and others wherever they are known. `trace` and the
journals are made of the same events.

| event | level | identifiers | fields | sentence |
|---|---|---|---|---|
"""


def events_page() -> str:
    """The whole page, as it stands in docs/events.md."""
    return _OPENING + "".join(_row(event) for event in VOCABULARY.values())


def _row(event: Event) -> str:
    ids, fields = (", ".join(f"`{name}`" for name in names) for names in (event.ids, event.fields))
    return f"| `{event.name}` | {event.level} | {ids} | {fields} | {event.sentence.replace('|', ' or ')} |\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) / "events.md").write_text(events_page(), encoding="utf-8")
