"""Keys, certificates, pins, proofs."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sccache_twisted.errors import BadProof, ConfigError, Malformed, PinMismatch
from sccache_twisted.model import ServerId, mint_server_id
from sccache_twisted.security import (
    CertificateBook,
    SchedulerIdentity,
    WorkerIdentity,
    parse_pin,
    spki_pin,
    verify_proof,
)

NOW = 1_700_000_000.0
YEAR = 365 * 86400.0
A = ServerId("a-0123456789abcdef")
B = ServerId("b-0123456789abcdef")


def test_certificate_names_server_and_began_yesterday():
    """A worker's certificate names its server_id's host and is valid from a day in the past."""
    identity = WorkerIdentity.create(A, NOW)
    certificate = x509.load_der_x509_certificate(identity.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a-0123456789abcdef.worker.sccache-twisted"]
    now = dt.datetime.fromtimestamp(NOW, dt.timezone.utc)
    assert certificate.not_valid_before_utc == now - dt.timedelta(days=1)
    assert certificate.not_valid_after_utc > now


def test_longest_name_has_certificate():
    """A server_id of the greatest length still fits a certificate, whose common name has 64 characters at most."""
    server_id = mint_server_id("w" * 46, bytes(8))
    assert WorkerIdentity.create(server_id, NOW).pin.startswith("sha256:")


def test_renewal_keeps_the_pin():
    """A renewed certificate differs, and has the same pin."""
    identity = WorkerIdentity.create(A, NOW)
    renewed = identity.renew(NOW + YEAR)
    assert renewed.certificate != identity.certificate
    assert renewed.pin == identity.pin == spki_pin(renewed.certificate)


def test_two_workers_differ():
    """No two workers share a key, whatever their names."""
    assert WorkerIdentity.create(A, NOW).pin != WorkerIdentity.create(A, NOW).pin


def test_repr_shows_no_key():
    """Whoever logs an identity logs no key."""
    assert "PrivateKey" not in repr(WorkerIdentity.create(A, NOW))


def test_proof_convinces_once_per_challenge():
    """A proof holds for its challenge and server_id only."""
    identity = WorkerIdentity.create(A, NOW)
    proof = identity.prove(b"c" * 32)
    verify_proof(identity.certificate, b"c" * 32, A, proof)
    verify_proof(identity.renew(NOW).certificate, b"c" * 32, A, proof)
    for certificate, challenge, server_id, shown in [
        (identity.certificate, b"d" * 32, A, proof),
        (identity.certificate, b"c" * 32, B, proof),
        (WorkerIdentity.create(A, NOW).certificate, b"c" * 32, A, proof),
        (identity.certificate, b"c" * 32, A, b""),
        (identity.certificate, b"c" * 32, A, proof[:-1]),
    ]:
        with pytest.raises(BadProof):
            verify_proof(certificate, challenge, server_id, shown)


def test_proof_with_unreadable_certificate():
    """A certificate that is none is malformed."""
    with pytest.raises(Malformed):
        verify_proof(b"nonsense", b"c" * 32, A, b"")
    with pytest.raises(Malformed):
        spki_pin(b"")


def test_scheduler_identity_is_made_once(tmp_path):
    """The scheduler's identity is made at its first start, readable by its owner only, and found again."""
    state = tmp_path / "state"
    made = SchedulerIdentity.load_or_create(str(state), ["localhost", "127.0.0.1", "::1"], NOW)
    assert SchedulerIdentity.load_or_create(str(state), ["elsewhere"], NOW + YEAR) == made
    (kept,) = state.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700


def test_scheduler_identity_of_the_first_of_many(tmp_path):
    """Of all who make the identity at the same moment one succeeds, and all have that one."""
    program = (
        "import sys; from sccache_twisted.security import SchedulerIdentity;"
        "print(SchedulerIdentity.load_or_create(sys.argv[1], ['h'], 1.7e9).pin)"
    )
    many = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(4)]
    pins = {process.communicate()[0] for process in many}
    assert pins == {SchedulerIdentity.load_or_create(str(tmp_path), ["h"], NOW).pin.encode() + b"\n"}


def test_scheduler_identity_that_others_could_read(tmp_path):
    """A key that others can read is not used; the sentence says how to mend it."""
    SchedulerIdentity.load_or_create(str(tmp_path), ["localhost"], NOW)
    path = tmp_path / "identity.pem"
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        SchedulerIdentity.load_or_create(str(tmp_path), ["localhost"], NOW)


def test_scheduler_identity_damaged(tmp_path):
    """A damaged file is named; it is never replaced silently, since everybody has pinned it."""
    path = tmp_path / "identity.pem"
    path.touch(0o600)
    path.write_bytes(b"-----BEGIN nothing")
    with pytest.raises(ConfigError, match=r"identity\.pem"):
        SchedulerIdentity.load_or_create(str(tmp_path), ["localhost"], NOW)
    assert path.read_bytes() == b"-----BEGIN nothing"


def _files(tmp_path, identity, key):
    certificate, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(identity.chain[0].public_bytes(Encoding.PEM))
    private.touch(0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(certificate), str(private)


def test_configured_identity(tmp_path):
    """A certificate and a key of one's own are taken from PEM files."""
    made = SchedulerIdentity.load_or_create(str(tmp_path / "s"), ["localhost"], NOW)
    assert SchedulerIdentity.from_files(*_files(tmp_path, made, made.key)).pin == made.pin


def test_configured_key_of_another_certificate(tmp_path):
    """A key that does not belong to the certificate is found at the start, not at the first handshake."""
    made = SchedulerIdentity.load_or_create(str(tmp_path / "s"), ["localhost"], NOW)
    with pytest.raises(ConfigError, match="does not belong"):
        SchedulerIdentity.from_files(*_files(tmp_path, made, ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(ConfigError, match="cannot be read"):
        SchedulerIdentity.from_files(str(tmp_path / "absent.pem"), str(tmp_path / "key.pem"))
    with pytest.raises(ConfigError, match="key_file"):
        SchedulerIdentity.from_files(str(tmp_path / "cert.pem"), "")


def test_pin_as_written_by_people():
    """A pin may be written in capitals and with blanks around it, and in no other form."""
    pin = "sha256:" + "ab" * 32
    assert parse_pin(f" {pin.upper()}\n") == pin
    for wrong in ["", pin[:-1], pin + "0", "sha1:" + "ab" * 20, "sha256:" + "zz" * 32]:
        with pytest.raises(ConfigError):
            parse_pin(wrong)


def test_book_keeps_one_certificate_per_server():
    """A new certificate replaces the old one; a new key is a new generation, a renewed certificate is not."""
    book = CertificateBook()
    changed = []
    book.observe(changed.append)
    first, other = WorkerIdentity.create(A, NOW), WorkerIdentity.create(A, NOW)
    one = book.put(A, first.certificate)
    assert book.put(A, first.certificate) == one
    renewed = book.put(A, first.renew(NOW + 1).certificate)
    assert renewed.generation == one.generation
    assert changed == []
    replaced = book.put(A, other.certificate)
    assert replaced.generation > one.generation
    assert changed == [A]
    assert book.entry(A).pin == other.pin
    assert len(book) == 1


def test_book_forgets_the_lost():
    """A dropped server is unknown, its observers are told once, and its generation is never used again."""
    book = CertificateBook()
    changed = []
    stop = book.observe(changed.append)
    identity = WorkerIdentity.create(A, NOW)
    before = book.put(A, identity.certificate)
    assert book.drop(A)
    assert not book.drop(A)
    assert changed == [A]
    with pytest.raises(PinMismatch):
        book.entry(A)
    stop()
    assert book.put(A, identity.certificate).generation > before.generation
    book.drop(A)
    assert changed == [A]


def test_book_is_bounded():
    """The book drops the least recently used server when it is full, and says so."""
    book = CertificateBook(limit=2)
    changed = []
    book.observe(changed.append)
    ids = [ServerId(f"{name}-0123456789abcdef") for name in "abc"]
    certificate = WorkerIdentity.create(A, NOW).certificate
    book.put(ids[0], certificate)
    book.put(ids[1], certificate)
    book.get(ids[0])
    book.put(ids[2], certificate)
    assert changed == [ids[1]]
    assert book.get(ids[0]) is not None


def test_bad_certificate_replaces_nothing():
    """A certificate that can't be read leaves the book as it was."""
    book = CertificateBook()
    good = book.put(A, WorkerIdentity.create(A, NOW).certificate)
    with pytest.raises(Malformed):
        book.put(A, os.urandom(100))
    assert book.entry(A) == good
