"""Compile commands as values, and running many of them at once."""

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from attrs import frozen

# What a developer's shell may hold that would change a build.
_UNWANTED = {
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "PWD",
    "OLDPWD",
    # pytest's own processes have it set.
    "COLUMNS",
}
COMMAND_SECONDS = 600


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would change a build or reach another daemon, and with ``extra``."""
    kept = {k: v for k, v in os.environ.items() if k not in _UNWANTED and not k.startswith(("SCCACHE_", "CCACHE_"))}
    return {**kept, **(extra or {})}


@frozen
class CompileCommand:
    """One compiler call: its words, its physical working directory, what PWD named, and a measure of its work.

    ``pwd`` of None leaves PWD out of the environment. ``cost`` is in bytes of preprocessed text, 0 if unknown; it is
    no part of the command's identity.
    """

    argv: tuple[str, ...]
    cwd: str
    pwd: str | None
    cost: int = 0

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "CompileCommand":
        """Read what ``as_json`` gave, or an entry of the recorder."""
        return cls(tuple(told["argv"]), told["cwd"], told["pwd"], told["cost"])

    def as_json(self) -> dict[str, Any]:
        """The command as a JSON object."""
        return {"argv": list(self.argv), "cwd": self.cwd, "pwd": self.pwd, "cost": self.cost}

    @property
    def name(self) -> str:
        """How to call it in a report: its output as spelled, else its last word."""
        return self.argv[self.argv.index("-o") + 1] if "-o" in self.argv else self.argv[-1]

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same command in two builds."""
        return (self.cwd, *self.argv)


@frozen
class Result:
    """What a command left on its terminal: exit status as a shell tells it, and both streams as bytes."""

    status: int
    stdout: bytes
    stderr: bytes


def run_command(command: CompileCommand, prefix: Sequence[str], environment: Mapping[str, str]) -> Result:
    """Run one command behind ``prefix`` (a launcher's words, or none) with no stdin; bounded by COMMAND_SECONDS."""
    around = {**environment, **({} if command.pwd is None else {"PWD": command.pwd})}
    done = subprocess.run(
        [*prefix, *command.argv],
        cwd=command.cwd,
        env=around,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Result(status, done.stdout, done.stderr)


def run_commands(
    commands: Iterable[CompileCommand],
    *,
    jobs: int,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> dict[tuple[str, ...], Result]:
    """Run all of them, ``jobs`` at a time, and map each command's key to its result."""
    around = clean_environment() if environment is None else environment
    listed = list(commands)
    with ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda command: run_command(command, prefix, around), listed)
        return {command.key: result for command, result in zip(listed, results, strict=True)}
