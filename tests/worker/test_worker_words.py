"""What a job asks for must stay one word of the sandbox's command line, or it would name options of its own."""

import pytest
from attrs import evolve

from sccache_twisted.errors import BadAction
from sccache_twisted.model import Action, Digest
from sccache_twisted.worker.bubblewrap import check_words

ACTION = Action(Digest("1" * 64), b"/usr/bin/gcc", (b"gcc", b"-c", b"a.c"), b"/src", ((b"LANG", b"C"),), (), (b"a.o",))
INJECTED = b"x\0--bind\0/\0/host"


@pytest.mark.parametrize(
    "change",
    [
        {"env": ((b"LANG", INJECTED),)},
        {"env": ((INJECTED, b"C"),)},
        {"argv": (b"gcc", INJECTED)},
        {"executable": INJECTED},
        {"then": ((INJECTED, (b"as",)),)},
        {"then": ((b"/usr/bin/as", (INJECTED,)),)},
    ],
    ids=["value", "variable", "argument", "program", "next program", "its argument"],
)
def test_a_word_that_holds_a_zero_byte_is_refused(change):
    """Behind a zero byte bubblewrap would read the job's own options, a bind of the host's root for instance."""
    check_words(ACTION)
    with pytest.raises(BadAction, match="zero byte"):
        check_words(evolve(ACTION, **change))
