"""``why FILE…``: what the daemon knows of the last compilation of each, in plain sentences."""

from __future__ import annotations

import json
import os
import shlex
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from sccache_twisted.cli.daemon import ask, started_daemon

_SECONDS = 120.0
_UNKNOWN = 1
_SPOKEN = {
    "hit": "was found in the cache",
    "text_hit": "was found in the cache by its preprocessed text",
    "miss": "was a miss",
    "not_cached": "was not cached",
}


def why(arguments: Namespace) -> int:
    """``why``: 0 when every file is known, 1 when one is not."""
    answers = []
    for name in arguments.files:
        with started_daemon() as connection:
            answers.append(ask(connection, "why", quote(os.path.abspath(os.fsencode(name))), seconds=_SECONDS))
    if arguments.format == "json":
        print(json.dumps(answers))
    else:
        print("\n\n".join("\n".join(lines(answer)) for answer in answers))
    return _UNKNOWN if any(answer["state"] == "unknown" for answer in answers) else 0


def lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """One answer for a person."""
    file, state = answer["file"], answer["state"]
    if state == "unknown":
        yield f"{file}: no compilation of it is known here. FILE is a source, or an object that was made of one."
        return
    yield f"{file}: its last compilation, {_moment(answer['time'])}, {_SPOKEN[state]}."
    yield f"  {_command(answer['command'])}"
    yield f"  in {answer['cwd']}"
    yield from _causes(answer)
    missed = answer.get("last_miss")
    if missed:
        yield f"Its last miss was {_moment(missed['time'])}:"
        yield from _causes(missed)


def _causes(answer: Mapping[str, Any]) -> Iterator[str]:
    state = answer["state"]
    if state == "not_cached":
        yield f"  because: {_full(answer['reason_sentence'])} ({answer['reason']})"
        return
    for cause in answer["causes"]:
        yield f"  {'although' if state == 'text_hit' else 'because'} {cause['sentence']}"
    if answer["more_causes"]:
        yield f"  and {answer['more_causes']} more"
    other = answer["compared_with"]
    if other is not None:
        yield f"  compared with the nearest earlier one, {_moment(other['time'])}: {_command(other['command'])}"
    if state == "miss" and not answer["stored"] and answer["reason"]:
        yield f"  its result was not stored: {_full(answer['reason_sentence'])}"


def _full(sentence: str) -> str:
    return sentence if sentence.endswith(".") else f"{sentence}."


def _command(words: list[str]) -> str:
    return shlex.join(words)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
