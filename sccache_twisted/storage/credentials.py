"""Who we are to Amazon: found by botocore wherever it looks, in a thread, since it reads files and asks servers.

Environment, profile, container and instance credentials, roles: whatever botocore's own chain knows. They are found at
the first request, renewed before they end, and looked for again when the store refuses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from sccache_twisted.errors import StorageError
from sccache_twisted.storage.aside import Shared, aside


@frozen
class Signer:
    """Signs requests as one identity, or not at all without ``held``; ``region`` is where the bucket is."""

    region: str
    held: Any = field(default=None, repr=False)
    frozen: Any = field(default=None, repr=False)

    @property
    def due(self) -> bool:
        """Whether the credentials are about to end."""
        needed = getattr(self.held, "refresh_needed", None)
        return bool(needed is not None and needed())

    def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """``headers`` and those of the signature (SigV4, the body included)."""
        if self.frozen is None:
            return dict(headers)
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest(method=method, url=url, headers=dict(headers), data=body)
        S3SigV4Auth(self.frozen, "s3", self.region).add_auth(request)
        return dict(request.headers.items())


class Credentials:
    """Finds the signer; many who ask at once wait for one search."""

    def __init__(self, reactor: Any, region: str, *, anonymous: bool) -> None:
        self._region = region
        self._anonymous = anonymous
        self._signer = Signer(region) if anonymous else None
        self._search = Shared(lambda: aside(reactor, self._find).addCallbacks(self._found, _not_found))

    def search(self) -> None:
        """Look for them now. What goes wrong is told to whoever asks for them."""
        if not self._anonymous:
            self._search.result().addErrback(_told_later)

    def signer(self) -> Deferred[Signer]:
        """The signer; StorageError when there are no credentials. Cancelling ends the wait, not the search."""
        if self._signer is not None and not self._signer.due:
            return succeed(self._signer)
        return self._search.result()

    def forget(self) -> None:
        """They were refused: look again the next time."""
        if not self._anonymous:
            self._signer = None

    def _find(self) -> Signer:
        # Importing botocore alone takes a tenth of a second.
        from botocore.session import Session

        held = Session().get_credentials()
        if held is None:
            raise StorageError(
                "There are no credentials for S3: neither in the environment, nor in ~/.aws, nor from this instance. "
                "For a public bucket set cache.s3.no_credentials."
            )
        found = Signer(self._region, held, held.get_frozen_credentials())
        # What signing imports, it imports here and not at the first signature, which the reactor makes.
        found.sign("GET", "http://localhost/", {}, b"")
        return found

    def _found(self, signer: Signer) -> Signer:
        self._signer = signer
        return signer


def _told_later(failure: Failure) -> None:
    """Whoever asks for a signer searches again, and is told."""
    failure.trap(StorageError)


def _not_found(failure: Failure) -> Failure:
    if failure.check(StorageError):
        return failure
    return Failure(StorageError(f"The credentials for S3 can't be had: {failure.getErrorMessage().rstrip('.')}."))
