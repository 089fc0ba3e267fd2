"""The scheduler's keys."""

from __future__ import annotations

from attrs import frozen

from sccache_twisted.config.common import LinkTimers, LogSettings
from sccache_twisted.config.keys import Unit, key


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
