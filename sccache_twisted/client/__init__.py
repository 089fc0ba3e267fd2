"""The client: what happens to a compiler call, in the daemon and in any Twisted program.

1. ``daemon`` takes calls from launchers, ``library`` from programs; both hand them to the
2. ``pipeline``, which parses (``compilers``), lists (``inputs``), packages (``toolchains``), makes an ``action``, and
3. has it run by the ``dispatcher``, which asks the scheduler for a worker, sends it there, and tries again elsewhere;
4. ``outputs`` are written as the compiler would have; what stays here runs in local ``slots``, always with a reason.

Programs use :class:`Client`.
"""

from sccache_twisted.client.library import Client, Compiled
from sccache_twisted.client.services import ClientService, DaemonService

__all__ = ["Client", "ClientService", "Compiled", "DaemonService"]
