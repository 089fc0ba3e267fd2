"""What is compiled on this machine: as which command, and told to whom, with its reason."""

from __future__ import annotations

import os
from typing import Any

from sccache_twisted.client.calls import Call, LocalWatch, RunHere
from sccache_twisted.client.stats import Statistics
from sccache_twisted.compilers.colour import coloured
from sccache_twisted.compilers.reasons import sentence
from sccache_twisted.interfaces import IDispatcher, RemoteRun
from sccache_twisted.logs import events
from sccache_twisted.logs.events import EventLog
from sccache_twisted.model import Compilation, RunsLocally, Try


class Staying:
    """Decides for this machine. ``dispatcher`` is None where there is no scheduler to be told."""

    def __init__(self, reactor: Any, dispatcher: IDispatcher | None, statistics: Statistics) -> None:
        self._reactor = reactor
        self._dispatcher = dispatcher
        self._statistics = statistics
        self._log = EventLog.of("sccache_twisted.client", role="client")

    def here(
        self,
        call: Call,
        compilation: Compilation,
        local: RunsLocally,
        remote: RemoteRun | None = None,
        attempt: Try | None = None,
        watch: LocalWatch | None = None,
    ) -> RunHere:
        """Have the caller run it in a local slot. ``remote``: what a worker made of it; ``attempt``: the last one."""
        self.count(compilation, local, remote, attempt)
        # Its output is captured, so it sees no terminal either.
        args = coloured(call.argv[1:], compilation, call.stderr_is_tty, call.env)
        argv = (call.argv[0], *args)
        began = self._reactor.seconds()
        return RunHere(compilation.compiler.executable, argv, local.reason, remote, watch, began)

    def count(
        self,
        compilation: Compilation,
        local: RunsLocally,
        remote: RemoteRun | None = None,
        attempt: Try | None = None,
    ) -> None:
        """Count it under its reason, here and with the scheduler, and say it in the log."""
        self._statistics.local_compiles[local.reason] += 1
        if self._dispatcher is not None:
            self._dispatcher.stayed_local(local.reason)
        server_id = None
        if remote is not None:
            attempt = try_of(remote)
            server_id = remote.figures.server_id
        self._log.emit(
            events.JOB_LOCAL,
            attempt=attempt,
            server_id=server_id,
            reason=local.reason,
            sentence=local.sentence or sentence(local.reason),
            source=os.fsdecode(compilation.source),
        )


def try_of(remote: RemoteRun) -> Try:
    """The attempt that a worker's answer is of."""
    return Try(remote.figures.job_id, remote.figures.attempts)
