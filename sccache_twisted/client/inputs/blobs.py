"""The content of a job's inputs, read again only when a worker lacks it."""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import implementer

from sccache_twisted.client.fallback import InputChanged
from sccache_twisted.client.inputs.tripwire import TRIPWIRE, TRIPWIRE_DIGEST
from sccache_twisted.hashing.digests import digest_of
from sccache_twisted.interfaces import IBlobSource
from sccache_twisted.model import Digest, FileInput, Input


@implementer(IBlobSource)
class InputBlobs:
    """Reads inputs by digest, and says so when a file is not what it was."""

    def __init__(self, inputs: Iterable[Input]) -> None:
        self._inputs = inputs
        self._paths: dict[Digest, bytes] | None = None

    def read(self, digest: Digest) -> bytes:
        """The content; InputChanged when the file has changed or gone since it was listed."""
        if digest == TRIPWIRE_DIGEST:
            return TRIPWIRE
        if self._paths is None:
            self._paths = {item.digest: item.path for item in self._inputs if isinstance(item, FileInput)}
        path = self._paths.get(digest)
        if path is None:
            raise InputChanged(f"no input of this job has the digest {digest}.")
        try:
            with open(path, "rb") as stream:
                data = stream.read()
        except OSError as problem:
            raise InputChanged(f"{path.decode('utf-8', 'backslashreplace')}: {problem.strerror}.") from problem
        if digest_of(data) != digest:
            raise InputChanged(f"{path.decode('utf-8', 'backslashreplace')} changed after it was listed.")
        return data
