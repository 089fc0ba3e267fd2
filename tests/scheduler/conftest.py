"""Every test of this room ends without an unhandled failure."""

from __future__ import annotations

import gc

import pytest
from twisted.logger import globalLogPublisher

from sccache_twisted.logs import set_least_level


@pytest.fixture(autouse=True)
def nothing_unhandled():
    """A test that expects a failure in the log takes it out of this list."""
    failures = []

    def observe(event):
        if event.get("log_failure") is not None:
            failures.append(event)

    globalLogPublisher.addObserver(observe)
    yield failures
    gc.collect()
    globalLogPublisher.removeObserver(observe)
    assert [event["log_failure"].getTraceback() for event in failures] == []


@pytest.fixture
def events():
    """The events of the vocabulary that the test logged, down to debug."""
    found = []

    def observe(event):
        if event.get("event"):
            found.append(event)

    set_least_level("debug")
    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)
    set_least_level("info")
