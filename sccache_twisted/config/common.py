"""The keys that every role has: how its links live, and what it logs.

Every timer of the system stands here or in a role's module beside this one, and nowhere else.
"""

from __future__ import annotations

from attrs import frozen

from sccache_twisted.config.keys import Unit, key

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
