"""Hosts on one machine: a network namespace each, all joined by one hub, any of them cut off at will.

Only the network is divided: files, users and processes are the machine's own, so a host's processes are started,
signalled and watched like any other. A cut drops packets in both directions and closes nothing, as a vanished
machine does.
"""

import contextlib
import ctypes
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import TypeVar

from attrs import frozen
from typing_extensions import Self

HUB_ADDRESS = "10.213.78.1"
_PREFIX = "10.213.78"
_CLONE_NEWNET = 0x40000000
_Made = TypeVar("_Made")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


@frozen
class Host:
    """A namespace with one address. The hub is one too, and can't be cut off.

    ``mounts`` names the mount namespace of a host that has one: what is mounted there is seen there alone.
    """

    name: str
    namespace: str
    address: str
    hub: str
    mounts: str = ""

    def inside(self, *argv: str) -> tuple[str, ...]:
        """The command that runs ``argv`` on this host; it keeps its pid, but with mounts of its own begins in ``/``."""
        mounts = (f"--mount={self.mounts}",) if self.mounts else ()
        return ("nsenter", f"--net=/run/netns/{self.namespace}", *mounts, "--", *argv)

    def cut(self) -> None:
        """From now on every packet to and from this host is dropped."""
        _ip("-n", self.namespace, "route", "replace", "blackhole", "default")
        _ip("-n", self.hub, "route", "replace", "blackhole", f"{self.address}/32")

    def mend(self) -> None:
        """Packets flow again; those that were dropped are lost."""
        _ip("-n", self.namespace, "route", "replace", "default", "via", HUB_ADDRESS, "dev", "eth0", "onlink")
        _ip("-n", self.hub, "route", "replace", f"{self.address}/32", "dev", self.name)

    def there(self, make: Callable[[], _Made]) -> _Made:
        """Call ``make`` in a thread that is on this host; a socket that it makes stays there for life."""
        made: list[_Made] = []
        problems: list[BaseException] = []

        def enter() -> None:
            try:
                handle = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
                try:
                    # os.setns came with Python 3.12.
                    if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(handle)
                made.append(make())
            except BaseException as problem:  # noqa: BLE001 - it is raised in the caller's thread
                problems.append(problem)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if problems:
            raise problems[0]
        return made[0]

    def connect(self, address: str, timeout: float = 10.0) -> socket.socket:
        """A TCP connection from this host to ``HOST:PORT``."""
        host, _, port = address.rpartition(":")
        return self.there(lambda: socket.create_connection((host, int(port)), timeout))


class Network:
    """A context manager: the hub, and the hosts that are added to it. Needs root."""

    def __init__(self) -> None:
        self._ends = contextlib.ExitStack()
        self._label = f"sctf-{secrets.token_hex(3)}"
        self._hosts: dict[str, Host] = {}
        self.hub = Host("hub", f"{self._label}-hub", HUB_ADDRESS, f"{self._label}-hub")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ends:
            self._namespace(self.hub.namespace, ends)
            _ip("-n", self.hub.namespace, "address", "add", f"{HUB_ADDRESS}/32", "dev", "lo")
            subprocess.run(self.hub.inside("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"), check=True, timeout=30)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def host(self, name: str, *, own_mounts: bool = False) -> Host:
        """The host of this name (at most 15 letters, an interface's bound), made at its first use."""
        if name not in self._hosts:
            address = f"{_PREFIX}.{len(self._hosts) + 10}"
            mounts = self._mounts() if own_mounts else ""
            made = Host(name, f"{self._label}-{name}", address, self.hub.namespace, mounts)
            self._namespace(made.namespace, self._ends)
            _ip("-n", made.hub, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", made.namespace)
            _ip("-n", made.namespace, "address", "add", f"{made.address}/32", "dev", "eth0")
            _ip("-n", made.namespace, "link", "set", "eth0", "up")
            _ip("-n", made.hub, "link", "set", name, "up")
            made.mend()
            self._hosts[name] = made
        return self._hosts[name]

    def _mounts(self) -> str:
        """A mount namespace for as long as the network is there; its name."""
        # Whatever happens to us, cat ends with its stdin, and the namespace with cat.
        keeper = self._ends.enter_context(
            subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"\n"
        return f"/proc/{keeper.pid}/ns/mnt"

    @staticmethod
    def _namespace(name: str, ends: contextlib.ExitStack) -> None:
        _ip("netns", "add", name)
        ends.callback(_ip, "netns", "delete", name)
        _ip("-n", name, "link", "set", "lo", "up")
