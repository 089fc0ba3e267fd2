r"""What the text of one source or header mentions that no dependency list tells.

A pure function of the bytes, to be remembered by their digest. It does not preprocess: it finds every
mention, also in comments, in strings and in code that is switched off. A mention too many costs one look
for a file; a mention overlooked could cost a wrong object.
"""

from __future__ import annotations

import re
from enum import Enum

from attrs import frozen


class OperandKind(Enum):
    """How a file is named."""

    QUOTED = "quoted"
    ANGLE = "angle"
    COMPUTED = "computed"
    """By a macro or an expression; ``text`` is what stands there."""


class Directive(Enum):
    """What names it."""

    HAS_INCLUDE = "__has_include"
    HAS_INCLUDE_NEXT = "__has_include_next"
    HAS_EMBED = "__has_embed"
    EMBED = "#embed"
    INCLUDE = "#include"
    INCLUDE_NEXT = "#include_next"
    INCBIN = ".incbin"
    ASSEMBLER_INCLUDE = ".include"
    DEPENDENCY = "#pragma GCC dependency"
    LINE = "#line"


@frozen
class Operand:
    """A file that is mentioned: by which directive, how, and under which name."""

    directive: Directive
    kind: OperandKind
    text: bytes


@frozen
class ScanResult:
    """All that one file mentions.

    ``probes``: operands of ``__has_include``, ``__has_include_next``, ``__has_embed``, ``#embed`` and of ``#pragma
    GCC dependency``. ``assembled``: operands of ``.incbin`` and ``.include``, in assembly or in a string of it.
    ``includes``: of ``#include``, ``#import`` and ``#include_next``. ``lines``: files that ``#line`` names: gcc shows
    what stands there in its diagnostics. ``wrappers``: names of macros that lead to ``__has_include`` or its kin; what
    they are called with elsewhere, :func:`wrapped_operands` tells. ``time_macros``: ``__DATE__``, ``__TIME__`` or
    ``__TIMESTAMP__`` is mentioned, which does not mean that it is expanded. ``once``: the file may ask to be included
    only once.
    """

    probes: tuple[Operand, ...] = ()
    assembled: tuple[Operand, ...] = ()
    includes: tuple[Operand, ...] = ()
    lines: tuple[Operand, ...] = ()
    wrappers: frozenset[bytes] = frozenset()
    time_macros: bool = False
    once: bool = False

    @property
    def tells_more(self) -> bool:
        """Whether files are mentioned other than to be included, or may be."""
        return bool(self.probes or self.assembled or self.lines or self.wrappers)


NOTHING = ScanResult()

_SPLICE = re.compile(rb"(?:\\|\?\?/)[ \t]*\r?\n")
_GAP = rb"(?:[ \t]|/\*(?:[^*]|\*(?!/))*\*/)*"
# What follows on the line; not consumed, since a line may mention several.
_REST = rb"(?=([^\r\n]{0,4096}))"
# All patterns begin with a literal, so that the search for it runs at memory speed.
_HAS = re.compile(rb"__has_(include_next|include|embed)(?:__)?" + _GAP + rb"\(" + _GAP + _REST)
_INCLUDE = re.compile(rb"include(_next)?" + _GAP + _REST)
_IMPORT = re.compile(rb"import()" + _GAP + _REST)
_EMBED = re.compile(rb"embed()" + _GAP + _REST)
_INCBIN = re.compile(rb"\.incbin((?:[ \t]|\\t)*)" + _REST)
_ASSEMBLER_INCLUDE = re.compile(rb"\.include((?:[ \t]|\\t)*)" + _REST)
_HASH = re.compile(rb"(?:^|[\r\n]|\*/)" + _GAP + rb"(?:#|%:|\?\?=)" + _GAP + rb"\Z")
_NAME = re.compile(rb"[A-Za-z_$][\w$]*")
_TIME = re.compile(rb"__(?:DATE|TIME|TIMESTAMP)__")
_ONCE = re.compile(rb'[pP]ragma[ \t]*(?:\([ \t]*")?[ \t]*once')
_LEADS = re.compile(rb"__has_(?:include_next|include|embed)(?:__)?(?![\w$])")
_DEFINES = re.compile(
    rb"[ \t]*(?:#|%:|\?\?=)" + _GAP + rb"define[ \t]+([A-Za-z_$][\w$]*)(?:\(([^()\r\n]*)\))?([^\r\n]*)"
)
_LINE = re.compile(rb'line[ \t]+(?:[\w$]+[ \t]+(?:"((?:[^"\\\r\n]|\\.)+)"|([A-Za-z_$][\w$]*)))')
_LINE_MARKER = re.compile(rb'#[ \t]*\d+[ \t]+"((?:[^"\\\r\n]|\\.)+)"')
_ESCAPED = re.compile(rb"\\(.)")
_MARK = re.compile(rb"\\.|'[^'\\]'")
"""What may hold a quotation mark that begins and ends no string."""
_DEPENDENCY = re.compile(rb"GCC[ \t]+dependency[ \t]+" + _REST)
_FURTHER = re.compile(rb'[,(][ \t]*(?:"([^"\r\n]+)"|<([^<>,()\r\n]+)>|([A-Za-z_$][\w$]*)[ \t]*(?=[,)]))')
_COMMENT = re.compile(rb"//[^\n]*|/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'", re.DOTALL)
_BLANKS = re.compile(rb"[ \t]+")
_STATEMENT_STARTS = (b'"', b";", b":", b"(", b"*/", b"\\n", b"\\t")
_OPERAND_STARTS = (b'"', b"\\", b"%", b"_", b"$")
_LOOK_BACK = 200


def _operand(directive: Directive, rest: bytes) -> Operand | None:
    """The operand at the start of the rest of a line; None where there is none at all."""
    first = rest[:1]
    if first == b'"':
        end = rest.find(b'"', 1)
        if end > 0:
            return Operand(directive, OperandKind.QUOTED, rest[1:end])
    elif first == b"<":
        end = rest.find(b">", 1)
        if end > 0:
            return Operand(directive, OperandKind.ANGLE, rest[1:end])
    name = _NAME.match(rest)
    if name is None:
        return None
    return Operand(directive, OperandKind.COMPUTED, name.group())


def _is_directive(data: bytes, start: int) -> bool:
    """Whether a ``#`` that begins a line stands before this place."""
    before = data[max(0, start - _LOOK_BACK) : start].rstrip(b" \t")
    if before.endswith(b"#"):
        before = before[:-1].rstrip(b" \t")
        if not before or before.endswith(b"\n"):
            return True
        before += b"#"
    elif not before.endswith((b"%:", b"??=", b"*/")):
        return False
    return _HASH.search(before) is not None


def _directives(data: bytes, pattern: re.Pattern[bytes], directive: Directive, following: Directive) -> list[Operand]:
    found: list[Operand] = []
    for match in pattern.finditer(data):
        if _is_directive(data, match.start()):
            operand = _operand(following if match.group(1) else directive, match.group(2))
            if operand is not None:
                found.append(operand)
    return found


def _line_before(data: bytes, start: int) -> bytes:
    """The line up to a place, without blanks around it."""
    return data[data.rfind(b"\n", 0, start) + 1 : start].strip()


def _assembled(data: bytes, pattern: re.Pattern[bytes], directive: Directive) -> list[Operand]:
    found: list[Operand] = []
    for match in pattern.finditer(data):
        before = _line_before(data, match.start())
        if before and not before.endswith(_STATEMENT_STARTS):
            continue
        rest = match.group(2)
        in_string = rest.startswith(b'\\"')
        if in_string or rest.startswith(b'"'):
            mark = b'\\"' if in_string else b'"'
            text, end, _ = rest[len(mark) :].partition(mark)
            # A plain mark behind an odd number of others ends the string that the directive stands in.
            closes = not in_string and _MARK.sub(b"", before).count(b'"') % 2 == 1
            if end and text and b'"' not in text and b"\\" not in text and not closes:
                found.append(Operand(directive, OperandKind.QUOTED, text))
                continue
        if rest[:1] in _OPERAND_STARTS or rest[:1].isalpha():
            found.append(Operand(directive, OperandKind.COMPUTED, rest.strip()))
    return found


def _defined(line: bytes) -> tuple[bytes, tuple[bytes, ...], bytes] | None:
    """The name, parameters and replacement of the macro that a line defines, if it does."""
    match = _DEFINES.match(line)
    if match is None:
        return None
    name, given, replacement = match.groups()
    parameters = [parameter.strip() for parameter in (given or b"").split(b",")]
    return name, tuple(b"__VA_ARGS__" if each == b"..." else each for each in parameters if each), replacement


def _line_around(data: bytes, place: int) -> bytes:
    end = data.find(b"\n", place)
    return data[data.rfind(b"\n", 0, place) + 1 : end if end >= 0 else len(data)]


def _probes(data: bytes) -> tuple[list[Operand], frozenset[bytes]]:
    """The operands of ``__has_…`` on the lines of directives, and the macros that stand for it."""
    found: list[Operand] = []
    wrappers: set[bytes] = set()
    parameters: set[bytes] = set()
    for match in _LEADS.finditer(data):
        defined = _defined(_line_around(data, match.start()))
        if defined is None or defined[0] == match.group():
            continue
        name, given, replacement = defined
        for use in _LEADS.finditer(replacement):
            opened = _HAS.match(replacement, use.start())
            operand = _NAME.match(opened.group(2)) if opened is not None else None
            if opened is None or (operand is not None and operand.group() in given):
                wrappers.add(name)
                parameters.update(given)
    for match in _HAS.finditer(data):
        before = _line_before(data, match.start())
        # What a comment has pushed from its directive's line counts as well.
        if not any(sign in before for sign in (b"#", b"%:", b"??=", b"*/")) or before.endswith(b"define"):
            continue
        operand_found = _operand(Directive(f"__has_{match.group(1).decode()}"), match.group(2))
        if operand_found is not None:
            found.append(operand_found)
    return [
        operand for operand in found if operand.kind is not OperandKind.COMPUTED or operand.text not in parameters
    ], frozenset(wrappers)


def _named_lines(data: bytes) -> list[Operand]:
    """The files that ``#line`` and line markers name."""
    names: dict[bytes, OperandKind] = {}
    for match in _LINE.finditer(data) if b"line" in data else ():
        if _is_directive(data, match.start()):
            if match.group(1):
                names[match.group(1)] = OperandKind.QUOTED
            else:
                names[match.group(2)] = OperandKind.COMPUTED
    for match in _LINE_MARKER.finditer(data):
        if not _line_before(data, match.start()):
            names[match.group(1)] = OperandKind.QUOTED
    return [
        Operand(Directive.LINE, kind, _ESCAPED.sub(rb"\1", name)) for name, kind in names.items() if name[:1] != b"<"
    ]


def _dependencies(data: bytes) -> list[Operand]:
    """The operands of ``#pragma GCC dependency``, also in a string of ``_Pragma``."""
    rests = (match.group(1).replace(b'\\"', b'"') for match in _DEPENDENCY.finditer(data))
    return [operand for rest in rests if (operand := _operand(Directive.DEPENDENCY, rest)) is not None]


def _spliced(data: bytes) -> bytes:
    """The text with its lines put together where they are continued."""
    if b"\\\n" in data or (b"\r\n" in data and b"\\\r\n" in data) or b"??/" in data:
        return _SPLICE.sub(b"", data)
    return data


def scan(data: bytes) -> ScanResult:
    """Everything that a source or header mentions; a few milliseconds for a megabyte."""
    data = _spliced(data)
    probes: list[Operand] = []
    wrappers: frozenset[bytes] = frozenset()
    if b"__has_" in data:
        probes, wrappers = _probes(data)
    if b"embed" in data:
        probes += _directives(data, _EMBED, Directive.EMBED, Directive.EMBED)
    if b"dependency" in data:
        probes += _dependencies(data)
    assembled: list[Operand] = []
    if b".inc" in data:
        assembled += _assembled(data, _INCBIN, Directive.INCBIN)
        assembled += _assembled(data, _ASSEMBLER_INCLUDE, Directive.ASSEMBLER_INCLUDE)
    includes: list[Operand] = []
    if b"include" in data:
        includes += _directives(data, _INCLUDE, Directive.INCLUDE, Directive.INCLUDE_NEXT)
    if b"import" in data:
        includes += _directives(data, _IMPORT, Directive.INCLUDE, Directive.INCLUDE)
    lines = _named_lines(data) if b"#" in data or b"%:" in data or b"??=" in data else []
    time_macros = (b"__DATE" in data or b"__TIME" in data) and _TIME.search(data) is not None
    once = b"once" in data and _ONCE.search(data) is not None
    if not (probes or assembled or includes or lines or wrappers or time_macros or once):
        return NOTHING
    return ScanResult(
        tuple(dict.fromkeys(probes)),
        tuple(dict.fromkeys(assembled)),
        tuple(dict.fromkeys(includes)),
        tuple(lines),
        wrappers,
        time_macros,
        once,
    )


def without_comments(data: bytes) -> bytes:
    """The text without comments and repeated blanks, its lines kept: about what a compiler without columns sees."""
    return _BLANKS.sub(b" ", _COMMENT.sub(_blank_of, data))


def _blank_of(found: re.Match[bytes]) -> bytes:
    kept: bytes = found.group()
    return b" " + b"\n" * kept.count(b"\n") if kept[:1] == b"/" else kept


def wrapped_operands(data: bytes, wrappers: frozenset[bytes]) -> tuple[tuple[Operand, ...], frozenset[bytes]]:
    """What the macros of :attr:`ScanResult.wrappers`, of this or another file, are called with in this one.

    And which macros of this one stand for them in turn.
    """
    found: list[Operand] = []
    further: set[bytes] = set()
    data = _spliced(data)
    for name in sorted(wrappers):
        if name not in data:
            continue
        for match in re.finditer(rb"(?<![\w$])" + re.escape(name) + rb"(?![\w$])" + _REST, data):
            line = _line_around(data, match.start())
            defined = _defined(line)
            if defined is not None:
                if defined[0] not in wrappers:
                    further.add(defined[0])
                continue
            rest = match.group(1).lstrip(b" \t")
            if not rest.startswith(b"("):
                continue
            for quoted, angle, computed in _FURTHER.findall(rest):
                kind = OperandKind.QUOTED if quoted else OperandKind.ANGLE if angle else OperandKind.COMPUTED
                found.append(Operand(Directive.HAS_INCLUDE, kind, quoted or angle or computed))
    return tuple(dict.fromkeys(found)), frozenset(further)
