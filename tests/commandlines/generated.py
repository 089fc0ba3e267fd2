"""Command lines made of the tables' own options: what nobody thought of writing down.

Options are drawn from the tables of ``compilers/``, with values that fit most of them, in any order and number.
Nothing is expected but that a command behind us is the command alone.
"""

from attrs import frozen
from commandline import Case
from exact.project import Folder
from hypothesis import strategies as st

from sccache_twisted.compilers.commandline import TABLES
from sccache_twisted.compilers.options import Arity, Effect, Option
from sccache_twisted.model import CompilerFamily

_VALUES: dict[bytes, tuple[str, ...]] = {
    b"-o": ("a.o", "d/x.o", "odd$name.o", "noext"),
    b"--output": ("a.o", "d/x.o"),
    b"--output=": ("a.o", "d/x.o"),
    b"-x": ("c", "c++", "none", "assembler-with-cpp"),
    b"--language": ("c", "c++"),
    b"--language=": ("c", "c++"),
    b"-march=": ("native", "x86-64", "haswell"),
    b"-mtune=": ("native", "generic"),
    b"-mcpu=": ("native",),
    b"--param": ("inline-unit-growth=20",),
    b"--param=": ("inline-unit-growth=20",),
    b"-mllvm": ("-inline-threshold=3",),
    b"-Wa,": ("--noexecstack", "-Iinc", "-adhln=l.lst", "-gdwarf-4"),
    b"-Wp,": ("-DW=1", "-MD,wp.d", "-MMD,wp.d", "-UX"),
    b"-Wl,": ("-O1",),
    b"-Xclang": ("-disable-O0-optnone", "-Wall"),
    b"-Xpreprocessor": ("-DP",),
    b"-Xassembler": ("--noexecstack",),
    b"-MF": ("x.d", "d/x.d"),
    b"-MT": ("target", "t$"),
    b"-MQ": ("target", "t$"),
    b"-D": ("M", "M=1", "V2=x"),
    b"-U": ("M", "__linux__"),
    b"-include": ("inc/v.h",),
    b"-imacros": ("inc/v.h",),
    b"-g": ("", "0", "1", "3", "dwarf-4", "gdb3", "z"),
    b"-gsplit-dwarf=": ("split", "single"),
    b"-flto=": ("auto", "thin"),
    b"-fprofile-use=": ("p.gcda",),
    b"-Werror=": ("unused-variable", "format"),
    b"-target": ("x86_64-linux-gnu", "aarch64-linux-gnu"),
    b"-l": ("m",),
    b"-T": ("s.ld",),
    b"-fcallgraph-info=": ("su", "da"),
    b"--serialize-diagnostics": ("s.dia",),
    b"-serialize-diagnostics": ("d/s.dia",),
    b"-ffile-prefix-map=": ("{site}=/m",),
    b"-fprofile-note=": ("n.gcno",),
}
_DIRECTORIES = ("inc", ".", "d", "none", "{site}/inc")
_MANY = """
    -O0 -O1 -O2 -Os -fPIC -Wall -Wextra -std=gnu11 -pthread -pipe -w -fno-common -ffunction-sections
    -fvisibility=hidden -fno-exceptions -funwind-tables -fstack-protector-strong -fdebug-prefix-map={site}=/m
    -fmacro-prefix-map={site}=. -frecord-gcc-switches -gz -m32 -fsanitize=undefined -fopenmp -fverbose-asm
    -frandom-seed=1 -fdiagnostics-color=always
"""
_PLAIN = tuple(_MANY.split())
_SOURCES = {
    "gcc": ("a.c", "a.c", "a.c", "a.i", "a.s", "a.S", "w.c", "bad.c", "{site}/a.c"),
    "g++": ("a.cc", "a.cc", "a.ii", "a.c", "w.c"),
    "clang": ("a.c", "a.c", "a.c", "a.i", "a.s", "a.S", "a.m", "w.c", "bad.c"),
    "clang++": ("a.cc", "a.cc", "a.ii", "w.c"),
}
# Others tell how they work, with names and times that are random; or ask for files that are random in themselves.
_NOT_DRAWN = {Effect.NOT_COMPILATION, Effect.NOT_CACHEABLE, Effect.END_OF_OPTIONS, Effect.LANGUAGE}
_RARE = {Effect.LOCAL, Effect.PROFILE, Effect.HIDDEN_INPUT, Effect.SEARCHED_INPUT, Effect.MACHINE}
_FOLDERS = {"d": Folder(), "h.txt": "fun:f\n", "f.specs": "*cpp:\n+ -DSPECS\n\n", "f.cfg": "-DCONFIG\n"}
_RANDOM = ("-flto", "--coverage", "-coverage", "-ftest-coverage", "-fprofile")
_MASKS = ("dwo id", "coverage stamp", "lto seed", "temporary name")


@frozen
class Line:
    """A command line that was drawn."""

    words: tuple[str, ...]

    def case(self, name: str) -> Case:
        """As a case of its own."""
        words = self.words
        if any(word.startswith(_RANDOM) for word in words):
            # What is random in their results lies too deep to be masked, where several of them come together.
            words = (*words, "-frandom-seed=7")
        return Case(name, words, files=_FOLDERS, varies=_MASKS)


def _value(option: Option) -> st.SearchStrategy[str]:
    given = _VALUES.get(option.spelling)
    if given is not None:
        return st.sampled_from(given)
    if option.effect in {Effect.DIRECTORY, Effect.SYSROOT_DIRECTORY, Effect.PREFIXED_DIRECTORY}:
        return st.sampled_from(_DIRECTORIES)
    if option.effect is Effect.HIDDEN_INPUT:
        return st.sampled_from(("h.txt", "none.txt"))
    if option.effect is Effect.SEARCHED_INPUT:
        return st.sampled_from(("./f.specs", "./f.cfg"))
    return st.sampled_from(("1", "x", "d"))


def _spelled(option: Option) -> st.SearchStrategy[tuple[str, ...]]:
    name = option.spelling.decode()
    if option.arity is Arity.FLAG:
        return st.just((name,))
    joined = _value(option).map(lambda value: (name + value,))
    separate = _value(option).map(lambda value: (name, value))
    if option.arity is Arity.JOINED:
        return joined
    return separate if option.arity is Arity.SEPARATE else st.one_of(joined, separate)


def _options(family: CompilerFamily) -> st.SearchStrategy[tuple[str, ...]]:
    drawn = [option for option in TABLES[family].options() if option.effect not in _NOT_DRAWN]
    common = [option for option in drawn if option.effect not in _RARE and option.effect is not Effect.KEY]
    return st.one_of(
        st.sampled_from(_PLAIN).map(lambda word: (word,)),
        st.sampled_from(common).flatmap(_spelled),
        st.sampled_from(drawn).flatmap(_spelled),
    )


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """A compiler, its mode, one source, and up to seven options."""
    program = draw(st.sampled_from(tuple(_SOURCES)))
    family = CompilerFamily.CLANG if program.startswith("clang") else CompilerFamily.GCC
    mode = draw(st.sampled_from(("-c", "-c", "-c", "-S")))
    source = draw(st.sampled_from(_SOURCES[program]))
    parts = draw(st.permutations([(mode,), (source,), *draw(st.lists(_options(family), max_size=7))]))
    return Line((program, *(word for part in parts for word in part)))
