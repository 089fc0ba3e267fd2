"""Who somebody is: keys, certificates, pins, TLS contexts, tokens, invitations.

A worker is its ``server_id`` and the key behind its certificate; a connection is made for a server_id and judged by
that key alone. Dates, names in certificates and addresses are never judged for a pinned peer, so neither a wrong
clock nor a reused address can confuse two workers. Refuses to know: who asks, over which protocol, and what is
permitted beyond "this token is good for this role".
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sccache_twisted.security.book import CertificateBook
from sccache_twisted.security.pins import parse_pin, same_pin, spki_pin

if TYPE_CHECKING:
    from sccache_twisted.security.identity import SchedulerIdentity, WorkerIdentity, verify_proof
    from sccache_twisted.security.invitations import Invitation
    from sccache_twisted.security.tokens import BadTokenBrake, TokenStore

__all__ = [
    "BadTokenBrake",
    "CertificateBook",
    "Invitation",
    "SchedulerIdentity",
    "TokenStore",
    "WorkerIdentity",
    "parse_pin",
    "same_pin",
    "spki_pin",
    "verify_proof",
]

_LATER = {
    "SchedulerIdentity": "identity",
    "WorkerIdentity": "identity",
    "verify_proof": "identity",
    "Invitation": "invitations",
    "BadTokenBrake": "tokens",
    "TokenStore": "tokens",
}


def __getattr__(name: str) -> Any:
    """What no client needs is imported when it is asked for: a client daemon is to stay small."""
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
