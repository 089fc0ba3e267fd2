"""``cache size``, ``clear`` and ``evict``: the daemon is asked if there is one, else the disk's store is opened.

Both ways are sound while other daemons use the same directory.
"""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from sccache_twisted.cli.daemon import ask, running_daemon
from sccache_twisted.cli.stats import size_text
from sccache_twisted.client.cache.upkeep import Upkeep, without_daemon
from sccache_twisted.config import ClientSettings
from sccache_twisted.config.files import read_settings

_PATIENCE_SECONDS = 600.0
"""A large store on a slow disk takes its time."""


def size(arguments: Namespace) -> int:
    """``cache size``."""
    connection = running_daemon()
    if connection is None:
        told = _now(_upkeep().size())
    else:
        with connection:
            told = ask(connection, "cache-size", seconds=_PATIENCE_SECONDS)
    print(json.dumps(told) if arguments.format == "json" else _size_text(told))
    return 0


def clear(arguments: Namespace) -> int:
    """``cache clear``."""
    return _remove(arguments, None)


def evict(arguments: Namespace) -> int:
    """``cache evict --older-than AGE``."""
    return _remove(arguments, time.time_ns() - int(arguments.older_than * 1e9))


def _remove(arguments: Namespace, before_ns: int | None) -> int:
    connection = running_daemon()
    if connection is None:
        told = _now(_upkeep().remove(arguments.level, before_ns))
    else:
        with connection:
            before = "" if before_ns is None else str(before_ns)
            told = ask(connection, "cache-remove", arguments.level, before, seconds=_PATIENCE_SECONDS)
    if arguments.format == "json":
        print(json.dumps(told))
    else:
        for one in told["removed"]:
            print(f"{one['level']}: {_entries(one['entries'])} removed, {size_text(one['bytes'])} freed.")
    return 0


def _upkeep() -> Upkeep:
    return without_daemon(read_settings(ClientSettings, None, os.environ), os.environ)


def _now(work: Any) -> Any:
    """The result of work that waits for nothing."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    (result,) = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


def _size_text(told: Mapping[str, Any]) -> str:
    lines = []
    for level in told["levels"]:
        where = f" ({level['location']})" if level["location"] else ""
        lines.append(f"{level['name']}{where}:")
        limit = f" of at most {size_text(level['limit'])}" if level["limit"] is not None else ""
        if level["entries"] is None:
            lines.append("  not counted: it is not this machine's, or lives in a daemon that does not run")
            continue
        lines.append(f"  {_entries(level['entries'])}, {size_text(level['bytes'])}{limit}")
        if level["oldest"] is not None:
            lines.append(f"  last used between {_time(level['oldest'])} and {_time(level['newest'])}")
    return "\n".join(lines) or "Nothing is stored: cache.disk.size is 0."


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
