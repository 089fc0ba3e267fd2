"""``twistd sccache-client``: the daemon that launchers talk to."""

from __future__ import annotations

import os
from typing import ClassVar

from twisted.application.service import IService

from sccache_twisted.client import DaemonService
from sccache_twisted.client.places import journal_file
from sccache_twisted.config import ClientSettings
from sccache_twisted.plugins.common import Process, RoleOptions
from sccache_twisted.plugins.memory import give_back


class Options(RoleOptions):
    """The command line of ``twistd sccache-client``."""

    role: ClassVar[str] = "client"
    kind: ClassVar[type[ClientSettings]] = ClientSettings

    @property
    def journal(self) -> str:
        """On unless it is switched off: what became of a job is asked here first."""
        return journal_file(self.settings, os.environ)


def makeService(options: Options) -> IService:
    """The daemon as a process."""
    from twisted.internet import reactor

    process = Process(options, reactor, lambda: {"socket": daemon.path.decode("utf-8", "replace")})
    daemon = options.build(lambda: DaemonService(options.settings, reactor, process.end, at_rest=give_back))
    daemon.setServiceParent(process)  # type: ignore[no-untyped-call]  # Twisted's services have no types
    return process
