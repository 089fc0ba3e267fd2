"""What the three roles share: their options, their logs, how they start and end as processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, TextIO, TypeVar

from attrs import evolve
from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from sccache_twisted.config import LogSettings
from sccache_twisted.config.files import read_settings
from sccache_twisted.errors import ConfigError, SccacheTwistedError
from sccache_twisted.logs import EventLog, Journal, events, observer, set_journal
from sccache_twisted.plugins.memory import stay_small
from sccache_twisted.security.files import write_secret

Facts = dict[str, object]
Built = TypeVar("Built")


class RoleOptions(usage.Options):
    """``--config``, ``--log-format``, ``--ready``; ``settings`` holds the role's settings once the line is read."""

    role: ClassVar[str]
    kind: ClassVar[type[Any]]
    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "TOML file with the settings of this role."],
        ["log-format", None, None, "How events are logged: text or json (overrides log.format)."],
        ["ready", None, None, "File to write once everything listens: JSON with pid and addresses."],
    ]

    def postOptions(self) -> None:
        """Read the settings; a mistake ends the process with its sentence before anything has started."""
        try:
            self.settings = self.read()
        except SccacheTwistedError as error:
            raise SystemExit(f"sccache-{self.role}: {error.explained()}") from None

    @property
    def journal(self) -> str:
        """The file for every event about a job; empty: none."""
        log: LogSettings = self.settings.log
        return log.journal if log.journal_size else ""

    @property
    def twistd(self) -> Any:
        """The options of twistd itself."""
        return self.parent

    def build(self, make: Callable[[], Built]) -> Built:
        """Make the role's service; settings that can't work end the process with their sentence."""
        try:
            return make()
        except SccacheTwistedError as error:
            raise SystemExit(f"sccache-{self.role}: {error.explained()}") from None

    def read(self) -> Any:
        """The settings out of file, environment and options; raises ConfigError."""
        settings = read_settings(self.kind, self["config"], os.environ)
        if self["log-format"] is None:
            return settings
        if self["log-format"] not in {"text", "json"}:
            raise usage.UsageError(f"--log-format is text or json, not {self['log-format']}")
        return evolve(settings, log=evolve(settings.log, format=self["log-format"]))


def make_observer(settings: LogSettings, twistd: Any) -> ILogObserver:
    """Log to log.file, else to twistd's --logfile, else to standard error, or, in the background, to twistd.log."""
    path = settings.file or twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    return observer(_open_log(path), settings.format, settings.level)


def _open_log(path: str) -> TextIO:
    if path == "-":
        # Not sys.stderr: Twisted puts its own logger in that place.
        return sys.__stderr__ or sys.stderr
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise SystemExit(f"The log file {path} cannot be opened: {error.strerror}.") from None
    return os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace")


class Process(service.MultiService):
    """The role's services as one process.

    A service that can't start ends it with one sentence and status 1. The first SIGTERM calls ``leave`` and ends the
    process when that has fired; the second ends it at once, with everything stopped in order. Status 0 either way.
    """

    def __init__(
        self,
        options: RoleOptions,
        reactor: Any,
        facts: Callable[[], Facts],
        *,
        leave: Callable[[], Deferred[None]] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's services have no types
        self._options = options
        self._reactor = reactor
        self._facts = facts
        self._leave = leave
        self._leaving: Deferred[None] | None = None
        self._ending = False
        self._log = EventLog.of("sccache_twisted.process", role=options.role)

    def setServiceParent(self, parent: Any) -> None:
        """Called by twistd with its application, whose log becomes ours unless it goes to syslog."""
        if isinstance(parent, Componentized) and not self._options.twistd["syslog"]:
            observer_of_ours = make_observer(self._options.settings.log, self._options.twistd)
            parent.setComponent(ILogObserver, observer_of_ours)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]  # Twisted's services have no types

    def startService(self) -> None:
        """Start everything, or end with a sentence."""
        stay_small()
        self._keep_journal()
        try:
            super().startService()  # type: ignore[no-untyped-call]  # Twisted's services have no types
            if self._options["ready"]:
                facts = {"pid": os.getpid(), **self._facts()}
                write_secret(Path(self._options["ready"]).absolute(), json.dumps(facts).encode())
        except SccacheTwistedError as error:
            self._refuse(error)
        except (CannotListenError, OSError) as error:
            self._refuse(ConfigError(f"{error}."))
        self._reactor.callWhenRunning(self._take_signals)

    def failed(self, failure: Failure) -> None:
        """Something without which the role is nothing has failed while it ran: end, with status 1."""
        error = failure.value
        sentence = error.explained() if isinstance(error, SccacheTwistedError) else failure.getErrorMessage()
        self._log.emit(events.STOPPING, reason=sentence)
        # twistd has no other way to an exit status than to leave before it does.
        self._reactor.addSystemEventTrigger("after", "shutdown", self._exit, 1)
        self._reactor.stop()

    def end(self, reason: str) -> None:
        """End in order, with status 0. Whoever comes later finds it ending."""
        if self._ending:
            return
        self._log.emit(events.STOPPING, reason=reason)
        if self._reactor.running:
            self._ending = True
            self._reactor.stop()

    def _keep_journal(self) -> None:
        path = self._options.journal
        if path:
            size = self._options.settings.log.journal_size
            journal = Journal(path, size, self._options.role, self._reactor, time.time)
            set_journal(journal.write)
            # After the services have stopped, since jobs end with them.
            self._reactor.addSystemEventTrigger("after", "shutdown", journal.close)

    def _refuse(self, error: SccacheTwistedError) -> None:
        sentence = f"sccache-{self._options.role}: {error.explained()}"
        if not self._options.twistd["nodaemon"]:
            # In the background, twistd hands the parent the last line of this.
            self._log.emit(events.STOPPING, reason=error.explained())
            raise error
        print(sentence, file=sys.__stderr__, flush=True)
        self._exit(1)

    def _exit(self, status: int) -> None:
        pid_file = self._options.twistd["pidfile"]
        if pid_file:
            Path(pid_file).unlink(missing_ok=True)
        os._exit(status)

    def _take_signals(self) -> None:
        """After the reactor took them: its own handler would make the signal our exit status, and knows no draining."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._asked_to_end, signal.Signals(number).name)

    def _asked_to_end(self, name: str) -> None:
        if self._leave is None or self._leaving is not None:
            self.end(name)
            return
        self._log.emit(events.STOPPING, reason=f"{name}; running jobs finish first, another {name} ends them")
        self._leaving = self._leave()
        self._leaving.addCallbacks(lambda _: self.end("everything is finished"), self.failed)
