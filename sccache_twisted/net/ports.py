"""Listening: a taken port or a wrong endpoint string fails at the start, with a sentence."""

from __future__ import annotations

from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from sccache_twisted.errors import ConfigError
from sccache_twisted.logs import EventLog, events


class ListeningService(service.Service):
    """Serves ``factory`` on a Twisted endpoint string, below TLS when ``tls`` is given.

    ``startService`` raises ConfigError if it can't listen, so that a process with a taken port does not start.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: str,
        factory: IProtocolFactory,
        tls: IOpenSSLServerConnectionCreator | None,
        role: str,
    ) -> None:
        try:
            self._endpoint = serverFromString(reactor, endpoint)
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{endpoint!r}, where the {role} is to listen, is no Twisted endpoint: {error}."
            ) from error
        self._text = endpoint
        self._role = role
        self._factory = factory if tls is None else TLSMemoryBIOFactory(tls, False, factory, clock=reactor)
        self._log = EventLog.of("sccache_twisted.net", role=role)
        self._listening: Deferred[IListeningPort | None] | None = None
        self._port: IListeningPort | None = None

    @property
    def port(self) -> int:
        """The TCP port that is listened on, which the system chose if the endpoint said 0."""
        if self._port is None:
            raise ConfigError(f"The {self._role} does not listen yet.")
        host: Any = self._port.getHost()
        return int(host.port)

    def startService(self) -> None:
        """Listen, or raise ConfigError."""
        if self._listening is not None:
            return
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service has no types
        failed: list[Failure] = []

        def listens(port: IListeningPort) -> IListeningPort:
            self._port = port
            self._log.emit(events.LISTENING, address=str(port.getHost()))
            return port

        self._listening = self._endpoint.listen(self._factory).addCallbacks(listens, failed.append)
        if failed:
            self._listening = None
            raise ConfigError(self._sentence(failed[0])) from failed[0].value

    def stopService(self) -> Deferred[None]:
        """Stop listening; open connections are their owners' business."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's Service has no types
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        listening.cancel()

        def close(port: IListeningPort | None) -> Deferred[None]:
            self._port = None
            stopping = None if port is None else port.stopListening()
            return succeed(None) if stopping is None else stopping

        return listening.addCallback(close)

    def _sentence(self, failure: Failure) -> str:
        error = failure.value
        if isinstance(error, CannotListenError):
            why = getattr(error.socketError, "strerror", None) or error.socketError
            return f"The {self._role} cannot listen on {self._text}: {why}."
        return f"The {self._role} cannot listen on {self._text}: {failure.getErrorMessage()}."
