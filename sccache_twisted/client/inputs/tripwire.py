"""What is sent for a file that is there but not expected to be read: no compilation that reads it succeeds.

Why, :mod:`~sccache_twisted.client.inputs.predictions` says.
"""

from typing import Final

from sccache_twisted.hashing.digests import digest_of

TRIPPED: Final = b"sccache-twisted: not among the predicted inputs"
"""What a compiler then complains with."""

TRIPWIRE: Final = b"#error " + TRIPPED + b"\n"
TRIPWIRE_DIGEST: Final = digest_of(TRIPWIRE)
