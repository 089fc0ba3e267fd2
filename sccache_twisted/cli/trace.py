"""``trace``: what became of jobs, out of the journals of the daemon and of everybody beside it."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from sccache_twisted.cli.chrome import chrome_trace
from sccache_twisted.cli.timeline import Record, Story, failures, last_build, stories, summary, told
from sccache_twisted.client.places import journal_file
from sccache_twisted.config import ClientSettings
from sccache_twisted.config.files import read_settings
from sccache_twisted.errors import UserError
from sccache_twisted.logs.journal import FLUSH_SECONDS
from sccache_twisted.logs.lines import plain


def trace(arguments: Namespace) -> int:
    """Tell one job, list several, or write a trace file. 1 if there is no such job."""
    files = journals(arguments.journal)
    _settle(files)
    found = stories(read(files, arguments.job_id))
    if arguments.job_id or arguments.last:
        if not found:
            what = f"job {arguments.job_id}" if arguments.job_id else "job"
            print(f"sccache-twisted: No {what} is known in {_named(files)}.", file=sys.stderr)
            return 1
        print(told(max(found, key=lambda story: story.end)))
        return 0
    if not arguments.all:
        found = last_build(found)
    if arguments.chrome:
        return _write_chrome(arguments.chrome, found)
    if arguments.slowest:
        found = sorted(found, key=lambda story: -story.seconds)[: arguments.slowest]
    else:
        found = [story for story in found if story.attempts[-1].number > 1]
    for story in found:
        print(
            "\n".join([f"{story.job_id}  {summary(story)}  {story.label}", *(f"    {why}" for why in failures(story))])
        )
    if not found:
        print("No job was tried more than once." if arguments.retried else f"No job is known in {_named(files)}.")
    return 0


def journals(more: Iterable[str]) -> list[Path]:
    """The client daemon's journal, those of an embedded cluster beside it, and ``more``, each after its older part."""
    for name in more:
        if not Path(name).is_file():
            raise UserError(f"There is no journal {name}.")
    found = []
    own = journal_file(read_settings(ClientSettings, None, os.environ), os.environ)
    if own:
        path = Path(own)
        found = [path, *sorted(other for other in path.parent.glob("*.jobs") if other != path)]
    found += [Path(name) for name in more]
    parts = [part for path in found for part in (path.with_name(path.name + ".1"), path)]
    return list(dict.fromkeys(part.absolute() for part in parts if part.is_file()))


def read(files: Iterable[Path], job_id: str | None) -> Iterator[Record]:
    """The records in journals, of one job or of all. What is no record, such as a line cut short, is passed over."""
    wanted = (job_id or "").encode()
    for path in files:
        try:
            with path.open("rb") as lines:
                for line in lines:
                    record = _record(line) if wanted in line else None
                    if record is not None and job_id in {None, record["job_id"]}:
                        yield record
        except OSError as problem:
            raise UserError(f"The journal {path} cannot be read: {problem.strerror}.") from None


def _record(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    match record:
        case {"epoch": int() | float(), "event": str(), "job_id": str(), "attempt": int()}:
            # Names that are no UTF-8 were written with surrogates, which cannot be printed.
            return dict(plain(record) if b"\\ud" in line else record)
        case _:
            return None


def _settle(files: Iterable[Path]) -> None:
    """Wait for what is still held back: only a journal that was written just now can have more to come."""
    newest = max((path.stat().st_mtime for path in files), default=0.0)
    left = newest + FLUSH_SECONDS + 0.1 - time.time()
    if 0 < left <= FLUSH_SECONDS + 0.1:
        time.sleep(left)


def _write_chrome(path: str, found: list[Story]) -> int:
    try:
        Path(path).write_text(json.dumps(chrome_trace(found)), encoding="utf-8")
    except OSError as problem:
        raise UserError(f"{path} cannot be written: {problem.strerror}.") from None
    print(f"{len(found)} jobs are in {path}: open it in chrome://tracing or https://ui.perfetto.dev.")
    return 0


def _named(files: list[Path]) -> str:
    return ", ".join(str(path) for path in files) or "any journal: none has been written yet"
