"""What a worker keeps is damaged on its disk: it is noticed before it can matter, said, and asked for again."""

import os
import subprocess

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from twisted.logger import globalLogPublisher
from worker_kit import ENV, action_of

from sccache_twisted.errors import ToolchainAbsent
from sccache_twisted.model import FileInput

pytestmark = pytest.mark.root


@pytest.fixture
def logged():
    """The names of events that were logged."""
    found = []

    def observe(event):
        found.append(event.get("event"))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def compilation(packaged, tmp_path, shop):
    """A compilation with a header that is too large for a worker's memory; its toolchain, action, and local object."""
    toolchain = packaged("gcc")
    (tmp_path / "large.h").write_text("/* large */\n" * 8000)
    (tmp_path / "a.c").write_text('#include "large.h"\nint f(void) { return 1; }\n')
    argv = ["gcc", "-g", "-O2", "-c", "a.c", "-o", "a.o"]
    action = action_of(toolchain.digest, argv, tmp_path, ["a.o"], shop.blobs)
    subprocess.run(argv, cwd=tmp_path, env=dict(ENV), check=True)
    return toolchain, action, (tmp_path / "a.o").read_bytes()


def damage(path):
    """Change a file's first bytes, without which no program is one."""
    with open(path, "r+b") as stream:
        stream.write(bytes(64))


@pytest_twisted.ensureDeferred
async def test_a_damaged_blob_is_sent_again(served, compilation, shop, logged):
    """Two jobs want a blob that is damaged: both have it sent again within their attempt, and it is said."""
    toolchain, action, local = compilation
    (large,) = (entry for entry in action.inputs if isinstance(entry, FileInput) and entry.path.endswith(b"large.h"))
    async with served() as client:
        lease = client.lease(toolchain.digest)
        await client.connections.upload_toolchain(lease, toolchain.digest, os.fsdecode(toolchain.path))
        blobs = client.worker.jobs._blobs
        blobs.put(large.digest, shop.blobs.read(large.digest))
        damage(blobs.path(large.digest))
        running = [
            client.run(lease, action, shop.blobs),
            client.run(client.lease(toolchain.digest), action, shop.blobs),
        ]
        for result in await gatherResults(running):
            assert result.outputs[0].data == local
        assert logged.count("blob_corrupt") == 1
        assert "job_failed" not in logged


@pytest_twisted.ensureDeferred
async def test_a_compiler_that_is_damaged_as_it_starts(served, compilation, shop, logged):
    """It fails as if the source were wrong, but is looked at again: the toolchain is dropped and asked for."""
    toolchain, action, local = compilation
    async with served() as client:
        lease = client.lease(toolchain.digest)
        await client.connections.upload_toolchain(lease, toolchain.digest, os.fsdecode(toolchain.path))
        store = client.worker.jobs.toolchains
        (compiler,) = (path for path in _files(store.place(toolchain.digest)) if path.endswith(b"/cc1"))
        verify, looks = store.verify, []

        def verify_then_damage(digest):
            looks.append(verify(digest))
            if len(looks) == 1:
                damage(compiler)
            return looks[-1]

        store.verify = verify_then_damage
        with pytest.raises(ToolchainAbsent):
            await client.run(lease, action, shop.blobs)
        assert looks == [True, False]
        assert logged.count("toolchain_dropped") == 1
        await client.connections.upload_toolchain(lease, toolchain.digest, os.fsdecode(toolchain.path))
        assert (await client.run(lease, action, shop.blobs)).outputs[0].data == local


def _files(directory):
    return [os.path.join(above, name) for above, _, names in os.walk(directory) for name in names]
