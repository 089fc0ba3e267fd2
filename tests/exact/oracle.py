"""The input oracle: what a compiler opens, looks at and misses, held against the world that a worker would rebuild.

The plain compiler runs under strace. For the same command line the client's own pipeline makes its action, in this
process, and a dispatcher takes it instead of a scheduler. Then everything that the compiler found must be in the
action or in the packaged toolchain, as what it is, and nothing that it missed may be there. What may be otherwise is
told apart in :func:`excuse`, each with its reason.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import field, frozen
from strace_log import Look, Seen
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from sccache_twisted.client.calls import Answered, Call, ExecHere
from sccache_twisted.client.detect import CompilerFinder
from sccache_twisted.client.fallback import FellBack
from sccache_twisted.client.inputs import Lister
from sccache_twisted.client.pipeline import Pipeline
from sccache_twisted.client.stats import Statistics
from sccache_twisted.client.surroundings import read_response_file
from sccache_twisted.client.toolchains import Toolchains
from sccache_twisted.compilers.response import expand
from sccache_twisted.interfaces import IBlobSource, IDispatcher, IReservation, RemoteRun
from sccache_twisted.model import Action, Digest, DirectoryInput, FileInput, LinkInput, RunsLocally
from sccache_twisted.net.processes import ProcessRunner
from sccache_twisted.toolchains import Entry, EntryKind, ToolchainCache, discover

_MOST_LINKS = 40


@implementer(IDispatcher)
class Taker:
    """Takes each action, and runs none."""

    def __init__(self) -> None:
        self.action: Action | None = None

    def stayed_local(self, reason: str) -> None:
        """Nobody counts."""

    def reserve(self, toolchain: Digest, arch: str, label: str) -> None:
        """Nothing runs, so no slot is wanted."""

    def dispatch(
        self,
        action: Action,
        arch: str,
        archive: Callable[[], str],
        blobs: IBlobSource,
        label: str,
        again: Callable[[], Deferred[object]] | None = None,
        reservation: IReservation | None = None,
    ) -> Deferred[RemoteRun]:
        self.action = action
        return fail(FellBack(RunsLocally("taken", "The action was taken.")))


@frozen
class Shipped:
    """What the client would send: an action, and its toolchain's members. ``reason``: why it stays, else empty."""

    reason: str
    action: Action | None = None
    entries: tuple[Entry, ...] = field(default=(), repr=False)


class Client:
    """The client's pipeline without a cluster. Toolchains are packaged into ``store``, which a daemon may share."""

    def __init__(self, reactor: Any, store: Path) -> None:
        self._taker = Taker()
        self._runner = ProcessRunner(reactor)
        self._lister = Lister(reactor, self._runner, 3)
        self._finder = CompilerFinder(self._runner)
        self._toolchains = Toolchains(ToolchainCache(os.fsencode(store)))
        self._entries: dict[tuple[str, bytes], tuple[Entry, ...]] = {}
        self._pipeline = Pipeline(
            reactor, self._runner, self._finder, self._lister, self._toolchains, self._taker, Statistics()
        )

    async def shipped(self, call: Call) -> Shipped:
        """What becomes of a call."""
        self._taker.action = None
        decision = await self._pipeline.decide(call)
        assert not isinstance(decision, Answered), decision
        action = self._taker.action
        if action is None or isinstance(decision, ExecHere):
            return Shipped(decision.reason)
        found = self._finder.resolve(call.argv[0], call.cwd, call.env)
        assert found is not None
        compiler = await self._finder.identify(found[0], found[1], call.cwd, call.env)
        assert compiler is not None
        key = (action.toolchain, found[0])
        if key not in self._entries:
            self._entries[key] = discover(compiler, call.env).entries
        return Shipped("", action, self._entries[key])

    def close(self) -> None:
        """Remove the scratch directory."""
        self._lister.close()


@contextmanager
def client(reactor: Any, store: Path) -> Iterator[Client]:
    """A client for as long as the block lasts."""
    made = Client(reactor, store)
    try:
        yield made
    finally:
        made.close()


@frozen
class Node:
    """What stands at a physical path: a kind (``file``, ``directory``, ``link``), a link's target."""

    kind: str
    target: bytes = b""
    input: FileInput | None = None


class World:
    """The root that an action and a toolchain make, as the kernel would walk it."""

    def __init__(self, shipped: Shipped) -> None:
        assert shipped.action is not None
        self._nodes: dict[bytes, Node] = {b"": Node("directory")}
        for entry in shipped.entries:
            kind = {EntryKind.DIRECTORY: "directory", EntryKind.FILE: "file", EntryKind.LINK: "link"}[entry.kind]
            self._nodes[entry.path] = Node(kind, entry.target)
        for item in shipped.action.inputs:
            if isinstance(item, FileInput):
                self._put(item.path, Node("file", input=item))
            elif isinstance(item, LinkInput):
                self._put(item.path, Node("link", item.target))
            else:
                assert isinstance(item, DirectoryInput)
                self._put(item.path, Node("directory"))
        self.outputs = frozenset(shipped.action.outputs)

    def _put(self, path: bytes, node: Node) -> None:
        self._nodes[path] = node
        parent = path.rpartition(b"/")[0]
        while parent not in self._nodes:
            self._nodes[parent] = Node("directory")
            parent = parent.rpartition(b"/")[0]

    def at(self, path: bytes, *, follows: bool) -> Node | None:
        """What an absolute path names."""
        here, links = b"", 0
        pending = [part for part in reversed(path.split(b"/")) if part]
        wants_directory = path.endswith(b"/")
        while pending:
            part = pending.pop()
            if self._nodes[here].kind != "directory":
                return None
            if part == b".":
                continue
            if part == b"..":
                here = here.rpartition(b"/")[0]
                continue
            place = here + b"/" + part
            node = self._nodes.get(place)
            if node is None:
                return None
            if node.kind == "link" and (pending or follows or wants_directory):
                links += 1
                if links > _MOST_LINKS:
                    return None
                if node.target.startswith(b"/"):
                    here = b""
                pending += [one for one in reversed(node.target.split(b"/")) if one]
                continue
            here = place
        return self._nodes[here]


# The sandbox has its own of these; its kernel and its devices are not the compiler's to look at.
_OWN = re.compile(rb"/(?:proc|dev|sys)(?:/|\Z)")
# Left out wherever the loader's default directories lead to the same libraries.
_LOADER = {b"/etc/ld.so.cache"}
# clang asks every time for CUDA and ROCm, which only their languages use, and for the bin directory it lies in.
_OTHER_LANGUAGES = re.compile(rb"/usr/local/(?:cuda\S*|bin)\Z|/opt/rocm|.*/ptxas\Z")
# The driver puts what passes between its steps into TMPDIR, which is another directory in the sandbox.
_TEMPORARY = {b"/tmp", b"/var/tmp", b"/usr/tmp"}


# Below the system's directories for headers, a directory is looked at before a name in it is.
_HEADERS = b"/usr/"


@frozen
class Around:
    """What else is known of a command.

    Its environment; links that were there before, and where they led; response files, which its client has read.
    """

    env: Mapping[bytes, bytes] = field(factory=dict)
    links: Mapping[bytes, bytes] = field(factory=dict)
    expanded: frozenset[bytes] = frozenset()


def response_files(words: Sequence[bytes], cwd: bytes) -> frozenset[bytes]:
    """The response files that a command line names, also through others."""
    found: set[bytes] = set()

    def read(path: bytes) -> bytes | None:
        found.add(path)
        return read_response_file(path)

    expand(words, cwd, read)
    return frozenset(found)


def excuse(look: Look, seen: Seen, world: World, around: Around) -> str:
    """Why something that was found need not be in the world; empty if it must be."""
    path = look.path
    if _OWN.match(path) or _OWN.match(os.path.realpath(path)):
        return "the sandbox has its own"
    outputs = world.outputs | {around.links.get(output, output) for output in world.outputs}
    if path in seen.made or {path, os.path.realpath(path)} & outputs:
        return "the command writes it itself"
    if path in around.expanded:
        return "a response file, whose words are in the action"
    if path in _LOADER or path in around.env.get(b"LD_LIBRARY_PATH", b"").split(b":"):
        return "the libraries are found without it"
    if _OTHER_LANGUAGES.match(path):
        return "asked for languages that are not taken over"
    if path == around.env.get(b"PWD"):
        return "the sandbox's PWD is the working directory"
    if path in _TEMPORARY:
        return "the sandbox has its own TMPDIR"
    if (look.call == "readlink" or path.startswith(_HEADERS)) and _leads_nowhere(path + b"/", seen):
        return "on the way to a name that is missed with it and without it"
    return ""


def _leads_nowhere(start: bytes, seen: Seen) -> bool:
    return any(look.path.startswith(start) for look in seen.missed) and not any(
        look.path.startswith(start) for look in seen.found
    )


def held_against(seen: Seen, world: World, around: Around) -> list[str]:
    """One sentence for each thing that the compiler found here and would not find there, or the other way round."""
    told = []
    for look in sorted(seen.found, key=lambda each: (each.path, each.call)):
        if excuse(look, seen, world, around):
            continue
        problem = _difference(look, world)
        if problem:
            told.append(f"{look.call} {_show(look.path)}: {problem}")
    for look in sorted(seen.missed, key=lambda each: (each.path, each.call)):
        if _OWN.match(look.path) or look.path in seen.made:
            continue
        node = world.at(look.path, follows=look.follows)
        if node is not None:
            told.append(f"{look.call} {_show(look.path)}: is not here, and would be a {node.kind} there")
    return told


def _difference(look: Look, world: World) -> str:
    node = world.at(look.path, follows=look.follows)
    here = os.stat(look.path, follow_symlinks=look.follows)
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}.get(
        stat.S_IFMT(here.st_mode), "special"
    )
    if node is None:
        return f"is a {kind} here, and would not be there"
    if node.kind != kind:
        return f"is a {kind} here, and would be a {node.kind} there"
    if kind == "link" and node.target != os.readlink(look.path):
        return "leads elsewhere there"
    if node.input is not None:
        told = (node.input.size, node.input.mtime_ns, node.input.executable)
        if told != (here.st_size, here.st_mtime_ns, bool(here.st_mode & 0o111)):
            return "has another size, time or mode there"
    return ""


def summary(problems: Mapping[str, list[str]]) -> str:
    """All sentences of many command lines, each once, with how many say it."""
    counted: dict[str, int] = {}
    for told in problems.values():
        for sentence in told:
            counted[sentence] = counted.get(sentence, 0) + 1
    return "\n".join(f"{count} x {sentence}" for sentence, count in sorted(counted.items()))


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
