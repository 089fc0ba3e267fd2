"""The data plane's sockets and bodies: nothing waits for an acknowledgement, for the disk, or for a compressor."""

import os
import tempfile
import time
from contextlib import contextmanager

import pytest
import pytest_twisted
from attrs import evolve
from support.sockets import ends, without_delay
from worker_confinement_kit import body
from worker_kit import digest_of, program_in
from worker_service_kit import send_tiny_toolchain

from sccache_twisted.model import FileInput
from sccache_twisted.wire.jobs import encode_job

pytestmark = pytest.mark.root

SPOOLED = 280_000
"""Bytes of a body that twisted.web would write to a temporary file, as it does with all over 100,000."""
LARGE = 64 << 20


def with_input(shop, action, data):
    """The action with one more input."""
    shop.blobs.put(digest_of(data), data)
    more = FileInput(b"/w/large", digest_of(data), len(data), 0)
    return evolve(action, inputs=(*action.inputs, more))


@pytest_twisted.ensureDeferred
async def test_both_ends_of_a_connection_send_at_once(served, shop):
    """Neither a job nor the frames of its answer wait until what was sent before is acknowledged."""
    action = program_in(shop, body("return 0;"), name="quick-probe")
    async with served() as client:
        await send_tiny_toolchain(client, shop, action)
        await client.run(client.lease(action.toolchain), action, shop.blobs)
        with ends(client.worker.port) as sockets:
            assert [without_delay(one) for one in sockets] == [True] * 2


@pytest_twisted.ensureDeferred
async def test_a_body_is_never_laid_on_the_disk_to_be_read_again(served, shop, monkeypatch):
    """A job of 280 kB, compressed, arrives although no temporary file can be made."""
    action = with_input(shop, program_in(shop, body("return 0;"), name="quick-probe"), os.urandom(SPOOLED))
    async with served() as client:
        await send_tiny_toolchain(client, shop, action)
        monkeypatch.setattr(tempfile, "tempdir", "/absent")
        assert (await client.run(client.lease(action.toolchain), action, shop.blobs)).exit_code == 0


@contextmanager
def turns(reactor):
    """Yields a list that grows by the seconds of every turn of the reactor's while the block lasts."""
    seconds, last = [], [time.monotonic()]

    def turned():
        now = time.monotonic()
        seconds.append(now - last[0])
        last[0] = now
        running[0] = reactor.callLater(0, turned)

    running = [reactor.callLater(0, turned)]
    try:
        yield seconds
    finally:
        running[0].cancel()


@pytest.mark.alone
@pytest_twisted.ensureDeferred
async def test_what_is_large_is_packed_and_unpacked_beside_the_reactor(served, shop, reactor):
    """While 64 MB are read, compressed, decompressed and hashed, both ends go on with everything else."""
    plain = program_in(shop, body("return 0;"), name="quick-probe")
    blocking, longest = [], []
    async with served() as client:
        await send_tiny_toolchain(client, shop, plain)
        # A machine may stop anybody for a moment: of three times the best counts, and of what it is compared with.
        for _ in range(3):
            data = os.urandom(LARGE // 2).hex().encode()
            action = with_input(shop, plain, data)
            began = time.monotonic()
            encode_job(action, [(digest_of(data), data)], 1)
            blocking.append(time.monotonic() - began)
            with turns(reactor) as seconds:
                await client.run(client.lease(action.toolchain), action, shop.blobs)
            longest.append(max(seconds))
    assert min(longest) < 0.75 * min(blocking)
