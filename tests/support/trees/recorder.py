"""Stands in the launcher's place of a real build and writes down every command that passes (``CC="cc gcc"``).

Started by the script that ``station.Station`` lays out, with a folder of settings as first argument. Knows the
standard library only, since a build starts it hundreds of times.

* ``run``: run the command (through the settings' ``prefix``), hand on and write down its output and status;
* ``list``: write down each compilation with the size of its preprocessed text, and leave empty stand-ins where its
  outputs would be; so a build lists its compilations, generates its sources, and compiles nothing but probes of stdin.
"""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Serve one command of the build; its exit status, as a shell would tell it."""
    station, argv = Path(sys.argv[1]), sys.argv[2:]
    settings = json.loads(station.joinpath("settings.json").read_text(encoding="utf-8"))
    entry: dict[str, Any] = {
        "phase": settings["phase"],
        "argv": argv,
        "cwd": os.getcwd(),
        "pwd": os.environ.get("PWD"),
        # Probes of stdin or into /dev/null are no compilations that could be told apart or shared.
        "compiles": "-c" in argv and not {"-E", "-", "/dev/null"} & set(argv),
        "status": 0,
        "stdout": "",
        "stderr": "",
        "cost": 0,
        "made": [],
    }
    # What a build compiles from stdin it looks at, to choose its flags.
    if settings["mode"] == "list" and "-o" in argv and "-" not in argv:
        if entry["compiles"]:
            entry["cost"] = _preprocessed_size(argv)
        made = [argv[n + 1] for n, word in enumerate(argv) if word in {"-o", "-MF"}]
        # Only what is not there yet: a probe's output may be /dev/null.
        new = [os.path.join(os.getcwd(), name) for name in made if not os.path.lexists(name)]
        for name in new:
            Path(name).touch(exist_ok=True)
        entry["made"] = new
    else:
        done = subprocess.run([*settings["prefix"], *argv], capture_output=True, check=False, close_fds=False)
        entry["status"] = done.returncode if done.returncode >= 0 else 128 - done.returncode
        entry["stdout"], entry["stderr"] = done.stdout.decode("latin-1"), done.stderr.decode("latin-1")
        sys.stdout.buffer.write(done.stdout)
        sys.stderr.buffer.write(done.stderr)
    _append(station / "log.jsonl", json.dumps(entry) + "\n")
    return int(entry["status"])


def _preprocessed_size(argv: list[str]) -> int:
    """Bytes of text that the compiler proper would read: what a compilation's time grows with."""
    kept, skip = [], False
    for word in argv:
        if skip or word == "-c" or word.startswith("-M"):
            skip = not skip and word in {"-MF", "-MT", "-MQ"}
        elif word == "-o":
            skip = True
        else:
            kept.append(word)
    done = subprocess.run([*kept, "-E", "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return len(done.stdout)


def _append(log: Path, line: str) -> None:
    with open(log, "a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write(line)


if __name__ == "__main__":
    sys.exit(main())
