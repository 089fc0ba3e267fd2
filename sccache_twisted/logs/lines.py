"""Events as lines: text for people, JSON for machines. One event is one line, whatever its fields hold."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any, TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.failure import Failure

from sccache_twisted.logs.events import set_least_level

# Surrogates that hold no byte of a file name; only a peer's text can contain them.
_STRANGE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_IDS = ("job_id", "attempt", "server_id")
_OURS = frozenset({"time", "epoch", "level", "namespace", "event", "message", "traceback", *_IDS})
# What the legacy bridge of twisted.python.log adds; it repeats what is there already.
_LEGACY = frozenset({"isError", "format", "failure", "why", "system", "logLevel", "printed"})


def observer(out: TextIO, line_format: str, level: str) -> ILogObserver:
    """Writes events of ``level`` and above to ``out``: as ``text`` or ``json`` lines. Also sets the least level."""
    set_least_level(level)
    lines = FileLogObserver(out, json_line if line_format == "json" else text_line)
    return FilteringLogObserver(lines, [LogLevelFilterPredicate(LogLevel.levelWithName(level))])


def json_line(event: LogEvent) -> str:
    """One event as a JSON object and a newline."""
    epoch = float(event.get("log_time", 0.0))
    found: dict[str, Any] = {
        "time": dt.datetime.fromtimestamp(epoch, dt.timezone.utc).isoformat(timespec="milliseconds"),
        "epoch": epoch,
        "level": _level(event),
        "namespace": event.get("log_namespace", ""),
        "event": event.get("event"),
    }
    found.update((name, event[name]) for name in _IDS if name in event)
    found["message"] = formatEvent(event)
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        found["traceback"] = failure.getTraceback()
    found.update(
        (name, value)
        for name, value in event.items()
        if name not in _OURS and name not in _LEGACY and not name.startswith("log_")
    )
    return json.dumps(plain(found)) + "\n"


def text_line(event: LogEvent) -> str:
    """One event as a line: time, level, namespace, ids, message. A traceback follows on lines of its own."""
    time = dt.datetime.fromtimestamp(float(event.get("log_time", 0.0)), dt.timezone.utc).astimezone()
    ids = "".join(f" {name}={event[name]}" for name in _IDS if event.get(name) is not None)
    name = event.get("event")
    head = f"{time.isoformat(timespec='milliseconds')} {_level(event)} {event.get('log_namespace', '-')}{ids}"
    message = formatEvent(event).replace("\n", "\n\t")
    failure = event.get("log_failure")
    after = "\n\t" + failure.getTraceback().strip().replace("\n", "\n\t") if isinstance(failure, Failure) else ""
    return _printable(f"{head}{f' {name}' if name else ''}: {message}{after}\n")


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return "info" if level is None else str(level.name)


def _printable(text: str) -> str:
    """The text with undecodable bytes, held as surrogates, written as escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        held = text.encode("utf-8", "surrogatepass" if _STRANGE.search(text) else "surrogateescape")
        return held.decode("utf-8", "backslashreplace")
    return text


def plain(value: Any) -> Any:
    """What JSON can say of a value; bytes that are not UTF-8 become escapes."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return _printable(value)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case dict():
            return {_printable(str(plain(key))): plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case _:
            return _printable(str(value))
