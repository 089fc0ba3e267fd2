"""Watches how many of this machine's own compilers run at once, by looking again and again.

Compilers that take a tenth of a second and more can't be missed; of shorter ones a crowd can't.
"""

import threading
from collections.abc import Iterable
from types import TracebackType

from typing_extensions import Self

from support.processes import COMPILERS, below, command_line, processes

LOOK_SECONDS = 0.01


class LocalCompilers:
    """A context manager: the most compilers at once whose command line has ``mark`` in it, in ``most``.

    Neither what workers run counts, nor runs of the preprocessor, which have a bound of their own.
    """

    def __init__(self, mark: str, workers: Iterable[int] = ()) -> None:
        self._mark = mark.encode()
        self._workers = tuple(workers)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="sampler")
        self.most = 0
        self.seen: set[int] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def now(self) -> set[int]:
        """The pids of those that run at this moment."""
        known = processes()
        candidates = [process.pid for process in known.values() if process.name in COMPILERS]
        marked = {pid for pid in candidates if self._counts(command_line(pid))}
        if marked:
            marked.difference_update(process.pid for worker in self._workers for process in below(worker, known))
        return marked

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            found = self.now()
            self.seen |= found
            self.most = max(self.most, len(found))

    def _counts(self, words: tuple[bytes, ...]) -> bool:
        return b"-E" not in words and any(self._mark in word for word in words)
