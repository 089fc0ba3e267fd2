"""All projects of the corpus, and each with each of its compilers."""

from corpus_inputs import INPUTS
from corpus_options import OPTIONS
from corpus_places import PLACES
from corpus_search import SEARCH
from project import Project

PROJECTS: tuple[Project, ...] = (*SEARCH, *INPUTS, *PLACES, *OPTIONS)
_LIGHT = (("gcc", "clang++"), ("clang", "g++"))


def _is_light(number: int, project: Project, compiler: str) -> bool:
    """Whether a case is one that every change must pass: the families and the languages take turns.

    How headers are found depends on both, the rest less so.
    """
    if number >= len(SEARCH):
        return compiler == project.by[number % len(project.by)]
    return len(project.by) <= len(_LIGHT) or compiler in _LIGHT[number % 2]


CASES: tuple[tuple[Project, str, bool], ...] = tuple(
    (project, compiler, _is_light(number, project, compiler))
    for number, project in enumerate(PROJECTS)
    for compiler in project.by
)
"""Each project with each of its compilers, and whether it is one of the cases that every change must pass."""

assert len({project.name for project in PROJECTS}) == len(PROJECTS)
