"""The client: what happens to a compiler call, in the daemon and in any Twisted program.

1. ``daemon`` takes calls from launchers, ``library`` from programs; both hand them to the
2. ``pipeline``, which parses (``compilers``), lists (``inputs``), packages (``toolchains``), makes an ``action``, and
3. has it run by the ``dispatcher``, which asks the scheduler for a worker, sends it there, and tries again elsewhere;
4. ``outputs`` are written as the compiler would have; what stays here runs in local ``slots``, always with a reason;
5. where answering hits is more than one process can do, ``hits`` has others beside the daemon answer them.

Programs use :class:`Client`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sccache_twisted.client.library import Client, Compiled
    from sccache_twisted.client.services import ClientService, DaemonService

__all__ = ["Client", "ClientService", "Compiled", "DaemonService"]

_WHERE = {"Client": "library", "Compiled": "library", "ClientService": "services", "DaemonService": "services"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: a hit server needs a part of the client, and not the whole with its TLS and HTTP."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
