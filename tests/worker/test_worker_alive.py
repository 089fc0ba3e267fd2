"""A client that stands still closes no connection: it is known by what it does not say or send any more."""

import contextlib
import os
import socket
import ssl
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread
from worker_confinement_kit import body, processes, until
from worker_kit import program_in
from worker_service_kit import send_tiny_toolchain

from sccache_twisted.config import LinkTimers
from sccache_twisted.errors import ConnectionFailed
from sccache_twisted.net.agent import Exchange
from sccache_twisted.wire.http import JOB_HEADER, STILL_HERE, job_header, toolchain_path

pytestmark = pytest.mark.root

LOST_SECONDS = 0.4
LINKS = LinkTimers(peer_lost_seconds=LOST_SECONDS)


@pytest_twisted.ensureDeferred
async def test_a_job_whose_client_stands_still_is_killed(served, shop, reactor, monkeypatch):
    """It promised to speak and is silent: nothing of its job is left, and the slot is free."""
    action = program_in(shop, body("pause();"), name="silent-probe")
    async with served(links=LINKS) as client:
        await send_tiny_toolchain(client, shop, action)
        client.connections._alive_seconds = LOST_SECONDS / 4
        running = client.run(client.lease(action.toolchain), action, shop.blobs)
        await until(reactor, lambda: processes(b"/bin/silent-probe"))
        monkeypatch.setattr(Exchange, "say", lambda _self, _data: None)
        with pytest.raises(ConnectionFailed):
            await running
        await until(reactor, lambda: client.worker.jobs.slots.taken == 0)
        assert processes(b"/bin/silent-probe") == []


@pytest_twisted.ensureDeferred
async def test_a_client_that_lives_has_its_job_done(served, shop):
    """However long the job takes; and the connection serves the next job too, although a word came late."""
    seconds = 4 * LOST_SECONDS
    action = program_in(shop, body(f"usleep({int(seconds * 1e6)});"), name="long-probe")
    async with served(links=LINKS) as client:
        await send_tiny_toolchain(client, shop, action)
        client.connections._alive_seconds = LOST_SECONDS / 4
        result = await client.run(client.lease(action.toolchain), action, shop.blobs)
        assert (result.exit_code, result.figures.wall_seconds >= seconds) == (0, True)
        ((idle,),) = client.connections._agent._pool._connections.values()
        for _ in range(3):
            idle.transport.write(STILL_HERE)
        result = await client.run(client.lease(action.toolchain), action, shop.blobs)
        assert result.exit_code == 0
        assert len(client._sockets) == 1


@pytest_twisted.ensureDeferred
async def test_an_upload_that_stands_still_is_over(served, packaged, reactor):
    """Bytes that do not come hold no slot: the connection is cut, the lease ends, and nothing is left of it."""
    toolchain = packaged("gcc")
    async with served(links=LINKS) as client:
        lease = client.lease(toolchain.digest)
        head = (
            f"PUT {toolchain_path(toolchain.digest)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {lease.token}\r\n"
            f"{JOB_HEADER.decode()}: {job_header(lease.attempt).decode()}\r\nContent-Length: {toolchain.size}\r\n\r\n"
        )
        heard = await deferToThread(_begin_and_wait, client.worker.port, head.encode(), toolchain.path)
        assert heard == b""
        await until(reactor, lambda: client.worker.jobs.slots.taken == 0)
        assert client.worker.jobs.toolchains.size == 0


def _begin_and_wait(port, head, archive):
    """Send the beginning of an archive and no more; what the worker answers until it hangs up."""
    data = head + Path(os.fsdecode(archive)).read_bytes()[:100_000]
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 30), server_hostname="x") as stream:
        stream.sendall(data)
        heard = b""
        with contextlib.suppress(ConnectionResetError, ssl.SSLError):
            while piece := stream.recv(1 << 16):
                heard += piece
        return heard
