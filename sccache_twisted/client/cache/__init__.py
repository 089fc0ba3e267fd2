"""The compile cache as one call meets it, before and behind everything else that is done for it.

1. ``recipe`` makes keys of a call: at first of its command and source, later of all its inputs;
2. ``states`` remembers how files are, ``probes`` says which of them decided a result, and which names were absent;
3. ``flights`` lets one call compile what several ask for at once;
4. ``quick`` goes the whole way to a hit at once, where results lie on this machine's disk;
5. ``service`` asks the store in this order: manifest and result, without any process; then the result of the
   preprocessed text; and stores what was compiled, after it has been delivered.
"""

from sccache_twisted.client.cache.lookup import Lookup
from sccache_twisted.client.cache.recipe import Recipe, Request
from sccache_twisted.client.cache.service import CompileCache

__all__ = ["CompileCache", "Lookup", "Recipe", "Request"]
