"""The table of keys, a class for each role.

Sections and environment names are sccache's where sccache has the key. Every timer of the system stands
here and nowhere else.
"""

from __future__ import annotations

from attrs import frozen

from sccache_twisted.config.keys import Unit, key
from sccache_twisted.config.remote_stores import StoreSettings

MIB = 1 << 20
GIB = 1 << 30


@frozen
class LinkTimers:
    """Timers that every role shares: how links are kept alive and made again."""

    ping_seconds: float = key(
        "timers", "ping_seconds", Unit.SECONDS, 5.0, "Seconds between pings on an AMP link.", minimum=0.05
    )
    peer_lost_seconds: float = key(
        "timers", "peer_lost_seconds", Unit.SECONDS, 15.0, "A peer that is silent for this long is lost.", minimum=0.1
    )
    connect_seconds: float = key(
        "timers", "connect_seconds", Unit.SECONDS, 5.0, "Bound on connecting and the TLS handshake.", minimum=0.1
    )
    tcp_user_timeout_seconds: float = key(
        "timers",
        "tcp_user_timeout_seconds",
        Unit.SECONDS,
        15.0,
        "TCP_USER_TIMEOUT: unacknowledged bytes end a connection after this long.",
        minimum=0.1,
    )
    reconnect_first_seconds: float = key(
        "timers",
        "reconnect_first_seconds",
        Unit.SECONDS,
        0.1,
        "First bound of the reconnection back-off (full jitter).",
    )
    reconnect_factor: float = key(
        "timers", "reconnect_factor", Unit.NUMBER, 1.5, "Growth of the reconnection back-off's bound.", minimum=1.0
    )
    reconnect_longest_seconds: float = key(
        "timers", "reconnect_longest_seconds", Unit.SECONDS, 2.0, "Last bound of the reconnection back-off."
    )


@frozen
class LogSettings:
    """What is logged, where and how."""

    level: str = key(
        "log",
        "level",
        Unit.TEXT,
        "info",
        "Least severe level that is logged.",
        env="SCCACHE_LOG",
        choices=("debug", "info", "warn", "error", "critical"),
    )
    format: str = key(
        "log", "format", Unit.TEXT, "text", "One event a line, as text or JSON.", choices=("text", "json")
    )
    file: str = key(
        "log", "file", Unit.PATH, "", "File to log to; empty: standard error, or twistd's log.", env="SCCACHE_ERROR_LOG"
    )
    journal: str = key(
        "log",
        "journal",
        Unit.PATH,
        "",
        "File that keeps every event about a job, for trace; empty: none, but jobs.journal in dist.cache_dir for the "
        "client daemon.",
    )
    journal_size: int = key(
        "log",
        "journal_size",
        Unit.SIZE,
        64 * MIB,
        "A journal that would grow larger becomes journal.1 and begins anew; 0: no journal.",
    )


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
    stores: StoreSettings = StoreSettings()  # noqa: RUF009 - it is frozen
    links: LinkTimers = LinkTimers()
    log: LogSettings = LogSettings()


@frozen
class SchedulerSettings:
    """The scheduler."""

    listen: str = key("scheduler", "listen", Unit.TEXT, "tcp:10600", "Twisted endpoint of the AMP/TLS port.")
    http: str = key(
        "scheduler",
        "http",
        Unit.TEXT,
        "tcp:10601:interface=127.0.0.1",
        "Twisted endpoint of status pages; empty: none.",
    )
    public: str = key(
        "scheduler", "public", Unit.TEXT, "", "HOST:PORT that invitations name; empty: this host's name and the port."
    )
    state_dir: str = key(
        "scheduler",
        "state_dir",
        Unit.PATH,
        "",
        "Certificate, key and tokens; empty: /var/lib/sccache-twisted/scheduler as root, else under $XDG_STATE_HOME.",
    )
    certificate_file: str = key(
        "scheduler", "certificate_file", Unit.PATH, "", "PEM certificate chain; empty: one is made at the first start."
    )
    key_file: str = key("scheduler", "key_file", Unit.PATH, "", "PEM key that belongs to certificate_file.")
    insecure: bool = key(
        "scheduler", "insecure", Unit.BOOLEAN, False, "No TLS and no tokens. For experiments only; said at every start."
    )
    assign_seconds: float = key(
        "timers",
        "assign_seconds",
        Unit.SECONDS,
        2.0,
        "A worker that does not answer AssignJob for this long is suspect.",
    )
    allocate_seconds: float = key(
        "timers", "allocate_seconds", Unit.SECONDS, 30.0, "A request queued for this long is answered StillQueued."
    )
    claim_seconds: float = key(
        "timers", "claim_seconds", Unit.SECONDS, 15.0, "How long the scheduler keeps a lease that nobody reports on."
    )
    settle_seconds: float = key(
        "timers", "settle_seconds", Unit.SECONDS, 10.0, "After its start the scheduler waits this long for workers."
    )
    worker_lost_seconds: float = key(
        "timers", "worker_lost_seconds", Unit.SECONDS, 15.0, "A worker silent for this long is lost."
    )
    blame_half_life_seconds: float = key(
        "timers", "blame_half_life_seconds", Unit.SECONDS, 60.0, "Recent failures of a worker halve in this time."
    )
    scale_from_zero_seconds: float = key(
        "scheduler",
        "scale_from_zero_seconds",
        Unit.SECONDS,
        0.0,
        "With no worker at all, requests queue for this long before they are told so.",
    )
    max_queue: int = key("scheduler", "max_queue", Unit.INTEGER, 100_000, "Most requests that wait at once.", minimum=1)
    max_links: int = key("scheduler", "max_links", Unit.INTEGER, 10_000, "Most AMP connections at once.", minimum=1)
    links: LinkTimers = LinkTimers()
    log: LogSettings = LogSettings()


@frozen
class WorkerSettings:
    """The worker."""

    name: str = key(
        "worker", "name", Unit.TEXT, "", "Name in server_ids and statistics; empty: the host's first label."
    )
    schedulers: tuple[str, ...] = key(
        "worker", "schedulers", Unit.LIST, (), "Schedulers to register with, all of them: as in dist.schedulers."
    )
    ca_file: str = key("worker", "ca_file", Unit.PATH, "", "PEM file of a CA that signs scheduler certificates.")
    token: str = key("worker", "token", Unit.TEXT, "", "The worker token.", env="SCCACHE_WORKER_TOKEN", secret=True)
    token_file: str = key("worker", "token_file", Unit.PATH, "", "File that holds the worker token (mode 0600).")
    insecure: bool = key(
        "worker", "insecure", Unit.BOOLEAN, False, "Allow tcp:// schedulers and plain HTTP. For experiments only."
    )
    listen: str = key("worker", "listen", Unit.TEXT, "tcp:10501", "Twisted endpoint of the HTTPS port.")
    public: str = key(
        "worker",
        "public",
        Unit.TEXT,
        "",
        "HOST:PORT that clients dial, perhaps a gateway's; empty: the address the scheduler sees, and our port.",
    )
    slots: int = key("worker", "slots", Unit.INTEGER, 0, "Jobs at once; 0: the cores this process may use.", minimum=0)
    directory: str = key(
        "worker",
        "directory",
        Unit.PATH,
        "",
        "Toolchains, blobs, job roots; empty: /var/lib/sccache-twisted as root, else under $XDG_CACHE_HOME.",
    )
    toolchain_cache_size: int = key("worker", "toolchain_cache_size", Unit.SIZE, 10 * GIB, "Bound on toolchains kept.")
    blob_cache_size: int = key("worker", "blob_cache_size", Unit.SIZE, 10 * GIB, "Bound on input blobs kept.")
    builder: str = key(
        "worker",
        "builder",
        Unit.TEXT,
        "bubblewrap",
        "How jobs are confined. unsandboxed runs a stranger's code as this user: only for trusted clients.",
        choices=("bubblewrap", "unsandboxed"),
    )
    slot_uids: str = key(
        "worker", "slot_uids", Unit.TEXT, "2000000000-2000065535", "Range of uids that a root worker's jobs run as."
    )
    bwrap: str = key("worker", "bwrap", Unit.TEXT, "bwrap", "The bubblewrap program.")
    preemption_file: str = key(
        "worker", "preemption_file", Unit.PATH, "", "Once this path exists the machine is about to go: drain and end."
    )
    preemption_url: str = key(
        "worker",
        "preemption_url",
        Unit.TEXT,
        "",
        "An http:// URL that says so by status 200 and a body other than FALSE or NONE; 404: stay. See commands.md.",
    )
    preemption_headers: tuple[str, ...] = key(
        "worker", "preemption_headers", Unit.LIST, (), 'Headers to ask preemption_url with, "Name: value" each.'
    )
    preemption_seconds: float = key(
        "timers",
        "preemption_seconds",
        Unit.SECONDS,
        5.0,
        "Between looks at preemption_file and preemption_url.",
        minimum=0.05,
    )
    renew_seconds: float = key(
        "timers", "renew_seconds", Unit.SECONDS, 30 * 86400.0, "Between new certificates for the same key.", minimum=1.0
    )
    claim_seconds: float = key(
        "timers", "claim_seconds", Unit.SECONDS, 15.0, "A lease that no client claims ends after this long."
    )
    run_seconds: float = key("timers", "run_seconds", Unit.SECONDS, 1200.0, "Bound on one job's run.", minimum=0.1)
    drain_seconds: float = key("timers", "drain_seconds", Unit.SECONDS, 300.0, "Running jobs may finish for this long.")
    heartbeat_seconds: float = key(
        "timers", "heartbeat_seconds", Unit.SECONDS, 1.0, "Between heartbeats.", minimum=0.05
    )
    progress_seconds: float = key(
        "timers", "progress_seconds", Unit.SECONDS, 2.0, "Between progress frames of a job.", minimum=0.05
    )
    upload_seconds: float = key(
        "timers",
        "upload_seconds",
        Unit.SECONDS,
        30.0,
        "An upload that moves fewer than upload_least_bytes in this time loses its turn to a waiting client.",
    )
    upload_least_bytes: int = key("limits", "upload_least_bytes", Unit.SIZE, MIB, "See upload_seconds.")
    job_memory_bytes: int = key(
        "limits", "job_memory", Unit.SIZE, 0, "Most memory of one job's process tree; 0: the machine's total."
    )
    job_processes: int = key("limits", "job_processes", Unit.INTEGER, 256, "Most processes of one job.", minimum=4)
    job_disk_bytes: int = key("limits", "job_disk", Unit.SIZE, 4 * GIB, "Most bytes that one job may write.")
    free_space_bytes: int = key(
        "limits",
        "free_space",
        Unit.SIZE,
        GIB,
        "Room that jobs leave on the worker's disk, at most a twentieth of it: with less it runs none, and stops the "
        "one that wrote most.",
    )
    max_stream_bytes: int = key(
        "limits", "stream", Unit.SIZE, 64 * MIB, "Most bytes of a job's stdout and of its stderr."
    )
    max_output_bytes: int = key("limits", "outputs", Unit.SIZE, GIB, "Most bytes of a job's outputs together.")
    max_job_bytes: int = key("limits", "job_body", Unit.SIZE, 256 * MIB, "Largest job request, as sent.")
    max_job_plain_bytes: int = key("limits", "job_plain", Unit.SIZE, GIB, "Largest job request, decompressed.")
    max_inputs: int = key("limits", "inputs", Unit.INTEGER, 200_000, "Most inputs of one job.", minimum=1)
    max_toolchain_bytes: int = key("limits", "toolchain", Unit.SIZE, 8 * GIB, "Largest toolchain, unpacked.")
    max_toolchain_members: int = key(
        "limits", "toolchain_members", Unit.INTEGER, 200_000, "Most members of a toolchain."
    )
    max_requests: int = key(
        "limits", "requests", Unit.INTEGER, 256, "Most open requests of one client address.", minimum=1
    )
    links: LinkTimers = LinkTimers()
    log: LogSettings = LogSettings()
