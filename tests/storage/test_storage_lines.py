"""Whatever a server says, in whatever pieces: an entry, a sentence, or a wait, never an exception in the reactor."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from sccache_twisted.errors import StorageError
from sccache_twisted.storage import memcached, redis, requests

WORDS = st.sampled_from(
    b"VALUE |x |0 |5|-1|99999999999999999999|\r\n|hello|END|STORED|STAT |ERROR|CLIENT_ERROR |SERVER_ERROR |+OK|$|*|"
    b"-ERR|:|_|\0|OK|DELETED|VERSION ".split(b"|")
)
TALK = st.lists(st.one_of(WORDS, st.binary(max_size=12)), max_size=12).map(b"".join)


class Transport(StringTransport):
    """A TCP transport that remembers being aborted."""

    def setTcpNoDelay(self, enabled):
        """It has no delay."""

    def setTcpKeepAlive(self, enabled):
        """It is alive."""


def hear(line, asked, talk, size):
    """Let a line hear ``talk`` in pieces, and its end; what ``asked`` came to."""
    results = []
    asked.addCallbacks(results.append, lambda failure: results.append(failure.value))
    for start in range(0, len(talk), size):
        if line.transport.disconnected or line.closed:
            break
        line.dataReceived(talk[start : start + size])
    line.connectionLost(Failure(ConnectionDone()))
    assert len(results) == 1
    return results[0]


def connected(line):
    line.makeConnection(Transport())
    return line


@given(talk=TALK, size=st.integers(1, 9))
@example(talk=b"$5\r\nhello\r\n", size=3)
@example(talk=b"$5\r\nhello\r\n$5\r\nagain\r\n", size=99)
def test_redis(talk, size):
    """A get ends with bytes, nothing, another kind of reply, or a StorageError, exactly once."""
    line = connected(redis._Line("Redis"))
    result = hear(line, line.ask("GET", b"x"), talk, size)
    if talk == b"$5\r\nhello\r\n":
        assert result == b"hello"
    elif isinstance(result, Exception):
        assert isinstance(result, StorageError)


@given(talk=TALK, size=st.integers(1, 9))
@example(talk=b"VALUE x 0 5\r\nhello\r\nEND\r\n", size=4)
@example(talk=b"VALUE x 0 99999999999\r\n", size=4)
@example(talk=b"END\r\nEND\r\n", size=99)
@example(talk=b"VERSION ab\r\n", size=99)
@example(talk=b"12\r\n", size=99)
@example(talk=b"x" * 20_000, size=5000)
def test_memcached(talk, size):
    """A get ends with a value, nothing, or a StorageError, exactly once."""
    line = connected(memcached._Line("memcached"))
    result = hear(line, line.fetch(b"x"), talk, size)
    if talk.startswith(b"VALUE x 0 5\r\nhello\r\nEND\r\n"):
        assert result == b"hello"
    else:
        assert result is None or isinstance(result, bytes | StorageError)


@pytest.mark.parametrize("talk", [b"HTTP/1.1 200 OK\r\n\r\n", b"nonsense", b"\0" * 70_000])
def test_http_that_nobody_asked_for(talk):
    """A connection that speaks although nothing was asked is closed."""
    line = connected(requests._Line(lambda _: None))
    line.dataReceived(talk)
    assert line.transport.disconnecting
