# mypy: allow-untyped-calls
# The methods of twisted.web's HTTPChannel have no types.
"""One connection of a client: what comes on it beside requests, and when it has been silent for too long.

Knows HTTP's framing as twisted.web does it. Refuses to know what a request is about.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http

from sccache_twisted.wire.http import STILL_HERE
from sccache_twisted.worker.connections import Connections

IDLE_SECONDS: Final = 600


class Site(Protocol):
    """Whose connection it is."""

    connections: Connections


class WorkerChannel(http.HTTPChannel):
    """A client's connection."""

    site: Site
    transport: Any

    def lineReceived(self, line: bytes) -> None:
        """Called by Twisted."""
        # A sign of life may cross the end of the answer that was waited for.
        if line or self.requests:
            http.HTTPChannel.lineReceived(self, line)

    def rawDataReceived(self, data: bytes) -> None:
        """Called by Twisted with what comes while a request is read or answered."""
        if self._handlingRequest and not data.strip(STILL_HERE):
            return  # a sign of life, which has set back the clock already
        http.HTTPChannel.rawDataReceived(self, data)

    def watch(self, seconds: float) -> None:
        """From now on, until the request is answered, something has to come at least so often, or all is over."""
        self.setTimeout(seconds)

    def timeoutConnection(self) -> None:
        """Called by Twisted when nothing has come for as long as :meth:`watch` said, or was idle."""
        if self.requests:
            self.forceAbortClient()
        else:
            http.HTTPChannel.timeoutConnection(self)

    def requestDone(self, request: Any) -> None:
        """Called by Twisted when a request is answered: nobody is watched any more."""
        self._savedTimeOut = IDLE_SECONDS
        http.HTTPChannel.requestDone(self, request)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted."""
        self.site.connections.closed(self)
        http.HTTPChannel.connectionLost(self, reason)
