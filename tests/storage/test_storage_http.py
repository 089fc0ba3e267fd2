"""HTTP and WebDAV: the contract against nginx and its DAV module, and the layout of bazel-remote."""

from __future__ import annotations

import shutil

import pytest
import pytest_twisted
from contracts.cache_store import CacheStoreContract, key_of
from support.store_servers import DavServer, SelfSigned
from twisted.web.pages import notFound
from twisted.web.resource import Resource
from twisted.web.server import Site

from sccache_twisted.errors import EntryTooLarge, StorageError
from sccache_twisted.security.contexts import authority_peer
from sccache_twisted.storage.dialing import Server
from sccache_twisted.storage.http import HttpLogin, HttpStore, Layout

NOBODY = HttpLogin()


@pytest.fixture(scope="module")
def dav(tmp_path_factory):
    with DavServer(tmp_path_factory.mktemp("dav")) as running:
        yield running


def store_at(reactor, port, login=NOBODY, prefix="", layout=Layout.SUBDIRS, tls=None, path=""):
    scheme = "http" if tls is None else "https"
    server = Server(f"The web server at localhost:{port}", "localhost", port, tls)
    return HttpStore(reactor, server, f"{scheme}://localhost:{port}{path}", login, prefix, layout, 5.0)


class TestDav(CacheStoreContract):
    @pytest.fixture
    def open_store(self, dav, reactor):
        return lambda: store_at(reactor, dav.port, prefix="con tract/ä")


@pytest.fixture
def opened(reactor):
    stores = []

    def open_one(*arguments, **named):
        stores.append(store_at(reactor, *arguments, **named))
        return stores[-1]

    yield open_one
    for store in stores:
        pytest_twisted.blockon(store.close())


@pytest_twisted.ensureDeferred
async def test_collections_are_made_where_a_server_makes_none(dav, opened):
    """Nginx makes no directories by itself: each one down to the entry's is made, once it is missed."""
    key = key_of("placed")
    await opened(dav.port, prefix="a/b c").put(key, b"here")
    assert (dav.root / "a" / "b c" / key[:2] / key[2:]).read_bytes() == b"here"
    await opened(dav.port, prefix="flat", layout=Layout.FLAT).put(key, b"there")
    assert (dav.root / "flat" / key).read_bytes() == b"there"


@pytest_twisted.ensureDeferred
async def test_collections_that_vanish_are_made_again(dav, opened):
    """When somebody empties the server, one entry isn't stored; the next one is."""
    store = opened(dav.port, prefix="vanishing/one")
    await store.put(key_of("x"), b"x")
    shutil.rmtree(dav.root / "vanishing")
    with pytest.raises(StorageError):
        await store.put(key_of("x"), b"x")
    await store.put(key_of("x"), b"x")
    assert await store.get(key_of("x")) == b"x"


@pytest_twisted.ensureDeferred
async def test_a_server_that_makes_directories_needs_no_mkcol(tmp_path, opened):
    """Where only PUT and DELETE are allowed and the server makes directories itself, all is well."""
    with DavServer(tmp_path, "create_full_put_path on;", methods="PUT DELETE") as server:
        store = opened(server.port, prefix="deep/er")
        await store.put(key_of("x"), b"x")
        assert await store.get(key_of("x")) == b"x"


@pytest.mark.parametrize("way", ["basic", "bearer"])
@pytest_twisted.ensureDeferred
async def test_credentials_open_the_door_and_wrong_ones_are_a_sentence(tmp_path, opened, way):
    """Basic and bearer authentication reach the server as it wants them; a refusal never repeats them."""
    right, wrong = {
        "basic": (HttpLogin.basic("alice", "wönder:land"), HttpLogin.basic("alice", "sesame")),
        "bearer": (HttpLogin.bearer("t0ken-of_alice"), HttpLogin.bearer("sesame")),
    }[way]
    rule = f'if ($http_authorization != "{right.header}") {{ return 401; }}'
    with DavServer(tmp_path, rule) as server:
        store = opened(server.port, right)
        await store.put(key_of("x"), b"x")
        assert await store.get(key_of("x")) == b"x"
        for login in (wrong, HttpLogin()):
            for call in (opened(server.port, login).get(key_of("x")), opened(server.port, login).put(key_of("x"), b"")):
                with pytest.raises(StorageError, match=r"wants credentials.*401") as caught:
                    await call
                assert "sesame" not in str(caught.value)
        assert "sesame" not in repr(wrong)


@pytest_twisted.ensureDeferred
async def test_a_server_that_only_reads_refuses_writes_by_name(tmp_path, opened):
    """Where PUT isn't allowed, storing fails with the status, and reading goes on."""
    with DavServer(tmp_path, methods="off") as server:
        key = key_of("x")
        (server.root / key[:2]).mkdir()
        (server.root / key[:2] / key[2:]).write_bytes(b"given")
        store = opened(server.port)
        with pytest.raises(StorageError, match="405"):
            await store.put(key, b"x")
        assert await store.get(key) == b"given"


@pytest_twisted.ensureDeferred
async def test_what_is_too_large_for_a_server_is_told_apart(tmp_path, opened):
    """An entry over the server's bound on bodies is EntryTooLarge, small or large, and calls go on."""
    with DavServer(tmp_path, "client_max_body_size 1k;") as server:
        store = opened(server.port)
        for size in (1025, 3_000_000):
            with pytest.raises(EntryTooLarge, match="413"):
                await store.put(key_of("x"), bytes(size))
        await store.put(key_of("x"), bytes(1024))
        assert await store.get(key_of("x")) == bytes(1024)


@pytest_twisted.ensureDeferred
async def test_https_is_judged_by_the_ca(tmp_path, opened):
    """An https server is believed by the CA file that was named, and by no other."""
    signed = SelfSigned(tmp_path)
    with DavServer(tmp_path, tls=signed) as server:
        store = opened(server.port, tls=authority_peer("localhost", str(signed.certificate)))
        await store.put(key_of("x"), bytes(range(256)) * 4000)
        assert await store.get(key_of("x")) == bytes(range(256)) * 4000
        with pytest.raises(StorageError, match="no trusted CA"):
            await opened(server.port, tls=authority_peer("localhost", "")).get(key_of("x"))


class BazelRemote(Resource):
    """What a bazel-remote server does with ac/: 64 digits, GET and PUT, no DELETE; it may judge values."""

    isLeaf = True

    def __init__(self, *, validating=False) -> None:
        super().__init__()
        self.entries = {}
        self._validating = validating

    def _name(self, request):
        *instance, kind, key = request.path.strip(b"/").split(b"/")
        assert kind == b"ac"
        assert len(key) == 64
        return b"/".join([*instance, key])

    def render_GET(self, request):
        found = self.entries.get(self._name(request))
        return notFound().render(request) if found is None else found

    def render_PUT(self, request):
        if self._validating:
            request.setResponseCode(400)
            return b"proto: cannot parse invalid wire-format data"
        self.entries[self._name(request)] = request.content.read()
        return b""


@pytest.fixture
def bazel(reactor):
    ports = []

    def serve(**named):
        resource = BazelRemote(**named)
        ports.append(reactor.listenTCP(0, Site(resource), interface="127.0.0.1"))
        return resource, ports[-1].getHost().port

    yield serve
    for port in ports:
        pytest_twisted.blockon(port.stopListening())


class TestBazel(CacheStoreContract):
    large = 1 << 20

    @pytest.fixture
    def open_store(self, bazel, reactor):
        _, port = bazel()
        return lambda: store_at(reactor, port, layout=Layout.BAZEL)


@pytest_twisted.ensureDeferred
async def test_a_bazel_remote_server_is_spoken_to_in_its_own_paths(bazel, opened):
    """Entries lie below ac/, after the instance's name; one that is deleted without DELETE is absent for everybody."""
    resource, port = bazel()
    store = opened(port, prefix="team", layout=Layout.BAZEL)
    key = key_of("x")
    await store.delete(key)
    assert resource.entries == {}
    await store.put(key, b"entry")
    assert resource.entries == {b"team/" + key.encode(): b"entry"}
    await store.delete(key)
    assert await opened(port, prefix="team", layout=Layout.BAZEL).get(key) is None


@pytest_twisted.ensureDeferred
async def test_a_bazel_remote_server_that_judges_entries_says_which_flag_is_missing(bazel, opened):
    """A server that wants ActionResults refuses with the option that it has to be started with."""
    _, port = bazel(validating=True)
    with pytest.raises(StorageError, match="--disable_http_ac_validation"):
        await opened(port, layout=Layout.BAZEL).put(key_of("x"), b"entry")
