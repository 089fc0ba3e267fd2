"""A success that lacks an output is not believed at once, unless that output is not always written."""

import pytest

from sccache_twisted.client.doubt import Doubt
from sccache_twisted.errors import Malformed
from sccache_twisted.model import Action, ActionResult, Digest, OutputFile, ServerId

OBJECT, USAGE = b"/w/a.o", b"/w/a.su"
WORKER = ServerId("w-0123456789abcdef")


def action(*optional: bytes) -> Action:
    return Action(Digest("0" * 64), b"/bin/cc", (b"cc",), b"/w", (), (), (OBJECT, USAGE), optional=frozenset(optional))


def answer(*written: bytes) -> ActionResult:
    return ActionResult(0, b"", b"", tuple(OutputFile(path, b"") for path in written))


def test_what_is_missing_once_is_a_fault_and_twice_the_truth() -> None:
    """The first answer without a file is the worker's fault, the same one again is believed."""
    doubt = Doubt()
    with pytest.raises(Malformed, match=r"did not send /w/a\.su\."):
        doubt.hear(action(), answer(OBJECT), WORKER)
    doubt.hear(action(), answer(OBJECT), WORKER)
    with pytest.raises(Malformed, match=r"did not send /w/a\.o\."):
        doubt.hear(action(), answer(USAGE), WORKER)


def test_what_is_not_always_written_is_not_missed() -> None:
    """Clang writes no stack usage for a source without functions: no worker is blamed, nothing runs twice."""
    Doubt().hear(action(USAGE), answer(OBJECT), WORKER)
    with pytest.raises(Malformed, match=r"did not send /w/a\.o\."):
        Doubt().hear(action(USAGE), answer(USAGE), WORKER)
