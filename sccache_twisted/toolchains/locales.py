"""Which files a program reads for the locale in force: its data, its converters, its message catalogues.

The names are built as glibc's setlocale and gettext build them. C.UTF-8's data is always among them, being
small, so that builds which switch between C and C.UTF-8 share one toolchain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sccache_twisted.toolchains.tree import Collector

CATALOGUES = re.compile(rb"(?:(?:gcc|cpplib)(?:-[0-9.]+)?|gas|bfd|opcodes|binutils|gettext-runtime|libc)\.mo\Z")
"""The message domains of the programs in a toolchain."""

LOCALE_VARIABLES = (
    b"LC_ALL",
    b"LANG",
    b"LANGUAGE",
    b"LC_CTYPE",
    b"LC_MESSAGES",
    b"LC_COLLATE",
    b"LC_NUMERIC",
    b"LOCPATH",
)
"""The environment variables that decide which files are read."""

_NAME = re.compile(rb"([A-Za-z]+)(_[A-Za-z0-9]+)?(\.[A-Za-z0-9_-]+)?(@[A-Za-z0-9_-]+)?\Z")
_BUILT_IN = {b"", b"C", b"POSIX"}
_GCONV = (
    b"/usr/lib/x86_64-linux-gnu/gconv",
    b"/usr/lib/aarch64-linux-gnu/gconv",
    b"/usr/lib64/gconv",
    b"/usr/lib/gconv",
)


def add_locale(into: Collector, env: Mapping[bytes, bytes], libc_directory: bytes, share: list[bytes]) -> None:
    """Add the locale in force: data, converters below ``libc_directory``, catalogues below each of ``share``."""
    names = _in_force(env)
    roots = [part for part in env.get(b"LOCPATH", b"").split(b":") if part.startswith(b"/")] + [b"/usr/lib/locale"]
    for root in roots:
        for spelled in (b"C.utf8", b"C.UTF-8"):
            into.add_all_in(root + b"/" + spelled)
        for name in names:
            for spelled in _spellings(name):
                into.add_all_in(root + b"/" + spelled)
    _add_archive(into, names)
    into.add(b"/usr/share/locale/locale.alias")
    for gconv in dict.fromkeys((libc_directory + b"/gconv", *_GCONV)):
        into.add_all_in(gconv)
    languages = [name for name in env.get(b"LANGUAGE", b"").split(b":") if name not in _BUILT_IN] + names
    for directory in dict.fromkeys(share):
        for language in languages:
            for spelled in _spellings(language):
                _add_catalogues(into, directory + b"/" + spelled + b"/LC_MESSAGES")


def _in_force(env: Mapping[bytes, bytes]) -> list[bytes]:
    overriding = env.get(b"LC_ALL", b"")
    values = [overriding] if overriding else [value for key, value in sorted(env.items()) if key.startswith(b"LC_")]
    values += [] if overriding else [env.get(b"LANG", b"")]
    return [value for value in dict.fromkeys(values) if value not in _BUILT_IN and b"/" not in value]


def _spellings(name: bytes) -> list[bytes]:
    """Every directory name under which a locale's files may lie, the most exact first."""
    match = _NAME.match(name)
    if match is None:
        return []
    language, territory, codeset, modifier = (part or b"" for part in match.groups())
    plain = re.sub(rb"[^a-z0-9]", b"", codeset.lower())
    codesets = [codeset, b"." + (b"iso" + plain if plain.isdigit() else plain)] if codeset else []
    found = [
        language + place + code + suffix
        for suffix in (modifier, b"")
        for place in (territory, b"")
        for code in (*codesets, b"")
    ]
    return [spelled for spelled in dict.fromkeys(found) if spelled not in _BUILT_IN]


def _add_archive(into: Collector, names: list[bytes]) -> None:
    """The archive holds all locales of the machine, perhaps 200 MB of them: only if it has one that is in force."""
    wanted = {spelled for name in names if not name.startswith(b"C.") for spelled in _spellings(name)}
    if not wanted:
        return
    archive = b"/usr/lib/locale/locale-archive"
    try:
        with open(archive, "rb") as stream:
            content = stream.read()
    except OSError:
        into.watch(archive)
        return
    if any(b"\0" + spelled + b"\0" in content for spelled in wanted):
        into.add(archive)
    else:
        into.watch(archive)


def _add_catalogues(into: Collector, directory: bytes) -> None:
    for name in into.listing(directory):
        if CATALOGUES.match(name):
            into.add(directory + b"/" + name)
