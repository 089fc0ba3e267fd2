"""The caller's environment: what a remote compiler must see of it, and what makes us stand aside.

A worker's compiler sees these variables and no others. ``PWD`` is not among them: the job's working
directory carries it.
"""

from __future__ import annotations

from collections.abc import Mapping

_NAMES = frozenset(
    (
        # what __DATE__ and __TIME__ say
        b"TZ",
        b"TZDIR",
        b"SOURCE_DATE_EPOCH",
        # the language and character set of diagnostics, and how they are painted and cut
        b"LANG",
        b"LANGUAGE",
        b"LOCPATH",
        b"GCC_COLORS",
        b"GCC_URLS",
        b"TERM_URLS",
        b"GCC_EXTRA_DIAGNOSTIC_OUTPUT",
        b"NO_COLOR",
        b"TERM",
        b"COLORTERM",
        b"COLUMNS",
        # where headers are searched
        b"CPATH",
        b"C_INCLUDE_PATH",
        b"CPLUS_INCLUDE_PATH",
        b"OBJC_INCLUDE_PATH",
        b"OBJCPLUS_INCLUDE_PATH",
        # whether clang reads configuration files that nobody named
        b"CLANG_NO_DEFAULT_CONFIG",
        # where the driver finds the assembler, and clang itself when it was called by a bare name
        b"PATH",
        # where the loader finds the compiler's libraries
        b"LD_LIBRARY_PATH",
        # what Apple's targets are compiled for
        b"MACOSX_DEPLOYMENT_TARGET",
        b"IPHONEOS_DEPLOYMENT_TARGET",
        b"TVOS_DEPLOYMENT_TARGET",
        b"WATCHOS_DEPLOYMENT_TARGET",
        b"SDKROOT",
    )
)

UNSUPPORTED = (
    b"DEPENDENCIES_OUTPUT",
    b"SUNPRO_DEPENDENCIES",
    b"COMPILER_PATH",
    b"GCC_EXEC_PREFIX",
    b"GCC_COMPARE_DEBUG",
    b"GCC_ROOT",
    b"CCC_OVERRIDE_OPTIONS",
    b"CCC_ADD_ARGS",
    b"QA_OVERRIDE_GCC3_OPTIONS",
    b"CC_PRINT_OPTIONS",
    b"CC_PRINT_HEADERS",
    b"CC_LOG_DIAGNOSTICS",
    b"CC_PRINT_PROC_STAT",
    b"CC_PRINT_INTERNAL_STAT",
    b"CLANG_CONFIG_FILE_SYSTEM_DIR",
    b"CLANG_CONFIG_FILE_USER_DIR",
    b"CLANG_SPAWN_CC1",
    b"RC_DEBUG_OPTIONS",
    b"GNUTARGET",
)
"""Variables that write files of their own, or change which programs run or how they are called."""

INCLUDE_PATHS = (
    b"CPATH",
    b"C_INCLUDE_PATH",
    b"CPLUS_INCLUDE_PATH",
    b"OBJC_INCLUDE_PATH",
    b"OBJCPLUS_INCLUDE_PATH",
)


def travels(name: bytes) -> bool:
    """Whether a variable leaves the client's machine."""
    return name in _NAMES or name.startswith(b"LC_")


def travelling(env: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """The part of an environment that a remote compiler sees, sorted by name."""
    return tuple(sorted((name, value) for name, value in env.items() if travels(name)))


def unsupported_variable(env: Mapping[bytes, bytes]) -> bytes | None:
    """The first variable on whose account a compilation is not taken over, or None."""
    for name in UNSUPPORTED:
        if name in env:
            return name
    return None


def zone_files(env: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """Where glibc looks for the time zone, which ``__TIMESTAMP__`` is told in."""
    zone = env.get(b"TZ")
    if zone is None:
        return (b"/etc/localtime",)
    directory = env.get(b"TZDIR") or b"/usr/share/zoneinfo"
    name = zone.removeprefix(b":") or b"Universal"
    return (name if name[:1] == b"/" else directory + b"/" + name, directory + b"/posixrules")


def include_directories(env: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """The directories that the environment adds to the search for headers; an empty element is the cwd."""
    found: list[bytes] = []
    for name in INCLUDE_PATHS:
        value = env.get(name)
        if value:
            found += [element or b"." for element in value.split(b":")]
    return tuple(found)
