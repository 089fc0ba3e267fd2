"""One command line as a value: its words, the files around it, and what is expected of it.

Every case has the same few sources and headers around it, and what it adds. What is expected stands beside the words:
the decision, its reason, every file that appears, the exit status.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import field, frozen
from exact.project import Content, Project

NO_COMPILATION = "no compilation"
LOCAL = "local"
CACHED = "cached"
DISTRIBUTED = "cached and distributed"
DECISIONS = (NO_COMPILATION, LOCAL, CACHED, DISTRIBUTED)

_C = '#include "v.h"\nint v = V;\nint f(int x) { return x * v; }\n'
FILES: Mapping[str, Content] = {
    "a.c": _C.replace('"v.h"', '"inc/v.h"'),
    "inc/v.h": "#pragma once\n#define V 1\n",
    "a.cc": '#include "inc/v.h"\ntemplate <class T> T g(T x) { return x + V; }\nint h(int x) { return g(x); }\n',
    "a.m": '#include "inc/v.h"\nint m = V;\n',
    "a.i": '# 1 "a.c"\nint v = 2;\n',
    "a.ii": '# 1 "a.cc"\nint w = sizeof(bool);\n',
    "a.s": ".text\n.globl f\nf: ret\n",
    "a.S": '#include "inc/v.h"\n.text\n.globl f\nf: mov $V, %eax\nret\n',
    "w.c": "int f(void) { int unused; return 0; }\n",
    "bad.c": "int v = ;\n",
}
"""What every case finds in its directory: sources of each language, one with a warning, one with an error."""


@frozen
class Case:
    """One command line.

    ``line`` is split at blanks unless it is a sequence; ``{site}`` in it, in ``env`` and in ``pwd`` is the case's own
    directory. ``outputs`` are the names of all files that appear, at blanks; a zero byte in a name is a blank.
    ``reason`` is the word of a decision that is not DISTRIBUTED. ``row`` names the row of the table of options that it
    is an example of: ``name+`` where the option is taken over, ``name-`` where it is not or where the rule must not
    apply. ``before`` is what the shell does that then becomes the command. ``hit``: ``direct``, or ``listed there``
    where the list of headers has to be made again and only a worker's result is kept, or empty where nothing may be
    kept. ``varies`` names the masks of what two runs of one compiler write differently.
    """

    name: str
    line: str | Sequence[str | bytes]
    outputs: str = "a.o"
    decision: str = DISTRIBUTED
    reason: str = ""
    row: str = ""
    files: Mapping[str, Content] = field(factory=dict, repr=False)
    status: int = 0
    env: Mapping[str, str | bytes | None] = field(factory=dict)
    cwd: str = "."
    pwd: str | bytes | None = "{site}"
    prepared: tuple[str, ...] = ()
    umask: int = 0o022
    before: str = ""
    hit: str = "direct"
    varies: tuple[str, ...] = ()

    @property
    def written(self) -> set[str]:
        """The names of the files that appear."""
        return {name.replace("\0", " ") for name in self.outputs.split()}

    @property
    def makes_an_object(self) -> bool:
        """Whether an object is among them."""
        return self.status == 0 and any(name.endswith((".o", ".obj", ".lo")) for name in self.written)

    def words(self, site: Path) -> list[bytes]:
        """The command line."""
        return self._project.words("", site)

    def environment(self, site: Path) -> dict[bytes, bytes]:
        """The whole environment, PWD included."""
        return self._project.environment("", site)

    def lay_out(self, site: Path) -> None:
        """Fill an empty directory."""
        self._project.lay_out(site, "")

    @property
    def _project(self) -> Project:
        files = {**FILES, **self.files}
        return Project(self.name, files, self.line, env=self.env, pwd=self.pwd, cwd=self.cwd, prepared=self.prepared)
