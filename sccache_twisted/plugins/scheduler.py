"""``twistd sccache-scheduler``: the registry of workers, the queue, placement, and the pages that show them."""

from __future__ import annotations

import os
import secrets
import socket
import time
from pathlib import Path
from typing import ClassVar

from twisted.application import service
from twisted.application.service import IService

from sccache_twisted.config import SchedulerSettings
from sccache_twisted.config.files import state_directory
from sccache_twisted.logs import EventLog, events
from sccache_twisted.net.ports import ListeningService
from sccache_twisted.plugins.common import Process, RoleOptions
from sccache_twisted.scheduler.service import SchedulerService
from sccache_twisted.security import SchedulerIdentity, TokenStore
from sccache_twisted.security.contexts import ServerTLS
from sccache_twisted.security.files import CONTROL_FILE, write_secret
from sccache_twisted.security.tokens import TOKENS_FILE
from sccache_twisted.web.site import status_service


class Options(RoleOptions):
    """The command line of ``twistd sccache-scheduler``."""

    role: ClassVar[str] = "scheduler"
    kind: ClassVar[type[SchedulerSettings]] = SchedulerSettings


def makeService(options: Options) -> IService:
    """The scheduler as a process."""
    from twisted.internet import reactor

    settings = options.settings
    scheduler = options.build(lambda: make_scheduler(settings, reactor))
    services: dict[str, SchedulerService | ListeningService] = {"address": scheduler}
    token = None if settings.insecure else secrets.token_urlsafe(32)
    if settings.http:
        services["http"] = options.build(lambda: status_service(reactor, settings.http, scheduler, token))
    process = Process(options, reactor, lambda: {name: f"127.0.0.1:{each.port}" for name, each in services.items()})
    for each in services.values():
        each.setServiceParent(process)  # type: ignore[no-untyped-call]  # Twisted's services have no types
    if token is not None and settings.http:
        control = ControlToken(_state(settings) / CONTROL_FILE, token)
        control.setServiceParent(process)  # type: ignore[no-untyped-call]  # Twisted's services have no types
    return process


class ControlToken(service.Service):
    """Writes what ``sccache-twisted drain`` shows.

    The last to start: a second scheduler that finds its port taken must not lock the first one's operator out.
    """

    def __init__(self, path: Path, token: str) -> None:
        self._path = path
        self._token = token

    def startService(self) -> None:
        """Write it, or raise StorageError."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service has no types
        write_secret(self._path, self._token.encode() + b"\n")


def make_scheduler(settings: SchedulerSettings, reactor: object) -> SchedulerService:
    """The service with its identity and tokens, or without either where that was asked for; raises ConfigError."""
    if settings.insecure:
        sentence = "anybody can read and answer everything (scheduler.insecure)"
        EventLog.of("sccache_twisted.scheduler", role="scheduler").emit(events.INSECURE, sentence=sentence)
        return SchedulerService(reactor, settings, None, None, os.urandom)
    tokens = TokenStore(_state(settings) / TOKENS_FILE)
    tokens.names()
    return SchedulerService(reactor, settings, tokens, ServerTLS(identity_of(settings)), os.urandom)


def identity_of(settings: SchedulerSettings) -> SchedulerIdentity:
    """The configured identity, or the one that is kept, made at the first start; raises ConfigError, StorageError."""
    if settings.certificate_file:
        return SchedulerIdentity.from_files(settings.certificate_file, settings.key_file)
    names = [socket.gethostname(), "localhost"]
    if settings.public:
        names.insert(0, settings.public.rpartition(":")[0].strip("[]"))
    return SchedulerIdentity.load_or_create(str(_state(settings)), names, time.time())


def _state(settings: SchedulerSettings) -> Path:
    return state_directory("scheduler", settings.state_dir, os.environ, os.getuid())
