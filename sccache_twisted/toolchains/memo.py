"""Which digest a compiler has, remembered for as long as nothing that it was found from changes.

A digest is the compiler's identity in cache keys, so an answer must be true for the request that asked. Every
lookup therefore compares the signatures of all files, links, listed directories and absent paths, about 2 µs each,
0.7 ms for gcc; unless the kernel, asked to tell of any change, has told of none since the last comparison (see
:mod:`~sccache_twisted.toolchains.sentry`). A check once a second would be cheaper too, and wrong for a second; a
check that began after a request came in is good for that request, so requests that wait for one another share one.
Answers outlive the process: a warm start packages nothing.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Mapping

import blake3
import msgpack
from attrs import define, field, frozen

from sccache_twisted.errors import CompilerNotPackageable, StorageError
from sccache_twisted.model import Compiler, Digest
from sccache_twisted.toolchains.discover import discover
from sccache_twisted.toolchains.locales import LOCALE_VARIABLES
from sccache_twisted.toolchains.package import PackagedToolchain, package
from sccache_twisted.toolchains.probes import Runner, run_here
from sccache_twisted.toolchains.sentry import Rest, Sentry
from sccache_twisted.toolchains.tree import Signature, signature, unchanged

_VERSION = 1
_PACKAGING_TRIES = 3
_MOST_SENTRIES = 6
_DECIDING = (b"PATH", b"LD_LIBRARY_PATH", *LOCALE_VARIABLES)
_ARCHIVE_SUFFIX = b".tar.zst"
_MEMO_SUFFIX = b".memo"


@frozen
class _Memo:
    """A packaged toolchain, and the signatures under which it still is the compiler's."""

    packaged: PackagedToolchain
    watched: tuple[tuple[bytes, Signature], ...]
    by_directory: list[tuple[bytes, list[tuple[bytes, Signature]]]] = field(init=False, repr=False)

    @by_directory.default
    def _grouped(self) -> list[tuple[bytes, list[tuple[bytes, Signature]]]]:
        found: dict[bytes, list[tuple[bytes, Signature]]] = {}
        for path, known in self.watched:
            directory, _, name = path.rpartition(b"/")
            found.setdefault(directory or b"/", []).append((name, known))
        return list(found.items())

    def holds(self) -> bool:
        """Whether nothing has changed since."""
        return all(unchanged(where, files) for where, files in self.by_directory)


@define
class _Case:
    """One compiler in one environment: its lock, its memo, when the last good check began (monotonic seconds)."""

    lock: threading.Lock = field(factory=threading.Lock)
    memo: _Memo | None = None
    checked: float = float("-inf")
    sentry: Sentry | None = None
    asked: float = float("-inf")
    rest: Rest = field(factory=Rest)

    def is_quiet(self) -> bool:
        """Whether a sentry stands and has nothing to report; one that has is sent away."""
        sentry = self.sentry  # another thread may send it away; it watches for as long as somebody has it
        if sentry is not None and not sentry.quiet():
            sentry = self.sentry = None
        return sentry is not None

    def post(self, memo: _Memo, now: float) -> Sentry | None:
        """A sentry for a memo that is about to be checked, if it is time for one."""
        if not self.rest.is_over(now):
            return None
        try:
            return Sentry(path for path, _ in memo.watched)
        except OSError:
            self.rest.stretch()
            return None  # it is looked at each time, as ever


class ToolchainCache:
    """Packages compilers and remembers their digests, in one directory, for all threads of one process.

    Daemons of one user may share the directory: files in it are replaced whole. ``run`` asks compilers.
    """

    def __init__(self, directory: bytes, run: Runner = run_here) -> None:
        self._directory = directory
        self._run = run
        self._lock = threading.Lock()
        self._cases: dict[bytes, _Case] = {}
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
        except OSError as problem:
            raise StorageError(f"{os.fsdecode(directory)} cannot be made: {problem.strerror}.") from problem

    def lookup(self, compiler: Compiler, env: Mapping[bytes, bytes]) -> PackagedToolchain | None:
        """What is known of a compiler, if it holds at this moment; no process is started, only stats are made.

        Never waits: while another thread checks or packages this compiler the answer is None as well, and
        :meth:`packaged`, which waits for it, gives the same for all.
        """
        asked = time.monotonic()
        case = self._case(compiler, env)
        if not case.lock.acquire(blocking=False):
            return None
        try:
            if case.memo is None:
                # Another process may have packaged it meanwhile.
                case.memo = self._recall(_key(compiler, env))
            return self._current(case, asked)
        finally:
            case.lock.release()

    def packaged(self, compiler: Compiler, env: Mapping[bytes, bytes]) -> PackagedToolchain:
        """The compiler's toolchain, packaged now if it isn't or has changed; blocks, so call it in a thread.

        CompilerNotPackageable, StorageError as from :func:`~sccache_twisted.toolchains.discover` and
        :func:`~sccache_twisted.toolchains.package`.
        """
        asked = time.monotonic()
        key = _key(compiler, env)
        case = self._case(compiler, env)
        with case.lock:
            known = self._current(case, asked)
            if known is not None:
                return known
            case.sentry = None
            case.memo = memo = self._package(compiler, env)
            case.checked = asked
            self._remember(key, memo)
            return memo.packaged

    def _current(self, case: _Case, asked: float) -> PackagedToolchain | None:
        memo = case.memo
        if memo is None:
            return None
        case.asked = asked
        if not case.is_quiet() and case.checked <= asked:
            began = time.monotonic()
            self._recall_sentry(case)
            sentry = case.post(memo, began)
            if not memo.holds():
                case.memo = None
                return None
            case.checked, case.sentry = began, sentry
        if not _archive_is_there(memo.packaged):
            case.memo = None
            return None
        return memo.packaged

    def _recall_sentry(self, but: _Case) -> None:
        """Make room for one more: a user may have few of them, and other programs want some."""
        with self._lock:
            posted = [case for case in self._cases.values() if case is not but and case.sentry is not None]
            for case in sorted(posted, key=lambda case: case.asked)[: max(0, len(posted) + 1 - _MOST_SENTRIES)]:
                case.sentry = None

    def _case(self, compiler: Compiler, env: Mapping[bytes, bytes]) -> _Case:
        key = _key(compiler, env)
        with self._lock:
            case = self._cases.get(key)
            if case is None:
                case = self._cases[key] = _Case(memo=self._recall(key))
            return case

    def _package(self, compiler: Compiler, env: Mapping[bytes, bytes]) -> _Memo:
        for _ in range(_PACKAGING_TRIES):
            files = discover(compiler, env, self._run)
            draft = os.path.join(self._directory, b".draft-%d-%d" % (os.getpid(), threading.get_ident()))
            packaged = package(files, draft)
            try:
                if any(signature(path) != known for path, known in files.watched):
                    continue
                final = os.path.join(self._directory, packaged.digest.encode() + _ARCHIVE_SUFFIX)
                os.replace(draft, final)
            except OSError as problem:
                raise StorageError(f"{os.fsdecode(self._directory)}: {problem.strerror}.") from problem
            finally:
                if os.path.lexists(draft):
                    os.unlink(draft)
            return _Memo(_at(packaged, final), files.watched)
        raise CompilerNotPackageable(f"{os.fsdecode(compiler.executable)} changes while it is being packaged.")

    # --- what outlives the process ---

    def _recall(self, key: bytes) -> _Memo | None:
        """A memo from an earlier run; None where there is none or it is damaged."""
        try:
            with open(os.path.join(self._directory, key + _MEMO_SUFFIX), "rb") as stream:
                version, digest, arch, size, archive_size, members, watched = msgpack.unpackb(stream.read())
            if version != _VERSION:
                return None
            path = os.path.join(self._directory, digest.encode() + _ARCHIVE_SUFFIX)
            packaged = PackagedToolchain(Digest(digest), arch, size, archive_size, members, path)
            return _Memo(packaged, tuple((place, tuple(known)) for place, known in watched))
        except (OSError, ValueError, TypeError, AttributeError, msgpack.UnpackException):
            return None

    def _remember(self, key: bytes, memo: _Memo) -> None:
        """Write a memo for later runs, and remove the archives that no memo speaks of any more."""
        one = memo.packaged
        body = msgpack.packb(
            (_VERSION, one.digest, one.arch, one.size, one.archive_size, one.members, memo.watched), use_bin_type=True
        )
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=b".memo-", dir=self._directory)
            with os.fdopen(descriptor, "wb") as out:
                out.write(body)
            os.replace(temporary, os.path.join(self._directory, key + _MEMO_SUFFIX))
            self._sweep()
        except OSError as problem:
            raise StorageError(f"{os.fsdecode(self._directory)} cannot be written: {problem.strerror}.") from problem

    def _sweep(self) -> None:
        names = os.listdir(self._directory)
        memos = [self._recall(name[: -len(_MEMO_SUFFIX)]) for name in names if name.endswith(_MEMO_SUFFIX)]
        wanted = {os.path.basename(memo.packaged.path) for memo in memos if memo is not None}
        for name in names:
            if name.endswith(_ARCHIVE_SUFFIX) and name not in wanted:
                try:
                    os.unlink(os.path.join(self._directory, name))
                except FileNotFoundError:
                    continue  # another daemon was faster


def _key(compiler: Compiler, env: Mapping[bytes, bytes]) -> bytes:
    deciding = [(name, env[name]) for name in sorted(_DECIDING) if name in env]
    question = (compiler.executable, compiler.family.value, compiler.arch, deciding)
    return blake3.blake3(msgpack.packb(question, use_bin_type=True)).hexdigest()[:32].encode()


def _at(packaged: PackagedToolchain, path: bytes) -> PackagedToolchain:
    return PackagedToolchain(
        packaged.digest, packaged.arch, packaged.size, packaged.archive_size, packaged.members, path
    )


def _archive_is_there(packaged: PackagedToolchain) -> bool:
    return signature(packaged.path)[2] == packaged.archive_size
