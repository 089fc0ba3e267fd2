"""The input oracle itself tells whatever is missing, and whatever is too much."""

import os
import time

import pytest
import pytest_twisted
from attrs import evolve
from oracle import Around, World, client, held_against
from project import ENVIRONMENT
from strace_log import traced
from twisted.internet import reactor

from sccache_twisted.client.calls import Call
from sccache_twisted.model import DirectoryInput, FileInput

ENV = {os.fsencode(name): os.fsencode(value) for name, value in ENVIRONMENT.items()}
LINE = [b"gcc", b"-Ione", b"-Itwo", b"-c", b"a.c"]


@pytest.fixture
def tree(tmp_path):
    """A source, a header that is found in the second directory, one that is only asked for, and an odd link."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.c").write_text('#include <v.h>\n#if __has_include("o.h")\nint v = V;\n#endif\n')
    (tmp_path / "two/real.h").write_text("#define V 1\n")
    (tmp_path / "two/v.h").symlink_to("real.h")
    (tmp_path / "o.h").write_text("")
    return tmp_path


@pytest_twisted.ensureDeferred
async def test_what_is_missing_and_what_is_too_much(toolchain_store, tree, tmp_path_factory):
    """A whole action passes; without a file, a link, a directory, a program, or with a file too many it is told."""
    cwd = os.fsencode(tree)
    _, seen = traced(LINE, cwd, ENV, tmp_path_factory.mktemp("logs"))
    with client(reactor, toolchain_store) as ours:
        call = Call(tuple(LINE), cwd, ENV, 0o022, stderr_is_tty=False, arrival_ns=time.time_ns())
        shipped = await ours.shipped(call)
    inputs = shipped.action.inputs

    def told(*, without=b"", extra=(), entries=shipped.entries):
        kept = tuple(item for item in inputs if not without or not item.path.endswith(without))
        changed = evolve(shipped, action=evolve(shipped.action, inputs=(*kept, *extra)), entries=entries)
        return "\n".join(held_against(seen, World(changed), Around(ENV)))

    assert told() == ""
    for name, seen_as in ((b"/two/real.h", "/two/v.h"), (b"/two/v.h", "/two/v.h"), (b"/o.h", "/o.h")):
        assert f"{seen_as}: is a file here, and would not be there" in told(without=name)
    assert "/one: is a directory here" in told(without=b"/one")
    assert "cc1: is a file here" in told(entries=tuple(e for e in shipped.entries if not e.path.endswith(b"/cc1")))
    source = next(item for item in inputs if isinstance(item, FileInput) and item.path.endswith(b"a.c"))
    stranger = evolve(source, path=cwd + b"/one/v.h")
    assert "/one/v.h: is not here, and would be a file there" in told(extra=(stranger,))
    assert "/one/v.h: is not here, and would be a directory there" in told(extra=(DirectoryInput(stranger.path),))
    assert "another size, time or mode" in told(without=b"a.c", extra=(evolve(source, mtime_ns=source.mtime_ns + 1),))
