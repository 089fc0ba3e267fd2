"""``twistd sccache-worker``: slots, stores and a sandbox for other people's compilations."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import evolve
from twisted.application.service import IService

from sccache_twisted.config import WorkerSettings
from sccache_twisted.errors import ConfigError
from sccache_twisted.plugins.common import Process, RoleOptions
from sccache_twisted.worker.service import WorkerService


class Options(RoleOptions):
    """The command line of ``twistd sccache-worker``."""

    role: ClassVar[str] = "worker"
    kind: ClassVar[type[WorkerSettings]] = WorkerSettings
    optParameters: ClassVar[list[list[Any]]] = [
        *RoleOptions.optParameters,
        ["name", None, None, "Name in server_ids and statistics (overrides worker.name)."],
    ]

    def read(self) -> WorkerSettings:
        """The settings; a worker without a scheduler would wait for nobody."""
        settings: WorkerSettings = super().read()
        if not settings.schedulers:
            raise ConfigError('worker.schedulers is empty: "sccache-twisted join LINE" writes it, or see examples/.')
        return settings if self["name"] is None else evolve(settings, name=self["name"])


def makeService(options: Options) -> IService:
    """The worker as a process; SIGTERM drains it."""
    from twisted.internet import reactor

    worker = options.build(
        lambda: WorkerService(reactor, options.settings, on_drained=lambda: process.end("drained as ordered"))
    )
    process = Process(
        options,
        reactor,
        lambda: {"server_id": worker.server_id, "address": f"127.0.0.1:{worker.port}"},
        leave=worker.drain,
    )
    worker.setServiceParent(process)  # type: ignore[no-untyped-call]  # Twisted's services have no types
    return process
