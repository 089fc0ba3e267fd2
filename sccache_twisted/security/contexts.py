"""TLS connection creators: whom a client believes, and what a server shows.

A client creator is made for one peer and dies with it. No session is ever resumed, on either side: a resumed TLS
session shows no certificate, so its key would go unjudged, and links and pools hardly ever handshake anyway. There
is no ALPN, so nothing can negotiate a protocol that we do not speak.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from sccache_twisted.errors import ConfigError, PinMismatch
from sccache_twisted.model import server_host
from sccache_twisted.security.book import Entry
from sccache_twisted.security.identity import PrivateKey
from sccache_twisted.security.pins import pin_of, same_pin

# What is left for TLS 1.2, which only a gateway or an old library may ask for; TLS 1.3 has its own list.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"


class Shown(Protocol):
    """An identity that a server can show: a WorkerIdentity or a SchedulerIdentity."""

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """Its certificate, and those above it."""

    @property
    def key(self) -> PrivateKey:
        """Its certificate's key."""


@implementer(IOpenSSLClientConnectionCreator)
class PinnedPeer:
    """Connections to the one peer that holds the pinned key.

    ``host`` is what SNI names (nothing for an IP address); ``who`` begins the sentence about a mismatch, for
    instance "Worker a-0123456789abcdef at 10.0.0.7:10501".
    """

    def __init__(self, host: str, pin: str, who: str) -> None:
        self._sni = b"" if _is_ip(host) else host.encode("ascii")
        self._pin = pin
        self._who = who

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A connection whose handshake fails unless the peer holds the pinned key."""

        def judge(_connection: SSL.Connection, certificate: X509, _error: int, depth: int, _ok: int) -> bool:
            # OpenSSL's own opinion (unknown issuer, dates, names) does not count; only the peer's own key does.
            if depth > 0:
                return True
            try:
                shown = pin_of(certificate.to_cryptography())
            except Exception:  # noqa: BLE001 - raised in OpenSSL's callback it would be lost; what can't be read is wrong
                shown = "unreadable"
            if same_pin(shown, self._pin):
                return True
            tlsProtocol.failVerification(
                Failure(PinMismatch(f"{self._who} shows another key ({shown}) than the one promised ({self._pin})."))
            )
            return False

        connection = SSL.Connection(_client_context(), None)
        connection.set_verify(SSL.VERIFY_PEER, judge)
        if self._sni:
            connection.set_tlsext_host_name(self._sni)
        return connection


def worker_peer(entry: Entry, address: object) -> PinnedPeer:
    """How a client believes a worker: by the key that the book holds for its server_id, wherever it is dialled."""
    return PinnedPeer(server_host(entry.server_id), entry.pin, f"Worker {entry.server_id} at {address}")


def authority_peer(host: str, ca_file: str) -> IOpenSSLClientConnectionCreator:
    """How a scheduler without a pin is believed: its certificate names ``host`` and is signed by a CA in ``ca_file``.

    An empty ``ca_file`` means the system's CAs. Raises ConfigError.
    """
    if not ca_file:
        return optionsForClientTLS(host)
    try:
        authorities = x509.load_pem_x509_certificates(Path(ca_file).read_bytes())
    except OSError as error:
        raise ConfigError(f"{ca_file}, the CA file, cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{ca_file}, the CA file, holds no PEM certificate that can be read.") from error
    trusted = trustRootFromCertificates([Certificate(X509.from_cryptography(each)) for each in authorities])
    return optionsForClientTLS(host, trustRoot=trusted)


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """The server's side: shows an identity, which may be exchanged while connections are open."""

    def __init__(self, identity: Shown) -> None:
        self._context = _server_context(identity)

    def show(self, identity: Shown) -> None:
        """Show this identity on connections from now on."""
        self._context = _server_context(identity)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: ARG002 Twisted's
        """A connection that shows the present identity."""
        return SSL.Connection(self._context, None)


@lru_cache(maxsize=1)
def _client_context() -> SSL.Context:
    # One context serves all pinned peers, since the verdict is set on the connection: making one costs more than a
    # connection does.
    context = _context(SSL.TLS_CLIENT_METHOD)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


def _server_context(identity: Shown) -> SSL.Context:
    context = _context(SSL.TLS_SERVER_METHOD)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    own, *above = identity.chain
    context.use_certificate(own)
    for certificate in above:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(identity.key)
    context.check_privatekey()
    return context


def _context(method: int) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(_CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
