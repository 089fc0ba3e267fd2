"""Scheduler addresses, socket options, taken ports."""

from __future__ import annotations

import contextlib
import socket

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from sccache_twisted.errors import ConfigError
from sccache_twisted.model import Address
from sccache_twisted.net.addresses import SchedulerAddress
from sccache_twisted.net.ports import ListeningService
from sccache_twisted.net.sockets import tune, unsent_bytes

PIN = "sha256:" + "0a" * 32


def test_addresses_as_written():
    """A scheduler is written with or without pin, port and brackets."""
    assert SchedulerAddress.parse(f"tls://build:1234?pin={PIN.upper()}") == SchedulerAddress(
        Address("build", 1234), pin=PIN
    )
    assert SchedulerAddress.parse(" tls://10.0.0.7/ ") == SchedulerAddress(Address("10.0.0.7", 10600))
    assert SchedulerAddress.parse("tls://[::1]:5").address == Address("::1", 5)
    assert str(SchedulerAddress.parse("tls://[::1]:5")) == "tls://[::1]:5"
    plain = SchedulerAddress.parse("tcp://h:1", insecure=True)
    assert plain == SchedulerAddress(Address("h", 1), tls=False)
    assert plain.peer("") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write tls://HOST:PORT"),
        ("build:10600", "write tls://HOST:PORT"),
        ("http://build:1", "write tls://HOST:PORT"),
        ("tls://:10600", "only HOST:PORT"),
        ("tls://build:99999", "is not a scheduler's address"),
        ("tls://build:port", "is not a scheduler's address"),
        ("tls://build/path", "only HOST:PORT"),
        ("tls://user@build", "only HOST:PORT"),
        ("tls://build?pins=1", "knows pin, not 'pins'"),
        ("tls://build?pin=sha256:12", "is not a pin"),
        ("tls://build?pin", "is not a scheduler's address"),
        ("tcp://build:1", "insecure = true"),
    ],
)
def test_addresses_written_wrongly(text, says):
    """A wrong address is told with what is wrong about it."""
    with pytest.raises(ConfigError, match=says):
        SchedulerAddress.parse(text)


def test_plain_address_with_pin():
    """Without TLS nothing is pinned, and to write both is a mistake."""
    with pytest.raises(ConfigError, match="without TLS"):
        SchedulerAddress.parse(f"tcp://build:1?pin={PIN}", insecure=True)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_sentence(text):
    """No text makes anything but an address or a ConfigError."""
    for candidate in (text, f"tls://{text}"):
        try:
            found = SchedulerAddress.parse(candidate)
        except ConfigError:
            continue
        assert found.address.host


def test_ca_file_is_named(tmp_path):
    """A CA file that can't be read is named."""
    address = SchedulerAddress.parse("tls://build:1")
    with pytest.raises(ConfigError, match="No such file"):
        address.peer(str(tmp_path / "absent"))
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError, match="no PEM certificate"):
        address.peer(str(tmp_path / "empty"))


def fill(handle):
    """Send until the kernel takes no more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            handle.send(bytes(1 << 20))


class Silent(Protocol):
    """Never reads."""

    def __init__(self):
        self.made = Deferred()

    def connectionMade(self):
        self.transport.pauseProducing()
        self.made.callback(self)


@pytest_twisted.ensureDeferred
async def test_sockets_are_tuned_and_their_queues_seen():
    """Both options and the bytes that the peer has not taken are those of the socket itself."""
    server = Silent()
    service = ListeningService(reactor, "tcp:0:interface=127.0.0.1", Factory.forProtocol(lambda: server), None, "test")
    service.startService()
    client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", service.port), Protocol())
    await server.made
    tune(client.transport, 15.0)
    handle = client.transport.getHandle()
    assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15000
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert unsent_bytes(client.transport) == 0
    handle.setblocking(False)
    fill(handle)
    assert unsent_bytes(client.transport) > 0
    client.transport.abortConnection()
    server.transport.abortConnection()
    await service.stopService()
    assert unsent_bytes(client.transport) == 0


def test_taken_port_fails_at_the_start():
    """A taken port is told at the start, with role, endpoint and reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        service = ListeningService(reactor, endpoint, Factory(), None, "worker")
        with pytest.raises(ConfigError, match=f"The worker cannot listen on {endpoint}: Address already in use"):
            service.startService()
    with pytest.raises(ConfigError, match="no Twisted endpoint"):
        ListeningService(reactor, "port:what", Factory(), None, "worker")
