"""The worker's keys: how it is found, what it keeps, when it leaves, and the bounds on what jobs may take."""

from __future__ import annotations

from attrs import frozen

from sccache_twisted.config.common import GIB, MIB, LinkTimers, LogSettings
from sccache_twisted.config.keys import Unit, key


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
