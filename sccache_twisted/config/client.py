"""The client's keys, the daemon's and the library's. Sections and environment names are sccache's where it has them."""

from __future__ import annotations

from attrs import frozen

from sccache_twisted.config.common import GIB, MIB, LinkTimers, LogSettings
from sccache_twisted.config.keys import Unit, key
from sccache_twisted.config.remote_stores import StoreSettings


@frozen
class ClientSettings:
    """The client daemon and library."""

    schedulers: tuple[str, ...] = key(
        "dist",
        "schedulers",
        Unit.LIST,
        (),
        "Schedulers, in order of preference: tls://HOST:PORT?pin=sha256:HEX, or tls://HOST:PORT with dist.ca_file. "
        "Empty: no distribution.",
        env="SCCACHE_DIST_SCHEDULERS",
    )
    ca_file: str = key("dist", "ca_file", Unit.PATH, "", "PEM file of a CA that signs scheduler certificates.")
    token: str = key("dist.auth", "token", Unit.TEXT, "", "The client token.", env="SCCACHE_DIST_TOKEN", secret=True)
    token_file: str = key("dist.auth", "token_file", Unit.PATH, "", "File that holds the client token (mode 0600).")
    insecure: bool = key(
        "dist",
        "insecure",
        Unit.BOOLEAN,
        False,
        "Allow tcp:// schedulers: no encryption, no identity. For experiments only.",
    )
    fallback: str = key(
        "dist",
        "fallback",
        Unit.TEXT,
        "allow",
        "What happens to a job that no worker can run: compile here (allow) or fail (never).",
        env="SCCACHE_DIST_FALLBACK",
        choices=("allow", "never"),
    )
    max_jobs: int = key(
        "dist",
        "max_jobs",
        Unit.INTEGER,
        1024,
        "Most jobs this daemon has on workers or in the queue at once.",
        minimum=1,
    )
    ahead: int = key(
        "dist",
        "ahead",
        Unit.INTEGER,
        4,
        "Most slots that this daemon asks for or holds while their jobs are still being prepared; 0: none. Whoever is "
        "ready goes first, and is given such a slot at once.",
        minimum=0,
    )
    retry_limit: int = key(
        "dist", "retry_limit", Unit.INTEGER, 5, "Counted failures of one job before it compiles here.", minimum=1
    )
    worker_lost_limit: int = key(
        "dist",
        "worker_lost_limit",
        Unit.INTEGER,
        10,
        "A job whose worker died while running it on this many server_ids compiles here.",
        minimum=1,
    )
    predict_inputs: bool = key(
        "dist",
        "predict_inputs",
        Unit.BOOLEAN,
        True,
        "Send a changed file with what it read the last time, without running the preprocessor.",
    )
    compression_level: int = key(
        "dist", "compression_level", Unit.INTEGER, 1, "zstd level of what is sent to workers.", minimum=1
    )
    cache_dir: str = key(
        "dist",
        "cache_dir",
        Unit.PATH,
        "",
        "Packaged toolchains and the memo of digests; empty: sccache-twisted under $XDG_CACHE_HOME.",
        env="SCCACHE_DIST_CACHE_DIR",
    )
    toolchain_cache_size: int = key(
        "dist", "toolchain_cache_size", Unit.SIZE, 10 * GIB, "Bound on packaged toolchains kept here."
    )
    cc_only_basenames: tuple[str, ...] = key(
        "dist", "compilers", Unit.LIST, (), "More program names that are to be taken for compilers."
    )
    local_slots: int = key(
        "local",
        "slots",
        Unit.INTEGER,
        0,
        "Compilations at once on this machine; 0: the cores this user may use. Shared by all of a user's daemons.",
        env="SCCACHE_LOCAL_SLOTS",
        minimum=0,
    )
    preprocessor_slots: int = key(
        "local", "preprocessor_slots", Unit.INTEGER, 0, "Preprocessor runs at once; 0: cores + 1.", minimum=0
    )
    server_uds: str = key(
        "server", "uds", Unit.PATH, "", "The daemon's unix socket (at most 107 bytes).", env="SCCACHE_SERVER_UDS"
    )
    idle_seconds: float = key(
        "server",
        "idle_seconds",
        Unit.SECONDS,
        600.0,
        "The daemon ends after this long without a request; 0: never.",
        env="SCCACHE_IDLE_TIMEOUT",
    )
    processes: int = key(
        "server",
        "processes",
        Unit.INTEGER,
        0,
        "Most processes that take the daemon's callers: when answering hits is more than it can do, hit servers are "
        "started beside it. 0: the cores this user may use, at most 4; 1: it is alone.",
        minimum=0,
    )
    hit_servers_idle_seconds: float = key(
        "server", "hit_servers_idle_seconds", Unit.SECONDS, 30.0, "Hit servers end after this long without a hit."
    )
    max_request_bytes: int = key(
        "server", "max_request_bytes", Unit.SIZE, 64 * MIB, "Largest request that a launcher may send."
    )
    scheduler_grace_seconds: float = key(
        "timers",
        "scheduler_grace_seconds",
        Unit.SECONDS,
        10.0,
        "How long an outage of all schedulers lasts before jobs compile here.",
    )
    allocate_margin_seconds: float = key(
        "timers",
        "allocate_margin_seconds",
        Unit.SECONDS,
        10.0,
        "An AllocateJob unanswered for this long after the scheduler's own bound means a stuck link.",
    )
    ask_again_seconds: float = key(
        "timers",
        "ask_again_seconds",
        Unit.SECONDS,
        0.2,
        "A job that waited in the queue for this long asks shared stores once more for its result before it runs.",
    )
    silence_seconds: float = key(
        "timers",
        "silence_seconds",
        Unit.SECONDS,
        10.0,
        "A worker that moves no byte in either direction for this long is given up.",
        minimum=0.1,
    )
    answer_seconds: float = key(
        "timers",
        "answer_seconds",
        Unit.SECONDS,
        3600.0,
        "A worker that has had a job for this long without a result is given up, whatever progress it shows. Has to "
        "be longer than the workers' run_seconds.",
        minimum=0.1,
    )
    avoid_first_seconds: float = key(
        "timers", "avoid_first_seconds", Unit.SECONDS, 0.2, "First wait before an avoided worker is asked again."
    )
    avoid_longest_seconds: float = key(
        "timers", "avoid_longest_seconds", Unit.SECONDS, 5.0, "Longest wait before an avoided worker is asked again."
    )
    first_guess_bytes: int = key(
        "dist", "first_guess_bytes", Unit.SIZE, 512 * MIB, "Expected memory of a source that was never compiled before."
    )
    disk_dir: str = key(
        "cache.disk",
        "dir",
        Unit.PATH,
        "",
        "Where results are stored on this machine, by any number of daemons; empty: objects in dist.cache_dir.",
        env="SCCACHE_DIR",
    )
    disk_size: int = key(
        "cache.disk",
        "size",
        Unit.SIZE,
        10 * GIB,
        "Bound on them, the longest unused go first; 0: nothing is stored on this machine.",
        env="SCCACHE_CACHE_SIZE",
    )
    disk_rw_mode: str = key(
        "cache.disk",
        "rw_mode",
        Unit.TEXT,
        "READ_WRITE",
        "Whether results are read there, or stored too.",
        env="SCCACHE_LOCAL_RW_MODE",
        choices=("READ_ONLY", "READ_WRITE"),
    )
    basedirs: tuple[str, ...] = key(
        "",
        "basedirs",
        Unit.PATHS,
        (),
        "Directories of checkouts; colons between them in the variable. What is stored for a file below one is found "
        "below another, where the name of neither can show in the result: docs/cache.md says when that is.",
        env="SCCACHE_BASEDIRS",
    )
    stores: StoreSettings = StoreSettings()
    links: LinkTimers = LinkTimers()
    log: LogSettings = LogSettings()
