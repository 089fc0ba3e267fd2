"""S3: the contract against moto's server in both styles, and where credentials come from."""

from __future__ import annotations

import json
import urllib.request

import botocore.session
import pytest
import pytest_twisted
from contracts.cache_store import CacheStoreContract, key_of
from support.store_servers import S3Server
from twisted.web.resource import Resource
from twisted.web.server import Site

from sccache_twisted.errors import StorageError
from sccache_twisted.storage.credentials import Credentials
from sccache_twisted.storage.dialing import Server
from sccache_twisted.storage.s3 import Bucket, S3Store

BUCKET = "compile-cache"


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        client(running, "s3").create_bucket(Bucket=BUCKET)
        yield running


def client(server, service):
    """What AWS's own library does, past the store."""
    return botocore.session.Session().create_client(
        service,
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@pytest.fixture(autouse=True)
def own_credentials(monkeypatch, tmp_path):
    """Credentials in the environment, and none of the machine's."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def store_at(reactor, port, *, virtual=False, prefix="", anonymous=False, bucket=BUCKET, encrypt=False):
    host = f"{bucket}.s3.localhost" if virtual else "localhost"
    base = f"http://{host}:{port}" if virtual else f"http://{host}:{port}/{bucket}"
    server = Server(f"S3 at {host}:{port}", host, port)
    credentials = Credentials(reactor, "us-east-1", anonymous=anonymous)
    return S3Store(reactor, server, Bucket(bucket, base, prefix, encrypt), credentials, 5.0)


class TestS3ByPath(CacheStoreContract):
    @pytest.fixture
    def open_store(self, s3, reactor):
        return lambda: store_at(reactor, s3.port, prefix="by path/ä")


class TestS3ByHost(CacheStoreContract):
    @pytest.fixture
    def open_store(self, s3, reactor):
        return lambda: store_at(reactor, s3.port, virtual=True, prefix="by-host")


@pytest.fixture
def opened(reactor):
    stores = []

    def open_one(*arguments, **named):
        stores.append(store_at(reactor, *arguments, **named))
        return stores[-1]

    yield open_one
    for store in stores:
        pytest_twisted.blockon(store.close())


@pytest.mark.parametrize("virtual", [False, True])
@pytest_twisted.ensureDeferred
async def test_objects_are_named_as_sccache_names_them(s3, opened, virtual):
    """Below the prefix, three directories of a digit each; in both styles the same object, encrypted if asked for."""
    key = key_of(f"named {virtual}")
    await opened(s3.port, virtual=virtual, prefix="team/one/", encrypt=True).put(key, b"entry")
    found = client(s3, "s3").get_object(Bucket=BUCKET, Key=f"team/one/{key[0]}/{key[1]}/{key[2]}/{key}")
    assert found["Body"].read() == b"entry"
    assert found["ServerSideEncryption"] == "AES256"
    assert await opened(s3.port, virtual=not virtual, prefix="team/one").get(key) == b"entry"


@pytest_twisted.ensureDeferred
async def test_another_bucket_is_a_sentence(s3, opened):
    """A bucket that doesn't exist is an error that names it, not a miss for ever."""
    store = opened(s3.port, bucket="no-such-bucket")
    for call in (store.get(key_of("x")), store.put(key_of("x"), b"x"), store.delete(key_of("x"))):
        with pytest.raises(StorageError, match=r"NoSuchBucket \(404\), bucket no-such-bucket"):
            await call


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server that judges signatures; its one user's key and secret."""
    with S3Server(tmp_path_factory.mktemp("guarded")) as running:
        iam = client(running, "iam")
        iam.create_user(UserName="builder")
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        iam.put_user_policy(UserName="builder", PolicyName="all", PolicyDocument=json.dumps(policy))
        made = iam.create_access_key(UserName="builder")["AccessKey"]
        client(running, "s3").create_bucket(Bucket=BUCKET)
        reset = urllib.request.Request(
            f"http://127.0.0.1:{running.port}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(reset) as answer:  # noqa: S310 - it is our own server
            assert answer.status == 200
        running.identity = (made["AccessKeyId"], made["SecretAccessKey"])
        yield running


@pytest_twisted.ensureDeferred
async def test_credentials_of_a_file_are_used_and_looked_for_again(guarded, opened, monkeypatch, tmp_path):
    """A profile's credentials sign as the server wants it; after wrong ones were refused, the file is read again."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    key, secret = guarded.identity
    profile = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    (tmp_path / "credentials").write_text(profile.format(key, "sesame"), encoding="ascii")
    store = opened(guarded.port, prefix="fi le/ä+~(1)=x")
    with pytest.raises(StorageError, match="SignatureDoesNotMatch") as caught:
        await store.put(key_of("x"), b"x")
    assert "sesame" not in str(caught.value)
    (tmp_path / "credentials").write_text(profile.format(key, secret), encoding="ascii")
    await store.put(key_of("x"), b"x")
    assert await store.get(key_of("x")) == b"x"


@pytest_twisted.ensureDeferred
async def test_a_denied_look_up_is_a_miss_that_is_told_once(reactor, events):
    """S3 denies whoever may not list a bucket every object that isn't there: misses, and one line in the log."""

    class Denying(Resource):
        isLeaf = True

        def render_GET(self, request):
            request.setResponseCode(403)
            return b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'

        render_PUT = render_GET

    port = reactor.listenTCP(0, Site(Denying()), interface="127.0.0.1")
    store = store_at(reactor, port.getHost().port)
    assert [await store.get(key_of(name)) for name in "abc"] == [None] * 3
    with pytest.raises(StorageError, match=r"AccessDenied \(403\)"):
        await store.put(key_of("a"), b"a")
    await store.close()
    await port.stopListening()
    assert [(name, event["store"]) for name, event in events] == [("store_denies", "s3")]


@pytest_twisted.ensureDeferred
async def test_without_credentials_nothing_is_signed(s3, opened):
    """Anonymous requests read what is public; what isn't is refused, although there are credentials."""
    store = opened(s3.port, anonymous=True, prefix="public")
    open_key, hidden_key = key_of("open"), key_of("hidden")
    for key, acl in ((open_key, "public-read"), (hidden_key, "private")):
        name = f"public/{key[0]}/{key[1]}/{key[2]}/{key}"
        client(s3, "s3").put_object(Bucket=BUCKET, Key=name, Body=b"x", ACL=acl)
    assert await store.get(open_key) == b"x"
    with pytest.raises(StorageError, match="403"):
        await store.get(hidden_key)


@pytest_twisted.ensureDeferred
async def test_no_credentials_anywhere_is_a_sentence(s3, opened, monkeypatch):
    """Where none are found, the error says where they were looked for."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = opened(s3.port)
    with pytest.raises(StorageError, match=r"no credentials for S3.*no_credentials"):
        await store.get(key_of("x"))


@pytest_twisted.ensureDeferred
async def test_an_instances_credentials_are_found(s3, opened, monkeypatch):
    """With nothing in the environment and no file, the instance's metadata service is asked."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{s3.port}/")
    store = opened(s3.port, prefix="instance")
    await store.put(key_of("x"), b"x")
    assert await store.get(key_of("x")) == b"x"


@pytest_twisted.ensureDeferred
async def test_one_search_serves_all_who_wait(s3, opened):
    """Many first calls at once, some of them given up, are all served by the one search for credentials."""
    store = opened(s3.port, prefix="many")
    calls = [store.get(key_of(f"many {number}")) for number in range(20)]
    for given_up in calls[::2]:
        given_up.addErrback(lambda _: "given up")
        given_up.cancel()
    assert [await call for call in calls] == ["given up", None] * 10
