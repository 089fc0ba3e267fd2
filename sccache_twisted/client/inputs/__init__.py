"""Finding every file that a compilation reads, with its digest, before it is sent anywhere.

1. ``listing`` runs the preprocessor once: dependency list, search path and preprocessed text;
2. ``walk`` goes along each path as the kernel does and notes every link and directory on the way;
3. ``memo`` remembers digests and mentions of files for as long as their stat does not change;
4. ``gather`` puts inputs together in one visit to a thread, following mentions that no dependency list tells;
5. ``predictions`` tells from the last time what 1. would list, with ``surroundings`` for what lies beside it.
"""

from sccache_twisted.client.inputs.blobs import InputBlobs
from sccache_twisted.client.inputs.gather import gather, still_current
from sccache_twisted.client.inputs.listing import Listed, Lister
from sccache_twisted.client.inputs.memo import FileMemo
from sccache_twisted.client.inputs.predictions import Predictions
from sccache_twisted.client.inputs.question import Gathered, InputsChanged, Question

__all__ = [
    "FileMemo",
    "Gathered",
    "InputBlobs",
    "InputsChanged",
    "Listed",
    "Lister",
    "Predictions",
    "Question",
    "gather",
    "still_current",
]
