"""Real C and C++ trees for system tests, the demo and benchmarks.

* ``catalog``, ``fetch``: pinned archives out of package registries, unpacked once;
* ``build``: the three trees, each with its own build system; ``sites``: the directories they are built in;
* ``station``, ``recorder``: what stands before the compiler in a build and writes down its commands;
* ``recording``: compile commands to replay, whole or as a seeded subset; ``commands``: running many of them;
* ``whole``: a tree configured and built by its own build system, everything kept;
* ``compare``, ``elf``: in what two builds differ; ``pairwise``: a small sample of a matrix.
"""

from support.trees.build import COMPILERS, FLAGS, TREES, BuildFailed, Toolchain, Tree, run_steps
from support.trees.commands import CompileCommand, Result, clean_environment, run_commands
from support.trees.compare import Side, differences, set_aside, snapshot
from support.trees.fetch import FetchFailed, cache_directory, fetch
from support.trees.pairwise import all_allowed, pairwise
from support.trees.recording import Recording, record, subset
from support.trees.sites import Kind, Layout, Site, site, workplace
from support.trees.whole import build_whole

__all__ = [
    "COMPILERS",
    "FLAGS",
    "TREES",
    "BuildFailed",
    "CompileCommand",
    "FetchFailed",
    "Kind",
    "Layout",
    "Recording",
    "Result",
    "Side",
    "Site",
    "Toolchain",
    "Tree",
    "all_allowed",
    "build_whole",
    "cache_directory",
    "clean_environment",
    "differences",
    "fetch",
    "pairwise",
    "record",
    "run_commands",
    "run_steps",
    "set_aside",
    "site",
    "snapshot",
    "subset",
    "workplace",
]
