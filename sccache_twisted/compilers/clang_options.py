"""clang's own options, over the common ones, and which arguments its compiler proper may be passed."""

from __future__ import annotations

from sccache_twisted.compilers.common_options import COMMON, EITHER, JOINED, SEPARATE, UNSUPPORTED
from sccache_twisted.compilers.options import Arity, Effect, OptionTable, rows

CLANG = OptionTable(
    (
        *COMMON,
        *rows("--", effect=Effect.END_OF_OPTIONS),
        *rows("-R --entry", JOINED, Effect.LINKER),
        *rows("-V", EITHER, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("--debug=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-help --help-hidden -cc1 -cc1as -cc1gen-reproducer", effect=Effect.NOT_COMPILATION, detail="query"),
        *rows("--autocomplete=", JOINED, Effect.NOT_COMPILATION, "query"),
        *rows("-ccc-print-phases -ccc-print-bindings -fdriver-only", effect=Effect.NOT_COMPILATION, detail="query"),
        *rows(
            "--precompile -emit-ast --analyze -emit-interface-stubs", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED
        ),
        *rows("-rewrite-objc -rewrite-legacy-objc -verify-pch", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
        *rows(
            "-emit-merged-ifs -module-file-info -extract-api -emit-cir", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED
        ),
        *rows("-frewrite-includes -save-stats --save-stats", effect=Effect.NOT_CACHEABLE, detail=UNSUPPORTED),
        *rows("-save-stats= --save-stats=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-ObjC -ObjC++", effect=Effect.NOT_CACHEABLE, detail="unsupported_source_language"),
        *rows("-emit-llvm", effect=Effect.BITCODE, listing=False),
        # The object is made of bitcode by a step of its own, which knows nothing of files beside it.
        *rows("-fembed-bitcode -fembed-bitcode=all -fembed-bitcode=bitcode", effect=Effect.LTO),
        *rows("-gsplit-dwarf=", JOINED, Effect.SPLIT_DWARF, listing=False),
        *rows("-serialize-diagnostics --serialize-diagnostics", SEPARATE, Effect.DIAGNOSTICS, listing=False),
        *rows("-Xclang", SEPARATE, Effect.FRONTEND_ARGUMENT),
        *rows("-Xclang=", JOINED, Effect.FRONTEND_ARGUMENT),
        *rows("-mllvm", SEPARATE, Effect.BACKEND_ARGUMENT),
        *rows("-mllvm=", JOINED, Effect.BACKEND_ARGUMENT),
        *rows("-mthread-model -meabi -target -G -Xanalyzer -Xcuda-ptxas -Xcuda-fatbinary", SEPARATE),
        *rows("-Xopenmp-target -mmlir -fmodules-user-build-path", SEPARATE),
        *rows("-fdebug-compilation-dir -ftrapv-handler -fnew-alignment -imultilib --mhwdiv", SEPARATE),
        *rows("--system-header-prefix --no-system-header-prefix -fmodule-implementation-of", SEPARATE),
        *rows("-object-file-name --bootclasspath --CLASSPATH --classpath --dyld-prefix --encoding", SEPARATE),
        *rows("--extdirs --output-class-directory --resource", SEPARATE),
        *rows("--output-class-directory= -object-file-name=", JOINED),
        *rows("-fxray-instruction-threshold -fxray-instruction-threshold= -fxray-modes=", EITHER),
        *rows("-fxray-instrumentation-bundle= -interface-stub-version=", EITHER),
        *rows("-Xopenmp-target=", SEPARATE),
        *rows("-resource-dir", SEPARATE, Effect.LOCAL, "toolchain_option"),
        *rows("-resource-dir=", JOINED, Effect.LOCAL, "toolchain_option"),
        *rows("--driver-mode=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-ccc-install-dir -ccc-gcc-name -b -gcc-toolchain", SEPARATE, Effect.LOCAL, "toolchain_option"),
        *rows("-cxx-isystem -c-isystem", EITHER, Effect.DIRECTORY),
        *rows("-isystem-after -stdlib++-isystem -internal-isystem", EITHER, Effect.DIRECTORY),
        *rows("-iwithsysroot -iframeworkwithsysroot", EITHER, Effect.SYSROOT_DIRECTORY),
        *rows("-include-pch", SEPARATE, Effect.LOCAL, "pch"),
        *rows("--config", SEPARATE, Effect.SEARCHED_INPUT),
        *rows("--config=", JOINED, Effect.SEARCHED_INPUT),
        *rows("--config-system-dir= --config-user-dir=", JOINED, Effect.LOCAL, "toolchain_option"),
        *rows("-ivfsoverlay -ivfsstatcache", EITHER, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-working-directory", EITHER, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-working-directory=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-arch -Xarch_host -Xarch_device", SEPARATE, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-Xarch_", Arity.JOINED_AND_SEPARATE, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows(
            "-fopenmp-targets= --offload-arch= --offload= --offload-targets=", JOINED, Effect.LOCAL, "toolchain_option"
        ),
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
        # A choice of passes writes the record as well.
        *rows("-foptimization-record-passes=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-fthin-link-bitcode=", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-fcrash-diagnostics-dir= -ftime-trace-granularity=", JOINED),
        *rows("-objcmt-", JOINED, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows(
            "-fmodules-cache-path= -fmodule-map-file= -fprebuilt-module-path= -fmodule-output=",
            JOINED,
            Effect.NOT_CACHEABLE,
            "modules",
        ),
        *rows(
            "-fmodule-output -fimplicit-module-maps -fmodule-maps -gmodules",
            effect=Effect.NOT_CACHEABLE,
            detail="modules",
        ),
        *rows("-fpass-plugin=", JOINED, Effect.PLUGIN),
        # Files that are read and that no depfile lists.
        *rows("-fprofile-instr-use", effect=Effect.PROFILE),
        *rows("-fprofile-instr-use=", JOINED, Effect.PROFILE),
        *rows(
            "-fprofile-sample-use= -fauto-profile= -fprofile-list= -fprofile-remapping-file=",
            JOINED,
            Effect.HIDDEN_INPUT,
        ),
        *rows(
            "-fsanitize-ignorelist= -fsanitize-blacklist= -fsanitize-system-ignorelist= -fsanitize-system-blacklist=",
            JOINED,
            Effect.HIDDEN_INPUT,
        ),
        *rows("-fsanitize-coverage-allowlist= -fsanitize-coverage-ignorelist=", JOINED, Effect.HIDDEN_INPUT),
        *rows("-fsanitize-coverage-whitelist= -fsanitize-coverage-blacklist=", JOINED, Effect.HIDDEN_INPUT),
        *rows("-fxray-always-instrument= -fxray-never-instrument= -fxray-attr-list=", EITHER, Effect.HIDDEN_INPUT),
        *rows(
            "-fthinlto-index= --warning-suppression-mappings= -frandomize-layout-seed-file= -frewrite-map-file=",
            JOINED,
            Effect.HIDDEN_INPUT,
        ),
        *rows("-fbuild-session-file= -fembed-offload-object=", JOINED, Effect.HIDDEN_INPUT),
        *rows("-specs --specs", SEPARATE, Effect.NOT_CACHEABLE, UNSUPPORTED),
        *rows("-specs= --specs=", JOINED, Effect.LINKER),
        *rows(
            "-framework -weak_framework -install_name -current_version -compatibility_version", SEPARATE, Effect.LINKER
        ),
        *rows("-undefined -bundle_loader -exported_symbols_list -unexported_symbols_list", SEPARATE, Effect.LINKER),
        *rows("-filelist -force_load -multiply_defined -read_only_relocs -umbrella -rpath", SEPARATE, Effect.LINKER),
        *rows("-allowable_client -arch_only -dylib_file -image_base -init -lazy_framework", SEPARATE, Effect.LINKER),
        *rows(
            "-lazy_library -multiply_defined_unused -seg_addr_table -seg_addr_table_filename", SEPARATE, Effect.LINKER
        ),
        *rows("-segs_read_only_addr -segs_read_write_addr -weak_library -Zlinker-input", SEPARATE, Effect.LINKER),
        *rows("-weak_reference_mismatches", SEPARATE, Effect.LINKER),
        *rows("-client_name -dylinker_install_name -pagezero_size -seg1addr", EITHER, Effect.LINKER),
        *rows("-sub_library -sub_umbrella", EITHER, Effect.LINKER),
        *rows("-segaddr -sectobjectsymbols", SEPARATE, Effect.LINKER, values=2),
        *rows("-sectalign -sectcreate -sectorder -segcreate -segprot", SEPARATE, Effect.LINKER, values=3),
    ),
    ((b"--warn-", b"-W"), (b"--optimize=", b"-O"), (b"--std=", b"-std=")),
)

FRONTEND_FLAGS = (b"-f", b"-W", b"-D", b"-U", b"-I", b"-O", b"-std=", b"-disable-", b"-no-", b"-m", b"-enable-")
"""What ``-Xclang`` arguments may begin with: they choose code and warnings and name no file."""

FRONTEND_NAMES = (
    b"-main-",
    b"binary",
    b"bitcode",
    b"coverage",
    b"dump",
    b"export",
    b"file",
    b"fixit",
    b"layout",
    b"migrate",
    b"module",
    b"path",
    b"profile",
    b"thinlto",
)
"""Parts of those that name a file after all."""

FRONTEND_EFFECTS = frozenset((Effect.KEY, Effect.DIRECTORY, Effect.DEBUG, Effect.MACHINE))
"""What an ``-Xclang`` argument may do as an option of the driver's."""

FRONTEND_WITH_VALUE = frozenset(
    (
        b"-mllvm",
        b"-load",
        b"-add-plugin",
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
