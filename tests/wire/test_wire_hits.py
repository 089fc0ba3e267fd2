"""What a daemon and its hit servers say is understood at the other end as it was meant."""

import pytest

from sccache_twisted.errors import Malformed
from sccache_twisted.model import Compiler, CompilerFamily
from sccache_twisted.wire import hits
from sccache_twisted.wire.frames import FrameDecoder

GCC = Compiler(b"/usr/bin/gcc-12", b"g\xffc", CompilerFamily.GCC, "gcc 12.2", "x86_64", cplusplus=True)
SAID = [
    hits.Terms("0.1.0", 4711, b"/c\xff/objects", 10 << 30, b"/c", (b"/home/a", b"/home/b")),
    hits.Compilers(((GCC, (1, 2, 3, 4, 5)),)),
    hits.Compilers(()),
    hits.Ping(),
    hits.Ready(),
    hits.Pong(),
    hits.Served(b"gcc", b"/w", "c++", "gcc", (0.25, 0.5), 0.125, b"/w/a.c", b"/w/a.o", "ab" * 32, 17, b"\x28packed"),
    hits.HandedOver(),
    hits.HandedOver("ValueError: no"),
]


@pytest.mark.parametrize("message", SAID, ids=lambda message: type(message).__name__)
def test_a_message_comes_as_it_was_sent(message: hits.Message) -> None:
    """Every message, with bytes of any value and with lists of any length."""
    ((kind, payload),) = FrameDecoder(hits.MAX_FRAME).feed(hits.encode(message))
    assert hits.decode(kind, payload) == message


@pytest.mark.parametrize(("kind", "payload"), [(b"?", b"\x90"), (b"S", b"\x90"), (b"C", b"\x91\x90"), (b"T", b"\xc1")])
def test_nonsense_is_malformed(kind: bytes, payload: bytes) -> None:
    """An unknown kind, too few values, and no values at all are told apart from any message."""
    with pytest.raises(Malformed):
        hits.decode(kind, payload)
