"""Which key belongs to which server_id: one certificate each, the newest.

A *generation* is a number that changes whenever the key of a server_id does, and is never used twice. What was made
for one generation, a pooled connection for instance, must not serve another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from attrs import frozen

from sccache_twisted.errors import PinMismatch
from sccache_twisted.model import ServerId
from sccache_twisted.security.pins import same_pin, spki_pin

Observer = Callable[[ServerId], None]


@frozen
class Entry:
    """What the book holds of one server: its certificate (DER), the pin of its key, the key's generation."""

    server_id: ServerId
    certificate: bytes
    pin: str
    generation: int


class CertificateBook:
    """One certificate per server_id. Holds at most ``limit``; the least recently put or used one is dropped first."""

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._entries: OrderedDict[ServerId, Entry] = OrderedDict()
        self._observers: list[Observer] = []
        self._generation = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, server_id: ServerId, certificate: bytes) -> Entry:
        """Take a server's certificate, in place of what was there; raises Malformed.

        The generation stays if the key does: a renewed certificate breaks no connection.
        """
        known = self._entries.get(server_id)
        if known is not None and known.certificate == certificate:
            self._entries.move_to_end(server_id)
            return known
        pin = spki_pin(certificate)
        kept = known is not None and same_pin(known.pin, pin)
        if known is None or not kept:
            self._generation += 1
        entry = Entry(server_id, certificate, pin, known.generation if known and kept else self._generation)
        self._entries[server_id] = entry
        self._entries.move_to_end(server_id)
        if known is not None and not kept:
            self._changed(server_id)
        while len(self._entries) > self._limit:
            self.drop(next(iter(self._entries)))
        return entry

    def drop(self, server_id: ServerId) -> bool:
        """Forget a server; whether it was known."""
        if self._entries.pop(server_id, None) is None:
            return False
        self._changed(server_id)
        return True

    def get(self, server_id: ServerId) -> Entry | None:
        """What is known of a server."""
        entry = self._entries.get(server_id)
        if entry is not None:
            self._entries.move_to_end(server_id)
        return entry

    def entry(self, server_id: ServerId) -> Entry:
        """What is known of a server; raises PinMismatch when that is nothing."""
        entry = self.get(server_id)
        if entry is None:
            raise PinMismatch(f"No certificate of worker {server_id} is known.")
        return entry

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have ``observer`` called whenever a server's key was replaced or dropped; the answer ends that."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    def _changed(self, server_id: ServerId) -> None:
        for observer in tuple(self._observers):
            observer(server_id)
