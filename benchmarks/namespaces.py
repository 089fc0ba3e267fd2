"""A network of hosts on this machine, one namespace each, in which a host can vanish without a word.

Knows links, addresses and routes; refuses to know what runs in them. Every host stands alone behind a router that is a
namespace too, so a host is cut off in the router: from then on packets to it and from it are dropped there, silently.
Nobody is told that a connection closed or that an address is unreachable, as when a machine's power or cable is gone.
A blackhole route on one of the hosts themselves would be noticed: connect() would fail at once.

Needs root, iproute2 and util-linux.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

NAMES = Path("/run/netns")


@dataclass(frozen=True)
class Site:
    """Where processes of a tool run: the words before their commands, and the address on which others reach them."""

    enter: Sequence[str] = ()
    address: str = "127.0.0.1"


@dataclass
class Network:
    """``sites``: the first for whoever needs no fault, the others in the order in which they were asked for."""

    router: str
    sites: list[Site] = field(default_factory=list)

    def cut(self, site: Site) -> None:
        """Drop every packet to and from a site. There is no way back: the network ends with its block."""
        _ip("-n", self.router, "route", "add", "blackhole", f"{site.address}/32")
        _ip("-n", self.router, "rule", "add", "blackhole", "from", site.address)


@contextlib.contextmanager
def network(hosts: int) -> Iterator[Network]:
    """A router and ``hosts`` hosts behind it; whatever still runs in one of them at the end is killed."""
    label = f"churn-{os.getpid()}"
    router = f"{label}-router"
    with contextlib.ExitStack() as ends:
        _namespace(router, ends)
        # The file of whichever network the writer is in; nsenter changes only that.
        enter = _enter(router)
        subprocess.run([*enter, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"], check=True)
        made = Network(router)
        for number in range(hosts):
            name = f"{label}-{number}"
            # 198.18.0.0/15 is set aside for benchmarks (RFC 2544).
            gateway, address = f"198.18.{number}.1", f"198.18.{number}.2"
            _namespace(name, ends)
            port = f"port{number}"
            _ip("-n", router, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", router, "address", "add", f"{gateway}/30", "dev", port)
            _ip("-n", router, "link", "set", port, "up")
            _ip("-n", name, "address", "add", f"{address}/30", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "route", "add", "default", "via", gateway)
            made.sites.append(Site(_enter(name), address))
        yield made


def _namespace(name: str, ends: contextlib.ExitStack) -> None:
    # In this order, since a ^C may fall between.
    ends.callback(_end, name)
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _end(name: str) -> None:
    if not (NAMES / name).exists():
        return
    for pid in _ip("netns", "pids", name).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "delete", name)


def _enter(name: str) -> list[str]:
    """Not ``ip netns exec``, which makes a mount namespace too: a daemon in another one refuses its callers."""
    return ["nsenter", f"--net={NAMES / name}", "--"]


def _ip(*words: str) -> str:
    run = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"ip {' '.join(words)} failed: {run.stderr.strip()}")
    return run.stdout
