"""A workshop, compilers packaged once, and nothing left behind."""

from __future__ import annotations

import os
import shutil
from contextlib import asynccontextmanager

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from worker_kit import LIMITS, Shop, open_directory
from worker_service_kit import Client

from sccache_twisted.config import WorkerSettings
from sccache_twisted.model import Compiler, CompilerFamily
from sccache_twisted.toolchains import discover, package
from sccache_twisted.worker.owners import ClaimedUids, parse_uids
from sccache_twisted.worker.service import WorkerService


@pytest.fixture(scope="session")
def shared_directory():
    made = open_directory()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def packaged(shared_directory):
    """``packaged("gcc")``: the archive of a compiler, made once."""
    done = {}

    def get(name):
        if name not in done:
            path = os.fsencode(shutil.which(name, path="/usr/bin"))
            family = CompilerFamily.CLANG if "clang" in name else CompilerFamily.GCC
            compiler = Compiler(path, os.fsencode(name), family, "", os.uname().machine, cplusplus="++" in name)
            env = {b"PATH": b"/usr/local/bin:/usr/bin:/bin", b"LANG": b"C.UTF-8"}
            done[name] = package(discover(compiler, env), os.fsencode(shared_directory / f"{name}.tar.zst"))
        return done[name]

    return get


@pytest.fixture
def reactor():
    from twisted.internet import reactor

    return reactor


@pytest.fixture(scope="session")
def claimed():
    uids = ClaimedUids.claim(4, parse_uids("2000060000-2000060999"))
    yield uids.owners
    uids.release()


@pytest.fixture
def open_shop(reactor, shared_directory, claimed):
    """``open_shop(limits=…)``: an executor over the session's stores, as root with a uid for each of four slots."""
    opened = []

    def make(limits=LIMITS, **more):
        shop = Shop(reactor, shared_directory, more.pop("owners", claimed), more.pop("groups", ()), limits, **more)
        opened.append(shop)
        return shop

    yield make
    for shop in opened:
        pytest_twisted.blockon(Deferred.fromCoroutine(shop.executor.clear()))
        assert shop.leftovers() == []
        shop.close()


@pytest.fixture
def shop(open_shop):
    return open_shop()


@pytest.fixture
def directory():
    made = open_directory()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def served(reactor, directory):
    """A worker with the settings that are given, and a client of it; nothing of it is left behind."""

    @asynccontextmanager
    async def serve(**settings):
        worker = WorkerService(
            reactor,
            WorkerSettings(
                name="w",
                listen="tcp:0:interface=127.0.0.1",
                directory=str(directory / "worker"),
                slot_uids="2000061000-2000061999",
                **{"slots": 2, "progress_seconds": 0.2, **settings},
            ),
        )
        worker.startService()
        client = Client(reactor, worker)
        try:
            yield client
        finally:
            await client.connections.close()
            await worker.stopService()
        assert os.listdir(directory / "worker" / "jobs") == []
        assert worker.jobs.slots.taken == 0

    return serve
