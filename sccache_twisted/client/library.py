"""The client for programs: compile a file as the command line would, on whichever worker, and learn where it ran.

    settings = read_settings(ClientSettings, None, os.environ)
    async with Client.from_settings(settings, reactor) as client:
        compiled = await client.compile([b"gcc", b"-c", b"a.c"], cwd=b"/src", env=os.environb)
        print(compiled.where, compiled.status)

The compiler's files are written at the places that the command names, with its modes, as the compiler would.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.defer import Deferred

from sccache_twisted.client.calls import Answered, Call, ExecHere, RunHere
from sccache_twisted.client.services import ClientService
from sccache_twisted.config import ClientSettings
from sccache_twisted.interfaces import Finished
from sccache_twisted.model import JobFigures

if TYPE_CHECKING:
    from typing_extensions import Self

_STREAM_LIMIT = 1 << 30


@frozen
class Compiled:
    """What became of a compiler call.

    ``status`` is the shell's: 128+n for signal n. ``figures`` tell where it ran and how its time was spent, None when
    it ran on this machine; then ``local_reason`` says why, in a word of the documented set. ``cached``: nothing
    ran, the result was there.
    """

    status: int
    stdout: bytes
    stderr: bytes
    figures: JobFigures | None = None
    local_reason: str = ""
    cached: bool = False

    @property
    def where(self) -> str:
        """The server_id that it ran on, ``cache``, or ``local``."""
        if self.cached:
            return "cache"
        return self.figures.server_id if self.figures is not None else "local"


class Client:
    """Compiles on a cluster. Use it as an asynchronous context, or call :meth:`start` and :meth:`stop`."""

    def __init__(self, service: ClientService, reactor: Any) -> None:
        self._service = service
        self._reactor = reactor

    @classmethod
    def from_settings(cls, settings: ClientSettings, reactor: Any) -> Client:
        """A client for these settings; ConfigError when they can't work."""
        return cls(ClientService(settings, reactor), reactor)

    def start(self) -> None:
        """Begin to dial the schedulers; calls may be made at once."""
        self._service.startService()  # type: ignore[no-untyped-call]  # Twisted has no types here

    def stop(self) -> Deferred[None]:
        """Cancel what runs; fires when everything is closed."""
        return self._service.stopService()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def statistics(self) -> dict[str, Any]:
        """Counters in sccache's shape."""
        return self._service.statistics.as_json()

    def compile(
        self,
        argv: Sequence[bytes],
        cwd: bytes,
        env: Mapping[bytes, bytes],
        *,
        umask: int | None = None,
        stderr_is_tty: bool = False,
    ) -> Deferred[Compiled]:
        """Run a compiler's command line; ``argv[0]`` is looked for on the PATH of ``env``.

        A call that is no compilation, or that no worker can run, runs on this machine with its stdin at /dev/null.
        A compiler that fails is no failure but a status. Cancelling stops the job everywhere. Fails with errors of
        ``sccache_twisted.errors`` only where a program can't be started at all.
        """
        if umask is None:
            umask = os.umask(0o077)
            os.umask(umask)
        call = Call(tuple(argv), cwd, env, umask, stderr_is_tty, time.time_ns())
        return Deferred.fromCoroutine(self._compile(call))

    async def _compile(self, call: Call) -> Compiled:
        decision = await self._service.pipeline.decide(call)
        match decision:
            case Answered(status, stdout, stderr, remote, cached):
                figures = remote.figures if remote is not None else None
                return Compiled(status, stdout, stderr, figures, cached=cached)
            case ExecHere(executable, argv, reason):
                ended = await self._run(call, executable, argv)
                return Compiled(ended.status, ended.stdout, ended.stderr, local_reason=reason)
            case RunHere(executable, argv, reason):
                try:
                    async with self._service.slots.held(self._reactor):
                        ended = await self._run(call, executable, argv)
                except BaseException:
                    self._service.pipeline.abandoned(decision)
                    raise
                answer = await self._service.pipeline.finished(decision, ended)
                return Compiled(answer.status, answer.stdout, answer.stderr, local_reason=reason)

    async def _run(self, call: Call, executable: bytes, argv: tuple[bytes, ...]) -> Finished:
        return await self._service.runner.run(
            argv, executable=executable, cwd=call.cwd, env=call.env, umask=call.umask, limit=_STREAM_LIMIT
        )
