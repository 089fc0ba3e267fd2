"""A compiler's command line with what lies around it: a request that we may take over, or a word for why not.

The same in every process that decides calls. Starts no process.
"""

from __future__ import annotations

from collections.abc import Mapping

from sccache_twisted.client.cache import Request
from sccache_twisted.client.calls import Call
from sccache_twisted.client.outputs import obstacle, places_of
from sccache_twisted.client.surroundings import is_special, read_response_file
from sccache_twisted.compilers.commandline import parse
from sccache_twisted.model import Compiler, NotCacheable, NotCompilation


def understand(
    compiler: Compiler, call: Call, cwd: bytes, found_files: Mapping[bytes, bytes] | None
) -> Request | NotCompilation | NotCacheable:
    """What a call asks for. ``cwd`` is as the user sees it, ``found_files`` tell where the driver's own are."""
    parsed = parse(compiler, call.argv[1:], cwd, call.env, read_response_file, found_files)
    if isinstance(parsed, NotCompilation | NotCacheable):
        return parsed
    places = places_of(parsed, cwd)
    if is_special(parsed.source, cwd):
        return NotCacheable("bad_input_file")
    if obstacle(places):
        return NotCacheable("bad_output_file")
    return Request(call, parsed, cwd, places)
