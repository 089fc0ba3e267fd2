"""The event vocabulary and the lines it becomes.

Every event about a job carries ``job_id`` and ``attempt``, and ``server_id`` once there is one, in all processes.
Knows: names, fields, sentences, line formats. Refuses to know: where lines go, and what any event leads to.
"""

from sccache_twisted.logs import events
from sccache_twisted.logs.events import Event, EventLog, emit, set_journal, set_least_level
from sccache_twisted.logs.journal import Journal
from sccache_twisted.logs.lines import json_line, observer, text_line

__all__ = [
    "Event",
    "EventLog",
    "Journal",
    "emit",
    "events",
    "json_line",
    "observer",
    "set_journal",
    "set_least_level",
    "text_line",
]
