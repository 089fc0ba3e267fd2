"""``twistd sccache-client``: the daemon that launchers talk to."""

from __future__ import annotations

from typing import ClassVar

from twisted.application.service import IService

from sccache_twisted.client import DaemonService
from sccache_twisted.config import ClientSettings
from sccache_twisted.plugins.common import Process, RoleOptions


class Options(RoleOptions):
    """The command line of ``twistd sccache-client``."""

    role: ClassVar[str] = "client"
    kind: ClassVar[type[ClientSettings]] = ClientSettings


def makeService(options: Options) -> IService:
    """The daemon as a process."""
    from twisted.internet import reactor

    process = Process(options, reactor, lambda: {"socket": daemon.path.decode("utf-8", "replace")})
    daemon = options.build(lambda: DaemonService(options.settings, reactor, process.end))
    daemon.setServiceParent(process)  # type: ignore[no-untyped-call]  # Twisted's services have no types
    return process
