"""The directory of an embedded cluster: which file is where, and what stands in it."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from sccache_twisted.cli.processes import pid_in
from sccache_twisted.errors import UserError
from sccache_twisted.security.files import write_secret

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,44}[a-z0-9])?\Z")
_RESERVED = frozenset({"client", "scheduler"})


@frozen
class Home:
    """A cluster's directory, its links resolved, so that every command spells it alike."""

    root: Path

    @classmethod
    def at(cls, directory: str) -> Home:
        """The home in ``directory``, which need not exist."""
        return cls(Path(directory).expanduser().resolve())

    @property
    def client_config(self) -> Path:
        """What SCCACHE_CONF is to name."""
        return self.root / "client.toml"

    @property
    def state(self) -> Path:
        """The scheduler's: certificate, key, hashed tokens."""
        return self.root / "state"

    def config(self, name: str) -> Path:
        """The TOML file of the process ``name``."""
        return self.root / f"{name}.toml"

    def log(self, name: str) -> Path:
        """Its log, one JSON object a line."""
        return self.root / "logs" / f"{name}.log"

    def journal(self, name: str) -> Path:
        """Every event about a job that it knew of, for ``trace``."""
        return self.root / "logs" / f"{name}.jobs"

    def log_settings(self, name: str) -> dict[str, object]:
        """Its table ``log``."""
        return {"format": "json", "file": str(self.log(name)), "journal": str(self.journal(name))}

    def errors(self, name: str) -> Path:
        """What it printed outside its log."""
        return self.root / "logs" / f"{name}.err"

    def pid_file(self, name: str) -> Path:
        """Its pid, for as long as it has not ended in order."""
        return self.root / f"{name}.pid"

    def ready_file(self, name: str) -> Path:
        """Where it says, once it listens, on which ports."""
        return self.root / f"{name}.ready"

    def worker_directory(self, name: str) -> Path:
        """A worker's toolchains, blobs and job roots."""
        return self.root / "workers" / name

    def token_file(self, role: str) -> Path:
        """The token of all workers, or of the client."""
        return self.root / f"{role}.token"

    def pid(self, name: str) -> int | None:
        """The live process ``name``."""
        return pid_in(self.pid_file(name), self.config(name))

    def names(self) -> list[str]:
        """Every process that has been started and has not ended in order, the scheduler first."""
        found = (path.stem for path in self.root.glob("*.pid"))
        return sorted(found, key=lambda name: (name != "scheduler", len(name), name))

    def workers(self) -> list[str]:
        """The workers among them."""
        return [name for name in self.names() if name != "scheduler"]

    def ready(self, name: str) -> dict[str, Any]:
        """What the process said once it listened; empty before."""
        try:
            found = json.loads(self.ready_file(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def make(self) -> None:
        """Make the directories that everything else lies in; raises UserError."""
        try:
            for directory in (self.root, self.root / "logs", self.root / "workers"):
                directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"Cannot make {error.filename}: {error.strerror}.") from None

    def must_exist(self) -> None:
        """Raise UserError where no cluster was ever started."""
        if not self.config("scheduler").exists():
            raise UserError(f'There is no cluster in {self.root}. Start one: "cluster start --dir {self.root}".')

    def new_worker_name(self, wanted: str) -> str:
        """``wanted`` if it may be used, or the next free ``worker-N``; raises UserError."""
        if wanted:
            if not _NAME.match(wanted) or wanted in _RESERVED:
                raise UserError(
                    f"{wanted!r} cannot name a worker: use up to 46 of a-z, 0-9 and -, and not a role's name."
                )
            if self.pid(wanted) is not None:
                raise UserError(f"A worker named {wanted} is running in {self.root} already.")
            return wanted
        taken = {path.stem for path in self.root.glob("*.toml")}
        return next(name for name in (f"worker-{number}" for number in range(1, 10_000)) if name not in taken)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands that change this cluster waiting."""
        self.make()
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def must_be_traversable(self) -> None:
        """As root, jobs run as uids of their own, which must be able to enter every directory on the way."""
        if os.getuid() != 0:
            return
        for directory in (self.root, *self.root.parents):
            if not directory.stat().st_mode & 0o001:
                raise UserError(
                    f"Jobs run as users of their own, who cannot enter {directory}: "
                    f'choose another --dir, or "chmod o+x {directory}".'
                )


def write_toml(path: Path, tables: Mapping[str, Mapping[str, object]]) -> None:
    """Write a configuration file of mode 0600."""
    write_secret(path, toml(tables).encode())


def toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    """TOML of tables of strings, numbers, booleans and lists of strings."""
    parts = []
    for table, values in tables.items():
        lines = [f"[{table}]", *(f"{name} = {_value(value)}" for name, value in values.items())]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _value(value: object) -> str:
    # JSON's strings are TOML's basic strings, but for DEL, which JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
