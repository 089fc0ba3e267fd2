"""Which blobs each worker is believed to hold: a guess that saves sending, corrected by the worker's ``missing``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from sccache_twisted.model import Digest, ServerId


class KnownBlobs:
    """A set for each server_id, bounded: the oldest digests of a server and the least used servers are forgotten."""

    def __init__(self, max_blobs: int = 200_000, max_servers: int = 1_000) -> None:
        self._max_blobs = max_blobs
        self._max_servers = max_servers
        self._known: OrderedDict[ServerId, dict[Digest, None]] = OrderedDict()

    def lacking(self, server_id: ServerId, wanted: Iterable[Digest]) -> list[Digest]:
        """Those of ``wanted`` that the server is not known to hold, each once, in order."""
        known = self._known.get(server_id, {})
        return [digest for digest in dict.fromkeys(wanted) if digest not in known]

    def learn(self, server_id: ServerId, held: Iterable[Digest]) -> None:
        """The server holds these."""
        known = self._known.setdefault(server_id, {})
        self._known.move_to_end(server_id)
        known.update(dict.fromkeys(held))
        while len(known) > self._max_blobs:
            del known[next(iter(known))]
        while len(self._known) > self._max_servers:
            self._known.popitem(last=False)

    def unlearn(self, server_id: ServerId, missing: Iterable[Digest]) -> None:
        """The server does not hold these, whatever was believed."""
        known = self._known.get(server_id, {})
        for digest in missing:
            known.pop(digest, None)

    def forget(self, server_id: ServerId) -> None:
        """The server is gone."""
        self._known.pop(server_id, None)
