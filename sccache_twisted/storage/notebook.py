"""Notes about look-ups, kept on disk for ``why``: bounded, shared by daemons, never in anybody's way.

An SQLite file: several processes may write it, a killed one leaves it whole, and a damaged one begins anew, since notes
only explain. Of each source the latest notes are kept, some of each of its configurations; of all, the latest. Blocks.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from typing import TypeVar

from attrs import evolve

from sccache_twisted.errors import StorageError
from sccache_twisted.hashing.note import Note, State, pack, unpack

MOST_NOTES = 40_000
MOST_BYTES = 64 << 20
MOST_OF_A_SOURCE = 24
MOST_OF_A_COMMAND = 6
_LOCK_SECONDS = 5.0
_VERSION = 1

_T = TypeVar("_T")
_TABLE = """
CREATE TABLE IF NOT EXISTS notes (
    source BLOB NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, command TEXT NOT NULL, output BLOB NOT NULL,
    time INTEGER NOT NULL, stored INTEGER NOT NULL, known INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (source, key, kind)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_time ON notes (time);
CREATE INDEX IF NOT EXISTS by_output ON notes (output);
"""


class Notebook:
    """The notes in one file. For one thread at a time."""

    def __init__(self, path: bytes, most: int = MOST_NOTES, most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        self._most = most
        self._most_bytes = most_bytes

    def add(self, notes: Iterable[Note]) -> None:
        """Write notes down; StorageError when they can't be."""
        self._do(lambda database: self._add(database, list(notes)))

    def of(self, path: bytes) -> list[Note]:
        """The notes about a source, or about the source of an output, the latest first."""

        def look(database: sqlite3.Connection) -> list[Note]:
            found = _read(database, "source = ?", path)
            return found or _read(database, "source IN (SELECT source FROM notes WHERE output = ?)", path)

        return self._do(look)

    def again(self, hits: Mapping[tuple[bytes, str], int]) -> list[tuple[bytes, str]]:
        """Hits that were noted before, by source and key, have happened again; gives those not noted any more."""

        def touch(database: sqlite3.Connection) -> list[tuple[bytes, str]]:
            change = "UPDATE notes SET time = ? WHERE source = ? AND key = ? AND kind = 'hit'"
            return [name for name, time_ns in hits.items() if not database.execute(change, (time_ns, *name)).rowcount]

        return self._do(touch)

    def _add(self, database: sqlite3.Connection, notes: Sequence[Note]) -> None:
        for note in notes:
            self._insert(database, note)
        for source in dict.fromkeys(note.source for note in notes):
            _trim(database, source)
        (count,) = database.execute("SELECT count(*) FROM notes").fetchone()
        fewer = count - self._most * 9 // 10 if count > self._most else 0
        if _bytes_used(database) > self._most_bytes:
            fewer = max(fewer, count // 4 or 1)
        if fewer:
            database.execute(
                "DELETE FROM notes WHERE time <= (SELECT time FROM notes ORDER BY time LIMIT 1 OFFSET ?)", (fewer - 1,)
            )

    @staticmethod
    def _insert(database: sqlite3.Connection, note: Note) -> None:
        (known,) = database.execute(
            "SELECT max(time) FROM notes WHERE source = ? AND key = ? AND stored = 1", (note.source, note.key)
        ).fetchone()
        database.execute(
            "INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                note.source,
                note.key,
                "hit" if note.state is State.TEXT_HIT else note.state.value,
                note.command if note.facts else "",
                note.output,
                note.time_ns,
                note.stored or note.state in {State.HIT, State.TEXT_HIT},
                known or 0,
                pack(note),
            ),
        )

    def _do(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            try:
                return self._once(work)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                # Not a database, or a damaged one.
                with suppress(FileNotFoundError):
                    os.unlink(self.path)
                return self._once(work)
        except (sqlite3.Error, OSError) as problem:
            raise StorageError(f"{os.fsdecode(self.path)}: {problem}.") from problem

    def _once(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        # The files beside it take its mode: notes hold command lines.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        with closing(sqlite3.connect(os.fsdecode(self.path), timeout=_LOCK_SECONDS)) as database:
            database.execute("PRAGMA synchronous = OFF")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != _VERSION:
                database.executescript(f"DROP TABLE IF EXISTS notes; {_TABLE} PRAGMA user_version = {_VERSION};")
            with database:
                return work(database)


def _bytes_used(database: sqlite3.Connection) -> int:
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _read(database: sqlite3.Connection, where: str, path: bytes) -> list[Note]:
    rows = database.execute(f"SELECT body, time, known FROM notes WHERE {where} ORDER BY time DESC", (path,))  # noqa: S608 - one of our own two conditions
    return [evolved for body, time_ns, known in rows if (evolved := _noted(body, time_ns, known)) is not None]


def _noted(body: bytes, time_ns: int, known: int) -> Note | None:
    note = unpack(body)
    return None if note is None else evolve(note, time_ns=time_ns, known_ns=known)


def _trim(database: sqlite3.Connection, source: bytes) -> None:
    """Keep the latest of a source, and few of each command, so that none is forgotten for another."""
    rows = database.execute("SELECT key, kind, command FROM notes WHERE source = ? ORDER BY time DESC", (source,))
    kept = 0
    counts: dict[str, int] = {}
    for key, kind, command in rows.fetchall():
        counts[command] = counts.get(command, 0) + 1
        if counts[command] > MOST_OF_A_COMMAND or kept >= MOST_OF_A_SOURCE:
            database.execute("DELETE FROM notes WHERE source = ? AND key = ? AND kind = ?", (source, key, kind))
        else:
            kept += 1
