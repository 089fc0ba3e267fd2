"""What every TCP socket of ours is told: no delay, keep-alive, and an end to unacknowledged bytes."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Any

from twisted.protocols.policies import ProtocolWrapper

_KEEPALIVE_PROBES = 3


def tune(transport: Any, user_timeout_seconds: float) -> None:
    """Set TCP_NODELAY, TCP_USER_TIMEOUT and keep-alive on a transport, also below TLS; other transports stay.

    A peer that vanished while nothing was under way is noticed by keep-alive within about ``user_timeout_seconds``.
    """
    handle = _socket(transport)
    if handle is None:
        return
    interval = max(1, round(user_timeout_seconds / _KEEPALIVE_PROBES))
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(user_timeout_seconds * 1000))
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)


def unsent_bytes(transport: Any) -> int:
    """Bytes that the kernel holds because the peer has not acknowledged them; 0 for what is no TCP socket."""
    handle = _socket(transport)
    if handle is None:
        return 0
    try:
        answer = fcntl.ioctl(handle.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])


def _socket(transport: Any) -> socket.socket | None:
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    # getHandle would raise for a transport that is closed already.
    handle = getattr(transport, "socket", None)
    if (
        isinstance(handle, socket.socket)
        and handle.fileno() >= 0
        and handle.family in {socket.AF_INET, socket.AF_INET6}
    ):
        return handle
    return None
