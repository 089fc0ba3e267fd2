"""Keys and the self-signed certificates around them: a worker's, kept in memory, and a scheduler's, kept in a file.

A certificate's dates and names are there because TLS wants some; whoever pins the key judges neither.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from sccache_twisted.errors import BadProof, ConfigError, Malformed
from sccache_twisted.model import ServerId, server_host
from sccache_twisted.security.files import read_secret, write_secret
from sccache_twisted.security.pins import pin_of

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

IDENTITY_FILE = "identity.pem"
_REGISTER = b"sccache-twisted register\0"
_DAY = dt.timedelta(days=1)
_WORKER_DAYS = 3650
_SCHEDULER_DAYS = 7300


@frozen
class WorkerIdentity:
    """A worker's key and certificate. The key never leaves this object and is never written anywhere."""

    server_id: ServerId
    certificate: bytes
    key: ec.EllipticCurvePrivateKey = field(repr=False, eq=False)

    @classmethod
    def create(cls, server_id: ServerId, now: float) -> WorkerIdentity:
        """A new key and its certificate; ``now`` is Unix time in seconds."""
        return cls._around(server_id, ec.generate_private_key(ec.SECP256R1()), now)

    def renew(self, now: float) -> WorkerIdentity:
        """The same key in a certificate of today, so the pin stays."""
        return self._around(self.server_id, self.key, now)

    @classmethod
    def _around(cls, server_id: ServerId, key: ec.EllipticCurvePrivateKey, now: float) -> WorkerIdentity:
        # The common name is the server_id alone: the whole host name can be longer than the 64 characters of a name.
        issued = _self_signed(key, server_id, [server_host(server_id)], now, _WORKER_DAYS)
        return cls(server_id, issued.public_bytes(Encoding.DER), key)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What the server shows in its handshake."""
        return (x509.load_der_x509_certificate(self.certificate),)

    @property
    def pin(self) -> str:
        """The pin of the key."""
        return pin_of(self.chain[0])

    def prove(self, challenge: bytes) -> bytes:
        """Sign a scheduler's challenge: what ``Register`` carries as its proof."""
        return self.key.sign(_signed(challenge, self.server_id), ec.ECDSA(hashes.SHA256()))


def verify_proof(certificate_der: bytes, challenge: bytes, server_id: ServerId, proof: bytes) -> None:
    """Check that whoever sent ``proof`` holds the certificate's key; raises BadProof or Malformed."""
    try:
        key = x509.load_der_x509_certificate(certificate_der).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Malformed(f"The certificate of worker {server_id} cannot be read.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadProof(f"The certificate of worker {server_id} has no ECDSA P-256 key.")
    try:
        key.verify(proof, _signed(challenge, server_id), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise BadProof(f"Worker {server_id} did not prove that it holds its certificate's key.") from None


def _signed(challenge: bytes, server_id: ServerId) -> bytes:
    return _REGISTER + challenge + server_id.encode("ascii")


@frozen
class SchedulerIdentity:
    """A scheduler's key and certificate chain, its own certificate first."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False, eq=False)

    @property
    def certificate(self) -> bytes:
        """The certificate as DER."""
        return self.chain[0].public_bytes(Encoding.DER)

    @property
    def pin(self) -> str:
        """The pin that invitations carry."""
        return pin_of(self.chain[0])

    @classmethod
    def load_or_create(cls, state_dir: str, names: Sequence[str], now: float) -> SchedulerIdentity:
        """The identity kept in ``state_dir``, made at the first start for these host names or addresses.

        Key and certificate share one file (0600), so that they can't be torn apart. Raises ConfigError, StorageError.
        """
        path = Path(state_dir) / IDENTITY_FILE
        if not path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            made = cls((_self_signed(key, "sccache-twisted scheduler", names, now, _SCHEDULER_DAYS),), key)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            # A command that invites may come first, or at the same moment.
            if write_secret(path, pem + made.chain[0].public_bytes(Encoding.PEM), replace=False):
                return made
        pem = read_secret(path, "the scheduler's key and certificate")
        return cls._from_pem(pem, pem, str(path))

    @classmethod
    def from_files(cls, certificate_file: str, key_file: str) -> SchedulerIdentity:
        """A configured identity: a PEM chain and the PEM key of its first certificate; raises ConfigError."""
        try:
            certificates = Path(certificate_file).read_bytes()
        except OSError as error:
            raise ConfigError(f"{certificate_file}, the certificate file, cannot be read: {error.strerror}.") from error
        if not key_file:
            raise ConfigError("scheduler.certificate_file is set, but not scheduler.key_file.")
        return cls._from_pem(certificates, read_secret(key_file, "the key file"), certificate_file, key_file)

    @classmethod
    def _from_pem(cls, certificates: bytes, key: bytes, path: str, key_path: str = "") -> SchedulerIdentity:
        try:
            chain = tuple(x509.load_pem_x509_certificates(certificates))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{path} holds no PEM certificate that can be read.") from error
        try:
            private = load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{key_path or path} holds no unencrypted PEM key that can be read.") from error
        if not isinstance(private, PrivateKey):
            raise ConfigError(f"{key_path or path} holds a key of a kind that TLS cannot use.")
        if private.public_key() != chain[0].public_key():
            raise ConfigError(f"The key in {key_path or path} does not belong to the first certificate in {path}.")
        return cls(chain, private)


def _self_signed(
    key: ec.EllipticCurvePrivateKey, common_name: str, hosts: Sequence[str], now: float, days: int
) -> x509.Certificate:
    today = dt.datetime.fromtimestamp(now, dt.timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - _DAY)
        .not_valid_after(today + days * _DAY)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
