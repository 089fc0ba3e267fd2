"""The AMP commands of conversations 2 and 3: one message, one class, one sentence of intent.

AMP keys are short ASCII words, values end at 65,535 bytes; what could grow with the cluster is bounded here
(``MAX_AVOID``) or paged (``DIGESTS_PER_PAGE``, ``JOBS_PER_PAGE``). New arguments must be optional, so that
protocol version N talks to N-1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.protocols import amp

from sccache_twisted.errors import BY_CODE

MAX_AVOID = 256
MAX_LABEL = 512
DIGESTS_PER_PAGE = 1000
JOBS_PER_PAGE = 800


def _most_specific_first() -> dict[type[Exception], bytes]:
    # AMP takes the first class that the raised error is an instance of.
    ordered = sorted(BY_CODE.values(), key=lambda error: -len(error.__mro__))
    return {error: error.code.encode("ascii") for error in ordered}


class Ask(amp.Command):
    """A message that is answered, possibly with any error of the failure table."""

    errors: ClassVar[dict[type[Exception], bytes]] = _most_specific_first()


class Tell(amp.Command):
    """A message that nobody waits for."""

    requiresAnswer = False


_ATTEMPT: list[tuple[bytes, Any]] = [(b"job", amp.Unicode()), (b"attempt", amp.Integer())]


class SayHello(Ask):
    """Introduce yourself: nothing else is understood before."""

    commandName = b"Hello"
    arguments: ClassVar[list[tuple[bytes, Any]]] = [
        (b"version", amp.Integer()),
        (b"role", amp.Unicode()),
        (b"token", amp.Unicode()),
        (b"name", amp.Unicode()),
    ]
    response: ClassVar[list[tuple[bytes, Any]]] = [
        (b"version", amp.Integer()),
        (b"scheduler", amp.Unicode()),
        (b"challenge", amp.String()),
        (b"ping", amp.Float()),
        (b"lost", amp.Float()),
    ]


class Ping(Ask):
    """Show that you are alive."""


class AllocateJob(Ask):
    """Ask where a compilation should run."""

    arguments: ClassVar[list[tuple[bytes, Any]]] = [
        *_ATTEMPT,
        (b"toolchain", amp.Unicode()),
        (b"arch", amp.Unicode()),
        (b"avoid", amp.ListOf(amp.Unicode())),
        (b"label", amp.Unicode()),
        (b"seconds", amp.Float()),
        (b"bytes", amp.Integer()),
        (b"age", amp.Float()),
        (b"patience", amp.Float()),
        (b"ahead", amp.Boolean(optional=True)),
    ]
    response: ClassVar[list[tuple[bytes, Any]]] = [
        (b"server", amp.Unicode()),
        (b"address", amp.Unicode()),
        (b"certificate", amp.String()),
        (b"token", amp.Unicode()),
        (b"present", amp.Boolean()),
    ]


class ReportJob(Tell):
    """Tell what became of an attempt."""

    arguments: ClassVar[list[tuple[bytes, Any]]] = [
        *_ATTEMPT,
        (b"outcome", amp.Unicode()),
        (b"server", amp.Unicode()),
        (b"reason", amp.Unicode()),
        (b"seconds", amp.Float()),
        (b"peak", amp.Integer()),
        (b"toolchain", amp.Integer()),
        (b"upload", amp.Float()),
        (b"sent", amp.Integer()),
        (b"received", amp.Integer()),
        (b"download", amp.Float()),
    ]


class ReportLocal(Tell):
    """Tell how many compilations were not distributed, for one reason."""

    arguments: ClassVar[list[tuple[bytes, Any]]] = [(b"reason", amp.Unicode()), (b"count", amp.Integer())]


class CancelJob(Ask):
    """Give up an attempt: from the client to the scheduler, and from there to the worker.

    ``unclaimed``, to a worker: only if its client has not come for the slot.
    """

    arguments: ClassVar[list[tuple[bytes, Any]]] = [*_ATTEMPT, (b"unclaimed", amp.Boolean(optional=True))]


class ClusterStatus(Ask):
    """Ask how large the cluster is, and how busy."""

    response: ClassVar[list[tuple[bytes, Any]]] = [
        (b"workers", amp.Integer()),
        (b"slots", amp.Integer()),
        (b"running", amp.Integer()),
        (b"queued", amp.Integer()),
    ]


class WorkerLost(Tell):
    """Tell clients that a worker is gone and its certificate void."""

    arguments: ClassVar[list[tuple[bytes, Any]]] = [(b"server", amp.Unicode())]


class LeaseTakenBack(Tell):
    """Tell a client that a slot it held ahead of a job serves another job now."""

    arguments: ClassVar[list[tuple[bytes, Any]]] = _ATTEMPT


class Register(Ask):
    """Join the cluster as a worker, with proof of the certificate's key."""

    arguments: ClassVar[list[tuple[bytes, Any]]] = [
        (b"server", amp.Unicode()),
        (b"address", amp.Unicode()),
        (b"certificate", amp.String()),
        (b"proof", amp.String()),
        (b"slots", amp.Integer()),
        (b"memory", amp.Integer()),
        (b"arch", amp.Unicode()),
        (b"jobs", amp.String()),
    ]


class Heartbeat(Ask):
    """Tell how busy the worker is, and which toolchains came and went."""

    arguments: ClassVar[list[tuple[bytes, Any]]] = [
        (b"running", amp.Integer()),
        (b"load", amp.Float()),
        (b"free", amp.Integer()),
        (b"pressure", amp.Float()),
        (b"added", amp.String()),
        (b"dropped", amp.String()),
    ]


class JobState(Tell):
    """Tell how far an attempt is on its worker."""

    arguments: ClassVar[list[tuple[bytes, Any]]] = [*_ATTEMPT, (b"phase", amp.Unicode())]


class Draining(Ask):
    """Announce that this worker takes no new jobs."""


class AssignJob(Ask):
    """Ask a worker to lease a slot to an attempt."""

    arguments: ClassVar[list[tuple[bytes, Any]]] = [
        *_ATTEMPT,
        (b"token", amp.Unicode()),
        (b"toolchain", amp.Unicode()),
        (b"bytes", amp.Integer()),
    ]
    response: ClassVar[list[tuple[bytes, Any]]] = [(b"present", amp.Boolean())]


class Drain(Ask):
    """Ask a worker to finish what it runs and leave."""
