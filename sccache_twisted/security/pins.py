"""Pins: the SHA-256 of a certificate's public key (SPKI, RFC 7469 §2.4), written ``sha256:<64 hex>``.

A renewed certificate keeps its key and therefore its pin.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sccache_twisted.errors import ConfigError, Malformed

_PIN = re.compile(r"sha256:[0-9a-f]{64}\Z")


def pin_of(certificate: x509.Certificate) -> str:
    """The pin of a loaded certificate."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def spki_pin(certificate_der: bytes) -> str:
    """The pin of a DER certificate; raises Malformed when it is none."""
    try:
        return pin_of(x509.load_der_x509_certificate(certificate_der))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Malformed("A certificate cannot be read.") from error


def parse_pin(text: str) -> str:
    """A pin as a person wrote it, in its one spelling; raises ConfigError."""
    pin = text.strip().lower()
    if not _PIN.match(pin):
        raise ConfigError(f"{text[:80]!r} is not a pin: write sha256: and 64 hexadecimal digits.")
    return pin


def same_pin(one: str, other: str) -> bool:
    """Whether two pins are equal, in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())
