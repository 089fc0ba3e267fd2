"""The one line that ``invite`` prints and ``join`` takes: where the scheduler is, its pin, and a token.

``sccache-twisted://HOST:PORT/ROLE/PIN/TOKEN/SCHEDULER/CHECK``: no character in it means anything to a shell, so it
can be pasted unquoted. CHECK is the start of a SHA-256 over all that stands before it.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote, unquote

from attrs import field, frozen

from sccache_twisted.errors import ConfigError
from sccache_twisted.interfaces import Role
from sccache_twisted.model import Address
from sccache_twisted.security.pins import parse_pin

_SCHEME = "sccache-twisted://"
_CHECK_DIGITS = 8
_BY_CA = "ca"


@frozen
class Invitation:
    """What a new machine needs. ``pin`` is empty when the scheduler's certificate is signed by a CA."""

    role: Role
    address: Address
    pin: str
    token: str = field(repr=False)
    scheduler: str = ""

    def line(self) -> str:
        """The invitation as one line."""
        parts = (
            quote(str(self.address), safe=":"),
            self.role.value,
            self.pin or _BY_CA,
            quote(self.token, safe=""),
            quote(self.scheduler, safe=""),
        )
        body = _SCHEME + "/".join(parts) + "/"
        return body + _check(body)

    @property
    def url(self) -> str:
        """The scheduler as it is written in a configuration file."""
        return f"tls://{self.address}?pin={self.pin}" if self.pin else f"tls://{self.address}"

    @classmethod
    def parse(cls, text: str) -> Invitation:
        """Read a line; raises ConfigError, whose sentence never repeats the token."""
        line = "".join(text.split()).strip("'\"")
        if not line.startswith(_SCHEME):
            raise ConfigError(f"An invitation begins with {_SCHEME}; this does not.")
        body, _, check = line.rpartition("/")
        if len(line.split("/")) != 8 or not hmac.compare_digest(check.encode(), _check(f"{body}/").encode()):
            raise ConfigError("The invitation is incomplete or altered: copy the whole line again.")
        address, role, pin, token, scheduler = body[len(_SCHEME) :].split("/")
        try:
            return cls(
                role=Role(role),
                address=Address.parse(unquote(address)),
                pin="" if pin == _BY_CA else parse_pin(pin),
                token=unquote(token),
                scheduler=unquote(scheduler),
            )
        except ValueError as error:
            raise ConfigError(f"The invitation cannot be understood: {error}.") from error


def _check(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:_CHECK_DIGITS]
