"""The recorder's place in a build: a folder with the script to put before the compiler, its settings and its log."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from support.trees.commands import CompileCommand, Result

RECORDER = Path(__file__).resolve().parent / "recorder.py"


@frozen
class Entry:
    """One command that a build ran: what it was, what came of it, and (in ``list`` mode) its stand-ins."""

    phase: str
    command: CompileCommand
    compiles: bool
    result: Result
    made: tuple[str, ...]


@frozen
class Station:
    """A folder whose path holds no spaces, since autoconf splits CC at them."""

    folder: Path

    @classmethod
    def laid_out(cls, folder: Path) -> "Station":
        """Make the folder with its script; ``set`` must be called before a build starts."""
        folder.mkdir(parents=True)
        script = folder / "cc"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {RECORDER} {folder} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
        return cls(folder)

    @property
    def front(self) -> tuple[str, ...]:
        """The words to put before a compiler's name."""
        return (str(self.folder / "cc"),)

    def set(self, *, phase: str, mode: str = "run", prefix: Sequence[str] = ()) -> None:
        """Say what happens to the commands from now on; ``prefix`` are the launcher's words, none for a plain build."""
        settings = {"phase": phase, "mode": mode, "prefix": list(prefix)}
        draft = self.folder / "settings.new"
        draft.write_text(json.dumps(settings), encoding="utf-8")
        draft.rename(self.folder / "settings.json")

    def entries(self) -> list[Entry]:
        """Every command so far, in the order in which they ended."""
        log = self.folder / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [_entry(json.loads(line)) for line in lines]

    def forget(self) -> None:
        """Empty the log."""
        self.folder.joinpath("log.jsonl").unlink(missing_ok=True)


def _entry(told: dict[str, object]) -> Entry:
    return Entry(
        phase=str(told["phase"]),
        command=CompileCommand.from_json(told),
        compiles=bool(told["compiles"]),
        result=Result(
            status=int(str(told["status"])),
            stdout=str(told["stdout"]).encode("latin-1"),
            stderr=str(told["stderr"]).encode("latin-1"),
        ),
        made=tuple(os.fspath(name) for name in told["made"]),  # type: ignore[attr-defined]  # JSON's list of str
    )
