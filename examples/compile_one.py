"""Compile one file on the cluster and say where it ran.

    python examples/compile_one.py gcc -O2 -c hello.c -o hello.o

The configuration is the launcher's: SCCACHE_CONF, or the file that ``sccache-twisted join`` wrote.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from sccache_twisted.client import Client
from sccache_twisted.config import ClientSettings
from sccache_twisted.config.files import read_settings


async def main(reactor: Any, argv: list[str]) -> None:
    """Compile, show what the compiler said, and where it said it."""
    settings = read_settings(ClientSettings, None, os.environ)
    async with Client.from_settings(settings, reactor) as client:
        compiled = await client.compile([os.fsencode(word) for word in argv], os.getcwdb(), dict(os.environb))
    sys.stdout.buffer.write(compiled.stdout)
    sys.stderr.buffer.write(compiled.stderr)
    if compiled.figures is None:
        print(f"compiled on this machine ({compiled.local_reason}), status {compiled.status}")
    else:
        took = compiled.figures.run_seconds
        print(f"compiled on {compiled.where} in {took:.3f} s, attempt {compiled.figures.attempts}")
    if compiled.status:
        raise SystemExit(compiled.status)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1:])))
