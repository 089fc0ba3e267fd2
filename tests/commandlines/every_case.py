"""All cases, from their tables."""

from cases_bad import BAD
from cases_builds import BUILDS
from cases_builds_others import OTHER_BUILDS
from cases_rows_debug import DEBUG
from cases_rows_inputs import INPUTS
from cases_rows_outputs import OUTPUTS
from cases_rows_words import WORDS
from commandline import Case

CASES: tuple[Case, ...] = (*OUTPUTS, *DEBUG, *INPUTS, *WORDS, *BUILDS, *OTHER_BUILDS, *BAD)

assert len({case.name for case in CASES}) == len(CASES)

_ROWS = """
    link query stdin no-o odd-output sources response language preprocessed assembler incbin depfile
    depfile-none MJ M-other dependencies-env Wp Xpreprocessor Wa Wl g working-directory split map record
    coverage profile-generate profile-use lto thinlto-index dumps stack-usage serialize index-store Xclang
    plugin specs config sysroot search include define standard pch pch-make modules module-files modules-ts
    overlay native seed hidden colour message-length warnings Werror charset directives-only fpreprocessed
    time file has-include syntax-only analyze ast arch target cuda pipe P parameters linker-plugin repo
    env-paths env-compiler env-time env-language env-overrides env-directories umask names long wrapper
"""
ROWS = frozenset(_ROWS.split())
"""Every row of the table of options that need care, by a word. What is no command line is tested by itself: sources
that change meanwhile, and interrupted calls.
"""
