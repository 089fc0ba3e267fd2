"""Running commands as a user does, and a stand-in for the daemon's side of the socket."""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

from sccache_twisted.wire.frames import FrameDecoder
from sccache_twisted.wire.launcher import MAX_FRAME, Answer, Query, Refused, decode, encode

SECONDS = 120


def command(*words, env=None, cwd=None, stdin=None):
    """Run ``python -m sccache_twisted.cli`` with these words; the finished process, its streams as text."""
    return subprocess.run(
        [sys.executable, "-m", "sccache_twisted.cli", *map(str, words)],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def answering_daemon(path, answers):
    """A process's worth of daemon on a unix socket: answers queries by name, collects them, refuses the rest."""
    asked = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                decoder = FrameDecoder(MAX_FRAME)
                while data := connection.recv(65536):
                    for kind, payload in decoder.feed(data):
                        query = decode(kind, payload)
                        assert isinstance(query, Query)
                        asked.append((query.name, query.args))
                        found = answers.get(query.name)
                        message = Refused("not here") if found is None else Answer(json.dumps(found))
                        connection.sendall(encode(message))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
