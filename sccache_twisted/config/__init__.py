"""The table of keys: text and environment in, frozen settings out. Pure but for one module.

``settings`` is the table itself, ``keys`` what a row is, ``load`` the way from TOML text and environment
to settings with errors that name the key, the place and the nearest known spelling, ``reference`` the
page docs/configuration.md made from it. Only ``files`` touches the disk: it finds and reads the text.
"""

from sccache_twisted.config.keys import Row, Unit, rows
from sccache_twisted.config.settings import ClientSettings, LinkTimers, LogSettings, SchedulerSettings, WorkerSettings

__all__ = [
    "ClientSettings",
    "LinkTimers",
    "LogSettings",
    "Row",
    "SchedulerSettings",
    "Unit",
    "WorkerSettings",
    "rows",
]
