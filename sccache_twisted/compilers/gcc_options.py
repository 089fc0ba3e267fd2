"""gcc's own options, over the common ones."""

from __future__ import annotations

from sccache_twisted.compilers.common_options import COMMON, EITHER, JOINED, SEPARATE, UNSUPPORTED
from sccache_twisted.compilers.options import Effect, OptionTable, rows

_LONG_FORMS = (
    (b"--debug=", b"-g"),
    (b"--machine-", b"-m"),
    (b"--machine=", b"-m"),
    (b"--optimize=", b"-O"),
    (b"--std=", b"-std="),
    (b"--warn-", b"-W"),
    (b"--", b"-f"),
)
"""What gcc makes of a long option that it does not know, so that ``--stack-usage`` is ``-fstack-usage``."""

GCC = OptionTable(
    (
        *COMMON,
        *rows("--completion= -fhelp=", JOINED, Effect.NOT_COMPILATION, "query"),
        *rows("-fhelp -ftarget-help -fversion", effect=Effect.NOT_COMPILATION, detail="query"),
        *rows("--machine", SEPARATE, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-h -R", EITHER, Effect.LINKER),
        # Names of files to write, by another name than the object's.
        *rows("-dumpbase -dumpbase-ext -dumpdir", SEPARATE, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("--dumpbase --dumpbase-ext --dumpdir", SEPARATE, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("--dump", SEPARATE, Effect.DUMPS, listing=False),
        *rows("-d --dump=", JOINED, Effect.DUMPS, listing=False),
        *rows("-aux-info", SEPARATE, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-aux-info= -fdump- -fopt-info- -fcompare-debug=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-fcompare-debug -fcompare-debug-second -fopt-info", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
        *rows("-Q -fmem-report -fprofile-report -frepo -fstats", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
        *rows(
            "-fmem-report-wpa -fpre-ipa-mem-report -fpost-ipa-mem-report",
            effect=Effect.NOT_CACHEABLE,
            detail=UNSUPPORTED,
        ),
        *rows("-ftime-report-details", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
        *rows("-fdiagnostics-format=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-fdiagnostics-format=text -fdiagnostics-format=json -fdiagnostics-format=json-stderr"),
        *rows("-fdiagnostics-format=sarif-stderr"),
        *rows("-fdiagnostics-add-output= -fdiagnostics-set-output=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-fself-test= -fdbg-cnt=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("--output-pch --output-pch=", SEPARATE, Effect.NOT_CACHEABLE, "precompiled_header"),
        *rows("-wrapper -V -b", SEPARATE, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-specs= --specs=", JOINED, Effect.SEARCHED_INPUT),
        *rows("-specs --specs", SEPARATE, Effect.SEARCHED_INPUT),
        *rows("-remap", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),  # reads header.gcc wherever it looks
        *rows("-J -Xf -Hd -Hf -fintrinsic-modules-path", SEPARATE, Effect.NOT_CACHEABLE, "unsupported_source_language"),
        *rows("-imultiarch -imultilib -gnatO -G", SEPARATE),
        *rows("-iplugindir", SEPARATE, Effect.LOCAL, "compiler_plugin"),
        *rows("-iplugindir=", JOINED, Effect.LOCAL, "compiler_plugin"),
        *rows("-fcallgraph-info", effect=Effect.CALLGRAPH, listing=False),
        *rows("-fcallgraph-info=", JOINED, Effect.CALLGRAPH, listing=False),
        *rows("-fprofile-note=", JOINED, Effect.COVERAGE_NOTES, listing=False),
        *rows("-fprofile-dir=", JOINED, Effect.PROFILE_DIRECTORY),
        *rows("-fbranch-probabilities -fauto-profile", effect=Effect.PROFILE),
        *rows("-fauto-profile=", JOINED, Effect.PROFILE),
        *rows("-frandomize-layout-seed-file=", JOINED, Effect.HIDDEN_INPUT),
    ),
    _LONG_FORMS,
)
