"""What a compiler driver needs in order to compile elsewhere as it compiles here.

The driver itself is asked where its parts are; the dynamic loader is asked for libraries. What a driver
looks at without reading it (directories on its search paths, clang's gcc-installation probe) belongs to the
answer, since finding it or not may change what it does. Headers do not: they travel as inputs. Neither do
clang's probes for CUDA and ROCm, which say nothing about C and C++.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from attrs import frozen

from sccache_twisted.errors import CompilerNotPackageable
from sccache_twisted.model import Compiler, CompilerFamily
from sccache_twisted.toolchains.locales import add_locale
from sccache_twisted.toolchains.probes import Driver, Runner, configuration_files, header_directories, run_here
from sccache_twisted.toolchains.tree import Collector, Entry, EntryKind, Signature

_WRAPPERS = {
    b"ccache",
    b"sccache",
    b"distcc",
    b"icecc",
    b"buildcache",
    b"gomacc",
    b"fbuild",
    b"sccache-twisted",
    b"colorgcc",
}
_RELEASES = (b"lsb-release", b"os-release", b"redhat-release", b"debian_version", b"SuSE-release", b"gentoo-release")
_PROBED_OBJECTS = (b"", b"/32", b"/64", b"/x32")


@frozen
class ToolchainFiles:
    """The closure of a compiler: its entries in the order of their paths, and what to watch for changes.

    ``watched`` are the signatures as they were before discovery used the paths; a path that was looked for
    and not there has :data:`~sccache_twisted.toolchains.tree.ABSENT`.
    """

    arch: str
    entries: tuple[Entry, ...]
    watched: tuple[tuple[bytes, Signature], ...]

    @property
    def size(self) -> int:
        """The content of all files, in bytes."""
        return sum(entry.size for entry in self.entries)


def discover(compiler: Compiler, env: Mapping[bytes, bytes], run: Runner = run_here) -> ToolchainFiles:
    """Find the closure of a compiler as it would run in ``env``.

    Of ``env`` the PATH (for an assembler that the driver looks for there), the locale, and LD_LIBRARY_PATH
    count; if LD_LIBRARY_PATH is needed here it is needed in the job's environment too. Blocks for some
    hundred milliseconds: call it in a thread. CompilerNotPackageable says why a compiler can't travel.
    """
    into = Collector()
    driver = Driver(compiler, env, run)
    physical = into.add(compiler.executable)
    if physical is None or into.entries[physical].kind is not EntryKind.FILE:
        raise CompilerNotPackageable(f"{os.fsdecode(compiler.executable)} does not exist or is no file.")
    if os.path.basename(physical) in _WRAPPERS:
        raise CompilerNotPackageable(f"{os.fsdecode(compiler.executable)} is {os.fsdecode(physical)}, a wrapper.")
    closure = _Closure(into, driver)
    closure.program(physical)
    directories = _clang(closure, physical) if compiler.family is CompilerFamily.CLANG else _gcc(closure, physical)
    for directory in directories:
        into.add(directory)
    prefixes = [os.path.dirname(os.path.dirname(place)) for place in (physical, *closure.programs)]
    add_locale(
        into,
        env,
        closure.libc_directory,
        [*(p + b"/share/locale" for p in prefixes), b"/usr/share/locale", b"/usr/share/locale-langpack"],
    )
    entries = tuple(into.entries[path] for path in sorted(into.entries))
    return ToolchainFiles(compiler.arch, entries, tuple(sorted(into.watched.items())))


class _Closure:
    """Adds programs with all that the loader will map for them."""

    def __init__(self, into: Collector, driver: Driver) -> None:
        self.into = into
        self.driver = driver
        self.programs: list[bytes] = []
        self.libc_directory = b"/usr/lib"

    def program(self, path: bytes) -> None:
        """Add an ELF program with its loader and libraries; CompilerNotPackageable if it is something else."""
        physical = self.into.add(path)
        if physical is None or physical in self.programs:
            return
        self.programs.append(physical)
        libraries = self.driver.libraries(physical)
        if libraries.loader:
            self.into.add(libraries.loader)
        for library in libraries.paths:
            found = self.into.add(library)
            self._without_hardware_directory(library)
            if found is not None and os.path.basename(found).startswith((b"libc.so", b"libc-")):
                self.libc_directory = os.path.dirname(found)
        if libraries.needs_cache:
            self.into.add(b"/etc/ld.so.cache")

    def named(self, name: bytes, *, required: bool = False) -> None:
        """Add a program that the driver looks for by name."""
        found, passed = self.driver.program(name)
        for place in passed:
            self.into.watch(place)
        if found is not None:
            self.program(found)
        elif required:
            raise CompilerNotPackageable(f"{os.fsdecode(self.driver.executable)} has no {os.fsdecode(name)}.")

    def _without_hardware_directory(self, library: bytes) -> None:
        # A worker with an older CPU passes over glibc-hwcaps and needs the plain library.
        before, mark, after = library.partition(b"/glibc-hwcaps/")
        if mark:
            self.into.add(before + b"/" + after.partition(b"/")[2])


def _gcc(closure: _Closure, physical: bytes) -> list[bytes]:
    """Add what gcc needs; answers the directories that it looks at."""
    into, driver = closure.into, closure.driver
    closure.named(b"as", required=True)
    for name in (b"cc1", b"cc1plus", b"objcopy", b"collect2", b"lto-wrapper"):
        closure.named(name)
    if not any(os.path.basename(program) in {b"cc1", b"cc1plus"} for program in closure.programs):
        raise CompilerNotPackageable(f"{os.fsdecode(physical)} has neither cc1 nor cc1plus.")
    for name in (b"specs", b"liblto_plugin.so"):
        found = driver.file(name)
        if found is not None:
            into.add(found)
    install, directories = driver.search_directories()
    for option in driver.variants():
        directories += driver.search_directories(option)[1]
    if install is not None:
        for name in into.listing(install.rstrip(b"/")):
            if name.endswith((b".spec", b"specs")):
                into.add(install + b"/" + name)
    lines = driver.chatter(b"c")
    if any(os.path.basename(program) == b"cc1plus" for program in closure.programs):
        lines += driver.chatter(b"c++")
    for path in configuration_files(lines):
        into.add(path)
    return directories + header_directories(lines)


def _clang(closure: _Closure, physical: bytes) -> list[bytes]:
    """Add what clang needs; answers the directories that it looks at."""
    into, driver = closure.into, closure.driver
    closure.named(b"as")
    closure.named(b"objcopy")
    resources = driver.line(b"-print-resource-dir")
    lines = driver.chatter(b"c") + driver.chatter(b"c++")
    for path in configuration_files(lines):
        into.add(path)
    spelled = os.path.dirname(driver.executable)
    for directory in (os.path.dirname(physical), spelled, b"/etc/clang"):
        for name in into.listing(directory):
            if name.endswith(b".cfg"):
                into.add(directory + b"/" + name)
    for name in _RELEASES:
        into.add(b"/etc/" + name)
    into.add_all_in(resources + b"/share")
    prefixes = dict.fromkeys((os.path.dirname(os.path.dirname(physical)), spelled + b"/..", b"/usr"))
    for prefix in prefixes:
        _gcc_installations(into, prefix)
    _, directories = driver.search_directories()
    runtime = [resources + part for part in (b"", b"/lib", b"/lib/linux", b"/include")]
    versions = [prefix + b"/include/c++" for prefix in (*prefixes, b"/usr/local")]
    versions += [where + b"/" + name for where in versions for name in into.listing(where)]
    return [*directories, *runtime, *versions, b"/opt", *header_directories(lines)]


def _gcc_installations(into: Collector, prefix: bytes) -> None:
    """Add what clang's search for a gcc installation finds: it takes the newest that has a crtbegin.o.

    For ``-ffast-math`` it asks for a crtfastmath.o there.
    """
    for library in (b"/lib", b"/lib64", b"/lib32", b"/libx32"):
        for base in (prefix + library + b"/gcc", prefix + library + b"/gcc-cross"):
            for triple in into.listing(base):
                for version in into.listing(base + b"/" + triple):
                    for part in _PROBED_OBJECTS:
                        into.add(b"/".join((base, triple, version + part, b"crtbegin.o")))
                    into.add(b"/".join((base, triple, version, b"crtfastmath.o")))
