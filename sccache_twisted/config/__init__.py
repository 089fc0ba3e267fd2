"""The table of keys: text and environment in, frozen settings out. Pure but for one module.

``client``, ``scheduler`` and ``worker`` are the table itself, a class for each role, with ``common`` for what all have.
``keys`` is what a row is, ``load`` the way from TOML text and environment to settings with errors that name the key,
the place and the nearest known spelling, ``reference`` the page docs/configuration.md made from it. Only ``files``
touches the disk: it finds and reads the text.
"""

from sccache_twisted.config.client import ClientSettings
from sccache_twisted.config.common import LinkTimers, LogSettings
from sccache_twisted.config.keys import Row, Unit, rows
from sccache_twisted.config.scheduler import SchedulerSettings
from sccache_twisted.config.worker import WorkerSettings

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
