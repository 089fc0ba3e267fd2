"""clang's own options, over the common ones, and which arguments its compiler proper may be passed."""

from __future__ import annotations

from sccache_twisted.compilers.common_options import COMMON, EITHER, JOINED, SEPARATE, UNSUPPORTED
from sccache_twisted.compilers.options import Effect, OptionTable, rows

CLANG = OptionTable(
    (
        *COMMON,
        *rows("--", effect=Effect.END_OF_OPTIONS),
        *rows("-R --entry", JOINED, Effect.LINKER),
        *rows("-help --help-hidden -cc1 -cc1as -cc1gen-reproducer", effect=Effect.NOT_COMPILATION, detail="query"),
        *rows("--autocomplete=", JOINED, Effect.NOT_COMPILATION, "query"),
        *rows("-ccc-print-phases -ccc-print-bindings", effect=Effect.NOT_COMPILATION, detail="query"),
        *rows(
            "--precompile -emit-ast --analyze -emit-interface-stubs", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED
        ),
        *rows("-rewrite-objc -rewrite-legacy-objc -verify-pch", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
        *rows("-emit-llvm", effect=Effect.BITCODE, listing=False),
        *rows("-gsplit-dwarf=", JOINED, Effect.SPLIT_DWARF, listing=False),
        *rows("-serialize-diagnostics --serialize-diagnostics", SEPARATE, Effect.DIAGNOSTICS, listing=False),
        *rows("-Xclang", SEPARATE, Effect.FRONTEND_ARGUMENT),
        *rows("-Xclang=", JOINED, Effect.FRONTEND_ARGUMENT),
        *rows("-mllvm -mthread-model -meabi -target -G -Xanalyzer -Xcuda-ptxas -Xcuda-fatbinary", SEPARATE),
        *rows("-Xopenmp-target -mmlir -fmodules-user-build-path", SEPARATE),
        *rows("-Xopenmp-target=", SEPARATE),
        *rows("-resource-dir", SEPARATE, Effect.LOCAL, "toolchain_option"),
        *rows("-resource-dir=", JOINED, Effect.LOCAL, "toolchain_option"),
        *rows("--driver-mode=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-ccc-install-dir -ccc-gcc-name -b -gcc-toolchain", SEPARATE, Effect.LOCAL, "toolchain_option"),
        *rows("-cxx-isystem -c-isystem", EITHER, Effect.DIRECTORY),
        *rows("-isystem-after -stdlib++-isystem -internal-isystem", EITHER, Effect.DIRECTORY),
        *rows("-iwithsysroot -iframeworkwithsysroot", EITHER, Effect.SYSROOT_DIRECTORY),
        *rows("-include-pch", SEPARATE, Effect.LOCAL, "precompiled_header_use"),
        *rows("--config", SEPARATE, Effect.SEARCHED_INPUT),
        *rows("--config=", JOINED, Effect.SEARCHED_INPUT),
        *rows("--config-system-dir= --config-user-dir=", JOINED, Effect.LOCAL, "toolchain_option"),
        *rows("-ivfsoverlay -ivfsstatcache", EITHER, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-working-directory", EITHER, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-working-directory=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-arch -Xarch_host -Xarch_device", SEPARATE, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-Xarch_", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        # Names of files to write.
        *rows("-MJ", EITHER, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-gen-cdb-fragment-path -dependency-file -dependency-dot", SEPARATE, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-module-dependency-dir -dsym-dir", EITHER, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows(
            "-index-store-path -index-unit-output-path -index-ignore-system-symbols",
            SEPARATE,
            Effect.NOT_CACHEABLE,
            UNSUPPORTED,
        ),
        *rows("--analyzer-output -arcmt-migrate-report-output", EITHER, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-ccc-arcmt-migrate -ccc-objcmt-migrate", SEPARATE, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-gen-reproducer -ftime-trace -fproc-stat-report", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
        *rows("-ftime-trace= -fproc-stat-report= -ftime-report=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-fsave-optimization-record= -foptimization-record-file=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-fcrash-diagnostics-dir= -foptimization-record-passes= -ftime-trace-granularity=", JOINED),
        *rows("-objcmt-migrate-all", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
        *rows(
            "-fmodules-cache-path= -fmodule-map-file= -fprebuilt-module-path= -fmodule-output=",
            JOINED,
            Effect.NOT_CACHEABLE,
            "modules",
        ),
        *rows("-fmodule-output -fimplicit-module-maps -gmodules", effect=Effect.NOT_CACHEABLE, detail="modules"),
        *rows("-fpass-plugin=", JOINED, Effect.LOCAL, "compiler_plugin"),
        # Files that are read and that no depfile lists.
        *rows("-fprofile-instr-use", effect=Effect.PROFILE),
        *rows("-fprofile-instr-use=", JOINED, Effect.PROFILE),
        *rows(
            "-fprofile-sample-use= -fauto-profile= -fprofile-list= -fprofile-remapping-file=",
            JOINED,
            Effect.HIDDEN_INPUT,
        ),
        *rows(
            "-fsanitize-ignorelist= -fsanitize-blacklist= -fsanitize-system-ignorelist=", JOINED, Effect.HIDDEN_INPUT
        ),
        *rows("-fsanitize-coverage-allowlist= -fsanitize-coverage-ignorelist=", JOINED, Effect.HIDDEN_INPUT),
        *rows("-fsanitize-coverage-whitelist= -fsanitize-coverage-blacklist=", JOINED, Effect.HIDDEN_INPUT),
        *rows("-fxray-always-instrument= -fxray-never-instrument= -fxray-attr-list=", JOINED, Effect.HIDDEN_INPUT),
        *rows(
            "-fthinlto-index= --warning-suppression-mappings= -frandomize-layout-seed-file=",
            JOINED,
            Effect.HIDDEN_INPUT,
        ),
        *rows(
            "-framework -weak_framework -install_name -current_version -compatibility_version", SEPARATE, Effect.LINKER
        ),
        *rows("-undefined -bundle_loader -exported_symbols_list -unexported_symbols_list", SEPARATE, Effect.LINKER),
        *rows("-filelist -force_load -multiply_defined -read_only_relocs -umbrella -rpath", SEPARATE, Effect.LINKER),
    )
)

FRONTEND_FLAGS = (b"-f", b"-W", b"-D", b"-U", b"-I", b"-O", b"-std=", b"-disable-", b"-no-", b"-m", b"-enable-")
"""What ``-Xclang`` arguments may begin with: they choose code and warnings and name no file."""

FRONTEND_WRITERS = (b"-fdump-", b"-fmodule", b"-fprofile", b"-fcoverage", b"-fthinlto", b"-main-file-name")
"""Of these, the ones that may name a file after all."""

FRONTEND_WITH_VALUE = frozenset(
    (
        b"-mllvm",
        b"-target-feature",
        b"-target-cpu",
        b"-tune-cpu",
        b"-target-abi",
        b"-fdebug-compilation-dir",
        b"-ferror-limit",
        b"-fmessage-length",
    )
)
"""``-Xclang`` arguments whose value is the next ``-Xclang`` argument, and which name no file."""

FRONTEND_INCLUDES = frozenset((b"-include", b"-imacros"))
"""The same, but the value is a file that the dependency list names."""
