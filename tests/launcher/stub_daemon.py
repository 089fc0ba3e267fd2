"""A daemon's end of the socket that answers with whatever bytes a test likes."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from typing_extensions import Self

from sccache_twisted.wire.frames import FrameDecoder
from sccache_twisted.wire.launcher import MAX_FRAME, Message, decode


class StubDaemon:
    """Takes launchers one after another; sends each the answers in turn, each after one frame of the launcher's."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self.heard: list[Message] = []
        self._answers = answers
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(50)
        decoder = FrameDecoder(MAX_FRAME)
        for answer in self._answers:
            frames: list[tuple[bytes, bytes]] = []
            while not frames:
                data = connection.recv(1 << 16)
                if not data:
                    return
                frames = decoder.feed(data)
            self.heard.extend(decode(kind, payload) for kind, payload in frames)
            try:
                connection.sendall(answer)
            except (BrokenPipeError, ConnectionResetError):
                return  # a launcher may hang up as soon as it has heard enough nonsense
