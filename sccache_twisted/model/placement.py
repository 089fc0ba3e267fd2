"""What scheduler, client and worker tell one another about slots."""

from __future__ import annotations

from math import inf

from attrs import frozen

from sccache_twisted.model.identity import ClientId, Digest, JobId, ServerId, Try


@frozen
class Address:
    """A TCP address that a client dials. ``str()`` gives ``host:port``, IPv6 in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``host:port`` or ``[v6]:port``; ValueError says what is wrong."""
        host, colon, port = text.strip().rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r}: write an IPv6 address as [address]:port")
        if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} is not host:port with a port from 1 to 65535")
        return cls(host, int(port))


@frozen
class WorkerCard:
    """What a worker says of itself when it registers. ``certificate`` is DER, ``memory_bytes`` its total."""

    server_id: ServerId
    address: Address
    certificate: bytes
    slots: int
    memory_bytes: int
    arch: str


@frozen
class Beat:
    """One heartbeat. ``load`` is the machine's one-minute load, ``pressure`` 0..1 of memory stall."""

    running: int
    load: float
    free_memory_bytes: int
    pressure: float = 0.0


@frozen
class ClusterFigures:
    """A cluster in numbers, for people and for ``jobs``. ``slots`` are those of workers that take new jobs.

    ``ahead``: how many of ``running`` hold their slot while they are still being prepared.
    """

    workers: int
    slots: int
    running: int
    queued: int
    ahead: int = 0

    @property
    def demand(self) -> int:
        """How many slots would be used at once if there were enough: what an autoscaler asks for."""
        return self.running + self.queued


@frozen
class AllocationRequest:
    """Where should this attempt run?

    ``age`` is how long the client has been asking, ``patience`` how long it waits for this answer, both in seconds: a
    scheduler that means to keep requests for longer answers StillQueued in time all the same. ``ahead``: the job is
    still being prepared, so whoever is ready goes first; asked again without it, it is ready too.
    """

    client_id: ClientId
    attempt: Try
    toolchain: Digest
    arch: str
    avoid: frozenset[ServerId] = frozenset()
    label: str = ""
    expected_seconds: float = 0.0
    expected_bytes: int = 0
    age: float = 0.0
    patience: float = inf
    ahead: bool = False

    @property
    def key(self) -> tuple[ClientId, JobId, int]:
        """What makes ``AllocateJob`` idempotent."""
        return (self.client_id, self.attempt.job_id, self.attempt.attempt)


@frozen
class Allocation:
    """A leased slot: who, where, its certificate (DER), the token for this one attempt."""

    attempt: Try
    server_id: ServerId
    address: Address
    certificate: bytes
    token: str
    toolchain_present: bool
