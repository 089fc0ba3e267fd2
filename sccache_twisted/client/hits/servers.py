"""The daemon's side of its hit servers: when there are some, what they tell, and that none outlives its use.

Knows processes and their links. Refuses to know what a hit is, and how a call is decided: callers that are handed over
go to the ``owner``, as do reports.
"""

from __future__ import annotations

import array
import json
import os
import socket
import sys
from collections import deque
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall

from sccache_twisted.client.detect import CompilerFinder
from sccache_twisted.client.hits.limit import WINDOW_SECONDS, Look, is_the_limit, wanted_seconds
from sccache_twisted.client.stats import Statistics
from sccache_twisted.errors import SccacheTwistedError
from sccache_twisted.logs import events
from sccache_twisted.logs.events import EventLog
from sccache_twisted.net.processes import Child, Ended, Watched, start
from sccache_twisted.wire import hits as messages
from sccache_twisted.wire.frames import FrameDecoder

_LATE, _HUNG = 3, 8
"""Pings, one each WINDOW_SECONDS: so many without an answer mean that others must take callers, or that it hangs."""

_LONGEST_START = 60
_REST_SECONDS = 10.0
"""After one has ended by itself, none is started for so long."""

_END_SECONDS = 2.0
_PIECE = 1 << 16
_ROOM_FOR_DESCRIPTORS = socket.CMSG_SPACE(64 * array.array("i").itemsize)
_MOST_SAID = 1 << 16
_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from sccache_twisted.client.hits.process import main; main(*sys.argv[2:])"
)


class Owner(Protocol):
    """The daemon, as its hit servers need it."""

    @property
    def waiting(self) -> int:
        """How many callers wait for the daemon."""

    def accept(self, *, here: bool) -> None:
        """Take callers, or leave them to hit servers."""

    def adopt(self, descriptor: int) -> None:
        """Serve a caller whose connection comes from a hit server."""

    def served(self, hit: messages.Served, process: int) -> None:
        """A hit server is about to answer a call."""


class HitServers:
    """None to ``most`` of them: more than none while the daemon alone would be the limit, and ``idle_seconds`` longer.

    Without ``terms`` there is nothing that they could serve. ``finder`` knows compilers, ``statistics`` what is done.
    """

    def __init__(
        self,
        reactor: Any,
        terms: messages.Terms | None,
        finder: CompilerFinder,
        statistics: Statistics,
        *,
        most: int,
        idle_seconds: float,
    ) -> None:
        self._reactor = reactor
        self._terms = terms
        self._finder = finder
        self._statistics = statistics
        self._most = most if terms is not None else 0
        self._idle_seconds = idle_seconds
        self._log = EventLog.of("sccache_twisted.client", role="client")
        self._owner: Owner | None = None
        self._listener = -1
        self._servers: list[_Server] = []
        self._before: Look | None = None
        self._looking: IDelayedCall | None = None
        self._not_before = float("-inf")
        self._last_hit = 0.0
        self._told = -1

    def begin(self, owner: Owner, listener: int) -> None:
        """Be of use to a daemon that listens on this descriptor."""
        self._owner = owner
        self._listener = listener

    def called(self) -> None:
        """The daemon has a caller: look now and then whether it is the limit."""
        if self._most > 0 and self._owner is not None and self._looking is None:
            self._look_later()

    def catch_up(self) -> None:
        """Hear everything that was said before now: whatever a launcher was told is known after this."""
        for server in list(self._servers):
            server.read()

    async def stop(self) -> None:
        """Have all of them end, and wait until they have."""
        self._most = 0
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self._dismiss("the daemon ends")
        killing = [self._reactor.callLater(_END_SECONDS, server.kill) for server in self._servers]
        await DeferredList([server.gone for server in self._servers])
        for call in killing:
            if call.active():
                call.cancel()

    # --- for the servers ---

    def heard(self, server: _Server, message: messages.Message, descriptor: int | None) -> None:
        """A hit server has said something."""
        owner = self._owner
        if owner is None:
            return
        match message:
            case messages.Served():
                self._last_hit = self._reactor.seconds()
                owner.served(message, server.pid)
            case messages.HandedOver(trouble) if descriptor is not None:
                if trouble:
                    self._log.emit(events.HIT_SERVER_TROUBLED, process=server.pid, reason=trouble)
                owner.adopt(descriptor)
            case messages.Ready():
                self._last_hit = self._reactor.seconds()
                self._log.emit(events.HIT_SERVER_STARTED, process=server.pid)
                self._share()

    def ended(self, server: _Server, reason: str) -> None:
        """A hit server's process has ended."""
        self._servers.remove(server)
        if server.dismissed:
            self._log.emit(events.HIT_SERVER_ENDED, process=server.pid, reason=server.dismissed)
        else:
            self._not_before = self._reactor.seconds() + _REST_SECONDS
            self._log.emit(events.HIT_SERVER_LOST, process=server.pid, reason=reason)
        self._share()

    # --- now and then ---

    def _look_later(self) -> None:
        self._before = self._look()
        self._looking = self._reactor.callLater(WINDOW_SECONDS, self._look_again)

    def _look(self) -> Look:
        hits = self._statistics.cache_hits.counts.total()
        return Look(self._reactor.seconds(), wanted_seconds(), self._statistics.compile_requests, hits)

    def _look_again(self) -> None:
        self._looking = None
        before, now, owner = self._before, self._look(), self._owner
        if before is None or owner is None:
            return
        if self._servers:
            self._watch(now.at)
        elif now.at >= self._not_before and is_the_limit(before, now, owner.waiting):
            self._start()
        if self._servers or owner.waiting or now.requests != before.requests:
            self._look_later()

    def _start(self) -> None:
        self._told = self._finder.learnt
        for _ in range(self._most):
            try:
                self._servers.append(self._started())
            except OSError as problem:
                self._not_before = self._reactor.seconds() + _REST_SECONDS
                self._log.emit(events.HIT_SERVER_LOST, process=0, reason=f"it cannot be started: {problem.strerror}")
                return

    def _started(self) -> _Server:
        assert self._terms is not None, "without terms there are none to start"  # noqa: S101 - see __init__
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                child = start(
                    self._reactor,
                    [
                        os.fsencode(sys.executable),
                        b"-E",
                        b"-c",
                        _CODE.encode(),
                        json.dumps(sys.path).encode(),
                        b"%d" % self._listener,
                        b"%d" % theirs.fileno(),
                    ],
                    executable=os.fsencode(sys.executable),
                    cwd=b"/",
                    env=os.environb,
                    umask=-1,
                    limit=_MOST_SAID,
                    pass_fds=(self._listener, theirs.fileno()),
                )
            except OSError:
                ours.close()
                raise
        server = _Server(self._reactor, child, ours, self)
        server.say(self._terms)
        server.say(messages.Compilers(self._finder.identified()))
        return server

    def _watch(self, now: float) -> None:
        for server in self._servers:
            server.look()
        if any(server.ready for server in self._servers) and now - self._last_hit >= self._idle_seconds:
            self._dismiss("no hit for a while")
        elif self._told != self._finder.learnt:
            self._told = self._finder.learnt
            for server in self._servers:
                server.say(messages.Compilers(self._finder.identified()))
        self._share()

    def _dismiss(self, why: str) -> None:
        for server in self._servers:
            server.dismiss(why)
        self._share()

    def _share(self) -> None:
        """Leave callers to the hit servers while all of them are well."""
        serving = [server for server in self._servers if server.ready and not server.dismissed]
        if self._owner is not None:
            self._owner.accept(here=not serving or any(server.late for server in serving))


class _Server:
    """One hit server. ``gone`` fires when its process has ended; ``dismissed``: why it was told to go."""

    def __init__(self, reactor: Any, child: Child, link: socket.socket, owner: HitServers) -> None:
        self.pid = child.pid
        self.ready = False
        self.dismissed = ""
        self._unanswered = 0
        self._child = child
        self._owner = owner
        self._decoder = FrameDecoder(messages.MAX_FRAME)
        self._descriptors: deque[int] = deque()
        self._link = link
        self._watched = Watched(reactor, link.fileno(), self.read)
        self.gone: Deferred[None] = child.wait().addBoth(self._ended)

    @property
    def late(self) -> bool:
        """Whether it owes an answer for too long."""
        return self._unanswered >= _LATE

    def say(self, message: messages.Message) -> None:
        """Tell it something, if it listens; one that doesn't owes an answer, and is judged by that."""
        frame = messages.encode(message)
        try:
            sent = self._link.send(frame, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            self._unanswered += 1
            return
        if sent < len(frame):
            # It will never understand us again.
            self.kill()

    def look(self) -> None:
        """Ask whether it is there; end it when it has not said so for long."""
        if self._unanswered >= (_HUNG if self.ready else _LONGEST_START):
            self.kill()
        self._unanswered += 1
        self.say(messages.Ping())

    def dismiss(self, why: str) -> None:
        """Have it end, once it has answered whom it has."""
        if not self.dismissed and self._watched.open:
            self.dismissed = why
            self._link.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End it."""
        self._child.kill()

    def read(self) -> None:
        """Hear everything that it has said."""
        while self._watched.open:
            try:
                # Not recv_fds: CPython's forgets the flags.
                data, rights, _, _ = self._link.recvmsg(
                    _PIECE, _ROOM_FOR_DESCRIPTORS, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                data, rights = b"", []
            for level, type_, numbers in rights:
                if (level, type_) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self._descriptors += array.array("i", numbers)
            if not data:
                self._close()
                return
            try:
                for kind, payload in self._decoder.feed(data):
                    self._heard(messages.decode(kind, payload))
            except SccacheTwistedError:
                # It is not one of ours any more; what it has in hand, its launcher does by itself.
                self.kill()
                self._close()

    def _heard(self, message: messages.Message) -> None:
        self._unanswered = 0
        self.ready = self.ready or isinstance(message, messages.Ready)
        handed_over = isinstance(message, messages.HandedOver) and self._descriptors
        self._owner.heard(self, message, self._descriptors.popleft() if handed_over else None)

    def _close(self) -> None:
        if self._watched.open:
            self._link.detach()
            self._watched.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _ended(self, result: Any) -> None:
        # What it said before its end counts: reports of hits, and callers that are ours.
        self.read()
        self._close()
        self._owner.ended(self, _how(result))


def _how(result: Any) -> str:
    if not isinstance(result, Ended):
        return str(result.getErrorMessage())
    said = result.stderr.decode("utf-8", "backslashreplace").strip().rpartition("\n")[2]
    how = f"signal {result.signal}" if result.signal else f"status {result.status}"
    return f"{how}: {said}" if said else how
