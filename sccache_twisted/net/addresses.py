"""How a scheduler is written in a configuration: ``tls://HOST:PORT?pin=sha256:HEX``, ``tls://HOST:PORT``, ``tcp://HOST:PORT``."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from attrs import frozen
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

from sccache_twisted.errors import ConfigError
from sccache_twisted.model import Address
from sccache_twisted.security.contexts import PinnedPeer, authority_peer
from sccache_twisted.security.pins import parse_pin

DEFAULT_PORT = 10600


@frozen
class SchedulerAddress:
    """Where a scheduler is, and how it is believed: by its pin, else by a CA; not at all without TLS."""

    address: Address
    tls: bool = True
    pin: str = ""

    def __str__(self) -> str:
        return f"{'tls' if self.tls else 'tcp'}://{self.address}"

    @classmethod
    def parse(cls, text: str, *, insecure: bool = False) -> SchedulerAddress:
        """Read a scheduler's URL; raises ConfigError, also for ``tcp://`` unless ``insecure`` is allowed."""
        try:
            url = urlsplit(text.strip())
            port = url.port or DEFAULT_PORT
            query = dict(parse_qsl(url.query, strict_parsing=True)) if url.query else {}
        except ValueError as error:
            raise ConfigError(f"{text!r} is not a scheduler's address: {error}.") from error
        if url.scheme not in {"tls", "tcp"}:
            raise ConfigError(f"{text!r} is not a scheduler's address: write tls://HOST:PORT?pin=sha256:HEX.")
        if not url.hostname or url.path not in {"", "/"} or url.fragment or "@" in url.netloc:
            raise ConfigError(f"{text!r} is not a scheduler's address: only HOST:PORT and ?pin= may follow the scheme.")
        unknown = sorted(set(query) - {"pin"})
        if unknown:
            raise ConfigError(f"{text!r}: a scheduler's address knows pin, not {unknown[0]!r}.")
        address = Address(url.hostname, port)
        if url.scheme == "tls":
            return cls(address, pin=parse_pin(query["pin"]) if "pin" in query else "")
        if query:
            raise ConfigError(f"{text!r}: without TLS nothing can be pinned; write tls:// instead.")
        if not insecure:
            raise ConfigError(f"{text!r} has no encryption: write tls://, or allow it with insecure = true.")
        return cls(address, tls=False)

    def peer(self, ca_file: str) -> IOpenSSLClientConnectionCreator | None:
        """How to judge who answers there; None without TLS; raises ConfigError."""
        if not self.tls:
            return None
        if self.pin:
            return PinnedPeer(self.address.host, self.pin, f"The scheduler at {self.address}")
        return authority_peer(self.address.host, ca_file)
