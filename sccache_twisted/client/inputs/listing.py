"""The one run of the preprocessor: dependency list, search path, preprocessed text.

It runs where and as the user's command would, touches no file of the user's, and says nothing on the user's
terminal. It speaks English, because its search path is read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from attrs import evolve, frozen
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from sccache_twisted.compilers.depfile import is_one_rule, parse_depfile
from sccache_twisted.compilers.searchpath import SearchPath, parse_search_path
from sccache_twisted.interfaces import Finished, IProcessRunner
from sccache_twisted.model import Compilation, RunsLocally

_STREAM_LIMIT = 16 << 20
_LARGEST_TEXT = 256 << 20
_FAST_SCRATCH = b"/dev/shm"
_CLOCK_REALTIME_COARSE = 5
_TICK_NS = 10_000_000
"""The longest time for which the clock that files are stamped with may stand still."""
_LOOK_SECONDS = 0.001
_MOST_LOOKS = 10
_YOUNG_SECONDS = 60.0
_DATE = re.compile(rb'"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-3]\d \d{4}"')
_TIME = re.compile(rb'"[0-2]\d:[0-5]\d:[0-6]\d"')


@frozen
class Listed:
    """What the run left behind: files in the scratch directory (none for a preprocessed source), and its chatter.

    ``began_ns`` is the wall clock as the kernel stamps files with it.
    """

    depfile: bytes
    text: bytes
    chatter: bytes
    began_ns: int

    def read(self, compilation: Compilation) -> tuple[tuple[bytes, ...], SearchPath]:
        """The dependencies as spelled, the source first, and where headers are searched; OSError. Blocks shortly."""
        if not self.depfile:
            return (compilation.source,), SearchPath((), compilation.include_dirs)
        with open(self.depfile, "rb") as stream:
            told = stream.read()
        if not is_one_rule(told):
            raise OSError(errno.EINVAL, "a name in it holds a line break")
        paths = parse_depfile(told)
        if compilation.source in paths[1:]:
            # clang puts lists of what is not to be sanitized in front.
            paths = tuple(dict.fromkeys((compilation.source, *paths)))
        return paths, parse_search_path(self.chatter)

    def shows_time(self) -> bool:
        """Whether a date or a time of day stands in the text, as ``__DATE__`` and ``__TIME__`` expand. Blocks."""
        if not self.text:
            return False
        with open(self.text, "rb") as stream:
            text = stream.read(_LARGEST_TEXT)
        return _DATE.search(text) is not None or _TIME.search(text) is not None

    def forget(self) -> None:
        """Remove the files."""
        for path in (self.depfile, self.text):
            if path:
                with suppress(FileNotFoundError):
                    os.unlink(path)


class Scratch:
    """A directory for files that nobody else reads, in memory where that is possible, gone when we are.

    It is locked for as long as its process lives; what dead processes left is removed by the next one.
    """

    def __init__(self) -> None:
        fast = os.access(_FAST_SCRATCH, os.W_OK | os.X_OK)
        base = _FAST_SCRATCH if fast else os.fsencode(tempfile.gettempdir())
        prefix = b"sccache-twisted-%d-" % os.getuid()
        for name in os.listdir(base):
            if name.startswith(prefix):
                _remove_abandoned(base + b"/" + name)
        self.path = tempfile.mkdtemp(prefix=prefix, dir=base)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove it with everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_abandoned(path: bytes) -> None:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        young = time.time() - os.fstat(lock).st_mtime < _YOUNG_SECONDS  # perhaps made, and not locked yet
        if os.fstat(lock).st_uid == os.getuid() and not young:
            shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(lock)


class Lister:
    """Runs preprocessors, ``slots`` at once, in a scratch directory of its own."""

    def __init__(self, clock: IReactorTime, runner: IProcessRunner, slots: int) -> None:
        self._clock = clock
        self._runner = runner
        self._turns = DeferredSemaphore(slots)
        self._scratch = Scratch()
        self._runs = 0

    def close(self) -> None:
        """Remove the scratch directory."""
        self._scratch.close()

    async def list(
        self,
        compilation: Compilation,
        cwd: bytes,
        env: Mapping[bytes, bytes],
        begins: Callable[[], None] = lambda: None,
    ) -> Listed | RunsLocally:
        """List a compilation's dependencies, or say why that failed. The files of the answer are the caller's.

        ``begins`` is called when it is this compilation's turn.
        """
        if compilation.preprocessed:
            begins()
            return Listed(b"", b"", b"", kernel_time_ns())
        self._runs += 1
        base = self._scratch.path + b"/%d" % self._runs
        listed = Listed(base + b".d", base + b".i", b"", 0)
        compiler = compilation.compiler
        own = (b"-v", b"-E", b"-MD", b"-MF", listed.depfile, b"-o", listed.text)
        await self._turns.acquire()
        good = False
        try:
            begins()
            await self._settled(os.path.join(cwd, compilation.source))
            began = kernel_time_ns()
            ended = await self._runner.run(
                [compiler.argv0, *own, *compilation.listing_args],
                executable=compiler.executable,
                cwd=cwd,
                env={**env, b"LC_ALL": b"C"},
                umask=0o077,
                limit=_STREAM_LIMIT,
            )
            good = ended.status == 0
        finally:
            self._turns.release()
            if not good:
                listed.forget()
        if not good:
            return RunsLocally("preprocessor_error", _complaint(ended))
        return evolve(listed, chatter=ended.stderr, began_ns=began)

    async def _settled(self, source: bytes) -> None:
        """Wait out the moment in which a source was written: it would be taken for one that changes while it is read.

        A build that writes what it compiles would list everything twice.
        """
        try:
            changed = os.stat(source).st_ctime_ns
        except OSError:
            return
        for _ in range(_MOST_LOOKS):
            # A time that is further ahead is another machine's, and does not come soon.
            if not 0 <= changed - kernel_time_ns() < _TICK_NS:
                break
            await deferLater(self._clock, _LOOK_SECONDS)


def _complaint(ended: Finished) -> str:
    """The first error among what a preprocessor said."""
    lines = ended.stderr.split(b"\n")
    found = next((line for line in lines if b"error:" in line), b"")
    return f"The preprocessor ended with status {ended.status}. {found[:500].decode('utf-8', 'replace')}".rstrip()


def kernel_time_ns() -> int:
    """The wall clock that files are stamped with: it moves once in a few milliseconds, and lags behind the other."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
