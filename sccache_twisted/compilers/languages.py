"""The languages of sources: by ``-x``, by suffix, and by the name the compiler was called by."""

from __future__ import annotations

HEADER = "header"
"""Stands for a header to be precompiled, of whichever language."""

_SUFFIXES: dict[bytes, str] = {
    b"c": "c",
    b"i": "cpp-output",
    b"s": "assembler",
    b"S": "assembler-with-cpp",
    b"sx": "assembler-with-cpp",
    b"m": "objective-c",
    b"mi": "objective-c-cpp-output",
    b"mm": "objective-c++",
    b"M": "objective-c++",
    b"mii": "objective-c++-cpp-output",
    b"ii": "c++-cpp-output",
    **dict.fromkeys((b"cc", b"cp", b"cxx", b"cpp", b"CPP", b"c++", b"C"), "c++"),
    **dict.fromkeys((b"h", b"hh", b"H", b"hp", b"hxx", b"hpp", b"HPP", b"h++", b"tcc"), HEADER),
    **dict.fromkeys((b"f", b"for", b"ftn", b"F", b"FOR", b"fpp", b"FPP", b"FTN"), "f77"),
    **dict.fromkeys((b"f90", b"f95", b"f03", b"f08", b"F90", b"F95", b"F03", b"F08"), "f95"),
    **dict.fromkeys((b"ads", b"adb"), "ada"),
    **dict.fromkeys((b"d", b"di", b"dd"), "d"),
    **dict.fromkeys((b"cu", b"cui", b"hip"), "cuda"),
    **dict.fromkeys((b"cppm", b"ccm", b"cxxm", b"c++m", b"ixx", b"pcm", b"iim"), "c++-module"),
    **dict.fromkeys((b"go", b"mod", b"brig", b"cl", b"clcpp", b"ll", b"bc", b"rs", b"lds"), "other"),
}

_BY_NAME: dict[bytes, str] = {
    **{
        name.encode(): name
        for name in (
            "c",
            "c++",
            "objective-c",
            "objective-c++",
            "cpp-output",
            "c++-cpp-output",
            "objective-c-cpp-output",
            "objective-c++-cpp-output",
            "assembler",
            "assembler-with-cpp",
        )
    },
    b"objc-cpp-output": "objective-c-cpp-output",
    b"objc++-cpp-output": "objective-c++-cpp-output",
    **dict.fromkeys((b"c-header", b"c++-header", b"objective-c-header", b"objective-c++-header"), HEADER),
    **dict.fromkeys((b"c++-system-header", b"c++-user-header"), HEADER),
}

_AS_CPLUSPLUS = {"c": "c++", "cpp-output": "c++-cpp-output"}

COMPILED = frozenset(_BY_NAME.values()) - {HEADER}
"""What we take over."""

PREPROCESSED = frozenset(name for name in COMPILED if name.endswith("cpp-output")) | {"assembler"}
"""Languages whose sources see no preprocessor, so that there is nothing to list and no depfile."""

ASSEMBLER = frozenset(("assembler", "assembler-with-cpp"))


def language_of(source: bytes, chosen: bytes | None, *, cplusplus: bool) -> str | None:
    """The language of one input; None for an input that only the linker would look at.

    ``chosen`` is the argument of the last ``-x`` before it (None: none, or ``-x none``). ``cplusplus``: the
    compiler was called by a C++ name, which makes C++ of ``.c`` and ``.i`` files but of nothing that ``-x`` names.
    """
    if chosen is not None:
        return _BY_NAME.get(chosen, "other")
    language = _SUFFIXES.get(source[source.rfind(b".") + 1 :]) if b"." in source[source.rfind(b"/") + 1 :] else None
    return _AS_CPLUSPLUS.get(language, language) if cplusplus and language is not None else language
