"""Where a compiler looks for headers, and which paths a name in a source may stand for."""

from __future__ import annotations

from attrs import frozen

from sccache_twisted.compilers.scan import Directive, Operand, OperandKind

_QUOTE_START = b'#include "..." search starts here:'
_ANGLE_START = b"#include <...> search starts here:"
_END = b"End of search list."
_MISSING = b'ignoring nonexistent directory "'
_FRAMEWORK = b" (framework directory)"


@frozen
class SearchPath:
    """The directories for ``"…"`` alone, and those for ``<…>`` and then ``"…"`` too, as spelled, in order.

    ``missing_dirs`` would be among them if they existed.
    """

    quote_dirs: tuple[bytes, ...] = ()
    angle_dirs: tuple[bytes, ...] = ()
    missing_dirs: tuple[bytes, ...] = ()


def parse_search_path(verbose: bytes) -> SearchPath:
    """The search path in the standard error of ``cc -v -E … - < /dev/null``; empty if there is none.

    The sentences around it are translated: run the compiler under ``LC_ALL=C``.
    """
    quote_dirs: list[bytes] = []
    angle_dirs: list[bytes] = []
    missing: list[bytes] = []
    into: list[bytes] | None = None
    for line in verbose.splitlines():
        if line == _QUOTE_START:
            into = quote_dirs
        elif line == _ANGLE_START:
            into = angle_dirs
        elif line == _END:
            break
        elif line.startswith(_MISSING) and line.endswith(b'"'):
            missing.append(line[len(_MISSING) : -1])
        elif into is not None and line[:1] == b" " and not line.endswith(_FRAMEWORK):
            into.append(line[1:])
    return SearchPath(tuple(quote_dirs), tuple(angle_dirs), tuple(missing))


def join(directory: bytes, name: bytes) -> bytes:
    """A name below a directory, spelled as the compilers spell it; the empty directory is the cwd."""
    if not directory or name[:1] == b"/":
        return name
    return directory + name if directory[-1:] == b"/" else directory + b"/" + name


def candidates(operand: Operand, including_file_dir: bytes, search_path: SearchPath) -> tuple[bytes, ...]:
    """The paths that an operand may stand for, in the order in which they are tried; none for a computed one.

    ``including_file_dir`` is the directory of the file that holds the operand, as spelled (empty for one in
    the cwd). For ``…_next`` the search begins behind that directory, if it is on the path. The assembler
    looks in the cwd first, not beside the file; what ``#line`` names is only ever looked for in the cwd.
    """
    if operand.kind is OperandKind.COMPUTED:
        return ()
    name = operand.text
    if name[:1] == b"/" or operand.directive is Directive.LINE:
        return (name,)
    if operand.directive in {Directive.INCBIN, Directive.ASSEMBLER_INCLUDE}:
        directories = (b"", *search_path.quote_dirs, *search_path.angle_dirs)
    else:
        on_path = (*search_path.quote_dirs, *search_path.angle_dirs)
        if operand.directive in {Directive.HAS_INCLUDE_NEXT, Directive.INCLUDE_NEXT} and including_file_dir in on_path:
            directories = on_path[on_path.index(including_file_dir) + 1 :]
        elif operand.kind is OperandKind.ANGLE:
            directories = search_path.angle_dirs
        else:
            directories = (including_file_dir, *on_path)
    return tuple(dict.fromkeys(join(directory, name) for directory in directories))
