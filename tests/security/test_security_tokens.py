"""Tokens, the brake for wrong ones, invitations, files with secrets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sccache_twisted.errors import ConfigError, StorageError, Unauthorized, UserError
from sccache_twisted.interfaces import Role
from sccache_twisted.model import Address
from sccache_twisted.security import BadTokenBrake, Invitation, TokenStore
from sccache_twisted.security.files import read_secret, read_token, write_secret


def test_token_is_good_for_its_role(tmp_path):
    """A token admits its role under its name, and no other role."""
    store = TokenStore(tmp_path / "tokens.json")
    token = store.create("laptop", Role.CLIENT, 0.0)
    assert store.check(Role.CLIENT, token) == "laptop"
    with pytest.raises(Unauthorized, match="is a client's, not a worker's"):
        store.check(Role.WORKER, token)
    for wrong in ["", token[:-1], token + "x", token.swapcase(), "\udcff"]:
        with pytest.raises(Unauthorized):
            store.check(Role.CLIENT, wrong)


def test_token_is_kept_as_hash_only(tmp_path):
    """The file holds no token, and only its owner reads it; neither an error nor a repr repeats a token."""
    path = tmp_path / "deep" / "tokens.json"
    store = TokenStore(path)
    token = store.create("laptop", Role.CLIENT, 0.0)
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    store.revoke("laptop")
    with pytest.raises(Unauthorized) as refused:
        store.check(Role.CLIENT, token)
    assert token not in refused.value.explained()


def test_revoking_reaches_a_running_scheduler(tmp_path):
    """A token revoked by another process is refused at the next Hello, and the change can be seen."""
    path = tmp_path / "tokens.json"
    running = TokenStore(path)
    token = running.create("laptop", Role.CLIENT, 0.0)
    running.check(Role.CLIENT, token)
    before = running.generation
    program = "import sys; from sccache_twisted.security import TokenStore; TokenStore(sys.argv[1]).revoke('laptop')"
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    with pytest.raises(Unauthorized):
        running.check(Role.CLIENT, token)
    assert running.generation > before
    path.unlink()
    assert running.names() == ()


def test_names(tmp_path):
    """A name is used once, can be used again when revoked, and is of a form that a command line can hold."""
    store = TokenStore(tmp_path / "tokens.json")
    store.create("a.b@c-d_1", Role.WORKER, 1.5)
    with pytest.raises(UserError, match="already"):
        store.create("a.b@c-d_1", Role.CLIENT, 0.0)
    for wrong in ["", "-x", "a b", "a/b", "x" * 65]:
        with pytest.raises(UserError):
            store.create(wrong, Role.CLIENT, 0.0)
    with pytest.raises(UserError, match="no token named"):
        store.revoke("absent")
    (record,) = store.names()
    assert (record.name, record.role, record.created) == ("a.b@c-d_1", Role.WORKER, 1.5)
    store.revoke("a.b@c-d_1")
    store.create("a.b@c-d_1", Role.CLIENT, 0.0)


def test_many_invite_at_once(tmp_path):
    """Tokens made by many processes at the same moment are all kept."""
    path = tmp_path / "tokens.json"
    program = (
        "import sys; from sccache_twisted.security import TokenStore; from sccache_twisted.interfaces import Role;"
        "[TokenStore(sys.argv[1]).create(f'{sys.argv[2]}-{n}', Role.CLIENT, 0.0) for n in range(5)]"
    )
    many = [subprocess.Popen([sys.executable, "-c", program, str(path), str(each)]) for each in range(3)]
    assert [process.wait() for process in many] == [0, 0, 0]
    assert len(TokenStore(path).names()) == 15


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"tokens": [{"name": "a"}]}'])
def test_damaged_file_admits_nobody(tmp_path, content):
    """A damaged file admits nobody; the operator's command names it."""
    path = tmp_path / "tokens.json"
    path.touch(0o600)
    path.write_bytes(content)
    store = TokenStore(path)
    with pytest.raises(Unauthorized, match="cannot read its tokens"):
        store.check(Role.CLIENT, "any")
    with pytest.raises(ConfigError, match=r"tokens\.json"):
        store.names()


def test_brake_slows_down_one_host_only():
    """After a burst of wrong tokens a host waits, others don't; in time it may try again."""
    brake = BadTokenBrake(burst=3, seconds_each=2.0)
    for _ in range(3):
        assert brake.wait("a", 10.0) == 0.0
        brake.failed("a", 10.0)
    assert brake.wait("a", 10.0) == pytest.approx(2.0)
    assert brake.wait("b", 10.0) == 0.0
    assert brake.wait("a", 11.5) == pytest.approx(0.5)
    assert brake.wait("a", 12.0) == 0.0
    brake.failed("a", 12.0)
    assert brake.wait("a", 12.0) == pytest.approx(2.0)
    assert brake.wait("a", 100.0) == 0.0


def test_brake_remembers_a_bounded_number_of_hosts():
    """An attacker with many addresses does not fill the memory."""
    brake = BadTokenBrake(burst=1, seconds_each=100.0, max_hosts=2)
    for host in "abc":
        brake.failed(host, 0.0)
    assert brake.wait("a", 1.0) == 0.0
    assert brake.wait("b", 1.0) > 0.0
    assert brake.wait("c", 1.0) > 0.0


addresses = st.builds(
    Address, st.sampled_from(["build.example.org", "10.0.0.7", "::1", "fe80::1"]), st.integers(1, 65535)
)
invitations = st.builds(
    Invitation,
    role=st.sampled_from(Role),
    address=addresses,
    pin=st.one_of(st.just(""), st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")),
    token=st.text("abcXYZ019-_", min_size=1, max_size=60),
    scheduler=st.text(max_size=20),
)


@settings(max_examples=40, deadline=None)
@given(invitations)
def test_invitation_survives_the_line(invitation):
    """What is invited with is what is joined with, also when a terminal broke the line; no shell would touch it."""
    line = invitation.line()
    assert Invitation.parse(line) == invitation
    assert Invitation.parse(f"  {line[:40]}\n{line[40:]} \n") == invitation
    assert not set(line) & set(" '\"\\$&;|<>()*?[]{}!#`\t\n")


@settings(max_examples=40, deadline=None)
@given(invitations, st.data())
def test_incomplete_invitation_is_noticed(invitation, data):
    """A line that lost its end, or a character of its body, is refused without repeating the token."""
    line = invitation.line()
    cut = data.draw(st.integers(0, len(line) - 1))
    with pytest.raises(ConfigError):
        Invitation.parse(line[:cut])
    at = data.draw(st.integers(len("sccache-twisted://"), len(line) - 1))
    altered = line[:at] + ("0" if line[at] != "0" else "1") + line[at + 1 :]
    with pytest.raises(ConfigError) as refused:
        Invitation.parse(altered)
    assert len(invitation.token) < 8 or invitation.token not in str(refused.value)


def test_invitation_hides_its_token():
    """An invitation in a log shows no token; its URL is a scheduler's address."""
    invitation = Invitation(Role.WORKER, Address("h", 1), "sha256:" + "0" * 64, "secret")
    assert "secret" not in repr(invitation)
    assert invitation.url == "tls://h:1?pin=sha256:" + "0" * 64


def test_secret_files(tmp_path):
    """A secret is written whole, for its owner only, in place of what was there; nothing else is left behind."""
    path = tmp_path / "secret"
    write_secret(path, b"one")
    write_secret(path, b"two")
    assert read_secret(path, "the secret") == b"two"
    assert os.listdir(tmp_path) == ["secret"]
    assert path.stat().st_mode & 0o777 == 0o600
    for mode in (0o604, 0o660):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="chmod 600"):
            read_secret(path, "the secret")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_secret("/dev/null", "the secret")
    with pytest.raises(ConfigError, match="No such file"):
        read_secret(tmp_path / "absent", "the secret")
    with pytest.raises(StorageError):
        write_secret("/proc/nothing/here", b"x")


def test_token_of_a_configuration(tmp_path):
    """A token comes from the setting or from its file; a file that is empty or no text is named."""
    path = tmp_path / "token"
    assert read_token(" direct ", str(path)) == "direct"
    assert read_token("", "") == ""
    write_secret(path, b"from-file\n")
    assert read_token("", str(path)) == "from-file"
    for content in (b"\n", b"\xff"):
        write_secret(path, content)
        with pytest.raises(ConfigError, match="token file"):
            read_token("", str(path))
