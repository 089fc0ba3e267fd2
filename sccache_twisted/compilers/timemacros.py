"""Whether a translation unit really expands ``__DATE__``, ``__TIME__`` or ``__TIMESTAMP__``.

A scan tells that a file mentions them; whether the mention is live, only the preprocessor knows. So the
run that lists dependencies is given other values for them, in front of the caller's arguments (so that
the caller's own ``-D__DATE__=…`` still wins), and its text is searched for these.
"""

from __future__ import annotations

import re

_MARK = b"sccache-twisted-time-macro"

MARKING_ARGS: tuple[bytes, ...] = (
    b"-Wno-builtin-macro-redefined",
    *(b'-D%s="%s"' % (name, _MARK) for name in (b"__DATE__", b"__TIME__", b"__TIMESTAMP__")),
)
"""To be put before ``listing_args`` in the listing run, and in no other."""

_DEFINITION = re.compile(rb"^#define [^\n]*\n?", re.MULTILINE)


def expands_time_macros(preprocessed: bytes) -> bool:
    """Whether the text of a run with :data:`MARKING_ARGS` holds one of the macros, expanded.

    Definitions that ``-g3`` or ``-dD`` keep in the text do not count.
    """
    return _MARK in preprocessed and _MARK in _DEFINITION.sub(b"", preprocessed)
