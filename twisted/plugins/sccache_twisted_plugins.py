"""The three roles, as twistd lists them."""

from twisted.application.service import ServiceMaker

client = ServiceMaker(
    "sccache-twisted client daemon",
    "sccache_twisted.plugins.client",
    "Parse, look up, distribute or compile here: one for each user and configuration.",
    "sccache-client",
)
scheduler = ServiceMaker(
    "sccache-twisted scheduler",
    "sccache_twisted.plugins.scheduler",
    "Know the workers, and say where each compilation runs.",
    "sccache-scheduler",
)
worker = ServiceMaker(
    "sccache-twisted worker",
    "sccache_twisted.plugins.worker",
    "Run compilations in sandboxes, on this machine's slots.",
    "sccache-worker",
)
