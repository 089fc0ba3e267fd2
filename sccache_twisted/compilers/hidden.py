"""Files that a compiler reads by option and that its depfile does not list.

All are candidates: what does not exist is as absent in the sandbox as it is here, and the compiler says
the same about it.
"""

from __future__ import annotations

from sccache_twisted.compilers.facts import Facts
from sccache_twisted.compilers.outputs import main_output, stem
from sccache_twisted.model import CompilerFamily


def mangled(path: bytes) -> bytes:
    """An absolute path as libgcov writes it into one name: ``/`` → ``#``, ``..`` → ``^``, ``.`` left out."""
    parts = [b"^" if part == b".." else part for part in path.split(b"/") if part != b"."]
    return b"#".join(parts)


def _gcc_profiles(facts: Facts, source: bytes) -> list[bytes]:
    """What ``-fprofile-use[=path]`` makes gcc open: beside the object, mangled in a directory, or the file itself."""
    own = stem(main_output(facts, source), keep_hidden=True) + b".gcda"
    absolute = own if own[:1] == b"/" else facts.cwd.rstrip(b"/") + b"/" + own
    found: list[bytes] = []
    for value in facts.profiles:
        place = value if value is not None else facts.profile_directory
        found += [absolute] if place is None else [place, place.rstrip(b"/") + b"/" + mangled(absolute)]
    return found


def _clang_profiles(facts: Facts) -> list[bytes]:
    found: list[bytes] = []
    for value in facts.profiles:
        found += [b"default.profdata"] if value is None else [value, value.rstrip(b"/") + b"/default.profdata"]
    return found


def hidden_inputs(facts: Facts, source: bytes) -> tuple[bytes, ...]:
    """Every such file, as spelled; a precompiled header stands beside the header that is included first."""
    gcc = facts.compiler.family is CompilerFamily.GCC
    facts.reads(_gcc_profiles(facts, source) if gcc else _clang_profiles(facts))
    for include in facts.forced_includes:
        facts.reads((include + b".gch",) if gcc else (include + b".pch", include + b".gch"))
    return tuple(facts.hidden_inputs)
